//! Takes away what nobody holds any more: dependents of owners that are gone,
//! what was in a deleted namespace, and old events. Keeps `default` there.

use super::{Knowledge, Outcome};
use crate::store::{Change, Event, State, Write};
use jiff::{SignedDuration, Timestamp};
use manifests::k8s_openapi::api::core::v1::{Event as CoreEvent, Namespace};
use manifests::{Kind, Object, ObjectKey};

/// The namespace that always exists.
pub const DEFAULT_NAMESPACE: &str = "default";
/// How long an event is kept after it last happened.
const EVENT_AGE: SignedDuration = SignedDuration::from_hours(1);

/// The keys to look at after `event`.
#[must_use]
pub fn keys(state: &State, event: &Event) -> Vec<ObjectKey> {
    match event.change {
        Change::Added => vec![event.key()],
        Change::Modified => Vec::new(),
        Change::Deleted => {
            let mut keys: Vec<_> = state.owned_by(event.object.uid()).map(|object| object.key()).collect();
            if event.object.kind() == Kind::Namespace {
                keys.push(event.key());
            }
            keys
        }
    }
}

/// What is to go, of `key` or, if it names a namespace that is gone, of all that was in it.
#[must_use]
pub fn reconcile(state: &State, key: &ObjectKey, context: &mut Knowledge<'_>) -> Outcome {
    let Some(object) = state.get(key) else {
        return if key.kind == Kind::Namespace {
            after_namespace(state, &key.name)
        } else {
            Outcome::default()
        };
    };
    if object.metadata().deletion_timestamp.is_some() {
        return Outcome::default();
    }
    if is_orphan(state, object) || !has_namespace(state, object) {
        return Outcome { writes: vec![delete(object)], ..Outcome::default() };
    }
    if let Object::Event(event) = &**object {
        return expire(object, event, context.now);
    }
    Outcome::default()
}

fn delete(object: &Object) -> Write {
    Write::Delete { key: object.key(), uid: Some(object.uid().to_owned()), grace_seconds: None }
}

/// True if `object` has owners and none of them is there.
fn is_orphan(state: &State, object: &Object) -> bool {
    let mut owners = object.metadata().owner_references.iter().flatten().peekable();
    owners.peek().is_some()
        && owners.all(|owner| {
            // What is of a kind that is none of ours cannot be missed.
            let Some(kind) = Kind::from_gvk(&owner.api_version, &owner.kind) else { return false };
            let namespace = if kind.is_namespaced() { object.namespace() } else { "" };
            let key = ObjectKey::new(kind, namespace, owner.name.as_str());
            state.get(&key).is_none_or(|found| found.uid() != owner.uid)
        })
}

fn has_namespace(state: &State, object: &Object) -> bool {
    let name = object.namespace();
    name.is_empty()
        || name == DEFAULT_NAMESPACE
        || state.get(&ObjectKey::new(Kind::Namespace, "", name)).is_some()
}

fn after_namespace(state: &State, name: &str) -> Outcome {
    if name == DEFAULT_NAMESPACE {
        let mut namespace = Namespace::default();
        namespace.metadata.name = Some(name.to_owned());
        return Outcome { writes: vec![Write::Create(namespace.into())], ..Outcome::default() };
    }
    let namespaced = Kind::ALL.into_iter().filter(|kind| kind.is_namespaced());
    let left = namespaced.flat_map(|kind| state.list(kind, Some(name)));
    let left = left.filter(|object| object.metadata().deletion_timestamp.is_none());
    Outcome { writes: left.map(|object| delete(object)).collect(), ..Outcome::default() }
}

fn expire(object: &Object, event: &CoreEvent, now: Timestamp) -> Outcome {
    let last = event.last_timestamp.as_ref().or(event.metadata.creation_timestamp.as_ref());
    let Some(end) = last.and_then(|last| last.0.checked_add(EVENT_AGE).ok()) else {
        return Outcome::default();
    };
    if now < end {
        return Outcome { wake_at: Some(end), ..Outcome::default() };
    }
    Outcome { writes: vec![delete(object)], ..Outcome::default() }
}

#[cfg(test)]
mod tests;
