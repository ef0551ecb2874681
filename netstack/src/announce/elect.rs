//! Which node answers for an address. Pure: every node comes to the same by itself.

use crate::names::digest;
use std::net::IpAddr;

/// Of the nodes that could, the one that answers for `address`: the highest by a hash of both. When one
/// comes or goes, only what it gets or had moves. Source: Thaler and Ravishankar, "Using Name-Based
/// Mappings to Increase Hit Rates", 1998 (rendezvous hashing).
#[must_use]
pub fn announcer<'a>(address: IpAddr, nodes: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    nodes.into_iter().max_by_key(|node| (weight(address, node), *node))
}

fn weight(address: IpAddr, node: &str) -> u64 {
    mixed(digest(format!("{address} {node}").as_bytes()))
}

/// Every bit of `number` matters to every bit of what comes out. Source: the finalizer of `SplitMix64`.
const fn mixed(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::net::Ipv4Addr;

    fn names(count: u8) -> Vec<String> {
        (0..count).map(|number| format!("node-{number}")).collect()
    }

    fn pick(address: u32, nodes: &[String]) -> Option<&str> {
        announcer(Ipv4Addr::from(address).into(), nodes.iter().map(String::as_str))
    }

    proptest! {
        #[test]
        fn whoever_comes_or_goes_moves_only_its_own(address in any::<u32>(), count in 2_u8..20, gone in 0_u8..20) {
            let nodes = names(count);
            let gone = usize::from(gone % count);
            let before = pick(address, &nodes).unwrap();
            let mut left = nodes.clone();
            let lost = left.remove(gone);
            let after = pick(address, &left).unwrap();
            prop_assert!(before == lost || before == after);
            let mut turned = nodes.clone();
            turned.reverse();
            prop_assert_eq!(pick(address, &turned), Some(before), "whatever the order");
        }
    }

    #[test]
    fn every_node_has_its_share() {
        let nodes = names(5);
        let mut shares: BTreeMap<&str, u32> = BTreeMap::new();
        for address in 0..1000 {
            *shares.entry(pick(0xc000_0200 + address, &nodes).unwrap()).or_default() += 1;
        }
        assert_eq!(shares.len(), 5);
        assert!(shares.values().all(|share| (140..=260).contains(share)), "{shares:?}");
        assert_eq!(pick(1, &[]), None);
    }
}
