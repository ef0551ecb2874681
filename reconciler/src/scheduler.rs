//! Binds Pods to nodes. Pure: a Pod, the nodes and how full they are in, writes out.

pub(crate) mod amounts;
mod fit;
mod ledger;
mod ports;
pub(crate) mod priority;
pub(crate) mod runtime_class;
mod score;
pub(crate) mod selection;
pub(crate) mod taint;

pub use ledger::Ledger;
pub(crate) use ledger::zone;

use crate::controllers::{Knowledge, Note, Outcome, pod};
use crate::store::{Change, Event, State, Write};
use fit::{UNSELECTED, Wanted};
use jiff::Timestamp;
use ledger::{owner, scatter};
use manifests::k8s_openapi::api::core::v1::{Pod, PodCondition};
use manifests::k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use manifests::{Kind, Object, ObjectKey};
use score::Candidate;
use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// Of so many nodes that a Pod fits, it takes the best: in large clusters, that is as good as the
/// best of all. Kubernetes' least number.
const ENOUGH: usize = 100;

/// Why nodes were refused, and how many for each reason.
type Refusals = BTreeMap<Cow<'static, str>, usize>;

/// Stands for all Pods that wait, when something has changed that may help any of them.
fn everybody() -> ObjectKey {
    ObjectKey::new(Kind::Node, "", "")
}

/// The keys to look at after `event`: the Pod itself, or all that wait when there may be room now.
#[must_use]
pub fn keys(_: &State, event: &Event) -> Vec<ObjectKey> {
    #[allow(clippy::wildcard_enum_match_arm, reason = "no other kind has a say in where pods run")]
    match &*event.object {
        Object::Pod(pod) if is_waiting(pod) && event.change != Change::Deleted => vec![event.key()],
        Object::Pod(pod) => {
            let gives_room = event.change == Change::Deleted || pod::is_finished(pod);
            if gives_room { vec![everybody()] } else { Vec::new() }
        }
        Object::Node(_) | Object::RuntimeClass(_) => vec![everybody()],
        _ => Vec::new(),
    }
}

/// Binds the Pod `key` to the best node that it fits, or says why there is none.
#[must_use]
pub fn reconcile(state: &State, key: &ObjectKey, context: &mut Knowledge<'_>) -> Outcome {
    if *key == everybody() {
        return Outcome { look: in_order(state, context.ledger), ..Outcome::default() };
    }
    let Some(Object::Pod(pod)) = state.get(key).map(|object| &**object) else { return Outcome::default() };
    if !is_waiting(pod) {
        return Outcome::default();
    }
    let found = match runtime_class::placed(pod, state) {
        Some(placed) => find(&placed, context.ledger),
        None => Err(BTreeMap::from([(UNSELECTED.into(), context.ledger.node_count())])),
    };
    match found {
        Ok(node) => bind(key, pod, node, (state, context)),
        Err(refusals) => refuse(key, pod, &unschedulable(&refusals, context.ledger), context.now),
    }
}

/// Who waits: the most important first, and then who has waited longest.
fn in_order(state: &State, ledger: &Ledger) -> Vec<ObjectKey> {
    let mut waiting: Vec<_> = ledger
        .waiting()
        .iter()
        .filter_map(|key| {
            let pod = <&Pod>::try_from(&**state.get(key)?).ok()?;
            Some((Reverse(priority::of(pod, state)), pod::created_at(pod), key.clone()))
        })
        .collect();
    waiting.sort_unstable();
    waiting.into_iter().map(|(.., key)| key).collect()
}

