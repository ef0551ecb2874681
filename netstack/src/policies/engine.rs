//! Policies, pods and namespaces → elements of the kernel's maps. Pure.
//!
//! A pod's change costs what changes: its own elements, and those of a group or of a kind of peers
//! that comes or goes with it. A change of policies that matter here, or of namespaces, is worked
//! out anew, and compared.

use super::blocks::ranges;
use super::model::{Direction, Labels, News, Policy, PolicyName, PolicyPod};
use super::numbers::Numbers;
use super::rights::{Other, Rights, close, close_group};
use super::scope::{Half, Named, Policies, Scope, named, names, selecting};
use super::slot::{Changes, Contents, EVERYBODY, Group, Ledger, Slot, Who};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

#[cfg(test)]
mod tests;

/// What a pod has been counted for.
#[derive(Debug, Clone, Default)]
struct Given {
    who: Option<Who>,
    groups: BTreeMap<Direction, Group>,
    halves: Vec<Half>,
}

/// Pods that the same rules name.
#[derive(Debug)]
struct Kin {
    parties: BTreeSet<usize>,
    named: Named,
}

/// Pods that the same policies select.
#[derive(Debug)]
struct Members {
    rights: Rights,
    /// Numbers of its blocks.
    blocks: Vec<Who>,
}

/// What is known of the cluster, and what follows for this node.
#[derive(Debug, Default)]
pub(super) struct Engine {
    namespaces: BTreeMap<String, Labels>,
    policies: Policies,
    pods: BTreeMap<String, PolicyPod>,
    given: HashMap<String, Given>,
    owners: HashMap<IpAddr, BTreeSet<String>>,
    scope: Scope,
    /// How many pods of this node they select.
    counts: BTreeMap<Half, usize>,
    numbers: Numbers,
    groups: BTreeMap<Group, Members>,
    kin: BTreeMap<Who, Kin>,
    /// By the party's number: groups whose rules name it, and those who are it.
    naming: Vec<BTreeSet<Group>>,
    being: Vec<BTreeSet<Who>>,
    ledger: Ledger,
}

impl Engine {
    /// All elements.
    pub(super) const fn contents(&self) -> &Contents {
        self.ledger.contents()
    }

    /// How many policies select pods of this node.
    pub(super) fn in_force(&self) -> usize {
        self.counts.keys().map(|(name, _)| name).collect::<BTreeSet<_>>().len()
    }

    /// Whether policies select the pod.
    pub(super) fn isolates(&self, uid: &str) -> bool {
        self.given.get(uid).is_some_and(|given| !given.groups.is_empty())
    }

    /// Nothing but this is so. Returns what changes.
    pub(super) fn replace(&mut self, all: Vec<News>) -> Changes {
        self.namespaces.clear();
        self.policies.clear();
        self.pods.clear();
        for news in all {
            match news {
                News::Namespace(name, labels) => keep(&mut self.namespaces, name, labels),
                News::Policy(name, policy) => keep(&mut self.policies, name, policy),
                News::Pod(uid, pod) => keep(&mut self.pods, uid, pod),
            }
        }
        self.remake();
        self.ledger.settle()
    }

    /// This has changed. Returns what changes with it.
    pub(super) fn change(&mut self, all: Vec<News>) -> Changes {
        let mut pods = Vec::new();
        let mut anew = false;
        for news in all {
            match news {
                News::Namespace(name, labels) => {
                    let differs = self.namespaces.get(&name) != labels.as_ref();
                    anew |= differs && self.scope.reads_namespaces();
                    keep(&mut self.namespaces, name, labels);
                }
                News::Policy(name, policy) => anew |= self.change_policy(name, policy),
                News::Pod(uid, pod) => pods.push((uid, pod)),
            }
        }
        for (uid, pod) in pods {
            if anew {
                keep(&mut self.pods, uid, pod);
            } else {
                anew = self.change_pod(uid, pod);
            }
        }
        if anew {
            self.remake();
        }
        self.ledger.settle()
    }

