//! Which ways the kernel should have. Pure.

use super::{Backend, OverlayOptions, Peer, Unreachable};
use crate::names;
use crate::services::Family;
use crate::subnet::Subnet;
use crate::sys::neighbour::Mac;
use crate::sys::route::Way;
use crate::sys::wireguard::{self, Key};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// What the kernel should have.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct State {
    /// To the pods of other nodes.
    pub(super) routes: BTreeMap<Subnet, Way>,
    /// Hardware addresses of the other ends of the tunnel.
    pub(super) neighbours: BTreeMap<IpAddr, Mac>,
    /// The nodes behind those.
    pub(super) behind: BTreeMap<Mac, IpAddr>,
    /// The ends of a secret tunnel.
    pub(super) ends: BTreeMap<Key, End>,
}

/// Another node's end of a secret tunnel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct End {
    /// How the kernel should have it.
    pub(super) peer: wireguard::Peer,
    /// It may also be found at these: the kernel follows it.
    pub(super) addresses: Vec<IpAddr>,
}

/// What it depends on beside the other nodes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) options: &'a OverlayOptions,
    /// The tunnel's device.
    pub(super) device: Option<u32>,
    /// By which link nodes are reached.
    pub(super) links: &'a BTreeMap<IpAddr, Result<u32, Unreachable>>,
}

/// The ways to all peers; those without one are noted.
pub(super) fn plan(place: Place<'_>, peers: &[Peer], unreachable: &mut Vec<(String, Unreachable)>) -> State {
    let mut state = State::default();
    let is_here =
        |peer: &&Peer| peer.addresses.iter().any(|address| place.options.addresses.contains(address));
    // The pods of an agent on this very machine are on a bridge of it.
    for peer in peers.iter().filter(|peer| !is_here(peer)) {
        let done = match (place.options.backend, place.device) {
            (Backend::Vxlan { .. }, Some(device)) => through_tunnel(place, device, peer, &mut state),
            (Backend::Wireguard { port }, Some(device)) => in_secret(place, (device, port), peer, &mut state),
            (Backend::HostGateway, _) => by_itself(place, peer, &mut state),
            (Backend::None | Backend::Vxlan { .. } | Backend::Wireguard { .. }, _) => Ok(()),
        };
        if let Err(why) = done {
            unreachable.push((peer.name.clone(), why));
        }
    }
    state
}

/// The networks of the peer's pods that this node's pods could ask, with the address that this node
/// itself asks from.
fn networks(place: Place<'_>, peer: &Peer) -> impl Iterator<Item = (Subnet, IpAddr)> {
    let own = place.options.own;
    peer.pods.iter().filter_map(move |pods| Some((*pods, own.of(pods.family())?.gateway())))
}

fn of_family(addresses: &[IpAddr], family: Family) -> Option<IpAddr> {
    addresses.iter().copied().find(|address| Family::of(*address) == family)
}

fn through_tunnel(place: Place<'_>, device: u32, peer: &Peer, state: &mut State) -> Result<(), Unreachable> {
    let family = place.options.addresses.first().map_or(Family::V4, |own| Family::of(*own));
    let node = of_family(&peer.addresses, family).ok_or(Unreachable::NoAddress(family))?;
    let Some(mac) = peer_mac(peer) else { return Ok(()) };
    for (pods, source) in networks(place, peer) {
        let gateway = match pods.address() {
            first @ IpAddr::V4(_) => first,
            IpAddr::V6(_) => link_local(mac).into(),
        };
        let onlink = gateway.is_ipv4();
        let way = Way { link: device, gateway: Some(gateway), source: Some(source), onlink };
        state.routes.insert(pods, way);
        state.neighbours.insert(gateway, mac);
        state.behind.insert(mac, node);
    }
    Ok(())
}

fn in_secret(
    place: Place<'_>,
    (device, port): (u32, u16),
    peer: &Peer,
    state: &mut State,
) -> Result<(), Unreachable> {
    let family = place.options.addresses.first().map_or(Family::V4, |own| Family::of(*own));
    let node = of_family(&peer.addresses, family).ok_or(Unreachable::NoAddress(family))?;
    let key = peer.public_key.ok_or(Unreachable::NoKey)?;
    let mut allowed = BTreeSet::new();
    for (pods, source) in networks(place, peer) {
        allowed.insert(pods);
        let way = Way { link: device, gateway: None, source: Some(source), onlink: false };
        state.routes.insert(pods, way);
    }
    let peer_end = wireguard::Peer { endpoint: Some(SocketAddr::new(node, port)), allowed };
    state.ends.insert(key, End { peer: peer_end, addresses: peer.addresses.clone() });
    Ok(())
}

/// Nothing is asked for: whoever has a network has this address.
pub(super) fn peer_mac(peer: &Peer) -> Option<Mac> {
    let v4 = peer.pods.iter().find(|pods| pods.family() == Family::V4);
    v4.or_else(|| peer.pods.first()).map(|pods| names::tunnel_mac_of(*pods))
}

/// The address that a link with this hardware address gives itself. Source: RFC 4291, appendix A.
fn link_local([a, b, c, d, e, f]: Mac) -> Ipv6Addr {
    let word = |high: u8, low: u8| u16::from_be_bytes([high, low]);
    Ipv6Addr::new(0xfe80, 0, 0, 0, word(a ^ 2, b), word(c, 0xff), word(0xfe, d), word(e, f))
}

