//! The rows of ConfigMap and Secret.

use super::age::since;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};

pub(super) const CONFIG_MAP_HEADS: (&[&str], &[&str]) = (&["NAME", "DATA", "AGE"], &[]);
pub(super) const SECRET_HEADS: (&[&str], &[&str]) = (&["NAME", "TYPE", "DATA", "AGE"], &[]);

pub(super) fn config_map_row(o: &ConfigMap, now: Timestamp) -> Vec<String> {
    let entries = o.data.as_ref().map_or(0, |d| d.len()) + o.binary_data.as_ref().map_or(0, |d| d.len());
    vec![
        o.metadata.name.clone().unwrap_or_default(),
        entries.to_string(),
        since(o.metadata.creation_timestamp.as_ref(), now),
    ]
}

pub(super) fn secret_row(o: &Secret, now: Timestamp) -> Vec<String> {
    vec![
        o.metadata.name.clone().unwrap_or_default(),
        o.type_.clone().unwrap_or_default(),
        o.data.as_ref().map_or(0, |d| d.len()).to_string(),
        since(o.metadata.creation_timestamp.as_ref(), now),
    ]
}
