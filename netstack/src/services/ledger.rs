//! All services of this node, and the elements that come of them.

use super::diff::Changes;
use super::fence::Fences;
use super::model::{NodeView, ServiceName, ServicePort, Target};
use super::table::{Content, Contents, Frontend, Plan, Slot, elements, plans};
use super::way::Pool;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};

/// What is wanted. A change costs what changes, whatever the number of services.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    node: NodeView,
    /// Who wants what of a frontend. If several services do, the first by name has it.
    claims: BTreeMap<Frontend, BTreeMap<ServiceName, Plan>>,
    frontends: BTreeMap<ServiceName, BTreeSet<Frontend>>,
    /// How many frontends need an element that is not one frontend's own.
    shared: BTreeMap<Slot, usize>,
    fences: Fences,
    contents: Contents,
    /// What was where, before the changes that nobody took yet.
    touched: BTreeMap<Slot, Option<Content>>,
}

impl Ledger {
    /// Nothing is wanted yet, and this is what is there.
    pub(super) fn new(contents: Contents) -> Self {
        Self { contents, ..Self::default() }
    }

    /// What is wanted to be there.
    pub(super) fn contents(&self) -> &Contents {
        &self.contents
    }

    /// The service has these ports; without any, it is gone.
    pub(super) fn set(&mut self, name: &ServiceName, ports: &[ServicePort]) {
        let mut wanted: BTreeMap<Frontend, Plan> = BTreeMap::new();
        for (frontend, plan) in ports.iter().flat_map(|port| plans(port, &self.node)) {
            wanted.entry(frontend).or_insert(plan);
        }
        let new: BTreeSet<Frontend> = wanted.keys().copied().collect();
        let old = if new.is_empty() {
            self.frontends.remove(name)
        } else {
            self.frontends.insert(name.clone(), new.clone())
        };
        for frontend in old.into_iter().flatten().chain(new).collect::<BTreeSet<_>>() {
            self.claim(frontend, name, wanted.remove(&frontend));
        }
    }

    /// Exactly these services are there, on a node that looks like this.
    pub(super) fn replace(&mut self, node: NodeView, all: &BTreeMap<ServiceName, Vec<ServicePort>>) {
        self.node = node;
        let gone: Vec<_> = self.frontends.keys().filter(|name| !all.contains_key(name)).cloned().collect();
        for name in gone {
            self.set(&name, &[]);
        }
        for (name, ports) in all {
            self.set(name, ports);
        }
        // What was found, and nobody wants.
        let is_wanted = |slot: &Slot| match slot {
            Slot::Service(f) | Slot::Endpoint(f, _) | Slot::Member(f, ..) | Slot::Fence(f) => {
                self.claims.contains_key(f)
            }
            Slot::Loop(_) | Slot::Balanced(_) => self.shared.contains_key(slot),
            Slot::Source(number, first, last) => self.fences.has(*number, (*first, *last)),
        };
        let stray: Vec<_> = self.contents.keys().filter(|slot| !is_wanted(slot)).copied().collect();
        for slot in stray {
            self.put(slot, None);
        }
    }

    /// What has changed since this was last asked.
    pub(super) fn take_changes(&mut self) -> Changes {
        let mut changes = Changes::default();
        for (slot, old) in std::mem::take(&mut self.touched) {
            let new = self.contents.get(&slot).copied();
            if old != new {
                changes.removed.extend(old.map(|old| (slot, old)));
                changes.added.extend(new.map(|new| (slot, new)));
            }
        }
        changes
    }

    /// Services that want a frontend that another one has.
    pub(super) fn losers(&self, frontends: impl Iterator<Item = Frontend>) -> Vec<(Frontend, ServiceName)> {
        let lost = |frontend| {
            let claims = self.claims.get(&frontend).into_iter().flat_map(BTreeMap::keys).skip(1);
            claims.map(move |name| (frontend, name.clone()))
        };
        frontends.flat_map(lost).collect()
    }

