//! The networks of pods and services, and how nodes reach one another's pods. The names of networks
//! are those of `kube-controller-manager`, those of backends flannel's.

use super::{AgentConfiguration, NetworkConfiguration};
use crate::path::Path;
use crate::report::Report;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What a node that has no peers takes for its pods, unless it was told or given something else.
const ALONE: &str = "10.99.0.0/16";
/// More blocks would hardly be nodes.
const MOST_BLOCK_BITS: u8 = 16;

/// A network in canonical form: no bit is set behind the prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IpNetwork {
    /// Its first address.
    pub address: IpAddr,
    /// Length of its prefix in bits.
    pub prefix: u8,
}

impl IpNetwork {
    /// The network called `ADDRESS/PREFIX`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = text.split_once('/')?;
        let address: IpAddr = address.parse().ok()?;
        let digits = !prefix.is_empty() && prefix.bytes().all(|byte| byte.is_ascii_digit());
        let prefix = prefix.parse().ok().filter(|prefix| digits && *prefix <= Self::bits(address))?;
        let network = Self { address, prefix };
        (network.canonical() == network).then_some(network)
    }

    /// As many bits as an address has.
    const fn bits(address: IpAddr) -> u8 {
        if address.is_ipv4() { 32 } else { 128 }
    }

    /// The network of `prefix` bits whose first address is that number, in the family of `self`.
    #[must_use]
    pub fn sibling(self, number: u128, prefix: u8) -> Self {
        let address = match self.address {
            IpAddr::V4(_) => Ipv4Addr::from(u32::try_from(number).unwrap_or(u32::MAX)).into(),
            IpAddr::V6(_) => Ipv6Addr::from(number).into(),
        };
        Self { address, prefix }
    }

    fn canonical(self) -> Self {
        let size = self.last() - self.first();
        self.sibling(self.first() & !size, self.prefix)
    }

    /// Its first address as a number.
    #[must_use]
    pub fn first(self) -> u128 {
        match self.address {
            IpAddr::V4(address) => u32::from(address).into(),
            IpAddr::V6(address) => address.into(),
        }
    }

    /// Its last address as a number.
    #[must_use]
    pub fn last(self) -> u128 {
        let free = u32::from(Self::bits(self.address).saturating_sub(self.prefix));
        self.first().saturating_add(1_u128.checked_shl(free).map_or(u128::MAX, |size| size - 1))
    }

    /// Whether the two have addresses in common.
    #[must_use]
    pub fn overlaps(self, other: Self) -> bool {
        self.address.is_ipv4() == other.address.is_ipv4()
            && self.first() <= other.last()
            && other.first() <= self.last()
    }
}

impl fmt::Display for IpNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// How nodes reach the pods of others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetworkBackend {
    /// In UDP, through a device of the kernel.
    Vxlan,
    /// By routes to the nodes themselves, which have to be on one link.
    HostGateway,
    /// Not by us.
    None,
}

impl NetworkBackend {
    const ALL: [(&'static str, Self); 3] =
        [("vxlan", Self::Vxlan), ("host-gw", Self::HostGateway), ("none", Self::None)];
}

/// How packets are put into others, where `backend` is `vxlan`. The same on every node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct VxlanConfiguration {
    /// Number of the virtual network, 1 to 16777215.
    pub vni: u32,
    /// UDP port of the nodes.
    pub port: u16,
}

impl Default for VxlanConfiguration {
    fn default() -> Self {
        Self { vni: 1, port: 4789 }
    }
}

/// The networks in `text`, with commas between; what is none is left out.
#[must_use]
pub fn networks(text: &str) -> Vec<IpNetwork> {
    text.split(',').filter_map(|part| IpNetwork::parse(part.trim())).collect()
}

impl NetworkConfiguration {
    /// `backend`, once the configuration is checked.
    #[must_use]
    pub fn backend(&self) -> NetworkBackend {
        let known = NetworkBackend::ALL.iter().find(|(name, _)| *name == self.backend);
        known.map_or(NetworkBackend::None, |(_, backend)| *backend)
    }

    /// How long the prefixes of nodes' blocks are, of the family of `network`.
    #[must_use]
    pub const fn node_prefix(&self, network: IpNetwork) -> u8 {
        if network.address.is_ipv4() { self.node_cidr_mask_size } else { self.node_cidr_mask_size_ipv6 }
    }

