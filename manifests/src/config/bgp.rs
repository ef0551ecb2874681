//! The routers that are told of the node's addresses.

use crate::duration;
use crate::names;
use crate::path::Path;
use crate::report::Report;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

/// `holdTime`, if it is not said. Source: RFC 4271, section 10.
const HOLD_TIME: Duration = Duration::from_secs(90);
/// The shortest time but none. Source: RFC 4271, section 4.2.
const LEAST_HOLD_TIME: Duration = Duration::from_secs(3);
/// `gracefulRestartTime`, if it is not said. Source: RFC 4724, section 3, has twelve bits for it.
const RESTART_TIME: Duration = Duration::from_secs(120);
const MOST_RESTART_TIME: Duration = Duration::from_secs(4095);
/// Stands for numbers that do not fit. Source: RFC 6793.
const AS_TRANS: u32 = 23_456;

/// The node's part in BGP: it tells, and believes nobody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct BgpConfiguration {
    /// The number of the nodes' autonomous system, up to 4294967294.
    pub asn: u32,
    /// What this node calls itself, an IPv4 address; its own address if empty.
    #[serde(rename = "routerID")]
    pub router_id: String,
    /// The routers that are told.
    pub peers: Vec<BgpPeerConfiguration>,
    /// What they are told: `PodCIDR`, `LoadBalancer`, `ServiceCIDR`, `ExternalIP`.
    pub announce: Vec<String>,
    /// For how long routers keep what they were told while the agent is restarted, as `120s`; `0s` for
    /// not at all.
    pub graceful_restart_time: String,
}

/// A router.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BgpPeerConfiguration {
    /// Of IPv4 or IPv6.
    pub address: String,
    /// The number of its autonomous system.
    pub asn: u32,
    /// Where it listens.
    #[serde(default = "port")]
    pub port: u16,
    /// After how long a silent router is taken for lost, as `90s`; a third of it is how often one hears
    /// of this node.
    #[serde(default = "hold_time")]
    pub hold_time: String,
    /// A router of another system may be further away than the next link.
    #[serde(default)]
    pub ebgp_multihop: bool,
    /// File with the password that signs each segment (TCP MD5, RFC 2385).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
    /// The address that this node asks from; the one that leads there if not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_address: Option<String>,
    /// Labels of the nodes that tell it; all nodes if empty.
    #[serde(default)]
    pub node_selector: BTreeMap<String, String>,
}

fn port() -> u16 {
    179
}

fn hold_time() -> String {
    "90s".into()
}

impl Default for BgpConfiguration {
    fn default() -> Self {
        Self {
            asn: 0,
            router_id: String::new(),
            peers: Vec::new(),
            announce: vec!["PodCIDR".into(), "LoadBalancer".into()],
            graceful_restart_time: "120s".into(),
        }
    }
}

/// What routers can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BgpAnnouncement {
    /// The networks of this node's pods.
    PodCidr,
    /// Addresses of pools with `announce: bgp`.
    LoadBalancer,
    /// The network of services' own addresses.
    ServiceCidr,
    /// Addresses that services name themselves.
    ExternalIp,
}

impl BgpAnnouncement {
    const ALL: [(&'static str, Self); 4] = [
        ("PodCIDR", Self::PodCidr),
        ("LoadBalancer", Self::LoadBalancer),
        ("ServiceCIDR", Self::ServiceCidr),
        ("ExternalIP", Self::ExternalIp),
    ];
}

impl BgpConfiguration {
    /// Whether routers are to be told that.
    #[must_use]
    pub fn announces(&self, what: BgpAnnouncement) -> bool {
        let known = |text: &String| BgpAnnouncement::ALL.iter().find(|(name, _)| name == text);
        self.announce.iter().filter_map(known).any(|(_, announced)| *announced == what)
    }

