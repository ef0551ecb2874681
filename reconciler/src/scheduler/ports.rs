//! Ports of the host that Pods want for themselves.

use manifests::k8s_openapi::api::core::v1::PodSpec;

/// One port of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HostPort {
    port: i32,
    protocol: String,
    /// Empty for every address.
    address: String,
}

impl HostPort {
    /// True if the two cannot be on one host.
    pub(super) fn collides(&self, other: &Self) -> bool {
        self.port == other.port
            && self.protocol == other.protocol
            && (self.address.is_empty() || other.address.is_empty() || self.address == other.address)
    }
}

/// The ports of the host that a Pod's containers, and its sidecars, take.
pub(super) fn host_ports(spec: &PodSpec) -> Vec<HostPort> {
    let of_host = spec.host_network == Some(true);
    let sidecars = spec.init_containers.iter().flatten();
    let sidecars = sidecars.filter(|init| init.restart_policy.as_deref() == Some("Always"));
    let ports = spec.containers.iter().chain(sidecars).flat_map(|container| container.ports.iter().flatten());
    let wanted = ports.filter_map(|port| {
        let own = of_host.then_some(port.container_port);
        let number = port.host_port.filter(|number| *number != 0).or(own)?;
        let address = port.host_ip.as_deref().filter(|ip| !matches!(*ip, "0.0.0.0" | "::"));
        Some(HostPort {
            port: number,
            protocol: port.protocol.clone().unwrap_or_else(|| "TCP".into()),
            address: address.unwrap_or_default().to_owned(),
        })
    });
    wanted.collect()
}