    /// The services' network of IPv6 addresses and its prefix, if there is one.
    #[must_use]
    pub fn service_network_v6(&self) -> Option<(Ipv6Addr, u8)> {
        networks(&self.service_cidr).into_iter().find_map(|network| match network.address {
            IpAddr::V6(address) => Some((address, network.prefix)),
            IpAddr::V4(_) => None,
        })
    }
}

impl AgentConfiguration {
    /// The networks of the node's pods that do not depend on what its cluster gives it: those of
    /// `podCIDR`; and for a node without peers one that it always had, unless `recorded` is not empty.
    #[must_use]
    pub fn pod_networks(&self, recorded: &[IpNetwork]) -> Vec<IpNetwork> {
        let own = networks(&self.network.pod_cidr);
        if !own.is_empty() {
            return own;
        }
        if !recorded.is_empty() {
            return recorded.to_vec();
        }
        if self.cluster.is_none() { networks(ALONE) } else { Vec::new() }
    }
}

/// What a list of networks may be.
struct Limits {
    v4: std::ops::RangeInclusive<u8>,
    v6: std::ops::RangeInclusive<u8>,
}

/// A bridge and a pod fit in.
const PODS: Limits = Limits { v4: 8..=30, v6: 16..=122 };
const SERVICES: Limits = Limits { v4: 8..=30, v6: 64..=122 };

pub(super) fn check(configuration: &AgentConfiguration, at: &Path<'_>, report: &mut Report<'_>) {
    let network = &configuration.network;
    list(&network.pod_cidr, &PODS, &at.field("podCIDR"), report);
    list(&network.cluster_cidr, &PODS, &at.field("clusterCIDR"), report);
    list(&network.service_cidr, &SERVICES, &at.field("serviceCIDR"), report);
    let names = NetworkBackend::ALL.map(|(name, _)| name);
    report.one_of(&at.field("backend"), Some(&network.backend), &names);
    if !(1..1 << 24).contains(&network.vxlan.vni) || network.vxlan.port == 0 {
        let message = "a virtual network has a number from 1 to 16777215 and a port from 1 to 65535";
        report.error(&at.field("vxlan"), "out-of-range", message);
    }
    for pods in networks(&network.cluster_cidr) {
        let (field, most) =
            if pods.address.is_ipv4() { ("nodeCIDRMaskSize", 30) } else { ("nodeCIDRMaskSizeIPv6", 122) };
        let size = network.node_prefix(pods);
        let last = most.min(pods.prefix.saturating_add(MOST_BLOCK_BITS));
        if !(pods.prefix..=last).contains(&size) {
            let message =
                format!("blocks of {pods} have a prefix between {} and {last}, not {size}", pods.prefix);
            report.error(&at.field(field), "out-of-range", message);
        }
    }
    let services = networks(&network.service_cidr);
    let cluster = configuration.cluster.as_ref().map(|_| networks(&network.cluster_cidr));
    let pods = cluster.unwrap_or_default().into_iter().chain(configuration.pod_networks(&[]));
    for (own, pods) in pods.flat_map(|pods| services.iter().map(move |own| (*own, pods))) {
        if own.overlaps(pods) {
            let message = format!("{own} and the pods' {pods} have addresses in common");
            report.error(&at.field("serviceCIDR"), "bad-cidr", message);
        }
    }
}

/// At most one network of each family, with commas between.
fn list(text: &str, limits: &Limits, at: &Path<'_>, report: &mut Report<'_>) {
    if text.is_empty() {
        return;
    }
    let mut families = [false; 2];
    for part in text.split(',') {
        match one(part.trim(), limits) {
            Ok(network) => {
                let family = &mut families[usize::from(network.address.is_ipv6())];
                if std::mem::replace(family, true) {
                    report.error(at, "bad-cidr", "at most one IPv4 and one IPv6 network");
                }
            }
            Err((message, help)) => report.error_with(at, "bad-cidr", message, help),
        }
    }
}

fn one(text: &str, limits: &Limits) -> Result<IpNetwork, (String, Option<String>)> {
    let parts = text.split_once('/').and_then(|(address, prefix)| {
        let address: IpAddr = address.parse().ok()?;
        Some((address, prefix.parse::<u8>().ok().filter(|prefix| *prefix <= IpNetwork::bits(address))?))
    });
    let Some((address, prefix)) = parts else {
        let help = Some("write it as ADDRESS/PREFIX: `10.99.0.0/16` or `fd00:99::/64`".to_owned());
        return Err((format!("`{text}` is no network"), help));
    };
    let allowed = if address.is_ipv4() { &limits.v4 } else { &limits.v6 };
    if !allowed.contains(&prefix) {
        let (least, most) = (allowed.start(), allowed.end());
        return Err((format!("the prefix must be between {least} and {most}, not {prefix}"), None));
    }
    let given = IpNetwork { address, prefix };
    let network = given.canonical();
    if network != given {
        let help = Some(format!("did you mean `{network}`?"));
        return Err((format!("{address} is a host in {network}"), help));
    }
    Ok(network)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_canonical_and_know_what_they_share() {
        let net = |text: &str| IpNetwork::parse(text).unwrap();
        assert!(net("10.244.0.0/16").overlaps(net("10.244.7.0/24")));
        assert!(net("fd00:1::/48").overlaps(net("fd00:1:0:7::/64")));
        assert!(!net("10.244.0.0/24").overlaps(net("10.244.1.0/24")));
        assert!(!net("0.0.0.0/0").overlaps(net("::/0")));
        assert_eq!(net("::/0").last(), u128::MAX);
        for text in ["10.244.0.1/16", "10.0.0.0", "10.0.0.0/33", "10.0.0.0/+8", "a/8", "fd00::1/64"] {
            assert_eq!(IpNetwork::parse(text), None, "{text}");
        }
        assert_eq!(networks("10.1.0.0/16, fd01::/64").len(), 2);
    }

    #[test]
    fn a_node_alone_has_what_it_always_had_and_one_with_peers_is_given_something() {
        let mut configuration = AgentConfiguration::default();
        assert_eq!(configuration.pod_networks(&[]), networks("10.99.0.0/16"));
        assert_eq!(configuration.pod_networks(&networks("10.1.0.0/24")), networks("10.1.0.0/24"));
        configuration.cluster = Some(crate::config::ClusterConfiguration::default());
        assert_eq!(configuration.pod_networks(&[]), []);
        configuration.network.pod_cidr = "10.2.0.0/24,fd02::/64".into();
        assert_eq!(configuration.pod_networks(&networks("10.1.0.0/24")).len(), 2);
    }
}
