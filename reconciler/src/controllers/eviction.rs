//! Eviction: Pods that have to leave their node because of its taints, because it is gone or out
//! of service, and Pods that ended and are too many.
//!
//! Which nodes have such taints is decided elsewhere. Kubernetes has this in its taint-eviction
//! controller, its node lifecycle controller and its Pod garbage collector.

mod deadline;
#[cfg(test)]
mod tests;

use super::node::Health;
use super::{Knowledge, Outcome, pod};
use crate::store::{Change, Event, State, Write};
use deadline::{Deadline, deadline};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Node, Pod, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use manifests::{Kind, Object, ObjectKey};

/// Says by being there that another has taken the Pod over, and this is an image of it.
const MIRROR_ANNOTATION: &str = "kubernetes.io/config.mirror";
/// Somebody has made sure that the node does not run, and says so.
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";
/// A Pod may be older than its node's object by so much: Kubernetes' quarantine.
const QUARANTINE: SignedDuration = SignedDuration::from_secs(40);
/// So many of them go at a time.
const PORTION: usize = 64;

/// Stands for all Pods that ended.
fn ended() -> ObjectKey {
    ObjectKey::new(Kind::Pod, "", "")
}

/// The keys to look at after `event`: a bound Pod, or a node for the Pods on it.
#[must_use]
pub fn keys(_: &State, event: &Event) -> Vec<ObjectKey> {
    #[allow(clippy::wildcard_enum_match_arm, reason = "nothing else is on a node, or is one")]
    match &*event.object {
        Object::Node(_) => vec![event.key()],
        Object::Pod(_) if event.change == Change::Deleted => Vec::new(),
        Object::Pod(pod) if pod::is_finished(pod) => vec![event.key(), ended()],
        Object::Pod(pod) if !pod::node_name(pod).is_empty() => vec![event.key()],
        _ => Vec::new(),
    }
}

/// Asks for the end of the Pod `key` if it may not stay on its node, takes it away if nobody is
/// there to do so, and says of a Pod on a lost node that it is not ready.
#[must_use]
pub fn reconcile(state: &State, key: &ObjectKey, context: &mut Knowledge<'_>) -> Outcome {
    if key.kind == Kind::Node {
        return Outcome { look: context.ledger.pods_on(&key.name), ..Outcome::default() };
    }
    if *key == ended() {
        return trim(state, context);
    }
    let mut outcome = Outcome::default();
    let Some(stored) = state.get(key) else { return outcome };
    let Ok(pod) = <&Pod>::try_from(stored.as_ref()) else { return outcome };
    let name = pod::node_name(pod);
    if name.is_empty() || pod::annotation(pod, MIRROR_ANNOTATION).is_some() {
        return outcome;
    }
    let object = state.get(&ObjectKey::new(Kind::Node, "", name));
    let round = Round { state, key, pod, now: context.now };
    match object.and_then(|object| <&Node>::try_from(object.as_ref()).ok()) {
        None => round.without_node(&mut outcome),
        Some(node) => round.on_node(node, &mut outcome),
    }
    outcome
}

/// One look at one Pod.
struct Round<'a> {
    state: &'a State,
    key: &'a ObjectKey,
    pod: &'a Pod,
    now: Timestamp,
}

