//! What the kernel's maps and sets are to have, and how that changes. Pure.

use super::model::Direction;
use crate::network::Protocol;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Pods that the same policies select, in one direction.
pub(super) type Group = u32;
/// Peers that the same rules name.
pub(super) type Who = u32;

/// Whoever it is.
pub(super) const EVERYBODY: Who = 0;

/// The place of an element.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Slot {
    /// A pod of this node that policies select: its group.
    Pod(Direction, IpAddr),
    /// It may ask itself.
    Itself(IpAddr),
    /// A pod that rules name: who it is.
    Peer(IpAddr),
    /// Addresses that rules of the group name, both ends included: who they are.
    Block(Group, IpAddr, IpAddr),
    /// Everything is allowed.
    Open(Group, Who),
    /// A port is.
    Port(Group, Who, Protocol, u16),
    /// All ports from one to another are.
    Ports(Group, Who, Protocol, u16, u16),
}

/// All elements, with the numbers that maps have; sets have 0.
pub(super) type Contents = BTreeMap<Slot, u32>;

/// Elements that go, and elements that come after that; what is replaced is in both.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Changes {
    pub(super) removed: Contents,
    pub(super) added: Contents,
}

impl Changes {
    pub(super) fn is_empty(&self) -> bool {
        self.removed.is_empty() && self.added.is_empty()
    }
}

/// What makes `new` of `old`.
pub(super) fn diff(old: &Contents, new: &Contents) -> Changes {
    let lacks = |these: &Contents, slot: &Slot, number: &u32| these.get(slot) != Some(number);
    let removed = old.iter().filter(|(slot, number)| lacks(new, slot, number));
    let added = new.iter().filter(|(slot, number)| lacks(old, slot, number));
    Changes {
        removed: removed.map(|(slot, number)| (*slot, *number)).collect(),
        added: added.map(|(slot, number)| (*slot, *number)).collect(),
    }
}

/// Contents that know what has changed in them.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    contents: Contents,
    /// What slots that were touched had before.
    before: BTreeMap<Slot, Option<u32>>,
}

impl Ledger {
    pub(super) const fn contents(&self) -> &Contents {
        &self.contents
    }

    pub(super) fn put(&mut self, slot: Slot, number: u32) {
        let old = self.contents.insert(slot, number);
        self.before.entry(slot).or_insert(old);
    }

    pub(super) fn remove(&mut self, slot: Slot) {
        if let Some(old) = self.contents.remove(&slot) {
            self.before.entry(slot).or_insert(Some(old));
        }
    }

    /// All slots of the range are gone.
    pub(super) fn remove_range(&mut self, from: Slot, to: Slot) {
        let slots: Vec<Slot> = self.contents.range(from..=to).map(|(slot, _)| *slot).collect();
        slots.into_iter().for_each(|slot| self.remove(slot));
    }

    /// Everything is gone.
    pub(super) fn clear(&mut self) {
        for (slot, old) in std::mem::take(&mut self.contents) {
            self.before.entry(slot).or_insert(Some(old));
        }
    }

    /// What has changed since this was last asked.
    pub(super) fn settle(&mut self) -> Changes {
        let mut changes = Changes::default();
        for (slot, old) in std::mem::take(&mut self.before) {
            let new = self.contents.get(&slot).copied();
            if old == new {
                continue;
            }
            changes.removed.extend(old.map(|old| (slot, old)));
            changes.added.extend(new.map(|new| (slot, new)));
        }
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ledger_knows_what_changed() {
        let mut ledger = Ledger::default();
        let (a, b) = (Slot::Open(1, 1), Slot::Open(1, 2));
        ledger.put(a, 0);
        ledger.put(b, 0);
        ledger.remove(b);
        assert_eq!(ledger.settle(), Changes { removed: Contents::new(), added: [(a, 0)].into() });
        ledger.clear();
        ledger.put(a, 0);
        assert!(ledger.settle().is_empty());
        ledger.put(a, 5);
        let changes = Changes { removed: [(a, 0)].into(), added: [(a, 5)].into() };
        assert_eq!(ledger.settle(), changes);
        assert_eq!(diff(&[(a, 0)].into(), ledger.contents()), changes);
        ledger.remove_range(Slot::Open(1, 0), Slot::Open(1, 9));
        assert!(ledger.contents().is_empty());
    }
}
