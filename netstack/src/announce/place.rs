//! On which links an address is answered for. Pure.

use super::frame::Mac;
use crate::subnet::Subnet;
use crate::sys::address::Assigned;
use crate::sys::link::Link;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Which links are looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Placement {
    /// By their names; those of which a network has the address, if empty.
    pub interfaces: Vec<String>,
    /// Never these: the pods' bridge, tunnels.
    pub never: Vec<String>,
}

/// A link as neighbours see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Card {
    pub(super) name: String,
    pub(super) mac: Mac,
}

/// By the numbers of links, the addresses that are answered for there. An address that is on a link
/// already has the kernel to answer for it.
pub(super) fn places(
    placement: &Placement,
    links: &[Link],
    assigned: &[Assigned],
    addresses: &BTreeSet<IpAddr>,
) -> BTreeMap<u32, (Card, BTreeSet<IpAddr>)> {
    let mut places: BTreeMap<u32, (Card, BTreeSet<IpAddr>)> = BTreeMap::new();
    for link in links {
        let Ok(mac) = Mac::try_from(link.mac.as_slice()) else { continue };
        let is_named = placement.interfaces.is_empty() || placement.interfaces.contains(&link.name);
        // What is in a bridge is a part of that, and nothing is on it.
        let is_fit = link.up && mac != [0; 6] && link.controller.is_none();
        if !is_fit || !is_named || placement.never.contains(&link.name) {
            continue;
        }
        let own = || assigned.iter().filter(|own| own.index == link.index);
        let is_here = |address: &&IpAddr| {
            (!placement.interfaces.is_empty()
                || own().any(|own| Subnet::containing(own.address, own.prefix).contains(**address)))
                && !assigned.iter().any(|own| own.address == **address)
        };
        let here: BTreeSet<IpAddr> = addresses.iter().filter(is_here).copied().collect();
        if !here.is_empty() {
            places.insert(link.index, (Card { name: link.name.clone(), mac }, here));
        }
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn link(index: u32, name: &str) -> Link {
        Link { index, name: name.into(), mac: vec![2, 0, 0, 0, 0, 1], up: true, ..Link::default() }
    }

    fn on(index: u32, address: &str, prefix: u8) -> Assigned {
        Assigned { index, address: ip(address), prefix }
    }

    fn placed(placement: &Placement, links: &[Link]) -> Vec<(u32, String)> {
        let assigned = [
            on(1, "127.0.0.1", 8),
            on(2, "192.0.2.1", 24),
            on(2, "2001:db8::1", 64),
            on(2, "192.0.2.9", 24),
            on(3, "198.51.100.1", 24),
            on(4, "192.0.2.2", 24),
        ];
        let wanted = ["192.0.2.7", "2001:db8::7", "192.0.2.9", "203.0.113.7"].map(ip).into();
        let places = places(placement, links, &assigned, &wanted);
        let flat = places
            .into_iter()
            .flat_map(|(index, (_, all))| all.into_iter().map(move |address| (index, address.to_string())));
        flat.collect()
    }

    #[test]
    fn an_address_is_answered_for_where_its_network_is() {
        let lo = Link { mac: vec![0; 6], ..link(1, "lo") };
        let links = [lo, link(2, "eth0"), link(3, "eth1"), link(4, "keel0")];
        let placement = Placement { interfaces: vec![], never: vec!["keel0".into()] };
        let wanted = [(2, "192.0.2.7".to_owned()), (2, "2001:db8::7".to_owned())];
        assert_eq!(placed(&placement, &links), wanted, "not for the kernel's own, nor for what is far");
        let named = Placement { interfaces: vec!["eth1".into()], ..placement.clone() };
        let all = placed(&named, &links);
        assert_eq!(all.len(), 3, "{all:?}");
        assert!(all.iter().all(|(index, _)| *index == 3));
        let down = [Link { up: false, ..link(2, "eth0") }, Link { controller: Some(9), ..link(4, "port") }];
        assert_eq!(placed(&placement, &down), []);
        let bare = [Link { mac: vec![], ..link(2, "wg0") }];
        assert_eq!(placed(&placement, &bare), []);
    }
}
