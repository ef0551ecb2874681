//! How full each node is: sums that are kept with every change instead of being
//! made anew for every Pod. Derived from the state alone, and lost without harm.

use super::amounts::Amounts;
use super::is_waiting;
use super::ports::{HostPort, host_ports};
use crate::controllers::pod;
use crate::store::{Change, Event, State};
use jiff::Timestamp;
use manifests::k8s_openapi::api::core::v1::{Node, Pod};
use manifests::{Kind, Object, ObjectKey};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// The region and the zone of a node.
const TOPOLOGY: [&str; 2] = ["topology.kubernetes.io/region", "topology.kubernetes.io/zone"];

/// What is taken of every node, and which Pods wait for one.
#[derive(Debug, Default)]
pub struct Ledger {
    /// In an order that has nothing to do with names, so that neighbours in it are a fair sample.
    rooms: BTreeMap<(u64, String), Room>,
    bound: HashMap<ObjectKey, Bound>,
    waiting: BTreeSet<ObjectKey>,
    /// Pods that came to their end, and when they were made.
    ended: HashMap<ObjectKey, Option<Timestamp>>,
    crowds: HashMap<String, Crowd>,
}

/// One node: what it has, and what of it is taken.
#[derive(Debug, Default)]
pub(super) struct Room {
    /// `None` while only Pods speak of it.
    node: Option<Arc<Object>>,
    /// Empty without labels of a zone or a region.
    pub(super) zone: String,
    pub(super) allocatable: Amounts,
    pub(super) used: Amounts,
    pub(super) ports: Vec<HostPort>,
    pods: BTreeSet<ObjectKey>,
}

impl Room {
    pub(super) fn node(&self) -> Option<&Node> {
        <&Node>::try_from(self.node.as_deref()?).ok()
    }
}

/// What one Pod takes.
#[derive(Debug, PartialEq)]
struct Bound {
    node: String,
    amounts: Amounts,
    ports: Vec<HostPort>,
    owner: Option<String>,
    /// Of the Pod: what it asks for is the same in one generation.
    generation: Option<i64>,
}

/// Where the Pods of one owner are.
#[derive(Debug, Default)]
pub(super) struct Crowd {
    pub(super) by_node: HashMap<String, i64>,
    pub(super) by_zone: HashMap<String, i64>,
}

impl Ledger {
    /// What `state` says.
    #[must_use]
    pub fn of(state: &State) -> Self {
        let mut ledger = Self::default();
        for kind in [Kind::Node, Kind::Pod] {
            state.list(kind, None).for_each(|object| ledger.put(object));
        }
        ledger
    }

    /// Takes in a change of the state.
    pub fn follow(&mut self, event: &Event) {
        match event.change {
            Change::Added | Change::Modified => self.put(&event.object),
            Change::Deleted => self.forget(&event.key()),
        }
    }

    /// What `state` says of `key`, whatever was assumed.
    pub fn reread(&mut self, state: &State, key: &ObjectKey) {
        match state.get(key) {
            Some(object) => self.put(object),
            None => self.forget(key),
        }
    }

    /// The Pod takes its part of the node that it names, before the state says so.
    pub(super) fn assume(&mut self, key: &ObjectKey, pod: &Pod) {
        self.put_pod(key, pod);
    }

    /// The Pods that have no node and may get one.
    pub(super) const fn waiting(&self) -> &BTreeSet<ObjectKey> {
        &self.waiting
    }

    /// The Pods that run on the node of this name, or may.
    pub(crate) fn pods_on(&self, node: &str) -> Vec<ObjectKey> {
        self.rooms.get(&place(node)).into_iter().flat_map(|room| room.pods.iter().cloned()).collect()
    }

    /// How many Pods came to their end.
    pub(crate) fn ended_count(&self) -> usize {
        self.ended.len()
    }

    /// The `count` oldest Pods that came to their end.
    pub(crate) fn oldest_ended(&self, count: usize) -> Vec<ObjectKey> {
        let mut all: Vec<_> = self.ended.iter().map(|(key, made_at)| (*made_at, key)).collect();
        all.sort_unstable();
        all.into_iter().take(count).map(|(_, key)| key.clone()).collect()
    }

    /// Every node that is there, from the one after `start` on, and around.
    pub(super) fn rooms_from(&self, start: u64) -> impl Iterator<Item = (&str, &Room)> {
        let start = (start, String::new());
        let all = self.rooms.range(start.clone()..).chain(self.rooms.range(..start));
        all.filter(|(_, room)| room.node.is_some()).map(|((_, name), room)| (name.as_str(), room))
    }

    /// The node of this name, if it is there.
    pub(super) fn room(&self, name: &str) -> Option<(&str, &Room)> {
        let ((_, name), room) = self.rooms.get_key_value(&place(name))?;
        room.node.is_some().then_some((name.as_str(), room))
    }

    /// How many nodes there are.
    pub(super) fn node_count(&self) -> usize {
        self.rooms.values().filter(|room| room.node.is_some()).count()
    }

    /// Where the Pods of the owner with this uid are.
    pub(super) fn crowd(&self, owner: &str) -> Option<&Crowd> {
        self.crowds.get(owner)
    }

    fn put(&mut self, object: &Arc<Object>) {
        #[allow(clippy::wildcard_enum_match_arm, reason = "nothing else takes or gives room")]
        match &**object {
            Object::Node(node) => self.put_node(object, node),
            Object::Pod(pod) => self.put_pod(&object.key(), pod),
            _ => {}
        }
    }

