//! What a RuntimeClass adds to the Pods that name it: where they may run, and what they cost.

use crate::store::State;
use manifests::k8s_openapi::api::core::v1::Pod;
use manifests::k8s_openapi::api::node::v1::RuntimeClass;
use manifests::{Kind, ObjectKey};
use std::borrow::Cow;
use std::collections::btree_map::Entry;

/// The class that `pod` names. One that is not there holds nobody up here: the node says so.
fn class<'s>(pod: &Pod, state: &'s State) -> Option<&'s RuntimeClass> {
    let name = pod.spec.as_ref()?.runtime_class_name.as_deref().filter(|name| !name.is_empty())?;
    let stored = state.get(&ObjectKey::new(Kind::RuntimeClass, "", name))?;
    <&RuntimeClass>::try_from(&**stored).ok()
}

/// The Pod has its class's overhead, unless its own is written down.
pub(crate) fn resolve(pod: &mut Pod, state: &State) {
    let overhead = class(pod, state).and_then(|class| class.overhead.as_ref()?.pod_fixed.clone());
    if let (Some(spec), Some(overhead)) = (&mut pod.spec, overhead) {
        spec.overhead.get_or_insert(overhead);
    }
}

/// The Pod with what its class says of where it may run and what it costs; `None` if the two
/// contradict each other.
pub(super) fn placed<'p>(pod: &'p Pod, state: &State) -> Option<Cow<'p, Pod>> {
    let Some(class) = class(pod, state) else { return Some(Cow::Borrowed(pod)) };
    let mut placed = pod.clone();
    resolve(&mut placed, state);
    let Some(scheduling) = &class.scheduling else { return Some(Cow::Owned(placed)) };
    let spec = placed.spec.get_or_insert_default();
    let selector = spec.node_selector.get_or_insert_default();
    for (label, value) in scheduling.node_selector.iter().flatten() {
        match selector.entry(label.clone()) {
            Entry::Occupied(own) if own.get() != value => return None,
            Entry::Occupied(_) => {}
            Entry::Vacant(free) => drop(free.insert(value.clone())),
        }
    }
    let tolerations = scheduling.tolerations.iter().flatten().cloned();
    spec.tolerations.get_or_insert_default().extend(tolerations);
    Some(Cow::Owned(placed))
}
