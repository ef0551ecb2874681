//! Every object, in memory, with the indexes that controllers need.
//!
//! Pure: changed only by [`State::insert`] and [`State::remove`], which the
//! store calls with what is already durable.

use manifests::{Kind, Object, ObjectKey};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// All objects at one resource version.
#[derive(Debug, Clone, Default)]
pub struct State {
    objects: BTreeMap<ObjectKey, Arc<Object>>,
    dependents: BTreeMap<String, BTreeSet<ObjectKey>>,
    /// Pods by the node that they are bound to.
    bound: BTreeMap<String, BTreeSet<ObjectKey>>,
    /// What could have a controller, and has none.
    uncontrolled: BTreeSet<ObjectKey>,
    revision: u64,
}

impl State {
    /// The resource version of the newest change; 0 when nothing was ever written.
    #[must_use]
    pub const fn revision(&self) -> u64 {
        self.revision
    }

    /// The object named `key`.
    #[must_use]
    pub fn get(&self, key: &ObjectKey) -> Option<&Arc<Object>> {
        self.objects.get(key)
    }

    /// The objects of `kind`, by namespace and name; of one namespace if given.
    pub fn list<'a>(
        &'a self,
        kind: Kind,
        namespace: Option<&'a str>,
    ) -> impl Iterator<Item = &'a Arc<Object>> {
        let first = ObjectKey::new(kind, namespace.unwrap_or_default(), "");
        self.objects
            .range(first..)
            .take_while(move |(key, _)| key.kind == kind && namespace.is_none_or(|ns| key.namespace == ns))
            .map(|(_, object)| object)
    }

    /// The objects that name `uid` among their `ownerReferences`.
    pub fn owned_by<'a>(&'a self, uid: &str) -> impl Iterator<Item = &'a Arc<Object>> {
        self.dependents.get(uid).into_iter().flatten().filter_map(|key| self.objects.get(key))
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
            .filter_map(|key| self.objects.get(key))
    }

    /// The Pods that are bound to `node`, by namespace and name.
    pub fn bound_to<'a>(&'a self, node: &str) -> impl Iterator<Item = &'a Arc<Object>> {
        self.bound.get(node).into_iter().flatten().filter_map(|key| self.objects.get(key))
    }

    /// Every object, in key order.
    pub fn iter(&self) -> impl Iterator<Item = (&ObjectKey, &Arc<Object>)> {
        self.objects.iter()
    }

    /// Adds or replaces an object; `revision` becomes the state's.
    pub fn insert(&mut self, object: Arc<Object>, revision: u64) -> Option<Arc<Object>> {
        let key = object.key();
        let before = self.objects.insert(key.clone(), Arc::clone(&object));
        if let Some(before) = &before {
            self.unlink(before, &key);
        }
        for owner in object.metadata().owner_references.iter().flatten() {
            self.dependents.entry(owner.uid.clone()).or_default().insert(key.clone());
        }
        if is_adoptable(key.kind) && object.controller().is_none() {
            self.uncontrolled.insert(key.clone());
        }
        if let Some(node) = node_of(&object) {
            self.bound.entry(node.to_owned()).or_default().insert(key);
        }
        self.revision = revision;
        before
    }

    /// Takes an object away; `revision` becomes the state's.
    pub fn remove(&mut self, key: &ObjectKey, revision: u64) -> Option<Arc<Object>> {
        let before = self.objects.remove(key)?;
        self.unlink(&before, key);
        self.revision = revision;
        Some(before)
    }

    /// Sets the revision of a state that was read from disk: the newest change
    /// may have been a deletion, which no object remembers.
    pub(super) const fn restart_at(&mut self, revision: u64) {
        self.revision = revision;
    }

    fn unlink(&mut self, object: &Object, key: &ObjectKey) {
        if is_adoptable(key.kind) {
            self.uncontrolled.remove(key);
        }
        for owner in object.metadata().owner_references.iter().flatten() {
            if let Some(keys) = self.dependents.get_mut(&owner.uid) {
                keys.remove(key);
                if keys.is_empty() {
                    self.dependents.remove(&owner.uid);
                }
            }
        }
        if let Some(node) = node_of(object)
            && let Some(keys) = self.bound.get_mut(node)
        {
            keys.remove(key);
            if keys.is_empty() {
                self.bound.remove(node);
            }
        }
    }
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