    fn forget(&mut self, key: &ObjectKey) {
        if key.kind == Kind::Pod {
            self.waiting.remove(key);
            self.ended.remove(key);
            self.release(key);
        } else if key.kind == Kind::Node {
            let place = place(&key.name);
            if let Some(room) = self.rooms.get_mut(&place) {
                room.node = None;
                room.allocatable = Amounts::default();
            }
            self.rezone(&key.name, String::new());
            self.drop_if_empty(&place);
        }
    }

    fn put_node(&mut self, object: &Arc<Object>, node: &Node) {
        let room = self.rooms.entry(place(object.name())).or_default();
        room.node = Some(Arc::clone(object));
        let allocatable = node.status.as_ref().and_then(|status| status.allocatable.as_ref());
        room.allocatable = allocatable.map(Amounts::of).unwrap_or_default();
        self.rezone(object.name(), zone(node));
    }

    /// The node, and the Pods that are there, belong to `zone`.
    fn rezone(&mut self, name: &str, zone: String) {
        let Some(room) = self.rooms.get_mut(&place(name)) else { return };
        if room.zone == zone {
            return;
        }
        let old = std::mem::replace(&mut room.zone, zone.clone());
        for crowd in self.crowds.values_mut() {
            if let Some(count) = crowd.by_node.get(name).copied() {
                change(&mut crowd.by_zone, &old, -count);
                change(&mut crowd.by_zone, &zone, count);
            }
        }
    }

    fn put_pod(&mut self, key: &ObjectKey, pod: &Pod) {
        if is_waiting(pod) {
            self.waiting.insert(key.clone());
        } else {
            self.waiting.remove(key);
        }
        if pod::is_finished(pod) {
            self.ended.insert(key.clone(), pod::created_at(pod));
        } else {
            self.ended.remove(key);
        }
        let node = pod::node_name(pod);
        if node.is_empty() || pod::is_finished(pod) {
            return self.release(key);
        }
        // Most changes of a Pod are of its status.
        if self.bound.get(key).is_some_and(|bound| bound.is_of(pod)) {
            return;
        }
        self.release(key);
        let bound = Bound::of(pod);
        let place = place(&bound.node);
        let room = self.rooms.entry(place).or_default();
        room.used.add(&bound.amounts);
        room.ports.extend(bound.ports.iter().cloned());
        room.pods.insert(key.clone());
        if let Some(owner) = &bound.owner {
            let crowd = self.crowds.entry(owner.clone()).or_default();
            change(&mut crowd.by_node, &bound.node, 1);
            change(&mut crowd.by_zone, &room.zone, 1);
        }
        self.bound.insert(key.clone(), bound);
    }

    fn release(&mut self, key: &ObjectKey) {
        let Some(bound) = self.bound.remove(key) else { return };
        let place = place(&bound.node);
        let Some(room) = self.rooms.get_mut(&place) else { return };
        room.used.subtract(&bound.amounts);
        room.pods.remove(key);
        for port in &bound.ports {
            if let Some(at) = room.ports.iter().position(|other| other == port) {
                room.ports.swap_remove(at);
            }
        }
        if let Some(owner) = &bound.owner
            && let Some(crowd) = self.crowds.get_mut(owner)
        {
            change(&mut crowd.by_node, &bound.node, -1);
            change(&mut crowd.by_zone, &room.zone, -1);
            if crowd.by_node.is_empty() {
                self.crowds.remove(owner);
            }
        }
        self.drop_if_empty(&place);
    }

    fn drop_if_empty(&mut self, place: &(u64, String)) {
        if self.rooms.get(place).is_some_and(|room| room.node.is_none() && room.pods.is_empty()) {
            self.rooms.remove(place);
        }
    }
}

impl Bound {
    fn of(pod: &Pod) -> Self {
        let spec = pod.spec.as_ref();
        Self {
            node: pod::node_name(pod).to_owned(),
            amounts: spec.map(Amounts::of_pod).unwrap_or_default(),
            ports: spec.map(host_ports).unwrap_or_default(),
            owner: owner(pod).map(str::to_owned),
            generation: pod.metadata.generation,
        }
    }

    /// True if nothing that counts can have changed.
    fn is_of(&self, pod: &Pod) -> bool {
        self.generation.is_some()
            && self.generation == pod.metadata.generation
            && self.node == pod::node_name(pod)
            && self.owner.as_deref() == owner(pod)
    }
}

/// The uid of what controls the Pod.
pub(super) fn owner(pod: &Pod) -> Option<&str> {
    let owners = pod.metadata.owner_references.iter().flatten();
    owners.into_iter().find(|owner| owner.controller == Some(true)).map(|owner| owner.uid.as_str())
}

/// Region and zone of a node; empty if it names neither.
pub(crate) fn zone(node: &Node) -> String {
    let label = |key: &str| node.metadata.labels.as_ref()?.get(key).map(String::as_str);
    let [region, zone] = TOPOLOGY.map(|key| label(key).unwrap_or_default());
    if region.is_empty() && zone.is_empty() { String::new() } else { format!("{region}:{zone}") }
}

fn change(counts: &mut HashMap<String, i64>, key: &str, by: i64) {
    if let Some(count) = counts.get_mut(key) {
        *count += by;
        if *count == 0 {
            counts.remove(key);
        }
    } else if by != 0 {
        counts.insert(key.to_owned(), by);
    }
}

fn place(name: &str) -> (u64, String) {
    (scatter(&[name]), name.to_owned())
}

/// A number that looks random and is the same for the same texts, on every machine.
/// Source: FNV-1a, 64 bits, with the last steps of splitmix64, since FNV mixes its last bytes badly.
pub(super) fn scatter(texts: &[&str]) -> u64 {
    let bytes = texts.iter().flat_map(|text| text.bytes().chain([0xff]));
    let mut z = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
