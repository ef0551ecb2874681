//! Networks without some of their parts → ranges of addresses that do not overlap. Pure.

use super::model::IpBlock;
use crate::services::Family;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// First and last address, both included, and which of the blocks hold all of them.
pub(super) type Range = (IpAddr, IpAddr, BTreeSet<usize>);

/// First and last address, as numbers.
type Ends = (u128, u128);

/// The longest ranges in which all addresses are in the same blocks, and in at least one.
pub(super) fn ranges(blocks: &[IpBlock]) -> Vec<Range> {
    Family::ALL.into_iter().flat_map(|family| of_family(blocks, family)).collect()
}

fn of_family(blocks: &[IpBlock], family: Family) -> Vec<Range> {
    let last_of_all = if family == Family::V4 { u128::from(u32::MAX) } else { u128::MAX };
    let ends = |network: &(IpAddr, u8)| (Family::of(network.0) == family).then(|| ends(*network));
    // Where a block begins or ends to hold addresses.
    let mut cuts: BTreeSet<u128> = BTreeSet::new();
    let mut parts: BTreeMap<usize, (Ends, Vec<Ends>)> = BTreeMap::new();
    for (index, block) in blocks.iter().enumerate() {
        let Some(whole) = ends(&block.network) else { continue };
        let except: Vec<_> = block.except.iter().filter_map(ends).collect();
        for (first, last) in except.iter().chain([&whole]) {
            cuts.insert(*first);
            cuts.extend(last.checked_add(1).filter(|next| *next <= last_of_all));
        }
        parts.insert(index, (whole, except));
    }
    let mut found: Vec<(u128, u128, BTreeSet<usize>)> = Vec::new();
    let firsts: Vec<u128> = cuts.into_iter().collect();
    for (at, first) in firsts.iter().copied().enumerate() {
        let last = firsts.get(at + 1).map_or(last_of_all, |next| next - 1);
        let within = |(from, to): &Ends| *from <= first && last <= *to;
        let holds = parts.iter().filter(|(_, (whole, except))| within(whole) && !except.iter().any(within));
        let holders: BTreeSet<usize> = holds.map(|(index, _)| *index).collect();
        match found.last_mut() {
            Some((_, end, same)) if *same == holders && end.checked_add(1) == Some(first) => *end = last,
            _ if holders.is_empty() => {}
            _ => found.push((first, last, holders)),
        }
    }
    let address = |bits: u128| match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::from(u32::try_from(bits).unwrap_or(u32::MAX))),
        Family::V6 => IpAddr::V6(Ipv6Addr::from(bits)),
    };
    found.into_iter().map(|(first, last, holders)| (address(first), address(last), holders)).collect()
}

/// First and last address of a network.
fn ends((address, prefix): (IpAddr, u8)) -> Ends {
    let (bits, length) = match address {
        IpAddr::V4(address) => (u128::from(u32::from(address)), 32_u32),
        IpAddr::V6(address) => (u128::from(address), 128),
    };
    let free = length.saturating_sub(u32::from(prefix));
    let mask = if free == 128 { u128::MAX } else { (1 << free) - 1 };
    (bits & !mask, bits | mask)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn network(text: &str) -> (IpAddr, u8) {
        let (address, prefix) = text.split_once('/').unwrap();
        (address.parse().unwrap(), prefix.parse().unwrap())
    }

    fn block(whole: &str, except: &[&str]) -> IpBlock {
        IpBlock { network: network(whole), except: except.iter().map(|text| network(text)).collect() }
    }

    fn told(blocks: &[IpBlock]) -> Vec<String> {
        let tell = |(first, last, holders): Range| format!("{first}-{last} {holders:?}");
        ranges(blocks).into_iter().map(tell).collect()
    }

    #[test]
    fn ranges_meet_and_do_not_overlap() {
        let blocks = [
            block("10.0.0.0/8", &["10.1.0.0/16"]),
            block("10.1.2.0/24", &[]),
            block("::/0", &["fd00::/8"]),
            block("0.0.0.0/0", &["0.0.0.0/1"]),
        ];
        let wanted = [
            "10.0.0.0-10.0.255.255 {0}",
            "10.1.2.0-10.1.2.255 {1}",
            "10.2.0.0-10.255.255.255 {0}",
            "128.0.0.0-255.255.255.255 {3}",
            "::-fcff:ffff:ffff:ffff:ffff:ffff:ffff:ffff {2}",
            "fe00::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff {2}",
        ];
        assert_eq!(told(&blocks), wanted);
        assert!(told(&[block("10.0.0.0/8", &["10.0.0.0/8"])]).is_empty());
    }

    fn some_network() -> impl Strategy<Value = (IpAddr, u8)> {
        // Few bits differ, so that networks meet.
        (any::<u8>(), 24_u8..=32).prop_map(|(last, prefix)| (IpAddr::from([10, 0, 0, last]), prefix))
    }

    proptest! {
        #[test]
        fn every_address_is_in_the_blocks_that_hold_it(
            blocks in proptest::collection::vec(
                (some_network(), proptest::collection::vec(some_network(), 0..3)), 0..5),
        ) {
            let blocks: Vec<_> =
                blocks.into_iter().map(|(network, except)| IpBlock { network, except }).collect();
            let within = |(network, prefix): (IpAddr, u8), last: u8| {
                let IpAddr::V4(network) = network else { return false };
                let shift = 32 - u32::from(prefix);
                let address = u32::from(Ipv4Addr::new(10, 0, 0, last));
                shift == 32 || u32::from(network) >> shift == address >> shift
            };
            let ranges = ranges(&blocks);
            for last in 0..=255 {
                let address = IpAddr::from([10, 0, 0, last]);
                let wanted: BTreeSet<usize> = (0..blocks.len())
                    .filter(|index| within(blocks[*index].network, last)
                        && !blocks[*index].except.iter().any(|except| within(*except, last)))
                    .collect();
                let found: Vec<_> =
                    ranges.iter().filter(|(first, end, _)| *first <= address && address <= *end).collect();
                prop_assert!(found.len() <= 1, "they overlap");
                prop_assert_eq!(found.first().map(|(.., holders)| holders.clone()).unwrap_or_default(), wanted);
            }
        }
    }
}
