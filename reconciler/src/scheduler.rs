//! Binds Pods to nodes. Pure: a Pod and the nodes in, writes out.

mod fit;
pub(crate) mod priority;
pub(crate) mod runtime_class;

use crate::controllers::{Context, Note, Outcome};
use crate::store::{Event, State, Write};
use jiff::Timestamp;
use manifests::k8s_openapi::api::core::v1::{Node, Pod, PodCondition};
use manifests::k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use manifests::{Kind, Object, ObjectKey};
use std::borrow::Cow;

/// The keys to look at after `event`: the Pod itself, or every unbound one when a node or a class
/// of pods changes.
#[must_use]
pub fn keys(state: &State, event: &Event) -> Vec<ObjectKey> {
    #[allow(clippy::wildcard_enum_match_arm, reason = "no other kind has a say in where pods run")]
    match &*event.object {
        Object::Pod(pod) if is_waiting(pod) => vec![event.key()],
        Object::Node(_) | Object::RuntimeClass(_) => {
            let pods = state.list(Kind::Pod, None);
            let waiting = pods.filter(|object| matches!(&***object, Object::Pod(pod) if is_waiting(pod)));
            waiting.map(|object| object.key()).collect()
        }
        _ => Vec::new(),
    }
}

/// Binds the Pod `key` to the first node that it fits, or says why there is none.
#[must_use]
pub fn reconcile(state: &State, key: &ObjectKey, context: &mut Context<'_>) -> Outcome {
    let Some(Object::Pod(pod)) = state.get(key).map(|object| &**object) else { return Outcome::default() };
    if !is_waiting(pod) {
        return Outcome::default();
    }
    let nodes: Vec<&Node> = state.list(Kind::Node, None).filter_map(|o| (&**o).try_into().ok()).collect();
    let placed = runtime_class::placed(pod, state);
    let refusal = |node: &Node| match &placed {
        Some(placed) => fit::refusal(placed, node),
        None => Some(fit::UNSELECTED.into()),
    };
    let mut refusals = Vec::new();
    for &node in &nodes {
        match refusal(node) {
            None => return bind(key, pod, node, (state, context.now)),
            Some(refusal) => refusals.push(refusal),
        }
    }
    refuse(key, pod, &refusals, context.now)
}

/// True for a Pod that has no node and may still get one.
fn is_waiting(pod: &Pod) -> bool {
    let unbound =
        pod.spec.as_ref().is_some_and(|spec| spec.node_name.as_deref().unwrap_or_default().is_empty());
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    unbound && pod.metadata.deletion_timestamp.is_none() && !matches!(phase, Some("Succeeded" | "Failed"))
}

fn bind(key: &ObjectKey, pod: &Pod, node: &Node, (state, now): (&State, Timestamp)) -> Outcome {
    let name = node.metadata.name.clone().unwrap_or_default();
    let message = format!("Successfully assigned {}/{} to {name}", key.namespace, key.name);
    let mut bound = pod.clone();
    bound.spec.get_or_insert_default().node_name = Some(name);
    // A class that is missing holds nobody up: such a Pod is of no importance.
    priority::resolve(&mut bound, state);
    runtime_class::resolve(&mut bound, state);
    let mut scheduled = pod.clone();
    // The update before it in the batch guards both, and has moved the version on.
    scheduled.metadata.resource_version = None;
    set_condition(&mut scheduled, condition("True", None, None, now));
    Outcome {
        writes: vec![Write::Update(bound.into()), Write::UpdateStatus(scheduled.into())],
        notes: vec![Note { about: key.clone(), warning: false, reason: "Scheduled", message }],
        wake_at: None,
    }
}

fn refuse(key: &ObjectKey, pod: &Pod, refusals: &[Cow<'static, str>], now: Timestamp) -> Outcome {
    let message = unschedulable(refusals);
    let old = pod.status.iter().flat_map(|s| s.conditions.iter().flatten()).find(|c| c.type_ == SCHEDULED);
    if old.is_some_and(|old| old.status == "False" && old.message.as_deref() == Some(message.as_str())) {
        return Outcome::default();
    }
    let mut next = pod.clone();
    set_condition(&mut next, condition("False", Some("Unschedulable"), Some(message.clone()), now));
    Outcome {
        writes: vec![Write::UpdateStatus(next.into())],
        notes: vec![Note { about: key.clone(), warning: true, reason: "FailedScheduling", message }],
        wake_at: None,
    }
}

/// Why no node fits, in the words of Kubernetes' scheduler.
fn unschedulable(refusals: &[Cow<'static, str>]) -> String {
    if refusals.is_empty() {
        return "no nodes available to schedule pods".into();
    }
    let mut kinds: Vec<_> = refusals.to_vec();
    kinds.sort_unstable();
    kinds.dedup();
    let count = |kind: &Cow<'_, str>| format!("{} {kind}", refusals.iter().filter(|r| *r == kind).count());
    let reasons: Vec<_> = kinds.iter().map(count).collect();
    format!("0/{} nodes are available: {}.", refusals.len(), reasons.join(", "))
}

const SCHEDULED: &str = "PodScheduled";

fn condition(status: &str, reason: Option<&str>, message: Option<String>, now: Timestamp) -> PodCondition {
    PodCondition {
        type_: SCHEDULED.into(),
        status: status.into(),
        reason: reason.map(Into::into),
        message,
        last_transition_time: Some(Time(now)),
        ..PodCondition::default()
    }
}

/// Puts `condition` in place of the one of its type; it keeps the time of the
/// old one if the status is the same.
fn set_condition(pod: &mut Pod, mut condition: PodCondition) {
    let conditions = pod.status.get_or_insert_default().conditions.get_or_insert_default();
    match conditions.iter_mut().find(|old| old.type_ == condition.type_) {
        Some(old) => {
            if old.status == condition.status {
                condition.last_transition_time.clone_from(&old.last_transition_time);
            }
            *old = condition;
        }
        None => conditions.push(condition),
    }
}

#[cfg(test)]
mod tests;
