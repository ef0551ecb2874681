//! The rows of Service, Ingress and NetworkPolicy.

use super::age::since;
use super::workload::selector_text;
use super::{labels, or_none};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::api::networking::v1::{Ingress, IngressClass, NetworkPolicy};

pub(super) const SERVICE_HEADS: (&[&str], &[&str]) =
    (&["NAME", "TYPE", "CLUSTER-IP", "EXTERNAL-IP", "PORT(S)", "AGE"], &["SELECTOR"]);
pub(super) const INGRESS_HEADS: (&[&str], &[&str]) =
    (&["NAME", "CLASS", "HOSTS", "ADDRESS", "PORTS", "AGE"], &[]);
pub(super) const INGRESS_CLASS_HEADS: (&[&str], &[&str]) =
    (&["NAME", "CONTROLLER", "PARAMETERS", "AGE"], &[]);
/// Hosts of an Ingress that are listed.
const HOSTS: usize = 3;
/// Letters of its addresses that are, without `-o wide`.
const ADDRESS: usize = 16;
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

pub(super) fn ingress_row(o: &Ingress, wide: bool, now: Timestamp) -> Vec<String> {
    let spec = o.spec.clone().unwrap_or_default();
    let hosts: Vec<_> = spec.rules.iter().flatten().filter_map(|rule| rule.host.clone()).collect();
    let hosts: Vec<_> = hosts.into_iter().filter(|host| !host.is_empty()).collect();
    let listed = match hosts.as_slice() {
        [] => "*".to_owned(),
        all if all.len() > HOSTS => {
            format!(
                "{} + {} more...",
                all.iter().take(HOSTS).cloned().collect::<Vec<_>>().join(","),
                all.len() - HOSTS
            )
        }
        all => all.join(","),
    };
    let balancer = o.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let addresses = balancer.and_then(|balancer| balancer.ingress.as_ref()).into_iter().flatten();
    let addresses: Vec<_> =
        addresses.filter_map(|one| one.ip.clone().or_else(|| one.hostname.clone())).collect();
    let mut address = addresses.join(",");
    if !wide && address.chars().count() > ADDRESS {
        address = address.chars().take(ADDRESS - 3).chain("...".chars()).collect();
    }
    let tls = spec.tls.is_some_and(|tls| !tls.is_empty());
    vec![
        o.metadata.name.clone().unwrap_or_default(),
        or_none(spec.ingress_class_name.unwrap_or_default()),
        listed,
        address,
        if tls { "80, 443" } else { "80" }.to_owned(),
        since(o.metadata.creation_timestamp.as_ref(), now),
    ]
}

pub(super) fn ingress_class_row(o: &IngressClass, now: Timestamp) -> Vec<String> {
    let spec = o.spec.clone().unwrap_or_default();
    let parameters = spec.parameters.map(|one| match one.api_group {
        Some(group) => format!("{}.{group}/{}", one.kind, one.name),
        None => format!("{}/{}", one.kind, one.name),
    });
    vec![
        o.metadata.name.clone().unwrap_or_default(),
        spec.controller.unwrap_or_default(),
        or_none(parameters.unwrap_or_default()),
        since(o.metadata.creation_timestamp.as_ref(), now),
    ]
}
