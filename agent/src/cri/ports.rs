//! The ports of the node that a sandbox asks for. Pure.

use super::v1;
use crate::node::host_ports;
use netstack::{HostPort, Protocol};

/// The ports of the node that lead to the sandbox, whose addresses these are.
pub(super) fn host_ports(config: &v1::PodSandboxConfig, addresses: &[String]) -> Vec<HostPort> {
    let Some(pod_address) = addresses.iter().find_map(|address| address.parse().ok()) else {
        return Vec::new();
    };
    let one = |mapping: &v1::PortMapping| {
        let protocol = match mapping.protocol() {
            v1::Protocol::Tcp => Protocol::Tcp,
            v1::Protocol::Udp => Protocol::Udp,
            v1::Protocol::Sctp => Protocol::Sctp,
        };
        Some(HostPort {
            protocol,
            host_address: host_ports::address(&mapping.host_ip),
            host_port: u16::try_from(mapping.host_port).ok().filter(|port| *port > 0)?,
            pod_address,
            pod_port: u16::try_from(mapping.container_port).ok()?,
        })
    };
    config.port_mappings.iter().filter_map(one).collect()
}
