//! The rows of Service and NetworkPolicy.

use super::age::since;
use super::workload::selector_text;
use super::{labels, or_none};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::api::networking::v1::NetworkPolicy;

pub(super) const SERVICE_HEADS: (&[&str], &[&str]) =
    (&["NAME", "TYPE", "CLUSTER-IP", "EXTERNAL-IP", "PORT(S)", "AGE"], &["SELECTOR"]);
pub(super) const POLICY_HEADS: (&[&str], &[&str]) = (&["NAME", "POD-SELECTOR", "AGE"], &[]);

pub(super) fn service_row(o: &Service, wide: bool, now: Timestamp) -> Vec<String> {
    let spec = o.spec.clone().unwrap_or_default();
    let ports: Vec<_> = spec.ports.iter().flatten().map(port).collect();
    let mut cells = vec![
        o.metadata.name.clone().unwrap_or_default(),
        spec.type_.clone().unwrap_or_default(),
        or_none(spec.cluster_ip.clone().unwrap_or_default()),
        or_none(external(o, &spec)),
        or_none(ports.join(",")),
        since(o.metadata.creation_timestamp.as_ref(), now),
    ];
    if wide {
        cells.push(labels(spec.selector.as_ref()));
    }
    cells
}

/// As kubectl has it: a load balancer's addresses, with those that the service names itself.
fn external(service: &Service, spec: &ServiceSpec) -> String {
    if let Some(name) = &spec.external_name {
        return name.clone();
    }
    let own = spec.external_ips.iter().flatten().cloned();
    if spec.type_.as_deref() != Some("LoadBalancer") {
        return own.collect::<Vec<_>>().join(",");
    }
    let balancer = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let ingress = balancer.and_then(|balancer| balancer.ingress.as_deref()).unwrap_or_default();
    let given = ingress.iter().filter_map(|ingress| ingress.ip.clone().or_else(|| ingress.hostname.clone()));
    let all: Vec<_> = given.chain(own).collect();
    if all.is_empty() { "<pending>".into() } else { all.join(",") }
}

fn port(port: &ServicePort) -> String {
    let protocol = port.protocol.as_deref().unwrap_or("TCP");
    match port.node_port {
        Some(node_port) if node_port > 0 => format!("{}:{node_port}/{protocol}", port.port),
        Some(_) | None => format!("{}/{protocol}", port.port),
    }
}

pub(super) fn policy_row(o: &NetworkPolicy, now: Timestamp) -> Vec<String> {
    let selector = o.spec.as_ref().and_then(|spec| spec.pod_selector.as_ref());
    vec![
        o.metadata.name.clone().unwrap_or_default(),
        selector_text(selector),
        since(o.metadata.creation_timestamp.as_ref(), now),
    ]
}
