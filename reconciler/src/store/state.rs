//! Every object, in memory, with the indexes that controllers need.
//!
//! Pure: changed only by [`State::insert`] and [`State::remove`], which the
//! store calls with what is already durable.
//!
//! Of the kinds that few look at, objects are kept as text, which is compressed when there is time:
//! a hundred-thousandth of a second of reading for a third of the memory. Those that were written or
//! read last are also kept as they are.

mod held;
mod packed;

use held::Held;
use manifests::{Kind, Object, ObjectKey};
use packed::{Packed, Packer};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// Objects whose text waits to be compressed until nothing is written for a while.
const WAITING: usize = 16_384;
/// Packed objects that are kept as they are, too, since somebody wrote or read them.
const READ: usize = 1024;

/// All objects at one resource version.
#[derive(Debug, Clone, Default)]
pub struct State {
    objects: BTreeMap<ObjectKey, Held>,
    dependents: BTreeMap<String, BTreeSet<ObjectKey>>,
    /// Pods by the node that they are bound to.
    bound: BTreeMap<String, BTreeSet<ObjectKey>>,
    /// What could have a controller, and has none.
    uncontrolled: BTreeSet<ObjectKey>,
    revision: u64,
    /// Packed objects whose text is yet to be compressed, oldest first; some may be gone by now.
    written: VecDeque<ObjectKey>,
    /// Packed objects that were written or read last, oldest first.
    read: Reads,
    /// From here on, there may be more of which the text is yet to be compressed.
    loose: Option<ObjectKey>,
}

#[derive(Debug, Default)]
struct Reads(Mutex<VecDeque<ObjectKey>>);

impl Reads {
    fn keys(&self) -> MutexGuard<'_, VecDeque<ObjectKey>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clone for Reads {
    /// What is read of the copy counts for the copy.
    fn clone(&self) -> Self {
        Self::default()
    }
}

/// An object at one moment, which need not be unpacked yet.
#[derive(Debug)]
pub(super) struct Handle(Kind, Held);

impl Handle {
    /// The object, unpacked for this look only.
    pub(super) fn look(self) -> Arc<Object> {
        self.1.look(self.0)
    }
}

impl State {
    /// The resource version of the newest change; 0 when nothing was ever written.
    #[must_use]
    pub const fn revision(&self) -> u64 {
        self.revision
    }

