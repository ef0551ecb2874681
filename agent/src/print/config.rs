//! The rows of ConfigMap, Secret and Service.

use super::age::since;
use super::{labels, or_none};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service, ServicePort};

pub(super) const CONFIG_MAP_HEADS: (&[&str], &[&str]) = (&["NAME", "DATA", "AGE"], &[]);
pub(super) const SECRET_HEADS: (&[&str], &[&str]) = (&["NAME", "TYPE", "DATA", "AGE"], &[]);
pub(super) const SERVICE_HEADS: (&[&str], &[&str]) =
    (&["NAME", "TYPE", "CLUSTER-IP", "EXTERNAL-IP", "PORT(S)", "AGE"], &["SELECTOR"]);

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

pub(super) fn service_row(o: &Service, wide: bool, now: Timestamp) -> Vec<String> {
    let spec = o.spec.clone().unwrap_or_default();
    let ports: Vec<_> = spec.ports.iter().flatten().map(port).collect();
    let external = spec.external_name.clone().or_else(|| spec.external_ips.as_ref().map(|ips| ips.join(",")));
    let mut cells = vec![
        o.metadata.name.clone().unwrap_or_default(),
        spec.type_.clone().unwrap_or_default(),
        or_none(spec.cluster_ip.clone().unwrap_or_default()),
        or_none(external.unwrap_or_default()),
        or_none(ports.join(",")),
        since(o.metadata.creation_timestamp.as_ref(), now),
    ];
    if wide {
        cells.push(labels(spec.selector.as_ref()));
    }
    cells
}

fn port(port: &ServicePort) -> String {
    let protocol = port.protocol.as_deref().unwrap_or("TCP");
    match port.node_port {
        Some(node_port) if node_port > 0 => format!("{}:{node_port}/{protocol}", port.port),
        Some(_) | None => format!("{}/{protocol}", port.port),
    }
}
