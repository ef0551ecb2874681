//! Node: what a node that is not heard of any more is taken for, in Kubernetes' words.
//!
//! Only transitions are written. What a node that is heard says of itself is the node's to write.

#[cfg(test)]
mod tests;

use super::{Knowledge, Outcome};
use crate::store::{Event, State};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Node, NodeCondition, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use manifests::{Kind, ObjectKey};
use std::time::Duration;

/// On nodes that say that they are not ready.
pub(crate) const NOT_READY: &str = "node.kubernetes.io/not-ready";
/// On nodes that say nothing.
pub(crate) const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
/// The conditions that nobody knows of a lost node.
const CONDITIONS: [&str; 4] = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];
/// A lost node is looked at again this often: Kubernetes' `node-monitor-period`.
const LOOK_AGAIN: SignedDuration = SignedDuration::from_secs(5);

/// What the conditions of a node come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Health {
    /// It has never said anything.
    New,
    /// It says so.
    Ready,
    /// It says so.
    NotReady,
    /// It is silent.
    Lost,
}

impl Health {
    /// By its `Ready` condition.
    pub(crate) fn of(node: &Node) -> Self {
        match ready(node).map(|condition| condition.status.as_str()) {
            None => Self::New,
            Some("True") => Self::Ready,
            Some("False") => Self::NotReady,
            Some(_) => Self::Lost,
        }
    }

    /// The taint that goes with it.
    pub(crate) const fn taint(self) -> Option<&'static str> {
        match self {
            Self::New | Self::Ready => None,
            Self::NotReady => Some(NOT_READY),
            Self::Lost => Some(UNREACHABLE),
        }
    }
}

/// A node's `Ready` condition.
pub(crate) fn ready(node: &Node) -> Option<&NodeCondition> {
    node.status.as_ref()?.conditions.as_ref()?.iter().find(|condition| condition.type_ == "Ready")
}

/// The changed node.
#[must_use]
pub fn keys(_: &State, event: &Event) -> Vec<ObjectKey> {
    if event.object.kind() == Kind::Node { vec![event.key()] } else { Vec::new() }
}

/// Brings the conditions of the node `key` to `Unknown` once it has been silent for too long, and
/// its taint against new Pods to what its conditions say.
#[must_use]
pub fn reconcile(state: &State, key: &ObjectKey, context: &mut Knowledge<'_>) -> Outcome {
    let mut outcome = Outcome::default();
    let Some(stored) = state.get(key) else { return outcome };
    let Ok(node) = <&Node>::try_from(stored.as_ref()) else { return outcome };
    let mut next = node.clone();
    let age = context.heard.age(&key.name);
    if age < context.rules.grace {
        let left = SignedDuration::try_from(context.rules.grace.saturating_sub(age)).unwrap_or(LOOK_AGAIN);
        outcome.wake_by(context.now + left);
    } else {
        lose(&mut next, context.now);
        outcome.wake_by(context.now + LOOK_AGAIN);
    }
    let health = Health::of(&next);
    taint(&mut next, health, context.now);
    stamp(&mut next, context.now);
    if next.status != node.status {
        let message = format!("Node {} status is now: NodeNotReady", key.name);
        outcome.note(key, "NodeNotReady", message);
    }
    // Of two writes to one object, the first checks that nobody changed it.
    if next.spec != node.spec {
        outcome.update(next.clone().into());
    }
    if next.status != node.status {
        outcome.update_status(next.into());
    }
    outcome
}