    /// How many objects there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.objects.len()
    }

    /// True if there is no object.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    /// The object named `key`.
    #[must_use]
    pub fn get(&self, key: &ObjectKey) -> Option<&Arc<Object>> {
        self.objects.get(key).map(|held| self.unpacked(key, held))
    }

    fn unpacked<'a>(&self, key: &ObjectKey, held: &'a Held) -> &'a Arc<Object> {
        held.object(key.kind, || self.read.keys().push_back(key.clone()))
    }

    fn of<'a>(
        &'a self,
        kind: Kind,
        namespace: Option<&'a str>,
    ) -> impl Iterator<Item = (&'a ObjectKey, &'a Held)> {
        let first = ObjectKey::new(kind, namespace.unwrap_or_default(), "");
        self.objects
            .range(first..)
            .take_while(move |(key, _)| key.kind == kind && namespace.is_none_or(|ns| key.namespace == ns))
    }

    /// The objects of `kind`, by namespace and name; of one namespace if given.
    pub fn list<'a>(
        &'a self,
        kind: Kind,
        namespace: Option<&'a str>,
    ) -> impl Iterator<Item = &'a Arc<Object>> {
        self.of(kind, namespace).map(|(key, held)| self.unpacked(key, held))
    }

    /// The same, for who unpacks them later, or not.
    pub(super) fn handles<'a>(
        &'a self,
        kind: Kind,
        namespace: Option<&'a str>,
    ) -> impl Iterator<Item = Handle> {
        self.of(kind, namespace).map(move |(_, held)| Handle(kind, held.clone()))
    }

    /// The objects that name `uid` among their `ownerReferences`.
    pub fn owned_by<'a>(&'a self, uid: &str) -> impl Iterator<Item = &'a Arc<Object>> {
        self.dependents.get(uid).into_iter().flatten().filter_map(|key| self.get(key))
    }

    /// The objects of `kind` in `namespace` that nobody controls: for the kinds that a workload could adopt.
    pub fn uncontrolled<'a>(
        &'a self,
        kind: Kind,
        namespace: &'a str,
    ) -> impl Iterator<Item = &'a Arc<Object>> {
        debug_assert!(is_adoptable(kind), "{kind} is not in the index");
        let keys = self.uncontrolled.range(ObjectKey::new(kind, namespace, "")..);
        keys.take_while(move |key| key.kind == kind && key.namespace == namespace)
            .filter_map(|key| self.get(key))
    }

    /// The Pods that are bound to `node`, by namespace and name.
    pub fn bound_to<'a>(&'a self, node: &str) -> impl Iterator<Item = &'a Arc<Object>> {
        self.bound.get(node).into_iter().flatten().filter_map(|key| self.get(key))
    }

    /// Every object, in key order. Each is unpacked.
    pub fn iter(&self) -> impl Iterator<Item = (&ObjectKey, &Arc<Object>)> {
        self.objects.iter().map(|(key, held)| (key, self.unpacked(key, held)))
    }

    /// The objects after `key`, or all, in key order; each is unpacked for this look only.
    pub fn after(&self, key: Option<&ObjectKey>) -> impl Iterator<Item = (&ObjectKey, Arc<Object>)> {
        let start = key.map_or(Bound::Unbounded, Bound::Excluded);
        self.objects.range((start, Bound::Unbounded)).map(|(key, held)| (key, held.look(key.kind)))
    }

    /// The objects whose key is as `wanted` says and that may have annotations, in key order; each
    /// is unpacked for this look only.
    pub fn annotated(
        &self,
        wanted: impl Fn(&ObjectKey) -> bool,
    ) -> impl Iterator<Item = (&ObjectKey, Arc<Object>)> {
        let found = self.objects.iter().filter(move |(key, held)| held.may_be_annotated() && wanted(key));
        found.map(|(key, held)| (key, held.look(key.kind)))
    }

    /// The JSON text of every object, in key order.
    pub(super) fn texts(&self) -> impl Iterator<Item = (&ObjectKey, io::Result<Cow<'_, [u8]>>)> {
        self.objects.iter().map(|(key, held)| (key, held.json()))
    }

    /// Adds or replaces an object; `revision` becomes the state's.
    pub fn insert(&mut self, object: Arc<Object>, revision: u64) {
        let key = object.key();
        let held = Held::new(&object);
        if held.is_packed() {
            self.written.push_back(key.clone());
            self.read.keys().push_back(key.clone());
        }
        self.put(key, &object, held, revision);
    }

    /// The same for an object whose text is `json`, and which nobody reads now.
    pub(super) fn insert_text(&mut self, object: Object, json: &[u8], revision: u64) {
        let key = object.key();
        let packed =
            Some(()).filter(|()| Held::is_cold(key.kind)).and_then(|()| Packed::plain(&object, json));
        let Some(packed) = packed else { return self.insert(Arc::new(object), revision) };
        if self.loose.as_ref().is_none_or(|loose| key < *loose) {
            self.loose = Some(key.clone());
        }
        self.put(key, &object, Held::Packed(packed, OnceLock::new()), revision);
    }

    fn put(&mut self, key: ObjectKey, object: &Object, held: Held, revision: u64) {
        self.unlink(&key);
        for owner in object.metadata().owner_references.iter().flatten() {
            self.dependents.entry(owner.uid.clone()).or_default().insert(key.clone());
        }
        if is_adoptable(key.kind) && object.controller().is_none() {
            self.uncontrolled.insert(key.clone());
        }
        if let Some(node) = node_of(object) {
            self.bound.entry(node.to_owned()).or_default().insert(key.clone());
        }
        self.objects.insert(key, held);
        self.revision = revision;
    }

    /// Takes an object away, if it is there; `revision` becomes the state's then.
    pub fn remove(&mut self, key: &ObjectKey, revision: u64) {
        self.unlink(key);
        if self.objects.remove(key).is_some() {
            self.revision = revision;
        }
    }

    /// Sets the revision of a state that was read from disk: the newest change
    /// may have been a deletion, which no object remembers.
    pub(super) const fn restart_at(&mut self, revision: u64) {
        self.revision = revision;
    }

    fn unlink(&mut self, key: &ObjectKey) {
        if is_adoptable(key.kind) {
            self.uncontrolled.remove(key);
        }
        let Some(held) = self.objects.get(key).filter(|held| held.may_be_owned()) else { return };
        let object = held.look(key.kind);
        for owner in object.metadata().owner_references.iter().flatten() {
            if let Some(keys) = self.dependents.get_mut(&owner.uid) {
                keys.remove(key);
                if keys.is_empty() {
                    self.dependents.remove(&owner.uid);
                }
            }
        }
        if let Some(node) = node_of(&object)
            && let Some(keys) = self.bound.get_mut(node)
        {
            keys.remove(key);
            if keys.is_empty() {
                self.bound.remove(node);
            }
        }
    }

    /// True if more was written and read than is kept unpacked.
    pub(super) fn is_crowded(&self) -> bool {
        self.read.keys().len() > 2 * READ
    }

    /// Much was written or read: what goes beyond the limits is compressed, or forgotten unpacked.
    pub(super) fn tidy(&mut self) {
        self.forget_reads();
        if self.written.len() > WAITING {
            self.pack_written(WAITING / 16);
        }
    }

    fn forget_reads(&mut self) {
        let keys = self.read.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        let over = keys.len().saturating_sub(READ);
        for key in keys.drain(..over) {
            if let Some(held) = self.objects.get_mut(&key) {
                held.forget();
            }
        }
    }

    /// True if there is something to pack while nobody writes.
    pub(super) fn is_loose(&self) -> bool {
        !self.written.is_empty() || self.loose.is_some()
    }

    /// Packs at most `most` objects of those that wait for a rest; says how many it looked at.
    pub(super) fn pack(&mut self, most: usize) -> usize {
        let packed = self.pack_written(most);
        packed + self.pack_loose(most - packed)
    }

    fn pack_written(&mut self, most: usize) -> usize {
        let count = self.written.len().min(most);
        let mut packer = Packer::new();
        for key in self.written.drain(..count) {
            if let Some(held) = self.objects.get_mut(&key) {
                held.pack(&mut packer);
            }
        }
        if self.written.is_empty() {
            self.written.shrink_to_fit();
        }
        count
    }

    fn pack_loose(&mut self, most: usize) -> usize {
        let Some(from) = self.loose.take() else { return 0 };
        let mut packer = Packer::new();
        let mut count = 0;
        for (key, held) in self.objects.range_mut(from..) {
            if count == most {
                self.loose = Some(key.clone());
                break;
            }
            if held.pack(&mut packer) {
                count += 1;
            }
        }
        count
    }
}

/// True for kinds that are packed when nobody looks at them.
pub(super) const fn is_cold(kind: Kind) -> bool {
    Held::is_cold(kind)
}

/// True for what a controller makes, and so may take over.
const fn is_adoptable(kind: Kind) -> bool {
    matches!(kind, Kind::Pod | Kind::ReplicaSet | Kind::Job)
}

/// The node that a Pod is bound to.
fn node_of(object: &Object) -> Option<&str> {
    let Object::Pod(pod) = object else { return None };
    pod.spec.as_ref()?.node_name.as_deref().filter(|node| !node.is_empty())
}

#[cfg(test)]
mod tests;