    /// Returns whether it matters here.
    fn change_policy(&mut self, name: PolicyName, policy: Option<Policy>) -> bool {
        if self.policies.get(&name) == policy.as_ref() {
            return false;
        }
        let mattered = Direction::BOTH.into_iter().any(|way| self.counts.contains_key(&(name.clone(), way)));
        let selects = |policy: &Policy| {
            let mut here = self.pods.values().filter(|pod| pod.here && pod.namespace == name.namespace);
            here.any(|pod| policy.pods.matches(&pod.labels))
        };
        let matters = mattered || policy.as_ref().is_some_and(selects);
        keep(&mut self.policies, name, policy);
        matters
    }

    /// Returns whether other policies matter now, so that all has to be worked out anew.
    fn change_pod(&mut self, uid: String, pod: Option<PolicyPod>) -> bool {
        if self.pods.get(&uid) == pod.as_ref() {
            return false;
        }
        let mut addresses = BTreeSet::new();
        let mut lost = Vec::new();
        if let Some(old) = self.pods.remove(&uid) {
            lost = self.uncount(&uid);
            for address in old.addresses {
                addresses.insert(address);
                if let Some(owners) = self.owners.get_mut(&address) {
                    owners.remove(&uid);
                    if owners.is_empty() {
                        self.owners.remove(&address);
                    }
                }
            }
        }
        let mut known = true;
        if let Some(new) = pod {
            addresses.extend(&new.addresses);
            self.pods.insert(uid.clone(), new);
            known = self.count(&uid);
        }
        addresses.into_iter().for_each(|address| self.place(address));
        !known || lost.iter().any(|half| !self.counts.contains_key(half))
    }

    /// All is worked out from what is known.
    fn remake(&mut self) {
        self.ledger.clear();
        self.numbers = Numbers::default();
        self.given.clear();
        self.owners.clear();
        self.counts.clear();
        self.groups.clear();
        self.kin.clear();
        self.scope = Scope::of(&self.policies, self.pods.values().filter(|pod| pod.here));
        self.naming = vec![BTreeSet::new(); self.scope.count()];
        self.being = vec![BTreeSet::new(); self.scope.count()];
        for uid in self.pods.keys().cloned().collect::<Vec<_>>() {
            self.count(&uid);
        }
        for address in self.owners.keys().copied().collect::<Vec<_>>() {
            self.place(address);
        }
    }

    /// The pod is counted for what it is. Returns whether all that selects it is looked at.
    fn count(&mut self, uid: &str) -> bool {
        let Some(pod) = self.pods.get(uid).cloned() else { return true };
        let mut given = Given::default();
        let mut known = true;
        for address in &pod.addresses {
            self.owners.entry(*address).or_default().insert(uid.to_owned());
        }
        for direction in Direction::BOTH.into_iter().filter(|_| pod.here) {
            let selecting: Vec<_> = selecting(&self.policies, &pod, direction).collect();
            if selecting.is_empty() {
                continue;
            }
            let halves: Vec<Half> = selecting.iter().map(|(name, _)| ((*name).clone(), direction)).collect();
            known &= halves.iter().all(|half| self.scope.has(half));
            for half in &halves {
                *self.counts.entry(half.clone()).or_default() += 1;
            }
            given.halves.extend(halves);
            let group = self.join(&pod, direction);
            given.groups.insert(direction, group);
        }
        let parties = self.scope.parties_of(&pod, &self.namespaces);
        if !parties.is_empty() {
            let named = named(&pod, &self.scope.names);
            given.who = Some(self.be(Kin { parties, named }));
        }
        self.given.insert(uid.to_owned(), given);
        known
    }

