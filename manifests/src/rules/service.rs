//! Services.

use super::{metadata, probe};
use crate::names;
use crate::path::Path;
use crate::report::Report;
use k8s_openapi::api::core::v1::ServiceSpec;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use std::collections::HashMap;
use std::net::IpAddr;

pub(super) fn check(spec: &ServiceSpec, at: &Path<'_>, report: &mut Report<'_>) {
    let kind = spec.type_.as_deref().unwrap_or_default();
    let types = ["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"];
    report.one_of(&at.field("type"), Some(kind), &types);
    report.one_of(&at.field("sessionAffinity"), spec.session_affinity.as_deref(), &["None", "ClientIP"]);
    let policies = ["Cluster", "Local"];
    report.one_of(&at.field("externalTrafficPolicy"), spec.external_traffic_policy.as_deref(), &policies);
    report.one_of(&at.field("internalTrafficPolicy"), spec.internal_traffic_policy.as_deref(), &policies);
    let policies = ["SingleStack", "PreferDualStack", "RequireDualStack"];
    report.one_of(&at.field("ipFamilyPolicy"), spec.ip_family_policy.as_deref(), &policies);
    if spec.external_traffic_policy.is_some() && matches!(kind, "ClusterIP" | "ExternalName") {
        let message = format!("`externalTrafficPolicy` is not allowed in a Service of type {kind}");
        report.error(&at.field("externalTrafficPolicy"), "not-allowed", message);
    }
    balancer(spec, at, report);
    metadata::labels(spec.selector.as_ref(), &at.field("selector"), report);
    address(spec, at, report);
    ports(spec, at, report);
}

/// What only services of type LoadBalancer have.
fn balancer(spec: &ServiceSpec, at: &Path<'_>, report: &mut Report<'_>) {
    let kind = spec.type_.as_deref().unwrap_or_default();
    let ranges = spec.load_balancer_source_ranges.as_deref().unwrap_or_default();
    let written = [
        ("allocateLoadBalancerNodePorts", spec.allocate_load_balancer_node_ports.is_some()),
        ("loadBalancerClass", spec.load_balancer_class.is_some()),
        ("loadBalancerSourceRanges", !ranges.is_empty()),
        ("healthCheckNodePort", spec.health_check_node_port.is_some_and(|number| number != 0)),
    ];
    for (field, is_written) in written {
        if is_written && kind != "LoadBalancer" {
            let message = format!("`{field}` is not allowed in a Service of type {kind}");
            report.error(&at.field(field), "not-allowed", message);
        }
    }
    if let Some(class) = &spec.load_balancer_class {
        report.name(&at.field("loadBalancerClass"), class, names::qualified);
    }
    let wish = spec.load_balancer_ip.as_deref().unwrap_or_default();
    if !wish.is_empty() && wish.parse::<IpAddr>().is_err() {
        let message = format!("`{wish}` is no IP address");
        report.error(&at.field("loadBalancerIP"), "bad-address", message);
    }
    let list = at.field("loadBalancerSourceRanges");
    for (index, range) in ranges.iter().enumerate() {
        if !is_network(range.trim()) {
            let help = Some("write it as ADDRESS/PREFIX: `192.0.2.0/24` or `2001:db8::/32`".to_owned());
            report.error_with(&list.index(index), "bad-cidr", format!("`{range}` is no network"), help);
        }
    }
    if let Some(number) = spec.health_check_node_port.filter(|number| *number != 0) {
        report.between(&at.field("healthCheckNodePort"), Some(number), 1, 65_535);
        if kind == "LoadBalancer" && spec.external_traffic_policy.as_deref() != Some("Local") {
            let message = "`healthCheckNodePort` is not allowed unless externalTrafficPolicy is Local";
            report.error(&at.field("healthCheckNodePort"), "not-allowed", message);
        }
    }
}

/// As Kubernetes has it, bits behind the prefix may be set.
fn is_network(text: &str) -> bool {
    let Some((address, prefix)) = text.split_once('/') else { return false };
    let most = match address.parse() {
        Ok(IpAddr::V4(_)) => 32,
        Ok(IpAddr::V6(_)) => 128,
        Err(_) => return false,
    };
    prefix.bytes().all(|byte| byte.is_ascii_digit()) && prefix.parse::<u8>().is_ok_and(|bits| bits <= most)
}

