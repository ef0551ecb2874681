//! DaemonSet: keeps one pod on every node that its template fits.
//!
//! The controller binds its pods itself. Which template a pod was made from is
//! in its label `controller-revision-hash`; there are no ControllerRevisions.

mod nodes;
mod status;
#[cfg(test)]
mod tests;
mod update;

use super::{Knowledge, Outcome, backoff, claim, hash, pod, template};
use crate::scheduler::{priority, runtime_class, taint};
use crate::store::{State, Write};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{Node, Pod};
use manifests::{Kind, Object, ObjectKey};
use std::collections::{BTreeMap, BTreeSet};

/// On each pod: the hash of the template that it was made from.
const HASH_LABEL: &str = "controller-revision-hash";

/// Brings every node to the one pod of the DaemonSet `key` that it should have,
/// pods of an older template to the present one, and the status to what is there.
#[must_use]
pub fn reconcile(state: &State, key: &ObjectKey, context: &mut Knowledge<'_>) -> Outcome {
    let mut outcome = Outcome::default();
    let Some(owner) = state.get(key) else { return outcome };
    let Ok(set) = <&DaemonSet>::try_from(owner.as_ref()) else { return outcome };
    if set.metadata.deletion_timestamp.is_some() {
        return outcome;
    }
    let objects = claim::claim(state, owner, Kind::Pod, &set.spec.selector, &mut outcome);
    let places = places(state, set, &pod::among(&objects));
    let mut round = Round {
        state,
        owner,
        set,
        now: context.now,
        hash: hash::of_template(&set.spec.template, 0),
        max_surge: update::max_surge(set, &places),
        places,
        deleted: BTreeSet::new(),
        created: BTreeSet::new(),
        outcome,
    };
    round.keep_one_each(context);
    round.update(context);
    round.report();
    round.outcome
}

/// One node and the pods on it.
#[derive(Debug, Default)]
struct Place<'p> {
    /// True if a pod should be made there.
    wanted: bool,
    /// True if a pod that is there may stay.
    tolerated: bool,
    /// Oldest first.
    pods: Vec<&'p Pod>,
}

/// Every node, and every node's name that a pod is bound to, with the pods there.
fn places<'p>(state: &State, set: &DaemonSet, pods: &[&'p Pod]) -> BTreeMap<String, Place<'p>> {
    let mut places: BTreeMap<String, Place<'p>> = BTreeMap::new();
    for object in state.list(Kind::Node, None) {
        let Ok(node) = <&Node>::try_from(object.as_ref()) else { continue };
        let fit = nodes::fit(&set.spec.template, node);
        let place = Place { wanted: fit.wanted, tolerated: fit.tolerated, pods: Vec::new() };
        places.insert(object.name().to_owned(), place);
    }
    for pod in pods {
        places.entry(pod::node_name(pod).to_owned()).or_default().pods.push(pod);
    }
    for place in places.values_mut() {
        place.pods.sort_by_key(|pod| (pod::created_at(pod), pod::name(pod)));
    }
    places
}

/// One look at one DaemonSet.
struct Round<'a> {
    state: &'a State,
    owner: &'a Object,
    set: &'a DaemonSet,
    now: Timestamp,
    /// Of the present template.
    hash: String,
    /// How many nodes may have a new pod beside the old one; 0 without surge.
    max_surge: i32,
    places: BTreeMap<String, Place<'a>>,
    /// The uids of the pods that this decision deletes.
    deleted: BTreeSet<String>,
    /// The nodes for which this decision makes a pod.
    created: BTreeSet<String>,
    outcome: Outcome,
}

