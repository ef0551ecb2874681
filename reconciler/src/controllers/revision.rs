//! Makes the store hold what Git says: objects of a [`Revision`] that are
//! missing are created, those that differ are put back, those that left are pruned.
//!
//! An object's spec, data and labels are Git's whole, so that what leaves a
//! manifest leaves the object; what controllers set beside is theirs (`merge`).
//! When a Revision itself is gone, because its source left the configuration,
//! its objects stay: nothing wants them deleted, and forgetting a source must
//! not stop what runs.

mod immutable;
mod merge;
mod pass;

use super::{Knowledge, Outcome};
use crate::store::{Event, State};
use manifests::revision::{Revision, SOURCE_ANNOTATION};
use manifests::{Kind, Object, ObjectKey};
use pass::Pass;
use serde_json::Value;
use std::collections::HashSet;

/// The keys to look at after `event`: Revisions for what concerns all their
/// objects, else the one object that changed.
#[must_use]
pub fn keys(state: &State, event: &Event) -> Vec<ObjectKey> {
    #[allow(clippy::wildcard_enum_match_arm, reason = "whatever else there is can come from Git")]
    match event.object.kind() {
        // Another's claim may have ended, or a namespace be there at last.
        Kind::Revision | Kind::Namespace => {
            let mut keys: Vec<_> = state.list(Kind::Revision, None).map(|object| object.key()).collect();
            if event.object.kind() == Kind::Namespace {
                keys.push(event.key());
            }
            keys
        }
        Kind::Node | Kind::Event => Vec::new(),
        _ => {
            if event.object.controller().is_some() {
                return Vec::new();
            }
            vec![event.key()]
        }
    }
}

/// What Git's word on `key` comes to: on a whole Revision, or on one object.
#[must_use]
pub fn reconcile(state: &State, key: &ObjectKey, _context: &mut Knowledge<'_>) -> Outcome {
    if key.kind == Kind::Revision {
        return state.get(key).and_then(revision_of).map_or_else(Outcome::default, |r| whole(state, r));
    }
    let Some((revision, manifest)) = speaks_for(state, key) else { return Outcome::default() };
    let mut pass = Pass::new(state, revision);
    pass.ensure(key, manifest);
    pass.finish()
}

/// The key of an object in its JSON form; `None` for what is no object of ours.
#[must_use]
pub fn key_of(manifest: &Value) -> Option<ObjectKey> {
    let kind = Kind::from_gvk(manifest["apiVersion"].as_str()?, manifest["kind"].as_str()?)?;
    let meta = &manifest["metadata"];
    let namespace = meta["namespace"].as_str().unwrap_or_default();
    Some(ObjectKey::new(kind, namespace, meta["name"].as_str()?))
}

/// What `revision` says of `key`.
#[must_use]
pub fn manifest_of<'a>(revision: &'a Revision, key: &ObjectKey) -> Option<&'a Value> {
    let objects = &revision.spec.objects;
    let at = objects.binary_search_by(|manifest| key_of(manifest).as_ref().cmp(&Some(key))).ok()?;
    objects.get(at)
}

fn revision_of(object: &std::sync::Arc<Object>) -> Option<&Revision> {
    (&**object).try_into().ok()
}

fn revisions(state: &State) -> impl Iterator<Item = &Revision> {
    state.list(Kind::Revision, None).filter_map(revision_of)
}

fn wants(revision: &Revision, key: &ObjectKey) -> bool {
    manifest_of(revision, key).is_some()
}

/// The Revision that owns `key`: the one that the object names, if it still
/// wants it, else the first that does.
fn speaks_for<'a>(state: &'a State, key: &ObjectKey) -> Option<(&'a Revision, &'a Value)> {
    let owner = state.get(key).and_then(|object| object.annotation(SOURCE_ANNOTATION));
    let wanting = || revisions(state).filter_map(|r| manifest_of(r, key).map(|manifest| (r, manifest)));
    wanting()
        .find(|(r, _)| owner.is_some() && r.metadata.name.as_deref() == owner)
        .or_else(|| wanting().next())
}

fn whole(state: &State, revision: &Revision) -> Outcome {
    // Never agreed on anything yet.
    if revision.spec.commit.is_empty() {
        return Outcome::default();
    }
    let mut pass = Pass::new(state, revision);
    let mut wanted = HashSet::new();
    for manifest in &revision.spec.objects {
        let Some(key) = key_of(manifest) else { continue };
        pass.ensure(&key, manifest);
        wanted.insert(key);
    }
    pass.forget_jobs(&wanted);
    pass.prune(&wanted);
    pass.finish()
}

#[cfg(test)]
mod tests;
