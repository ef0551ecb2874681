//! Who may ask at a load balancer's addresses: ranges of addresses, under a number. Pure.
//!
//! Services with the same ranges share them. A number follows from its ranges, so that a restart
//! comes to the same one.

use super::model::Family;
use crate::names::digest;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// First and last address of a range.
pub(super) type Span = (IpAddr, IpAddr);
/// Ranges of one family that neither overlap nor touch, in order. Whoever is in none is out.
pub(super) type Fence = Vec<Span>;

/// The fence around addresses of a family; none if everybody may ask.
pub(super) fn fence(sources: &[(IpAddr, u8)], family: Family) -> Option<Fence> {
    if sources.is_empty() {
        return None;
    }
    let of_family = sources.iter().filter(|(address, _)| Family::of(*address) == family);
    let mut spans: Vec<(u128, u128)> = of_family.map(|(address, prefix)| span(*address, *prefix)).collect();
    spans.sort_unstable();
    let mut merged: Vec<(u128, u128)> = Vec::new();
    for (first, last) in spans {
        match merged.last_mut() {
            Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
            Some(_) | None => merged.push((first, last)),
        }
    }
    let address = |number: u128| match family {
        Family::V4 => Ipv4Addr::from(u32::try_from(number).unwrap_or(u32::MAX)).into(),
        Family::V6 => IpAddr::from(Ipv6Addr::from(number)),
    };
    Some(merged.into_iter().map(|(first, last)| (address(first), address(last))).collect())
}

/// First and last number of a network, whatever is behind the prefix of `address`.
fn span(address: IpAddr, prefix: u8) -> (u128, u128) {
    let (number, bits) = match address {
        IpAddr::V4(address) => (u128::from(u32::from(address)), 32),
        IpAddr::V6(address) => (u128::from(address), 128),
    };
    let free = u32::from(bits - prefix.min(bits));
    let rest = 1_u128.checked_shl(free).map_or(u128::MAX, |size| size - 1);
    (number & !rest, number | rest)
}

/// The fences in use, with their numbers.
#[derive(Debug, Default)]
pub(super) struct Fences {
    uses: BTreeMap<Fence, (u32, usize)>,
    numbers: BTreeMap<u32, Fence>,
}

impl Fences {
    /// One more uses it: its number, and whether it is the first.
    pub(super) fn take(&mut self, fence: &Fence) -> (u32, bool) {
        if let Some((number, count)) = self.uses.get_mut(fence) {
            *count += 1;
            return (*number, false);
        }
        let sum = digest(format!("{fence:?}").as_bytes());
        let mut number = u32::try_from(sum & u64::from(u32::MAX)).unwrap_or(0);
        while self.numbers.contains_key(&number) {
            number = number.wrapping_add(1);
        }
        self.numbers.insert(number, fence.clone());
        self.uses.insert(fence.clone(), (number, 1));
        (number, true)
    }

    /// One less uses it: its number, if that was the last.
    pub(super) fn give_back(&mut self, fence: &Fence) -> Option<u32> {
        let (number, count) = self.uses.get_mut(fence)?;
        *count -= 1;
        if *count > 0 {
            return None;
        }
        let number = *number;
        self.uses.remove(fence);
        self.numbers.remove(&number);
        Some(number)
    }

    /// Whether the fence of that number has that range.
    pub(super) fn has(&self, number: u32, span: Span) -> bool {
        self.numbers.get(&number).is_some_and(|fence| fence.binary_search(&span).is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn ranges_become_one_where_they_meet() {
        let sources =
            [(ip("10.0.1.7"), 24), (ip("10.0.0.0"), 24), (ip("192.0.2.1"), 32), (ip("2001:db8::"), 32)];
        let v4 = vec![(ip("10.0.0.0"), ip("10.0.1.255")), (ip("192.0.2.1"), ip("192.0.2.1"))];
        assert_eq!(fence(&sources, Family::V4), Some(v4));
        assert_eq!(fence(&sources, Family::V6).unwrap().len(), 1);
        assert_eq!(fence(&sources[..2], Family::V6), Some(vec![]), "nobody of the other family");
        assert_eq!(fence(&[], Family::V4), None);
        let all = vec![(ip("0.0.0.0"), ip("255.255.255.255"))];
        assert_eq!(fence(&[(ip("0.0.0.0"), 0), (ip("10.0.0.0"), 8)], Family::V4), Some(all));
    }

    proptest! {
        #[test]
        fn whoever_is_in_a_network_is_in_the_fence_and_nobody_else(
            sources in proptest::collection::vec((any::<[u8; 4]>(), 0_u8..=32), 1..6), client in any::<[u8; 4]>()
        ) {
            let sources: Vec<_> = sources.into_iter().map(|(a, p)| (IpAddr::from(a), p)).collect();
            let client = IpAddr::from(client);
            let within = |(a, p): &(IpAddr, u8)| span(*a, *p) == span(client, *p);
            let spans = fence(&sources, Family::V4).unwrap();
            let inside = spans.iter().any(|(first, last)| (first..=last).contains(&&client));
            prop_assert_eq!(inside, sources.iter().any(within));
            prop_assert!(spans.windows(2).all(|pair| pair[0].1 < pair[1].0));
        }
    }

    #[test]
    fn numbers_are_shared_by_what_is_the_same_and_never_by_what_is_not() {
        let mut fences = Fences::default();
        let (one, other) = (vec![(ip("10.0.0.0"), ip("10.0.0.9"))], vec![]);
        let (number, is_new) = fences.take(&one);
        assert!(is_new && fences.take(&one) == (number, false));
        assert_ne!(fences.take(&other).0, number);
        assert_eq!((fences.give_back(&one), fences.give_back(&one)), (None, Some(number)));
        assert_eq!(fences.take(&one), (number, true), "the same again");
    }
}
