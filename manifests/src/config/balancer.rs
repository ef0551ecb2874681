//! Addresses for services of type LoadBalancer, and how the world hears of them. Pools are called as
//! MetalLB's.

use super::AgentConfiguration;
use super::network::{IpNetwork, networks};
use crate::names;
use crate::path::Path;
use crate::report::Report;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Addresses for services of type LoadBalancer. Pools are the same on every node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct LoadBalancerConfiguration {
    /// Where addresses are from, in the order in which they are used.
    pub pools: Vec<PoolConfiguration>,
    /// The links on which this node answers for addresses of pools with `announce: l2`; those whose
    /// networks have the address if empty.
    pub interfaces: Vec<String>,
}

/// A pool of addresses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PoolConfiguration {
    /// RFC 1123 label; services can ask for it by name.
    pub name: String,
    /// `FIRST-LAST`, `ADDRESS/PREFIX` or `ADDRESS`, of both families.
    pub addresses: Vec<String>,
    /// Given to services that do not ask for an address or a pool.
    #[serde(default = "yes")]
    pub auto_assign: bool,
    /// IPv4 addresses that end in 0 or 255 are not given, for the sake of devices that drop what is for
    /// them.
    #[serde(default, rename = "avoidBuggyIPs")]
    pub avoid_buggy_ips: bool,
    /// How the world hears of the pool's addresses: `l2`, `bgp`, `none`.
    #[serde(default = "l2")]
    pub announce: String,
}

fn yes() -> bool {
    true
}

fn l2() -> String {
    "l2".into()
}

/// How the world hears of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Announcement {
    /// One node answers for the address on its link: ARP and neighbour discovery.
    Link,
    /// Routers are told of it.
    Bgp,
    /// It does not: others see to that.
    None,
}

impl Announcement {
    const ALL: [(&'static str, Self); 3] = [("l2", Self::Link), ("bgp", Self::Bgp), ("none", Self::None)];
}

/// Addresses from the first to the last, of one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IpRange {
    /// The first.
    pub first: IpAddr,
    /// The last, which is not before the first.
    pub last: IpAddr,
}

impl IpRange {
    /// The range called `FIRST-LAST`, `ADDRESS/PREFIX` or `ADDRESS`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if let Some((first, last)) = text.split_once('-') {
            let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
            let range = Self { first, last };
            return (first.is_ipv4() == last.is_ipv4() && first <= last).then_some(range);
        }
        if let Some(network) = IpNetwork::parse(text) {
            return Some(Self::of(network));
        }
        text.parse().ok().map(|first| Self { first, last: first })
    }

    /// All addresses of a network.
    #[must_use]
    pub fn of(network: IpNetwork) -> Self {
        let is_v4 = network.address.is_ipv4();
        Self { first: address(network.first(), is_v4), last: address(network.last(), is_v4) }
    }

    /// Whether the address is in it.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.first.is_ipv4() && self.first <= address && address <= self.last
    }

    /// Whether the two have addresses in common.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.first.is_ipv4() == other.first.is_ipv4() && self.first <= other.last && other.first <= self.last
    }

    /// All of its addresses, in order.
    pub fn addresses(self) -> impl Iterator<Item = IpAddr> {
        let is_v4 = self.first.is_ipv4();
        (number(self.first)..=number(self.last)).map(move |number| address(number, is_v4))
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u32::from(address).into(),
        IpAddr::V6(address) => address.into(),
    }
}

fn address(number: u128, is_v4: bool) -> IpAddr {
    if is_v4 {
        Ipv4Addr::from(u32::try_from(number).unwrap_or(u32::MAX)).into()
    } else {
        Ipv6Addr::from(number).into()
    }
}

impl fmt::Display for IpRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

impl PoolConfiguration {
    /// `addresses`, once the configuration is checked.
    #[must_use]
    pub fn ranges(&self) -> Vec<IpRange> {
        self.addresses.iter().filter_map(|text| IpRange::parse(text)).collect()
    }

    /// `announce`, once the configuration is checked.
    #[must_use]
    pub fn announcement(&self) -> Announcement {
        let known = Announcement::ALL.iter().find(|(name, _)| *name == self.announce);
        known.map_or(Announcement::None, |(_, announcement)| *announcement)
    }
}

