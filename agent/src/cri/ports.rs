//! The ports of the node that a sandbox asks for. Pure.

use super::v1;
use crate::node::host_ports;
use netstack::{HostPort, Protocol};
use std::net::IpAddr;

/// The ports of the node that lead to the sandbox, whose addresses these are.
pub(super) fn host_ports(config: &v1::PodSandboxConfig, addresses: &[String]) -> Vec<HostPort> {
    let addresses: Vec<IpAddr> = addresses.iter().filter_map(|address| address.parse().ok()).collect();
    let one = |mapping: &v1::PortMapping| {
        let protocol = match mapping.protocol() {
            v1::Protocol::Tcp => Protocol::Tcp,
            v1::Protocol::Udp => Protocol::Udp,
            v1::Protocol::Sctp => Protocol::Sctp,
        };
        let host_port = u16::try_from(mapping.host_port).ok().filter(|port| *port > 0)?;
        let pod_port = u16::try_from(mapping.container_port).ok()?;
        Some(host_ports::to_pod((protocol, &mapping.host_ip), (host_port, pod_port), &addresses))
    };
    config.port_mappings.iter().filter_map(one).flatten().collect()
}

/// The same in the words of plugins: protocol, address and port of the node, and the sandbox's port.
pub(super) fn mappings(config: &v1::PodSandboxConfig) -> Vec<(&str, &str, u16, u16)> {
    config.port_mappings.iter().filter_map(mapping).collect()
}

fn mapping(mapping: &v1::PortMapping) -> Option<(&str, &str, u16, u16)> {
    let protocol = match mapping.protocol() {
        v1::Protocol::Tcp => "tcp",
        v1::Protocol::Udp => "udp",
        v1::Protocol::Sctp => "sctp",
    };
    let host_port = u16::try_from(mapping.host_port).ok().filter(|port| *port > 0)?;
    Some((protocol, &mapping.host_ip, host_port, u16::try_from(mapping.container_port).ok()?))
}