/// What is known of the node is not known any more.
fn lose(node: &mut Node, now: Timestamp) {
    let conditions = node.status.get_or_insert_default().conditions.get_or_insert_default();
    for kind in CONDITIONS {
        let never = "Kubelet never posted node status.";
        match conditions.iter_mut().find(|condition| condition.type_ == kind) {
            Some(known) if known.status == "Unknown" => {}
            Some(known) => {
                known.status = "Unknown".into();
                known.reason = Some("NodeStatusUnknown".into());
                known.message = Some("Kubelet stopped posting node status.".into());
                known.last_transition_time = Some(Time(now));
            }
            None => conditions.push(NodeCondition {
                type_: kind.into(),
                status: "Unknown".into(),
                reason: Some("NodeStatusNeverUpdated".into()),
                message: Some(never.into()),
                last_transition_time: Some(Time(now)),
                ..NodeCondition::default()
            }),
        }
    }
}

/// No new Pods for a node that is not ready; whoever is ready is rid of all taints of that sort.
fn taint(node: &mut Node, health: Health, now: Timestamp) {
    let wanted = health.taint();
    let taints = taints_mut(node);
    taints.retain(|taint| {
        !is_ours(taint)
            || (taint.effect == "NoExecute" && wanted.is_some())
            || Some(taint.key.as_str()) == wanted
    });
    // Who had to go because of the one has to go because of the other: it is the same outage.
    for taint in taints.iter_mut().filter(|taint| is_ours(taint)) {
        if let Some(wanted) = wanted.filter(|wanted| taint.key != *wanted) {
            taint.key = wanted.to_owned();
        }
    }
    let has = |taint: &Taint| Some(taint.key.as_str()) == wanted && taint.effect == "NoSchedule";
    if let Some(key) = wanted.filter(|_| !taints.iter().any(has)) {
        taints.push(new_taint(key, "NoSchedule", now));
    }
    drop_empty(node);
}

/// Taints that end Pods say since when they do: how long Pods live with them is counted from there.
fn stamp(node: &mut Node, now: Timestamp) {
    let taints = node.spec.iter_mut().flat_map(|spec| spec.taints.iter_mut().flatten());
    for taint in taints.filter(|taint| taint.effect == "NoExecute") {
        taint.time_added.get_or_insert(Time(now));
    }
}

/// True for the taints that follow from the `Ready` condition.
pub(crate) fn is_ours(taint: &Taint) -> bool {
    matches!(taint.key.as_str(), NOT_READY | UNREACHABLE)
}

pub(crate) fn new_taint(key: &str, effect: &str, now: Timestamp) -> Taint {
    Taint { key: key.into(), effect: effect.into(), time_added: Some(Time(now)), value: None }
}

/// The node's taints, to change; [`drop_empty`] comes after.
pub(crate) fn taints_mut(node: &mut Node) -> &mut Vec<Taint> {
    node.spec.get_or_insert_default().taints.get_or_insert_default()
}

/// A node without taints has no list of them.
pub(crate) fn drop_empty(node: &mut Node) {
    if let Some(spec) = &mut node.spec
        && spec.taints.as_ref().is_some_and(Vec::is_empty)
    {
        spec.taints = None;
    }
}

/// When silence means loss, and how quickly Pods of lost nodes go: Kubernetes' numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NodeRules {
    /// `nodeMonitorGracePeriod`: how long a node may be silent.
    pub grace: Duration,
    /// Of one zone, a node is given up this long after the one before: `nodeEvictionRate` 0.1/s.
    pub pace: Duration,
    /// In a large zone that is largely not ready: `secondaryNodeEvictionRate` 0.01/s.
    pub slow_pace: Duration,
    /// A zone with so many nodes in a hundred not ready is disturbed: `unhealthyZoneThreshold`.
    pub unhealthy_percent: usize,
    /// A zone of so many nodes or fewer is small: `largeClusterSizeThreshold`.
    pub small: usize,
    /// More Pods that ended are not kept: `terminatedPodGCThreshold`.
    pub most_ended: usize,
}

impl Default for NodeRules {
    fn default() -> Self {
        Self {
            grace: Duration::from_secs(40),
            pace: Duration::from_secs(10),
            slow_pace: Duration::from_secs(100),
            unhealthy_percent: 55,
            small: 50,
            most_ended: 12_500,
        }
    }
}
