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
        for owner in object.metadata().owner_references.iter().flatten() {
            if let Some(keys) = self.dependents.get_mut(&owner.uid) {
                keys.remove(key);
                if keys.is_empty() {
                    self.dependents.remove(&owner.uid);
                }
            }
        }
    }
}