fn address(spec: &ServiceSpec, at: &Path<'_>, report: &mut Report<'_>) {
    let address = spec.cluster_ip.as_deref().unwrap_or_default();
    if spec.type_.as_deref() == Some("ExternalName") {
        match spec.external_name.as_deref().unwrap_or_default().trim_end_matches('.') {
            "" => report.error(
                at,
                "missing-field",
                "field `externalName` is missing, since type is ExternalName",
            ),
            name => report.name(&at.field("externalName"), name, names::subdomain),
        }
        if !address.is_empty() {
            let message = "a Service of type ExternalName has no clusterIP";
            report.error(&at.field("clusterIP"), "not-allowed", message);
        }
        return;
    }
    if address == "None" {
        if matches!(spec.type_.as_deref(), Some("NodePort" | "LoadBalancer")) {
            let message = "a headless Service has type ClusterIP";
            report.error(&at.field("clusterIP"), "not-allowed", message);
        }
    } else if !address.is_empty() && address.parse::<IpAddr>().is_err() {
        let message = format!("`{address}` is no IP address");
        let help = Some("leave it out, or use `None` for a headless Service".to_owned());
        report.error_with(&at.field("clusterIP"), "bad-address", message, help);
    }
    let list = at.field("externalIPs");
    for (index, ip) in spec.external_ips.iter().flatten().enumerate() {
        if ip.parse::<IpAddr>().is_err() {
            report.error(&list.index(index), "bad-address", format!("`{ip}` is no IP address"));
        }
    }
}

fn ports(spec: &ServiceSpec, at: &Path<'_>, report: &mut Report<'_>) {
    let kind = spec.type_.as_deref().unwrap_or_default();
    let list = at.field("ports");
    let ports = spec.ports.as_deref().unwrap_or_default();
    let headless = spec.cluster_ip.as_deref() == Some("None");
    if ports.is_empty() && !headless && kind != "ExternalName" {
        report.error(at, "missing-field", "field `ports` is missing");
    }
    let mut named: HashMap<&str, usize> = HashMap::new();
    let mut numbered: HashMap<(i32, &str), usize> = HashMap::new();
    for (index, port) in ports.iter().enumerate() {
        let at = list.index(index);
        report.between(&at.field("port"), Some(port.port), 1, 65_535);
        report.one_of(&at.field("protocol"), port.protocol.as_deref(), &["TCP", "UDP", "SCTP"]);
        if port.protocol.as_deref() == Some("SCTP") {
            let message = "services of SCTP are not supported: TCP and UDP are";
            report.error(&at.field("protocol"), "not-supported", message);
        }
        // Where none is written it is the port, which is looked at already.
        let target = port.target_port.as_ref().filter(|target| **target != IntOrString::Int(port.port));
        if let Some(target) = target {
            probe::port(target, &at.field("targetPort"), report);
        }
        if let Some(node) = port.node_port.filter(|p| *p != 0) {
            report.between(&at.field("nodePort"), Some(node), 1, 65_535);
            if !matches!(kind, "NodePort" | "LoadBalancer") {
                let message = format!("`nodePort` is not allowed in a Service of type {kind}");
                report.error(&at.field("nodePort"), "not-allowed", message);
            }
        }
        match port.name.as_deref().filter(|n| !n.is_empty()) {
            Some(name) => {
                report.name(&at.field("name"), name, names::label);
                if let Some(first) = named.insert(name, index) {
                    report.duplicate(&at.field("name"), "port", name, &list.index(first).field("name"));
                }
            }
            None if ports.len() > 1 => {
                report.error(&at, "missing-field", "field `name` is missing, since there are several ports");
            }
            None => {}
        }
        let protocol = port.protocol.as_deref().unwrap_or_default();
        if let Some(first) = numbered.insert((port.port, protocol), index) {
            report.duplicate(
                &at.field("port"),
                "port",
                &port.port.to_string(),
                &list.index(first).field("port"),
            );
        }
    }
}