impl LoadBalancerConfiguration {
    /// How the world hears of an address; nothing if it is in no pool.
    #[must_use]
    pub fn announcement(&self, address: IpAddr) -> Option<Announcement> {
        let has = |pool: &&PoolConfiguration| pool.ranges().iter().any(|range| range.contains(address));
        self.pools.iter().find(has).map(PoolConfiguration::announcement)
    }
}

pub(super) fn check(configuration: &AgentConfiguration, at: &Path<'_>, report: &mut Report<'_>) {
    let network = &configuration.network;
    let pools = at.field("pools");
    let mut taken: Vec<(IpRange, String)> = Vec::new();
    for text in [&network.service_cidr, &network.cluster_cidr] {
        let name = if *text == network.service_cidr { "serviceCIDR" } else { "clusterCIDR" };
        taken.extend(networks(text).into_iter().map(|own| (IpRange::of(own), format!("network.{name}"))));
    }
    let mut names = BTreeSet::new();
    for (index, pool) in network.load_balancer.pools.iter().enumerate() {
        let at = pools.index(index);
        report.name(&at.field("name"), &pool.name, names::label);
        if !names.insert(pool.name.as_str()) {
            let message = format!("pool `{}` is here a second time", pool.name);
            report.error(&at.field("name"), "duplicate-name", message);
        }
        let ways = Announcement::ALL.map(|(name, _)| name);
        report.one_of(&at.field("announce"), Some(&pool.announce), &ways);
        let list = at.field("addresses");
        if pool.addresses.is_empty() {
            report.error(&list, "bad-value", "a pool has at least one address");
        }
        for (index, text) in pool.addresses.iter().enumerate() {
            range(text, &pool.name, &mut taken, (&list.index(index), report));
        }
    }
}

fn range(
    text: &str,
    pool: &str,
    taken: &mut Vec<(IpRange, String)>,
    (at, report): (&Path<'_>, &mut Report<'_>),
) {
    let Some(range) = IpRange::parse(text) else {
        let help = "write it as `192.0.2.10-192.0.2.50`, `192.0.2.0/28` (with the network's first address), \
                    `2001:db8::/112` or `192.0.2.7`";
        report.error_with(at, "bad-address", format!("`{text}` is no range of addresses"), Some(help.into()));
        return;
    };
    let unfit = |address: IpAddr| {
        address.is_multicast() || address.is_loopback() || address.is_unspecified() || is_link_local(address)
    };
    if unfit(range.first) || unfit(range.last) {
        let message = "such addresses are not for services: they are reserved for loopback, links or groups";
        report.error(at, "bad-address", message);
    }
    if let Some((_, whose)) = taken.iter().find(|(other, _)| other.overlaps(&range)) {
        report.error(at, "bad-address", format!("`{text}` has addresses in common with {whose}"));
    }
    taken.push((range, format!("pool `{pool}`")));
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_written_in_three_ways() {
        let range = |text| IpRange::parse(text).map(|range| range.to_string());
        assert_eq!(range("192.0.2.10-192.0.2.50"), Some("192.0.2.10-192.0.2.50".into()));
        assert_eq!(range("192.0.2.10 - 192.0.2.50"), Some("192.0.2.10-192.0.2.50".into()));
        assert_eq!(range("192.0.2.0/30"), Some("192.0.2.0-192.0.2.3".into()));
        assert_eq!(range("192.0.2.7"), Some("192.0.2.7-192.0.2.7".into()));
        assert_eq!(range("2001:db8::/112"), Some("2001:db8::-2001:db8::ffff".into()));
        for text in
            ["192.0.2.50-192.0.2.10", "192.0.2.1-2001:db8::1", "192.0.2.1/30", "a-b", "", "192.0.2.1-"]
        {
            assert_eq!(range(text), None, "{text}");
        }
    }

    #[test]
    fn a_range_knows_its_addresses() {
        let range = IpRange::parse("192.0.2.254-192.0.3.1").unwrap();
        let all: Vec<_> = range.addresses().map(|address| address.to_string()).collect();
        assert_eq!(all, ["192.0.2.254", "192.0.2.255", "192.0.3.0", "192.0.3.1"]);
        assert!(
            range.contains("192.0.3.0".parse().unwrap()) && !range.contains("192.0.3.2".parse().unwrap())
        );
        assert!(!range.contains("::1".parse().unwrap()));
    }
}