/// The best node for `pod`, or why there is none.
fn find(pod: &Pod, ledger: &Ledger) -> Result<String, Refusals> {
    let mut refusals = Refusals::new();
    let Some(wanted) = Wanted::of(pod) else { return Err(refusals) };
    let crowd = owner(pod).and_then(|owner| ledger.crowd(owner));
    // Who prefers some nodes has to see all of them.
    let enough = if selection::has_preference(wanted.spec) { usize::MAX } else { ENOUGH };
    let only = selection::only_node(wanted.spec);
    let uid = pod::uid(pod);
    let mut candidates = Vec::new();
    let mut look = |name, room: &ledger::Room| {
        let Some(node) = room.node() else { return candidates.len() };
        let reasons = wanted.refusals(node, room);
        if reasons.is_empty() {
            candidates.push(Candidate::of(&wanted, (name, room), node, crowd));
        }
        for reason in reasons {
            *refusals.entry(reason).or_default() += 1;
        }
        candidates.len()
    };
    if let Some(only) = only {
        let seen = ledger.room(only).map_or(0, |(name, room)| {
            look(name, room);
            1
        });
        let others = ledger.node_count() - seen;
        if others > 0 {
            *refusals.entry(UNSELECTED.into()).or_default() += others;
        }
    } else {
        for (name, room) in ledger.rooms_from(scatter(&[uid])) {
            if look(name, room) >= enough {
                break;
            }
        }
    }
    score::best(&candidates, uid).map(str::to_owned).ok_or(refusals)
}

/// True for a Pod that has no node and may still get one.
fn is_waiting(pod: &Pod) -> bool {
    let unbound =
        pod.spec.as_ref().is_some_and(|spec| spec.node_name.as_deref().unwrap_or_default().is_empty());
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    unbound && pod.metadata.deletion_timestamp.is_none() && !matches!(phase, Some("Succeeded" | "Failed"))
}

fn bind(key: &ObjectKey, pod: &Pod, node: String, (state, context): (&State, &mut Knowledge<'_>)) -> Outcome {
    let message = format!("Successfully assigned {}/{} to {node}", key.namespace, key.name);
    let mut bound = pod.clone();
    bound.spec.get_or_insert_default().node_name = Some(node);
    // A class that is missing holds nobody up: such a Pod is of no importance.
    priority::resolve(&mut bound, state);
    runtime_class::resolve(&mut bound, state);
    taint::give_defaults(bound.spec.get_or_insert_default());
    context.ledger.assume(key, &bound);
    let mut scheduled = pod.clone();
    // The update before it in the batch guards both, and has moved the version on.
    scheduled.metadata.resource_version = None;
    pod::set_condition(&mut scheduled, condition("True", None, None, context.now));
    Outcome {
        writes: vec![Write::Update(bound.into()), Write::UpdateStatus(scheduled.into())],
        notes: vec![Note { about: key.clone(), warning: false, reason: "Scheduled", message }],
        ..Outcome::default()
    }
}

fn refuse(key: &ObjectKey, pod: &Pod, message: &str, now: Timestamp) -> Outcome {
    let old = pod.status.iter().flat_map(|s| s.conditions.iter().flatten()).find(|c| c.type_ == SCHEDULED);
    if old.is_some_and(|old| old.status == "False" && old.message.as_deref() == Some(message)) {
        return Outcome::default();
    }
    let mut next = pod.clone();
    pod::set_condition(&mut next, condition("False", Some("Unschedulable"), Some(message.to_owned()), now));
    let note =
        Note { about: key.clone(), warning: true, reason: "FailedScheduling", message: message.to_owned() };
    Outcome { writes: vec![Write::UpdateStatus(next.into())], notes: vec![note], ..Outcome::default() }
}

/// Why no node fits, in the words of Kubernetes' scheduler.
fn unschedulable(refusals: &Refusals, ledger: &Ledger) -> String {
    let nodes = ledger.node_count();
    if nodes == 0 {
        return "no nodes available to schedule pods".into();
    }
    let mut reasons: Vec<_> = refusals.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    reasons.sort_unstable();
    format!("0/{nodes} nodes are available: {}.", reasons.join(", "))
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

#[cfg(test)]
mod crowd_tests;
#[cfg(test)]
mod tests;
