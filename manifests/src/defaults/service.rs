//! Defaults of services.

use super::{set, set_word};
use k8s_openapi::api::core::v1::{ClientIPConfig, Service, SessionAffinityConfig};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// How long a client stays with one pod: three hours.
const AFFINITY_SECONDS: i32 = 10_800;

pub(super) fn service(service: &mut Service) {
    let Some(spec) = &mut service.spec else { return };
    set_word(&mut spec.type_, "ClusterIP");
    set_word(&mut spec.session_affinity, "None");
    if spec.session_affinity.as_deref() == Some("ClientIP") {
        let config = spec.session_affinity_config.get_or_insert_with(SessionAffinityConfig::default);
        let client = config.client_ip.get_or_insert_with(ClientIPConfig::default);
        set(&mut client.timeout_seconds, AFFINITY_SECONDS);
    } else {
        spec.session_affinity_config = None;
    }
    for port in spec.ports.iter_mut().flatten() {
        set_word(&mut port.protocol, "TCP");
        let unset = match &port.target_port {
            None | Some(IntOrString::Int(0)) => true,
            Some(IntOrString::String(name)) => name.is_empty(),
            Some(IntOrString::Int(_)) => false,
        };
        if unset {
            port.target_port = Some(IntOrString::Int(port.port));
        }
    }
    let kind = spec.type_.as_deref().unwrap_or_default();
    let (external, inside, balanced) = (
        matches!(kind, "NodePort" | "LoadBalancer"),
        matches!(kind, "ClusterIP" | "NodePort" | "LoadBalancer"),
        kind == "LoadBalancer",
    );
    if external {
        set_word(&mut spec.external_traffic_policy, "Cluster");
    }
    if inside {
        set_word(&mut spec.internal_traffic_policy, "Cluster");
    }
    if balanced {
        set(&mut spec.allocate_load_balancer_node_ports, true);
    }
}