impl Round<'_> {
    /// Makes the pods that are missing, and deletes those too many, not wanted or ended.
    fn keep_one_each(&mut self, context: &mut Knowledge<'_>) {
        let places = std::mem::take(&mut self.places);
        for (node, place) in &places {
            if node.is_empty() {
                // Adopted and not bound yet: it has its place once the scheduler gave it one.
            } else if !place.tolerated {
                place.pods.iter().for_each(|pod| self.delete(pod));
            } else if place.pods.is_empty() && place.wanted {
                self.create(node, None, context);
            } else {
                self.tidy(node, place, context);
            }
        }
        self.places = places;
    }

    fn tidy(&mut self, node: &str, place: &Place<'_>, context: &mut Knowledge<'_>) {
        let running: Vec<&Pod> = place.pods.iter().copied().filter(|pod| pod::is_active(pod)).collect();
        let ended = place.pods.iter().copied().filter(|pod| pod::is_finished(pod) && !pod::is_deleted(pod));
        let last = ended.clone().max_by_key(|pod| backoff::retry_at(pod, self.now));
        let surging = self.max_surge > 0;
        for pod in ended {
            let retry_at = backoff::retry_at(pod, self.now);
            let is_last = last.is_some_and(|last| pod::uid(last) == pod::uid(pod));
            // With surge, a new pod has a place of its own beside the old one.
            let beside = surging && self.is_updated(pod);
            let is_free = !running.iter().any(|other| !beside || self.is_updated(other));
            if is_last && is_free && retry_at > self.now {
                self.outcome.wake_by(retry_at);
                continue;
            }
            let found = match pod::phase(pod) {
                pod::Phase::Succeeded => ("SucceededDaemonPod", "succeeded"),
                pod::Phase::Failed | pod::Phase::Pending | pod::Phase::Unknown | pod::Phase::Running => {
                    ("FailedDaemonPod", "failed")
                }
            };
            let message = format!(
                "Found {} daemon pod {} on node {node}, will try to kill it",
                found.1,
                pod::name(pod)
            );
            self.outcome.warn(&self.owner.key(), found.0, message);
            self.delete(pod);
            let is_ending = place.pods.iter().any(|pod| pod::is_terminating(pod));
            if is_last && is_free && place.wanted && !is_ending {
                self.create(node, Some(pod), context);
            }
        }
        self.delete_doubles(&running);
    }

    /// One pod of the present template and one older may be side by side, while
    /// an update with surge waits for the former; of each, the oldest stays.
    fn delete_doubles(&mut self, running: &[&Pod]) {
        let surging = self.max_surge > 0;
        let (new, old): (Vec<&Pod>, Vec<&Pod>) =
            running.iter().copied().partition(|pod| self.is_updated(pod));
        if !surging {
            running.iter().skip(1).for_each(|pod| self.delete(pod));
            return;
        }
        let replaced = new.iter().any(|pod| self.is_available(pod));
        old.iter().skip(usize::from(!replaced)).for_each(|pod| self.delete(pod));
        new.iter().skip(1).for_each(|pod| self.delete(pod));
    }

    fn create(&mut self, node: &str, failed: Option<&Pod>, context: &mut Knowledge<'_>) {
        let base = template::base_of(self.owner.name());
        let namespace = self.owner.namespace();
        let name = template::fresh_pod_name(self.state, &self.outcome, context, namespace, &base);
        let mut pod = template::pod(self.owner, &self.set.spec.template, name);
        pod.metadata.labels.get_or_insert_default().insert(HASH_LABEL.into(), self.hash.clone());
        pod.spec.get_or_insert_default().node_name = Some(node.into());
        // The scheduler, which does this for others, does not see it.
        priority::resolve(&mut pod, self.state);
        runtime_class::resolve(&mut pod, self.state);
        taint::give_daemons(pod.spec.get_or_insert_default());
        if let Some(failed) = failed {
            backoff::succeed(failed, &mut pod);
        }
        let message = format!("Created pod: {}", pod::name(&pod));
        self.outcome.note(&self.owner.key(), "SuccessfulCreate", message);
        self.outcome.writes.push(Write::Create(pod.into()));
        self.created.insert(node.into());
    }

    fn delete(&mut self, pod: &Pod) {
        if pod::is_deleted(pod) || !self.deleted.insert(pod::uid(pod).to_owned()) {
            return;
        }
        let message = format!("Deleted pod: {}", pod::name(pod));
        self.outcome.note(&self.owner.key(), "SuccessfulDelete", message);
        self.outcome.delete(&pod.clone().into());
    }

    fn is_updated(&self, pod: &Pod) -> bool {
        pod::label(pod, HASH_LABEL) == Some(&self.hash)
    }

    fn is_available(&self, pod: &Pod) -> bool {
        pod::is_available(pod, self.set.spec.min_ready_seconds.unwrap_or(0), self.now)
    }

    /// True if the pod is active and not deleted by this decision.
    fn stays(&self, pod: &Pod) -> bool {
        pod::is_active(pod) && !self.deleted.contains(pod::uid(pod))
    }
}
