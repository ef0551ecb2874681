//! What a batch of writes changes. Pure: the time, chance and the state come in.

use super::watch::Change;
use super::{State, Write, WriteError};
use crate::random::RandomSource;
use jiff::Timestamp;
use manifests::k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use manifests::{Object, ObjectKey};
use std::collections::HashMap;
use std::sync::Arc;

/// What taking in a write may not get by itself: the time, and chance.
#[derive(Debug)]
pub(super) struct Context<'a> {
    /// The time of the write.
    pub(super) now: Timestamp,
    /// Next random number, uniform over `u64`; for uids and the suffixes of names.
    pub(super) random: &'a mut dyn RandomSource,
}

/// The state that writes are decided on: what is visible, and over it what was
/// decided but is not durable yet.
#[derive(Debug)]
pub(super) struct View<'a> {
    base: &'a State,
    decided: HashMap<ObjectKey, Option<Arc<Object>>>,
    revision: u64,
}

/// One object as it was and as it shall be.
#[derive(Debug)]
pub(super) struct Decided {
    pub(super) key: ObjectKey,
    pub(super) change: Change,
    /// The object now, or as it last was, with the revision of the change.
    pub(super) object: Arc<Object>,
    /// About what it takes in memory, for those who remember changes.
    pub(super) size_bytes: usize,
    pub(super) revision: u64,
}

/// What an accepted batch comes to.
#[derive(Debug, Default)]
pub(super) struct Applied {
    pub(super) answers: Vec<Arc<Object>>,
    pub(super) changes: Vec<Decided>,
}

impl<'a> View<'a> {
    pub(super) fn new(base: &'a State) -> Self {
        Self { base, decided: HashMap::new(), revision: base.revision() }
    }

    /// Decides `batch` and makes it part of the view, or leaves the view as it was.
    pub(super) fn apply(
        &mut self,
        (batch, size_bytes): (Vec<Write>, usize),
        context: &mut Context<'_>,
    ) -> Result<Applied, WriteError> {
        let size_bytes = size_bytes / batch.len().max(1);
        let (decided, applied) = (HashMap::new(), Applied::default());
        let mut entry = Entry { view: self, decided, applied, now: context.now, size_bytes };
        for write in batch {
            let answer = entry.write(write, context.random)?;
            entry.applied.answers.push(answer);
        }
        let Entry { decided, applied, .. } = entry;
        self.decided.extend(decided);
        self.revision += applied.changes.len() as u64;
        Ok(applied)
    }

    fn get(&self, key: &ObjectKey) -> Option<&Arc<Object>> {
        self.decided.get(key).map_or_else(|| self.base.get(key), Option::as_ref)
    }
}

/// One batch on its way through.
struct Entry<'v, 'a> {
    view: &'v View<'a>,
    decided: HashMap<ObjectKey, Option<Arc<Object>>>,
    applied: Applied,
    now: Timestamp,
    /// About what one object of the batch takes.
    size_bytes: usize,
}

/// What a change without an object's text is taken to be.
const SMALL_BYTES: usize = 1024;

impl Entry<'_, '_> {
    fn write(&mut self, write: Write, random: &mut dyn RandomSource) -> Result<Arc<Object>, WriteError> {
        match write {
            Write::Create(object) => self.create(object, random),
            Write::Update(object) => self.update(object),
            Write::UpdateStatus(object) => self.update_status(&object),
            Write::Delete { key, uid, grace_seconds } => self.delete(key, uid.as_deref(), grace_seconds),
            Write::Remove { key, uid } => {
                let stored = self.of_uid(&key, uid.as_deref())?;
                Ok(self.remove(key, &stored))
            }
        }
    }

    fn get(&self, key: &ObjectKey) -> Option<&Arc<Object>> {
        self.decided.get(key).map_or_else(|| self.view.get(key), Option::as_ref)
    }

    /// The stored object that `object` was made from.
    fn base_of(&self, object: &Object) -> Result<Arc<Object>, WriteError> {
        let key = object.key();
        let stored = self.of_uid(&key, object.metadata().uid.as_deref())?;
        if object.metadata().resource_version.is_some()
            && object.resource_version() != stored.resource_version()
        {
            return Err(WriteError::Conflict { key, found: stored.resource_version() });
        }
        Ok(stored)
    }

    fn of_uid(&self, key: &ObjectKey, uid: Option<&str>) -> Result<Arc<Object>, WriteError> {
        let stored = self.get(key).ok_or_else(|| WriteError::NotFound(key.clone()))?;
        if uid.is_some_and(|uid| !uid.is_empty() && uid != stored.uid()) {
            return Err(WriteError::Conflict { key: key.clone(), found: stored.resource_version() });
        }
        Ok(Arc::clone(stored))
    }

    fn create(
        &mut self,
        mut object: Object,
        random: &mut dyn RandomSource,
    ) -> Result<Arc<Object>, WriteError> {
        let now = self.now;
        let key = object.key();
        if key.name.is_empty() {
            return Err(WriteError::Unnamed(key));
        }
        if self.get(&key).is_some() {
            return Err(WriteError::AlreadyExists(key));
        }
        let meta = object.metadata_mut();
        meta.uid = Some(uuid(random));
        meta.creation_timestamp = Some(Time(to_second(now)));
        meta.generation = Some(1);
        meta.deletion_timestamp = None;
        meta.deletion_grace_period_seconds = None;
        if let Object::Pod(pod) = &mut object {
            let status = pod.status.get_or_insert_default();
            status.phase.get_or_insert_with(|| "Pending".into());
        }
        Ok(self.put(key, object, None))
    }

