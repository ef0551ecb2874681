//! The node's ports that lead to pods (`hostPort`).

use super::{Node, pod_of};
use crate::chain::chain;
use k8s_openapi::api::core::v1::{ContainerPort, Pod};
use netstack::{HostPort, Protocol};
use runtime::state::{PodState, Stage};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

/// The protocol in Kubernetes' words.
pub(crate) fn protocol(word: Option<&str>) -> Protocol {
    match word {
        Some("UDP") => Protocol::Udp,
        Some("SCTP") => Protocol::Sctp,
        Some(_) | None => Protocol::Tcp,
    }
}

/// Where a port of the node is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Everywhere,
    /// At every address of a family.
    Any {
        v4: bool,
    },
    One(IpAddr),
}

/// What `hostIP` means; nothing if it is no address.
fn place(text: &str) -> Option<At> {
    if text.is_empty() {
        return Some(At::Everywhere);
    }
    let address: IpAddr = text.parse().ok()?;
    Some(if address.is_unspecified() { At::Any { v4: address.is_ipv4() } } else { At::One(address) })
}

/// The port of the node as it leads to each of the pod's addresses that it can lead to.
pub(crate) fn to_pod(
    (protocol, host_ip): (Protocol, &str),
    (host_port, pod_port): (u16, u16),
    addresses: &[IpAddr],
) -> Vec<HostPort> {
    let Some(place) = place(host_ip) else { return Vec::new() };
    let one = |pod_address: &IpAddr| {
        let host_address = match place {
            At::Everywhere => None,
            At::Any { v4 } if v4 == pod_address.is_ipv4() => None,
            At::One(address) if address.is_ipv4() == pod_address.is_ipv4() => Some(address),
            At::Any { .. } | At::One(_) => return None,
        };
        Some(HostPort { protocol, host_address, host_port, pod_address: *pod_address, pod_port })
    };
    addresses.iter().filter_map(one).collect()
}

/// The ports of the node that the pod asks for; none in the host's network.
pub(crate) fn wanted(pod: &Pod) -> Vec<(&ContainerPort, u16)> {
    let Some(spec) = pod.spec.as_ref().filter(|spec| spec.host_network != Some(true)) else {
        return Vec::new();
    };
    let containers = spec.init_containers.iter().flatten().chain(&spec.containers);
    let ports = containers.flat_map(|container| container.ports.iter().flatten());
    let port = |port: &ContainerPort| port.host_port.and_then(|port| u16::try_from(port).ok());
    ports.filter_map(|wanted| Some((wanted, port(wanted).filter(|port| *port > 0)?))).collect()
}

/// Those of the pod, whose addresses these are.
pub(super) fn of_pod(pod: &Pod, addresses: &[String]) -> Vec<HostPort> {
    let addresses: Vec<IpAddr> = addresses.iter().filter_map(|address| address.parse().ok()).collect();
    let one = |(port, host_port): (&ContainerPort, u16)| {
        let at = (protocol(port.protocol.as_deref()), port.host_ip.as_deref().unwrap_or_default());
        let pod_port = u16::try_from(port.container_port).ok()?;
        Some(to_pod(at, (host_port, pod_port), &addresses))
    };
    wanted(pod).into_iter().filter_map(one).flatten().collect()
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

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn a_host_port_leads_to_the_containers() {
        let mut pod: Pod =
            serde_json::from_value(json!({"metadata": {}, "spec": {"containers": [{"name": "a",
            "ports": [{"containerPort": 80}, {"containerPort": 53, "hostPort": 5300, "protocol": "UDP",
            "hostIP": "192.0.2.1"}, {"containerPort": 81, "hostPort": 8081, "hostIP": "0.0.0.0"}]}]}}))
            .expect("a pod");
        let ports = of_pod(&pod, &["10.0.0.2".to_owned()]);
        let pod_address = ip("10.0.0.2");
        let udp = HostPort {
            protocol: Protocol::Udp,
            host_address: Some(ip("192.0.2.1")),
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

    #[test]
    fn a_port_is_open_in_the_families_of_its_address() {
        let pod = [ip("10.0.0.2"), ip("fd00::2")];
        let ends = |host_ip| {
            let ports = to_pod((Protocol::Tcp, host_ip), (80, 8080), &pod);
            ports.iter().map(|port| (port.host_address, port.pod_address)).collect::<Vec<_>>()
        };
        assert_eq!(ends(""), [(None, pod[0]), (None, pod[1])]);
        assert_eq!(ends("0.0.0.0"), [(None, pod[0])]);
        assert_eq!(ends("::"), [(None, pod[1])]);
        assert_eq!(ends("192.0.2.1"), [(Some(ip("192.0.2.1")), pod[0])]);
        assert_eq!(ends("2001:db8::1"), [(Some(ip("2001:db8::1")), pod[1])]);
        assert_eq!(ends("nonsense"), []);
    }
}