    /// The group of pods like that one.
    fn join(&mut self, pod: &PolicyPod, direction: Direction) -> Group {
        let policies: Vec<_> = selecting(&self.policies, pod, direction).collect();
        let wanted: BTreeSet<_> = match direction {
            Direction::Ingress => policies.iter().flat_map(|(_, policy)| names(policy, direction)).collect(),
            Direction::Egress => BTreeSet::new(),
        };
        let named = named(pod, &wanted);
        let who: Vec<&str> = policies.iter().map(|(name, _)| name.name.as_str()).collect();
        let (group, new) = self.numbers.take(&format!("{direction:?} {} {who:?} {named:?}", pod.namespace));
        if !new {
            return group;
        }
        let rights = Rights::of(policies.into_iter(), direction, &named, &self.scope);
        rights.put(&mut self.ledger, (group, EVERYBODY), Other::Anybody);
        for party in rights.parties() {
            self.naming[party].insert(group);
        }
        for who in rights.parties().iter().flat_map(|party| &self.being[*party]).collect::<BTreeSet<_>>() {
            if let Some(kin) = self.kin.get(who) {
                rights.put(&mut self.ledger, (group, *who), Other::Pod(&kin.parties, &kin.named));
            }
        }
        let mut blocks = Vec::new();
        for (first, last, holders) in ranges(&rights.blocks()) {
            let (who, new) = self.numbers.take(&format!("blocks {group} {holders:?}"));
            self.ledger.put(Slot::Block(group, first, last), who);
            if new {
                rights.put(&mut self.ledger, (group, who), Other::Blocks(&holders));
            }
            blocks.push(who);
        }
        self.groups.insert(group, Members { rights, blocks });
        group
    }

    /// The number of pods like that.
    fn be(&mut self, kin: Kin) -> Who {
        let sums: Vec<u64> = kin.parties.iter().map(|party| self.scope.sum(*party)).collect();
        let (who, new) = self.numbers.take(&format!("{sums:?} {:?}", kin.named));
        if new {
            for party in &kin.parties {
                self.being[*party].insert(who);
            }
            for group in kin.parties.iter().flat_map(|party| &self.naming[*party]).collect::<BTreeSet<_>>() {
                if let Some(members) = self.groups.get(group) {
                    members.rights.put(&mut self.ledger, (*group, who), Other::Pod(&kin.parties, &kin.named));
                }
            }
            self.kin.insert(who, kin);
        }
        who
    }

    /// The pod no longer counts. Returns what may select no pod of this node any more.
    fn uncount(&mut self, uid: &str) -> Vec<Half> {
        let Some(given) = self.given.remove(uid) else { return Vec::new() };
        for group in given.groups.into_values() {
            if self.numbers.give_back(group) {
                close_group(&mut self.ledger, group);
                let Some(members) = self.groups.remove(&group) else { continue };
                for party in members.rights.parties() {
                    self.naming[party].remove(&group);
                }
                for who in members.blocks {
                    self.numbers.give_back(who);
                }
            }
        }
        if let Some(who) = given.who.filter(|who| self.numbers.give_back(*who)) {
            let kin = self.kin.remove(&who);
            for party in kin.into_iter().flat_map(|kin| kin.parties) {
                self.being[party].remove(&who);
                for group in &self.naming[party] {
                    close(&mut self.ledger, *group, who);
                }
            }
        }
        for half in &given.halves {
            if let Some(count) = self.counts.get_mut(half) {
                *count -= 1;
                if *count == 0 {
                    self.counts.remove(half);
                }
            }
        }
        given.halves
    }

    /// The address's elements are those of the pod that has it.
    fn place(&mut self, address: IpAddr) {
        let owners = self.owners.get(&address).into_iter().flatten();
        let rank = |uid: &&String| self.pods.get(*uid).map(|pod| (pod.order, pod.here));
        let given = owners.max_by_key(rank).and_then(|uid| self.given.get(uid));
        let who = given.and_then(|given| given.who);
        let groups = given.map(|given| given.groups.clone()).unwrap_or_default();
        for direction in Direction::BOTH {
            let group = groups.get(&direction).copied();
            set(&mut self.ledger, Slot::Pod(direction, address), group);
        }
        set(&mut self.ledger, Slot::Itself(address), (!groups.is_empty()).then_some(0));
        set(&mut self.ledger, Slot::Peer(address), who);
    }
}

fn set(ledger: &mut Ledger, slot: Slot, number: Option<u32>) {
    match number {
        Some(number) => ledger.put(slot, number),
        None => ledger.remove(slot),
    }
}

fn keep<K: Ord, V>(all: &mut BTreeMap<K, V>, key: K, value: Option<V>) {
    match value {
        Some(value) => drop(all.insert(key, value)),
        None => drop(all.remove(&key)),
    }
}