    /// `gracefulRestartTime`.
    #[must_use]
    pub fn restart_time(&self) -> Duration {
        duration::parse(&self.graceful_restart_time).unwrap_or(RESTART_TIME)
    }
}

impl BgpPeerConfiguration {
    /// `holdTime`.
    #[must_use]
    pub fn hold_time(&self) -> Duration {
        duration::parse(&self.hold_time).unwrap_or(HOLD_TIME)
    }
}

pub(super) fn check(bgp: &BgpConfiguration, at: &Path<'_>, report: &mut Report<'_>) {
    number(bgp.asn, &at.field("asn"), report);
    if !bgp.router_id.is_empty() && bgp.router_id.parse::<Ipv4Addr>().is_err() {
        let message = format!("`{}` is no IPv4 address, which a router is called by", bgp.router_id);
        report.error(&at.field("routerID"), "bad-address", message);
    }
    let names = BgpAnnouncement::ALL.map(|(name, _)| name);
    let announce = at.field("announce");
    for (index, what) in bgp.announce.iter().enumerate() {
        report.one_of(&announce.index(index), Some(what), &names);
    }
    let text = &bgp.graceful_restart_time;
    time(text, Duration::ZERO..=MOST_RESTART_TIME, &at.field("gracefulRestartTime"), report);
    let peers = at.field("peers");
    for (index, one) in bgp.peers.iter().enumerate() {
        peer(one, &peers.index(index), report);
        if bgp.peers[..index].iter().any(|other| other.address == one.address && other.port == one.port) {
            let message = format!("router {} is here a second time", one.address);
            report.error(&peers.index(index).field("address"), "duplicate-name", message);
        }
    }
}

fn peer(peer: &BgpPeerConfiguration, at: &Path<'_>, report: &mut Report<'_>) {
    let (address, source) = (peer.address.parse::<IpAddr>().ok(), peer.source_address.as_deref());
    if address.is_none() {
        let message = format!("`{}` is no address of a router", peer.address);
        report.error(&at.field("address"), "bad-address", message);
    }
    if let Some(text) = source {
        let source = text.parse::<IpAddr>().ok();
        if source.map(|source| source.is_ipv4()) != address.map(|address| address.is_ipv4()) {
            let message = format!("`{text}` is no address of the router's family");
            report.error(&at.field("sourceAddress"), "bad-address", message);
        }
    }
    number(peer.asn, &at.field("asn"), report);
    if peer.port == 0 {
        report.error(&at.field("port"), "out-of-range", "a port is a number from 1 to 65535");
    }
    time(&peer.hold_time, LEAST_HOLD_TIME..=Duration::from_secs(65_535), &at.field("holdTime"), report);
    if peer.password_file.as_ref().is_some_and(|path| !path.is_absolute()) {
        report.error(&at.field("passwordFile"), "bad-path", "the file must be an absolute path");
    }
    let selector = at.field("nodeSelector");
    for (key, value) in &peer.node_selector {
        report.key(&selector.key(key), names::qualified);
        if let Err((rule, help)) = names::label_value(value) {
            report.error_with(&selector.key(key), "bad-name", format!("`{key}` {rule}"), help);
        }
    }
}

fn number(asn: u32, at: &Path<'_>, report: &mut Report<'_>) {
    if asn == 0 || asn == u32::MAX || asn == AS_TRANS {
        let help = "private numbers are 64512 to 65534 and 4200000000 to 4294967294";
        report.error_with(at, "out-of-range", format!("{asn} is no autonomous system's"), Some(help.into()));
    }
}

fn time(text: &str, allowed: std::ops::RangeInclusive<Duration>, at: &Path<'_>, report: &mut Report<'_>) {
    match duration::parse(text) {
        Some(time) if allowed.contains(&time) => {}
        found => {
            let (least, most) = (allowed.start().as_secs(), allowed.end().as_secs());
            let message = match found {
                Some(_) => format!("`{text}` is not between {least}s and {most}s"),
                None => format!("`{text}` is no duration"),
            };
            report.error_with(at, "bad-duration", message, Some("write it like `90s`".to_owned()));
        }
    }
}