    /// The frontends of a service.
    pub(super) fn frontends_of(&self, name: &ServiceName) -> impl Iterator<Item = Frontend> {
        self.frontends.get(name).into_iter().flatten().copied()
    }

    fn claim(&mut self, frontend: Frontend, name: &ServiceName, plan: Option<Plan>) {
        let claims = self.claims.entry(frontend).or_default();
        let before = claims.values().next().cloned();
        match plan {
            Some(plan) => drop(claims.insert(name.clone(), plan)),
            None => drop(claims.remove(name)),
        }
        let winner = claims.values().next().cloned();
        if winner.is_none() {
            self.claims.remove(&frontend);
        }
        let fence = self.change_fence(winner.as_ref(), before.as_ref());
        let new = winner.as_ref().map(|plan| elements(frontend, plan, fence, &self.contents));
        let new: Contents = new.into_iter().flatten().collect();
        for slot in self.slots_of(frontend) {
            if !new.contains_key(&slot) {
                self.put(slot, None);
            }
        }
        for (slot, content) in new {
            self.put(slot, Some(content));
        }
        self.count(frontend, winner.as_ref(), before.as_ref());
    }

    /// The number of the fence that is there now, whose ranges are there; those of the one before go with
    /// its last frontend.
    fn change_fence(&mut self, now: Option<&Plan>, before: Option<&Plan>) -> Option<u32> {
        let number = now.and_then(|plan| plan.fence.as_ref()).map(|fence| {
            let (number, is_new) = self.fences.take(fence);
            for (first, last) in fence.iter().filter(|_| is_new) {
                self.put(Slot::Source(number, *first, *last), Some(Content::Nothing));
            }
            number
        });
        if let Some(fence) = before.and_then(|plan| plan.fence.as_ref())
            && let Some(number) = self.fences.give_back(fence)
        {
            for (first, last) in fence {
                self.put(Slot::Source(number, *first, *last), None);
            }
        }
        number
    }

    fn count(&mut self, frontend: Frontend, now: Option<&Plan>, before: Option<&Plan>) {
        let slots = |plan: Option<&Plan>| {
            let here = plan.into_iter().flat_map(|plan| &plan.here).map(|address| Slot::Loop(*address));
            let own = plan.filter(|plan| plan.is_balanced).map(|_| Slot::Balanced(frontend.address));
            here.chain(own).collect::<Vec<_>>()
        };
        for slot in slots(now) {
            *self.shared.entry(slot).or_default() += 1;
            self.put(slot, Some(Content::Nothing));
        }
        for slot in slots(before) {
            let count = self.shared.entry(slot).or_insert(1);
            *count -= 1;
            if *count == 0 {
                self.shared.remove(&slot);
                self.put(slot, None);
            }
        }
    }

    fn slots_of(&self, frontend: Frontend) -> Vec<Slot> {
        let least = Target { address: Ipv4Addr::UNSPECIFIED.into(), port: 0 };
        let most = Target { address: Ipv6Addr::from(u128::MAX).into(), port: u16::MAX };
        let ranges = [
            Slot::Service(frontend)..=Slot::Service(frontend),
            Slot::Endpoint(frontend, 0)..=Slot::Endpoint(frontend, u32::MAX),
            Slot::Member(frontend, Pool::Cluster, least)..=Slot::Member(frontend, Pool::Local, most),
            Slot::Fence(frontend)..=Slot::Fence(frontend),
        ];
        ranges.into_iter().flat_map(|range| self.contents.range(range)).map(|(slot, _)| *slot).collect()
    }

    fn put(&mut self, slot: Slot, content: Option<Content>) {
        let old = match content {
            Some(content) => self.contents.insert(slot, content),
            None => self.contents.remove(&slot),
        };
        if old != content {
            self.touched.entry(slot).or_insert(old);
        }
    }
}

#[cfg(test)]
mod tests;
