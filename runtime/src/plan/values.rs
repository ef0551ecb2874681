//! The data of ConfigMaps and Secrets as bytes by key.

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use std::collections::BTreeMap;

/// `data` and `binaryData`.
pub(crate) fn config_map_values(map: &ConfigMap) -> BTreeMap<&str, &[u8]> {
    let text = map.data.iter().flatten().map(|(key, value)| (key.as_str(), value.as_bytes()));
    let binary = map.binary_data.iter().flatten().map(|(key, value)| (key.as_str(), value.0.as_slice()));
    text.chain(binary).collect()
}

/// `data`, and `stringData` over it.
pub(crate) fn secret_values(secret: &Secret) -> BTreeMap<&str, &[u8]> {
    let data = secret.data.iter().flatten().map(|(key, value)| (key.as_str(), value.0.as_slice()));
    let text = secret.string_data.iter().flatten().map(|(key, value)| (key.as_str(), value.as_bytes()));
    data.chain(text).collect()
}