impl Round<'_> {
    fn without_node(&self, outcome: &mut Outcome) {
        let settled = pod::created_at(self.pod).and_then(|at| at.checked_add(QUARANTINE).ok());
        match settled.filter(|at| *at > self.now) {
            Some(at) => outcome.wake_by(at),
            None => self.collect("PodGC: node no longer exists", outcome),
        }
    }

    fn on_node(&self, node: &Node, outcome: &mut Outcome) {
        let taints = || node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
        let health = Health::of(node);
        let is_out = || health != Health::Ready && taints().any(|taint| taint.key == OUT_OF_SERVICE);
        if pod::is_deleted(self.pod) {
            if is_out() {
                self.collect("PodGC: node is out of service", outcome);
            }
            return;
        }
        if pod::is_finished(self.pod) {
            return;
        }
        match deadline(self.pod, taints(), self.now) {
            Deadline::At(due) if due <= self.now => return self.evict(outcome),
            Deadline::At(due) => outcome.wake_by(due),
            Deadline::Never => {}
        }
        if health == Health::Lost && pod::is_ready(self.pod) {
            let mut next = self.pod.clone();
            self.not_ready(&mut next);
            outcome.update_status(next.into());
            outcome.warn(self.key, "NodeNotReady", "Node is not ready".into());
        }
    }

    fn evict(&self, outcome: &mut Outcome) {
        let mut next = self.pod.clone();
        let message = "Taint manager: deleting due to NoExecute taint";
        pod::set_condition(&mut next, self.disrupted("DeletionByTaintManager", message));
        self.not_ready(&mut next);
        outcome.update_status(next.into());
        let uid = self.pod.metadata.uid.clone();
        outcome.writes.push(Write::Delete { key: self.key.clone(), uid, grace_seconds: None });
        let message = format!("Marking for deletion Pod {}/{}", self.key.namespace, self.key.name);
        outcome.note(self.key, "TaintManagerEviction", message);
    }

    /// First the Pod has failed, so that who counts it does; then it is no more.
    fn collect(&self, message: &str, outcome: &mut Outcome) {
        if !pod::is_finished(self.pod) {
            let mut next = self.pod.clone();
            pod::set_condition(&mut next, self.disrupted("DeletionByPodGC", message));
            self.not_ready(&mut next);
            next.status.get_or_insert_default().phase = Some("Failed".into());
            return outcome.update_status(next.into());
        }
        let counts = self.pod.metadata.finalizers.iter().flatten().next().is_some();
        let owner = self.state.get(self.key).and_then(|object| object.controller().cloned());
        let is_owned = owner.is_some_and(|owner| {
            let kind = Kind::from_gvk(&owner.api_version, &owner.kind);
            let key = kind.map(|kind| ObjectKey::new(kind, self.key.namespace.as_str(), owner.name.as_str()));
            key.and_then(|key| self.state.get(&key)).is_some_and(|object| object.uid() == owner.uid)
        });
        if !(counts && is_owned) {
            let uid = self.pod.metadata.uid.clone();
            outcome.writes.push(Write::Remove { key: self.key.clone(), uid });
        }
    }

    fn disrupted(&self, reason: &str, message: &str) -> PodCondition {
        PodCondition {
            type_: "DisruptionTarget".into(),
            status: "True".into(),
            reason: Some(reason.into()),
            message: Some(message.into()),
            last_transition_time: Some(Time(self.now)),
            ..PodCondition::default()
        }
    }

    fn not_ready(&self, pod: &mut Pod) {
        let conditions = pod.status.iter_mut().flat_map(|status| status.conditions.iter_mut().flatten());
        for ready in conditions.filter(|condition| condition.type_ == "Ready" && condition.status == "True") {
            ready.status = "False".into();
            ready.last_transition_time = Some(Time(self.now));
        }
    }
}

/// Of the Pods that ended, the oldest go while there are more than are kept.
fn trim(state: &State, context: &Knowledge<'_>) -> Outcome {
    let mut outcome = Outcome::default();
    let too_many = context.ledger.ended_count().saturating_sub(context.rules.most_ended);
    if too_many == 0 {
        return outcome;
    }
    let kept = |pod: &Pod| pod::is_deleted(pod) || pod.metadata.finalizers.iter().flatten().next().is_some();
    for key in context.ledger.oldest_ended(too_many) {
        let Some(object) = state.get(&key) else { continue };
        if <&Pod>::try_from(object.as_ref()).is_ok_and(|pod| !kept(pod)) {
            outcome.delete(object);
        }
        if outcome.writes.len() == PORTION {
            outcome.look.push(ended());
            break;
        }
    }
    outcome
}
