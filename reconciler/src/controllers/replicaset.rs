//! ReplicaSet: keeps so many pods of one template.
//!
//! A pod that failed keeps its place, and its logs, until its back-off is over;
//! then it is deleted in the batch that makes its successor. Kubernetes leaves
//! such pods to a collector and replaces them without any wait.

#[cfg(test)]
mod tests;

use super::amount::count;
use super::{Knowledge, Outcome, backoff, claim, pod, ranking, template};
use crate::store::{State, Write};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod;
use manifests::{Kind, Object, ObjectKey};

/// Brings the pods of the ReplicaSet `key` to the number that it wants, and its
/// status to what is there.
#[must_use]
pub fn reconcile(state: &State, key: &ObjectKey, context: &mut Knowledge<'_>) -> Outcome {
    let mut outcome = Outcome::default();
    let Some(owner) = state.get(key) else { return outcome };
    let Ok(set) = <&ReplicaSet>::try_from(owner.as_ref()) else { return outcome };
    if set.metadata.deletion_timestamp.is_some() {
        return outcome;
    }
    let objects = claim::claim(state, owner, Kind::Pod, &set.spec.selector, &mut outcome);
    let pods = pod::among(&objects);
    let mut round = Round { state, key, owner, set, outcome };
    let (surplus, created) = round.bring_to_number(&pods, context);
    let status = round.status(&pods, &surplus, created, context.now);
    round.report(status);
    round.outcome
}

/// One look at one ReplicaSet.
struct Round<'a> {
    state: &'a State,
    key: &'a ObjectKey,
    owner: &'a Object,
    set: &'a ReplicaSet,
    outcome: Outcome,
}

impl Round<'_> {
    /// Deletes what is too much and makes what is missing; returns the pods that
    /// it deletes and how many it makes.
    fn bring_to_number<'p>(&mut self, pods: &[&'p Pod], context: &mut Knowledge<'_>) -> (Vec<&'p Pod>, i32) {
        let wanted = usize::try_from(self.set.spec.replicas.unwrap_or(1)).unwrap_or(0);
        let mut active: Vec<&Pod> = pods.iter().copied().filter(|pod| pod::is_active(pod)).collect();
        let mut ended: Vec<&Pod> =
            pods.iter().copied().filter(|pod| pod::is_finished(pod) && !pod::is_deleted(pod)).collect();
        let missing = wanted.saturating_sub(active.len());
        let too_many = active.len().saturating_sub(wanted);
        if too_many > 0 {
            let crowd = ranking::crowd(self.state, self.owner, &active);
            ranking::sort_for_deletion(&mut active, &crowd, context.now);
        }
        active.truncate(too_many);
        let surplus = active;
        for pod in &surplus {
            self.delete(pod);
        }
        ended.sort_by_key(|pod| (backoff::retry_at(pod, context.now), pod::uid(pod)));
        let without_place = ended.len().saturating_sub(missing);
        for pod in ended.drain(..without_place) {
            self.delete(pod);
        }
        let mut created = 0;
        for failed in &ended {
            let retry_at = backoff::retry_at(failed, context.now);
            if retry_at > context.now {
                self.outcome.wake_by(retry_at);
                continue;
            }
            self.delete(failed);
            self.create(Some(failed), context);
            created += 1;
        }
        for _ in ended.len()..missing {
            self.create(None, context);
            created += 1;
        }
        (surplus, created)
    }

    fn create(&mut self, failed: Option<&Pod>, context: &mut Knowledge<'_>) {
        let base = template::base_of(self.owner.name());
        let namespace = self.owner.namespace();
        let name = template::fresh_pod_name(self.state, &self.outcome, context, namespace, &base);
        let mut pod =
            template::pod(self.owner, self.set.spec.template.as_ref().unwrap_or(&Default::default()), name);
        if let Some(failed) = failed {
            backoff::succeed(failed, &mut pod);
        }
        self.outcome.note(self.key, "SuccessfulCreate", format!("Created pod: {}", pod::name(&pod)));
        self.outcome.writes.push(Write::Create(pod.into()));
    }

    fn delete(&mut self, pod: &Pod) {
        self.outcome.note(self.key, "SuccessfulDelete", format!("Deleted pod: {}", pod::name(pod)));
        self.outcome.delete(&pod.clone().into());
    }

    /// The status once this batch is written: without the `surplus`, with the `created`.
    fn status(&mut self, pods: &[&Pod], surplus: &[&Pod], created: i32, now: Timestamp) -> ReplicaSetStatus {
        let min_ready = self.set.spec.min_ready_seconds.unwrap_or(0);
        let is_surplus = |pod: &Pod| surplus.iter().any(|other| pod::uid(other) == pod::uid(pod));
        let kept: Vec<&Pod> =
            pods.iter().copied().filter(|pod| pod::is_active(pod) && !is_surplus(pod)).collect();
        for at in kept.iter().filter_map(|pod| pod::available_at(pod, min_ready)).filter(|at| *at > now) {
            self.outcome.wake_by(at);
        }
        let terminating = count(pods.iter().filter(|pod| pod::is_terminating(pod)));
        let ending = count(surplus.iter().filter(|pod| !pod::node_name(pod).is_empty()));
        ReplicaSetStatus {
            replicas: count(&kept) + created,
            fully_labeled_replicas: Some(
                count(kept.iter().filter(|pod| self.is_fully_labeled(pod))) + created,
            ),
            ready_replicas: Some(count(kept.iter().filter(|pod| pod::is_ready(pod)))),
            available_replicas: Some(count(kept.iter().filter(|pod| pod::is_available(pod, min_ready, now)))),
            terminating_replicas: Some(terminating + ending),
            observed_generation: self.set.metadata.generation,
            conditions: None,
        }
    }

    fn is_fully_labeled(&self, pod: &Pod) -> bool {
        let wanted = self.set.spec.template.iter().filter_map(|template| template.metadata.as_ref());
        wanted
            .flat_map(|meta| meta.labels.iter().flatten())
            .all(|(key, value)| pod::label(pod, key) == Some(value))
    }

    /// Writes `status` if it is news, and with every other write: the check of
    /// the `resourceVersion` that comes with it refuses a decision which was
    /// taken on an old view, and would make the same pods again.
    fn report(&mut self, status: ReplicaSetStatus) {
        if !self.outcome.writes.is_empty() || self.set.status.as_ref() != Some(&status) {
            self.outcome.update_status(ReplicaSet { status: Some(status), ..self.set.clone() }.into());
        }
    }
}
