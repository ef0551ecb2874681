//! Which objects are an owner's: those that it controls, orphans that match its
//! selector are adopted, and what stopped to match is let go.

use super::Outcome;
use super::template::owner_reference;
use crate::store::State;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use manifests::{Kind, Object};
use std::sync::Arc;

/// The objects of `kind` that `owner` controls once `outcome` is written, in name order.
///
/// An object that `outcome` adopts is returned as it will be; further writes
/// to it belong into the same batch.
pub(crate) fn claim(
    state: &State,
    owner: &Object,
    kind: Kind,
    selector: &LabelSelector,
    outcome: &mut Outcome,
) -> Vec<Arc<Object>> {
    let mut claimed = Vec::new();
    for object in state.owned_by(owner.uid()).filter(|object| object.kind() == kind) {
        if object.controller().is_none_or(|controller| controller.uid != owner.uid()) {
            continue;
        }
        let matches = manifests::selector::matches(selector, object.metadata().labels.as_ref());
        if matches {
            claimed.push(Arc::clone(object));
        } else if object.metadata().deletion_timestamp.is_none() {
            release(object, owner, outcome);
        }
    }
    for object in state.uncontrolled(kind, owner.namespace()) {
        let meta = object.metadata();
        if meta.deletion_timestamp.is_none() && manifests::selector::matches(selector, meta.labels.as_ref()) {
            let mut adopted = object.as_ref().clone();
            adopted.metadata_mut().owner_references.get_or_insert_default().push(owner_reference(owner));
            outcome.update(adopted.clone());
            claimed.push(Arc::new(adopted));
        }
    }
    claimed.sort_by(|a, b| a.name().cmp(b.name()));
    claimed
}

fn release(object: &Object, owner: &Object, outcome: &mut Outcome) {
    let mut released = object.clone();
    let meta = released.metadata_mut();
    if let Some(references) = &mut meta.owner_references {
        references.retain(|reference| reference.uid != owner.uid());
    }
    meta.owner_references = meta.owner_references.take().filter(|references| !references.is_empty());
    outcome.update(released);
}