    fn update(&mut self, mut object: Object) -> Result<Arc<Object>, WriteError> {
        let stored = self.base_of(&object)?;
        copy_status(&stored, &mut object);
        let (meta, given) = (object.metadata_mut(), stored.metadata());
        meta.uid.clone_from(&given.uid);
        meta.creation_timestamp.clone_from(&given.creation_timestamp);
        meta.deletion_timestamp.clone_from(&given.deletion_timestamp);
        meta.deletion_grace_period_seconds = given.deletion_grace_period_seconds;
        meta.resource_version.clone_from(&given.resource_version);
        meta.generation = given.generation;
        if object == *stored {
            return Ok(stored);
        }
        // Compare all but metadata, by lending the object the stored one's.
        let meta = std::mem::replace(object.metadata_mut(), given.clone());
        let only_metadata = object == *stored;
        *object.metadata_mut() = meta;
        if !only_metadata {
            object.metadata_mut().generation = given.generation.map(|g| g + 1);
        }
        Ok(self.put(stored.key(), object, Some(&stored)))
    }

    fn update_status(&mut self, object: &Object) -> Result<Arc<Object>, WriteError> {
        let stored = self.base_of(object)?;
        let mut next = (*stored).clone();
        copy_status(object, &mut next);
        if next == *stored {
            return Ok(stored);
        }
        Ok(self.put(stored.key(), next, Some(&stored)))
    }

    fn delete(
        &mut self,
        key: ObjectKey,
        uid: Option<&str>,
        grace_seconds: Option<i64>,
    ) -> Result<Arc<Object>, WriteError> {
        let stored = self.of_uid(&key, uid)?;
        let Some(default_grace) = grace_of_running(&stored) else {
            return Ok(self.remove(key, &stored));
        };
        let grace = grace_seconds.unwrap_or(default_grace).max(0);
        let at = self.now.saturating_add(jiff::SignedDuration::from_secs(grace)).unwrap_or(self.now);
        let at = to_second(at);
        if stored.metadata().deletion_timestamp.as_ref().is_some_and(|before| before.0 <= at) {
            return Ok(stored);
        }
        let mut next = (*stored).clone();
        next.metadata_mut().deletion_timestamp = Some(Time(at));
        next.metadata_mut().deletion_grace_period_seconds = Some(grace);
        Ok(self.put(key, next, Some(&stored)))
    }

    fn put(&mut self, key: ObjectKey, mut object: Object, before: Option<&Arc<Object>>) -> Arc<Object> {
        let revision = self.next_revision();
        object.metadata_mut().resource_version = Some(revision.to_string());
        let object = Arc::new(object);
        self.decided.insert(key.clone(), Some(Arc::clone(&object)));
        let change = if before.is_none() { Change::Added } else { Change::Modified };
        let size_bytes = self.size_bytes;
        self.applied.changes.push(Decided { key, change, object: Arc::clone(&object), size_bytes, revision });
        object
    }

    fn remove(&mut self, key: ObjectKey, stored: &Arc<Object>) -> Arc<Object> {
        let revision = self.next_revision();
        let mut last = (**stored).clone();
        last.metadata_mut().resource_version = Some(revision.to_string());
        let object = Arc::new(last);
        self.decided.insert(key.clone(), None);
        let change = Change::Deleted;
        let size_bytes = SMALL_BYTES;
        self.applied.changes.push(Decided { key, change, object: Arc::clone(&object), size_bytes, revision });
        object
    }

    fn next_revision(&self) -> u64 {
        self.view.revision + self.applied.changes.len() as u64 + 1
    }
}

/// The seconds that a Pod which a node may be running gets to end; `None` for
/// anything that needs nobody to stop it.
fn grace_of_running(object: &Object) -> Option<i64> {
    let Object::Pod(pod) = object else { return None };
    let spec = pod.spec.as_ref()?;
    spec.node_name.as_ref().filter(|node| !node.is_empty())?;
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    let finished = matches!(phase, Some("Succeeded" | "Failed"));
    (!finished).then(|| spec.termination_grace_period_seconds.unwrap_or(30))
}

/// Gives `to` the status of `from`, if both are of one kind that has a status.
pub(crate) fn copy_status(from: &Object, to: &mut Object) {
    macro_rules! copy {
        ($($kind:ident),+) => {
            match (from, to) {
                $((Object::$kind(from), Object::$kind(to)) => to.status.clone_from(&from.status),)+
                _ => {}
            }
        };
    }
    copy!(Namespace, Node, Revision, Service, DaemonSet, Deployment, ReplicaSet, CronJob, Job, Pod, Ingress);
}

/// Kubernetes writes times in whole seconds.
fn to_second(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

/// A version 4 UUID.
pub(super) fn uuid(random: &mut dyn RandomSource) -> String {
    let (high, low) = (random.next(), random.next());
    let high = high & 0xffff_ffff_ffff_0fff | 0x4000;
    let low = low & 0x3fff_ffff_ffff_ffff | 0x8000_0000_0000_0000;
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        high >> 32,
        high >> 16 & 0xffff,
        high & 0xffff,
        low >> 48,
        low & 0xffff_ffff_ffff
    )
}
