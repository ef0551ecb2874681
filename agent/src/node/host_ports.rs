//! The node's ports that lead to pods (`hostPort`).

use super::{Node, pod_of};
use crate::chain::chain;
use k8s_openapi::api::core::v1::{ContainerPort, Pod};
use netstack::{HostPort, Protocol};
use runtime::state::{PodState, Stage};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

/// The protocol in Kubernetes' words.
pub(crate) fn protocol(word: Option<&str>) -> Protocol {
    match word {
        Some("UDP") => Protocol::Udp,
        Some("SCTP") => Protocol::Sctp,
        Some(_) | None => Protocol::Tcp,
    }
}

/// An address of the node; `None` for all of them.
pub(crate) fn address(text: &str) -> Option<Ipv4Addr> {
    text.parse().ok().filter(|address: &Ipv4Addr| !address.is_unspecified())
}

/// Those of the pod, whose addresses these are; none in the host's network.
pub(super) fn of_pod(pod: &Pod, addresses: &[String]) -> Vec<HostPort> {
    let Some(pod_address) = addresses.iter().find_map(|address| address.parse().ok()) else {
        return Vec::new();
    };
    let Some(spec) = pod.spec.as_ref().filter(|spec| spec.host_network != Some(true)) else {
        return Vec::new();
    };
    let one = |port: &ContainerPort| {
        Some(HostPort {
            protocol: protocol(port.protocol.as_deref()),
            host_address: port.host_ip.as_deref().and_then(address),
            host_port: port.host_port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0)?,
            pod_address,
            pod_port: u16::try_from(port.container_port).ok()?,
        })
    };
    let containers = spec.init_containers.iter().flatten().chain(&spec.containers);
    containers.flat_map(|container| container.ports.iter().flatten()).filter_map(one).collect()
}

impl Node {
    /// The ports lead to the pods that run, and to none that an agent before this one knew.
    pub(crate) async fn republish(&self) {
        let observed = self.runtime.observe();
        let runs = |state: &&Arc<PodState>| matches!(state.stage, Stage::Started | Stage::Stopping);
        let pods = self.pods();
        let of = |object: &std::sync::Arc<manifests::Object>| {
            let state = observed.get(object.uid()).filter(runs)?;
            Some((object.uid().to_owned(), of_pod(pod_of(object)?, &state.addresses)))
        };
        let all: BTreeMap<_, _> = pods.iter().filter_map(of).collect();
        let is_wanted = all.values().any(|ports| !ports.is_empty());
        if let Err(error) = self.network.publish_all(all).await
            && is_wanted
        {
            tracing::warn!(error = chain(&error), "host ports do not lead to their pods");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_host_port_leads_to_the_containers() {
        let mut pod: Pod =
            serde_json::from_value(json!({"metadata": {}, "spec": {"containers": [{"name": "a",
            "ports": [{"containerPort": 80}, {"containerPort": 53, "hostPort": 5300, "protocol": "UDP",
            "hostIP": "192.0.2.1"}, {"containerPort": 81, "hostPort": 8081, "hostIP": "0.0.0.0"}]}]}}))
            .expect("a pod");
        let ports = of_pod(&pod, &["10.0.0.2".to_owned()]);
        let pod_address = Ipv4Addr::new(10, 0, 0, 2);
        let udp = HostPort {
            protocol: Protocol::Udp,
            host_address: Some(Ipv4Addr::new(192, 0, 2, 1)),
            host_port: 5300,
            pod_address,
            pod_port: 53,
        };
        let tcp = HostPort {
            protocol: Protocol::Tcp,
            host_address: None,
            host_port: 8081,
            pod_address,
            pod_port: 81,
        };
        assert_eq!(ports, [udp, tcp]);
        assert_eq!(of_pod(&pod, &[]), []);
        if let Some(spec) = &mut pod.spec {
            spec.host_network = Some(true);
        }
        assert_eq!(of_pod(&pod, &["10.0.0.2".to_owned()]), []);
    }
}
