//! Deployment: replaces the pods of one template by those of the next, through a
//! ReplicaSet for each template.
//!
//! A decision works on copies of the ReplicaSets; what differs from the stored
//! ones at the end is written, as one batch.

mod conditions;
mod rollout;
mod scaling;
mod sets;
mod status;
#[cfg(test)]
mod tests;

use super::{Knowledge, Outcome, claim};
use crate::store::{State, Write};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus, ReplicaSet};
use manifests::{Kind, Object, ObjectKey};
use sets::Set;

/// The number of a Deployment's template, growing with each change, on it and its ReplicaSets.
pub const REVISION_ANNOTATION: &str = "deployment.kubernetes.io/revision";

/// Brings the ReplicaSets of the Deployment `key` one safe step closer to its
/// template and number, and its status to what is there.
#[must_use]
pub fn reconcile(state: &State, key: &ObjectKey, context: &mut Knowledge<'_>) -> Outcome {
    let mut outcome = Outcome::default();
    let Some(owner) = state.get(key) else { return outcome };
    let Ok(deployment) = <&Deployment>::try_from(owner.as_ref()) else { return outcome };
    if deployment.metadata.deletion_timestamp.is_some() {
        return outcome;
    }
    let objects = claim::claim(state, owner, Kind::ReplicaSet, &deployment.spec.selector, &mut outcome);
    let now = Timestamp::from_second(context.now.as_second()).unwrap_or(context.now);
    let sets = objects.iter().filter_map(|object| Set::observe(state, object, now)).collect();
    let mut round = Round::new(state, owner, deployment, sets);
    round.outcome = outcome;
    round.now = now;
    round.decide();
    round.finish()
}

/// One look at one Deployment.
struct Round<'a> {
    state: &'a State,
    key: ObjectKey,
    owner: &'a Object,
    deployment: &'a Deployment,
    now: Timestamp,
    /// The ReplicaSet of the Deployment's present template, if there is one.
    new: Option<Set>,
    /// The others, oldest first.
    old: Vec<Set>,
    /// What the Deployment's status becomes.
    status: DeploymentStatus,
    outcome: Outcome,
}

impl<'a> Round<'a> {
    fn new(state: &'a State, owner: &'a Object, deployment: &'a Deployment, mut sets: Vec<Set>) -> Self {
        sets.sort_by_key(Set::age_order);
        let is_new = |set: &Set| set.has_template(&deployment.spec.template);
        let new = sets.iter().position(is_new).map(|at| sets.remove(at));
        Self {
            state,
            key: owner.key(),
            owner,
            deployment,
            now: Timestamp::UNIX_EPOCH,
            new,
            old: sets,
            status: deployment.status.clone().unwrap_or_default(),
            outcome: Outcome::default(),
        }
    }

    fn decide(&mut self) {
        self.tell_of_pause();
        if self.is_paused() {
            self.refresh_new_set();
            self.scale();
            self.forget_old_sets();
            self.count();
        } else if self.is_scaling() {
            self.refresh_new_set();
            self.scale();
            self.count();
        } else {
            if self.is_rolling() {
                self.roll()
            } else {
                self.recreate()
            }
            self.count();
            if self.is_complete() {
                self.forget_old_sets();
            }
            self.tell_of_progress();
        }
    }

    /// Every write that the decision comes to.
    fn finish(mut self) -> Outcome {
        let revision = self.new.as_ref().and_then(Set::revision);
        for set in self.new.take().into_iter().chain(std::mem::take(&mut self.old)) {
            match &set.stored {
                None => self.outcome.writes.push(Write::Create(set.replica_set.into())),
                Some(stored) if set.forgotten => self.outcome.delete(stored),
                Some(stored) if <&ReplicaSet>::try_from(stored.as_ref()) != Ok(&set.replica_set) => {
                    self.outcome.update(set.replica_set.into());
                }
                Some(_) => {}
            }
        }
        let mut deployment = self.deployment.clone();
        if let Some(revision) = revision.map(|revision| revision.to_string()) {
            let annotations = deployment.metadata.annotations.get_or_insert_default();
            if annotations.insert(REVISION_ANNOTATION.into(), revision.clone()) != Some(revision) {
                self.outcome.update(deployment.clone().into());
            }
        }
        // With any write goes one to the Deployment itself, so that a decision on an old view is refused.
        if !self.outcome.writes.is_empty() || self.deployment.status.as_ref() != Some(&self.status) {
            deployment.status = Some(self.status);
            self.outcome.update_status(deployment.into());
        }
        self.outcome
    }

    fn replicas(&self) -> i32 {
        self.deployment.spec.replicas.unwrap_or(1).max(0)
    }

    fn is_paused(&self) -> bool {
        self.deployment.spec.paused.unwrap_or(false)
    }

    fn is_rolling(&self) -> bool {
        let strategy = self.deployment.spec.strategy.as_ref();
        strategy.and_then(|strategy| strategy.type_.as_deref()) != Some("Recreate")
    }

    fn sets(&self) -> impl Iterator<Item = &Set> {
        self.old.iter().chain(&self.new)
    }
}