fn by_itself(place: Place<'_>, peer: &Peer, state: &mut State) -> Result<(), Unreachable> {
    for (pods, source) in networks(place, peer) {
        let node = of_family(&peer.addresses, pods.family());
        let node = node.ok_or(Unreachable::NoAddress(pods.family()))?;
        let link = place.links.get(&node).cloned().unwrap_or(Err(Unreachable::NoRoute(node)))?;
        let way = Way { link, gateway: Some(node), source: Some(source), onlink: false };
        state.routes.insert(pods, way);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(backend: Backend, own: &str, addresses: &[&str]) -> OverlayOptions {
        OverlayOptions {
            bridge: "keel0".into(),
            backend,
            own: own.parse().unwrap(),
            formers: Vec::new(),
            cluster: Vec::new(),
            addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
            masquerade: true,
            mtu: 0,
            private_key: None,
            fast_path: None,
        }
    }

    fn peer(name: &str, addresses: &[&str], pods: &[&str]) -> Peer {
        Peer {
            name: name.into(),
            addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
            pods: pods.iter().map(|text| text.parse().unwrap()).collect(),
            public_key: None,
        }
    }

    fn planned(options: &OverlayOptions, peers: &[Peer]) -> (State, Vec<(String, Unreachable)>) {
        let mut unreachable = Vec::new();
        let routed: IpAddr = "192.0.2.9".parse().unwrap();
        let gateway = "192.0.2.1".parse().unwrap();
        let mut links: BTreeMap<_, _> =
            peers.iter().flat_map(|peer| &peer.addresses).map(|address| (*address, Ok(3))).collect();
        if let Some(link) = links.get_mut(&routed) {
            *link = Err(Unreachable::NotOnLink { address: routed, gateway });
        }
        let place = Place { options, device: Some(7), links: &links };
        (plan(place, peers, &mut unreachable), unreachable)
    }

    #[test]
    fn a_tunnel_leads_to_both_networks_of_a_node_behind_one_hardware_address() {
        let vxlan = Backend::Vxlan { vni: 1, port: 4789 };
        let options = options(vxlan, "10.244.0.0/24,fd00::/64", &["192.0.2.2"]);
        let peers = [
            peer("b", &["2001:db8::3", "192.0.2.3"], &["10.244.1.0/24", "fd00:0:0:1::/64"]),
            peer("c", &["2001:db8::4"], &["10.244.2.0/24"]),
            peer("here", &["192.0.2.2"], &["10.244.3.0/24"]),
        ];
        let (state, unreachable) = planned(&options, &peers);
        let mac = [0x0a, 0x5a, 10, 244, 1, 0];
        assert_eq!(state.behind, BTreeMap::from([(mac, "192.0.2.3".parse().unwrap())]));
        let ways: Vec<_> = state.routes.values().map(|way| (way.link, way.onlink)).collect();
        assert_eq!(ways, [(7, true), (7, false)]);
        let gateways: Vec<_> = state.neighbours.keys().map(ToString::to_string).collect();
        assert_eq!(gateways, ["10.244.1.0", "fe80::85a:aff:fef4:100"]);
        assert_eq!(unreachable, [("c".into(), Unreachable::NoAddress(Family::V4))]);
    }

    #[test]
    fn a_secret_tunnel_leads_to_those_whose_key_is_known() {
        let options = options(Backend::Wireguard { port: 51820 }, "10.244.0.0/24,fd00::/64", &["192.0.2.2"]);
        let known = Peer { public_key: Some([7; 32]), ..peer("b", &["192.0.2.3"], &["10.244.1.0/24"]) };
        let (state, unreachable) = planned(&options, &[known, peer("c", &["192.0.2.4"], &["10.244.2.0/24"])]);
        assert_eq!(unreachable, [("c".into(), Unreachable::NoKey)]);
        let end = &state.ends[&[7; 32]];
        assert_eq!(end.peer.endpoint, Some("192.0.2.3:51820".parse().unwrap()));
        let pods = "10.244.1.0/24".parse().unwrap();
        assert_eq!((end.peer.allowed.clone(), state.routes[&pods].gateway), ([pods].into(), None));
    }

    #[test]
    fn routes_lead_to_nodes_on_the_link_and_not_past_routers() {
        let options = options(Backend::HostGateway, "10.244.0.0/24", &["192.0.2.2"]);
        let peers = [
            peer("b", &["192.0.2.3"], &["10.244.1.0/24", "fd00:0:0:1::/64"]),
            peer("c", &["192.0.2.9"], &["10.244.2.0/24"]),
        ];
        let (state, unreachable) = planned(&options, &peers);
        let way = Way {
            link: 3,
            gateway: Some("192.0.2.3".parse().unwrap()),
            source: Some("10.244.0.1".parse().unwrap()),
            onlink: false,
        };
        assert_eq!(state.routes, BTreeMap::from([("10.244.1.0/24".parse().unwrap(), way)]));
        assert!(state.neighbours.is_empty() && state.behind.is_empty());
        assert_eq!(unreachable.len(), 1);
        assert_eq!(
            unreachable[0].1.to_string(),
            "192.0.2.9 is behind the router 192.0.2.1, and host-gw needs all nodes on one link; vxlan does not"
        );
    }
}
