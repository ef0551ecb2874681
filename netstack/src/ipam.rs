//! Which pod has which address.
//!
//! Pure: no file, socket or clock. Nothing here is stored either: a lease is real
//! through the pod's link, which carries the address in its own hardware address,
//! and is read back from there ([`crate::names::address_of`]).

use crate::cidr::Cidr;
use crate::subnet::PodCidrs;
use std::collections::btree_map::{BTreeMap, Entry};
use std::net::Ipv4Addr;

/// The addresses of one network and the links that hold them, by name.
#[derive(Debug)]
pub(crate) struct Pool {
    networks: PodCidrs,
    cidr: Cidr,
    by_link: BTreeMap<String, Ipv4Addr>,
    by_address: BTreeMap<Ipv4Addr, String>,
    last: Ipv4Addr,
}

/// Every address of the network is held.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("all {held} addresses for pods of {networks} are taken")]
pub struct Exhausted {
    networks: PodCidrs,
    held: usize,
}

impl Pool {
    /// A pool of which nothing is held.
    pub(crate) fn new(networks: PodCidrs) -> Self {
        let cidr = networks.numbers();
        Self { networks, cidr, by_link: BTreeMap::new(), by_address: BTreeMap::new(), last: cidr.gateway() }
    }

    /// Notes that `link` holds `address`. Returns whether it now does: not if the
    /// address is none for pods, or another link holds it.
    pub(crate) fn adopt(&mut self, link: &str, address: Ipv4Addr) -> bool {
        if !self.is_for_pods(address) || self.by_link.get(link).is_some_and(|held| *held != address) {
            return false;
        }
        match self.by_address.entry(address) {
            Entry::Occupied(holder) => holder.get() == link,
            Entry::Vacant(free) => {
                free.insert(link.into());
                self.by_link.insert(link.into(), address);
                self.last = self.last.max(address);
                true
            }
        }
    }

    /// The address of `link`: the one that it holds, or the next free one after the
    /// last that was given, so that a freed address rests as long as it can.
    ///
    /// # Errors
    /// [`Exhausted`] if none is free.
    pub(crate) fn claim(&mut self, link: &str) -> Result<Ipv4Addr, Exhausted> {
        if let Some(address) = self.by_link.get(link) {
            return Ok(*address);
        }
        let address =
            self.next_free().ok_or(Exhausted { networks: self.networks, held: self.by_link.len() })?;
        self.by_link.insert(link.into(), address);
        self.by_address.insert(address, link.into());
        self.last = address;
        Ok(address)
    }

    /// Frees what `link` holds, if anything.
    pub(crate) fn release(&mut self, link: &str) {
        if let Some(address) = self.by_link.remove(link) {
            self.by_address.remove(&address);
        }
    }

    /// The links that hold an address.
    pub(crate) fn links(&self) -> impl Iterator<Item = &str> {
        self.by_link.keys().map(String::as_str)
    }

    fn is_for_pods(&self, address: Ipv4Addr) -> bool {
        address > self.cidr.gateway() && address < self.cidr.broadcast()
    }

    fn next_free(&self) -> Option<Ipv4Addr> {
        let (first, end) = (u32::from(self.cidr.gateway()) + 1, u32::from(self.cidr.broadcast()));
        let after = u32::from(self.last) + 1;
        self.gap(after, end).or_else(|| self.gap(first, after.min(end)))
    }

    /// The lowest free address of `from..end`: steps along what is held until there
    /// is a hole.
    fn gap(&self, from: u32, end: u32) -> Option<Ipv4Addr> {
        let mut candidate = from;
        for held in self.by_address.range(Ipv4Addr::from(from)..).map(|(held, _)| u32::from(*held)) {
            if held != candidate {
                break;
            }
            candidate += 1;
        }
        (candidate < end).then(|| Ipv4Addr::from(candidate))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn pool(cidr: &str) -> Pool {
        Pool::new(cidr.parse().unwrap())
    }

    fn ip(last: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 0, 0, last)
    }

    #[test]
    fn a_freed_address_rests_until_the_others_were_used() {
        let mut pool = pool("10.0.0.0/29");
        let given: Vec<_> = ["a", "b", "c"].map(|link| pool.claim(link).unwrap()).into();
        assert_eq!(given, [ip(2), ip(3), ip(4)]);
        pool.release("b");
        assert_eq!(["d", "e", "f"].map(|link| pool.claim(link).unwrap()), [ip(5), ip(6), ip(3)]);
    }

    #[test]
    fn the_same_link_gets_the_same_address() {
        let mut pool = pool("10.0.0.0/29");
        assert_eq!(pool.claim("a"), pool.claim("a"));
    }

    #[test]
    fn a_full_network_is_an_error_that_names_it() {
        let mut pool = pool("10.0.0.0/30");
        assert_eq!(pool.claim("a"), Ok(ip(2)));
        assert_eq!(
            pool.claim("b").unwrap_err().to_string(),
            "all 1 addresses for pods of 10.0.0.0/30 are taken"
        );
        pool.release("a");
        assert_eq!(pool.claim("b"), Ok(ip(2)));
    }

    #[test]
    fn an_adopted_address_is_not_given_again() {
        let mut pool = pool("10.0.0.0/29");
        assert!(pool.adopt("old", ip(5)) && pool.adopt("old", ip(5)));
        assert!(!pool.adopt("thief", ip(5)), "another link has it");
        assert!(!pool.adopt("old", ip(6)), "it holds one already");
        assert!(![ip(0), ip(1), ip(7), ip(9)].iter().any(|address| pool.adopt("x", *address)));
        assert_eq!(["a", "b"].map(|link| pool.claim(link).unwrap()), [ip(6), ip(2)]);
        assert_eq!(pool.claim("old"), Ok(ip(5)));
    }

    proptest! {
        #[test]
        fn no_address_has_two_holders(steps in proptest::collection::vec((0u8..3, 0u8..12, 0u8..16), 0..200)) {
            let mut pool = pool("10.0.0.0/28");
            for (step, link, address) in steps {
                let link = format!("l{link}");
                match step {
                    0 => { let free = pool.by_link.len() < 13; prop_assert!(pool.claim(&link).is_ok() || !free); }
                    1 => pool.release(&link),
                    _ => { pool.adopt(&link, ip(address)); }
                }
                let held: BTreeSet<_> = pool.by_link.values().copied().collect();
                prop_assert_eq!(held.len(), pool.by_link.len());
                prop_assert!(held.iter().all(|address| pool.is_for_pods(*address)));
                prop_assert!(pool.by_address.iter().all(|(address, link)| pool.by_link[link] == *address));
                prop_assert_eq!(pool.by_address.len(), held.len());
            }
        }
    }
}
