//! Whom the world sees when pods ask it: the node, for they have addresses that mean nothing there.
//! Pods and nodes of the cluster see one another's own.

use super::{OverlayOptions, Peer};
use crate::chain::Chain;
use crate::names;
use crate::services::Family;
use crate::subnet::Subnet;
use crate::sys::nft::{Expression as Do, Header, Hook, Meta, Register, Verdict, interface};
use std::net::IpAddr;

const HOOK: Hook = Hook { kind: "nat", hook: 4, priority: 100 };
const AT: Register = Register(0);

/// Of a packet.
#[derive(Debug, Clone, Copy)]
enum End {
    Source,
    Destination,
}

/// The chain of a family; without rules if nobody is to be hidden.
pub(super) fn chain(options: &OverlayOptions, peers: &[Peer], family: Family) -> Chain {
    Chain { name: "postrouting", hook: HOOK, rules: rules(options, peers, family) }
}

fn rules(options: &OverlayOptions, peers: &[Peer], family: Family) -> Vec<Vec<Do>> {
    let Some(own) = options.own.of(family).filter(|_| options.masquerade) else { return Vec::new() };
    let goes_on = || Do::Verdict(Verdict::Return);
    let inside = inside(options, peers, own);
    let outside_bridge = leaves_by(&options.bridge, false);
    let mut rules = Vec::new();
    for former in options.formers.iter().filter(|former| former.family() == family) {
        // Nobody but this node knows where they are.
        rules.push([within(End::Source, *former), outside_bridge.to_vec(), vec![Do::Masquerade]].concat());
    }
    for network in inside.iter().copied().chain([multicast(family)]) {
        let own = within(End::Source, own);
        rules.push([own, within(End::Destination, network), vec![goes_on()]].concat());
    }
    rules.push([within(End::Source, own), outside_bridge.to_vec(), vec![Do::Masquerade]].concat());
    // Who is no pod, and asks one by the tunnel, is answered by the tunnel.
    for network in inside {
        rules.push([within(End::Source, network), vec![goes_on()]].concat());
    }
    for tunnel in [names::tunnel_of(&options.bridge), names::secret_tunnel_of(&options.bridge)] {
        rules.push([leaves_by(&tunnel, true).to_vec(), vec![Do::Masquerade]].concat());
    }
    rules
}

/// The networks of all pods, none within another.
fn inside(options: &OverlayOptions, peers: &[Peer], own: Subnet) -> Vec<Subnet> {
    let pods = peers.iter().flat_map(|peer| &peer.pods);
    let all = options.cluster.iter().chain([&own]).chain(pods);
    let mut inside: Vec<Subnet> = all.copied().filter(|other| other.family() == own.family()).collect();
    inside.sort_by_key(|network| (network.prefix(), *network));
    let mut kept: Vec<Subnet> = Vec::new();
    for network in inside {
        if !kept.iter().any(|wider| wider.covers(network)) {
            kept.push(network);
        }
    }
    kept
}

fn multicast(family: Family) -> Subnet {
    match family {
        Family::V4 => Subnet::containing(IpAddr::from([224, 0, 0, 0]), 4),
        Family::V6 => Subnet::containing(IpAddr::from([0xff00, 0, 0, 0, 0, 0, 0, 0]), 8),
    }
}

/// Only packets that leave by that interface, or only others.
fn leaves_by(name: &str, is: bool) -> [Do; 2] {
    [Do::Meta(AT, Meta::OutputName), Do::Compare(AT, is, interface(name))]
}

/// Only packets that have that end in the network.
fn within(end: End, network: Subnet) -> Vec<Do> {
    let (offset, bytes) = match (network.address(), end) {
        (IpAddr::V4(address), End::Source) => (12, address.octets().to_vec()),
        (IpAddr::V4(address), End::Destination) => (16, address.octets().to_vec()),
        (IpAddr::V6(address), End::Source) => (8, address.octets().to_vec()),
        (IpAddr::V6(address), End::Destination) => (24, address.octets().to_vec()),
    };
    let mask = |at: usize| {
        let bits = usize::from(network.prefix()).saturating_sub(at * 8).min(8);
        u8::try_from(0xff00_u32 >> bits & 0xff).unwrap_or(u8::MAX)
    };
    let mask: Vec<u8> = (0..bytes.len()).map(mask).collect();
    let (length, nothing) = (u32::try_from(bytes.len()).unwrap_or(0), vec![0; bytes.len()]);
    vec![
        Do::Payload(AT, Header::Network, offset, length),
        Do::Bits(AT, mask, nothing),
        Do::Compare(AT, true, bytes),
    ]
}
