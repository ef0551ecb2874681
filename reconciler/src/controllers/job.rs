//! Job: runs pods until enough of them succeeded.
//!
//! Each pod carries the finalizer `batch.kubernetes.io/job-tracking` until it is
//! counted, and loses it in the batch that adds it to the status: so no restart
//! loses a pod or counts it twice, and none is asked to end uncounted.
//!
//! A pod that is asked to end before it succeeded counts as failed at once, also
//! with `podReplacementPolicy: Failed`, which only delays its replacement: its
//! node takes it away without waiting for this controller.

mod conditions;
mod failure;
mod identity;
mod indexes;
mod pods;
mod tally;
#[cfg(test)]
mod tests;

use super::amount::count;
use super::{Knowledge, Outcome, claim, pod, ranking};
use crate::store::State;
pub(crate) use conditions::{COMPLETE, FAILED, condition, finished_at};
use conditions::{FAILURE_TARGET, SUCCESS_CRITERIA_MET, SUSPENDED};
use indexes::Indexes;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::{Job, JobSpec, JobStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use manifests::{Kind, Object, ObjectKey};
use std::collections::BTreeMap;

/// The `managedBy` of Jobs that are for this controller, as is none at all.
const OWN_NAME: &str = "kubernetes.io/job-controller";

/// Brings the pods of the Job `key` to what it wants next, and its status to
/// what came of them; deletes it when its time to live is over.
#[must_use]
pub fn reconcile(state: &State, key: &ObjectKey, context: &mut Knowledge<'_>) -> Outcome {
    let mut outcome = Outcome::default();
    let Some(owner) = state.get(key) else { return outcome };
    let Ok(job) = <&Job>::try_from(owner.as_ref()) else { return outcome };
    let Some(spec) = &job.spec else { return outcome };
    let foreign = spec.managed_by.as_deref().is_some_and(|name| name != OWN_NAME);
    if foreign || job.metadata.deletion_timestamp.is_some() {
        return outcome;
    }
    let now = Timestamp::from_second(context.now.as_second()).unwrap_or(context.now);
    if let Some(finished_at) = conditions::finished_at(job) {
        expire(owner, spec, finished_at, context.now, &mut outcome);
        return outcome;
    }
    if let Some(identified) = identity::identified(owner, job) {
        outcome.update(identified.into());
        return outcome;
    }
    let selector = spec.selector.clone().unwrap_or_default();
    let objects = claim::claim(state, owner, Kind::Pod, &selector, &mut outcome);
    let status = job.status.clone().unwrap_or_default();
    let mut round =
        Round { state, owner, job, spec, now, status, active: Vec::new(), terminating: 0, outcome };
    round.decide(&pod::among(&objects), context);
    round.finish()
}

/// Deletes a finished Job when `ttlSecondsAfterFinished` is over.
fn expire(owner: &Object, spec: &JobSpec, finished_at: Timestamp, now: Timestamp, outcome: &mut Outcome) {
    let Some(ttl) = spec.ttl_seconds_after_finished else { return };
    let due = finished_at.saturating_add(SignedDuration::from_secs(i64::from(ttl))).unwrap_or(Timestamp::MAX);
    if due <= now { outcome.delete(owner) } else { outcome.wake_by(due) }
}

/// Whether a pod that this controller deletes is one of the failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Counts {
    AsFailed,
    Not,
}

/// One look at one unfinished Job.
struct Round<'a> {
    state: &'a State,
    owner: &'a Object,
    job: &'a Job,
    spec: &'a JobSpec,
    /// In whole seconds.
    now: Timestamp,
    /// What the Job's status becomes.
    status: JobStatus,
    /// The pods that run or may, without those deleted by this decision.
    active: Vec<Pod>,
    /// Pods asked to end that are not at it.
    terminating: i32,
    outcome: Outcome,
}

impl Round<'_> {
    fn decide(&mut self, pods: &[&Pod], context: &mut Knowledge<'_>) {
        self.active = pods.iter().filter(|pod| pod::is_active(pod)).map(|pod| (*pod).clone()).collect();
        self.terminating = count(pods.iter().filter(|pod| pod::is_terminating(pod)));
        self.track_active();
        self.tally(pods);
        let suspended = self.spec.suspend.unwrap_or(false);
        self.tell_of_suspension(suspended);
        if self.status.start_time.is_none() && !suspended {
            self.status.start_time = Some(Time(self.now));
        }
        if !self.is_decided()
            && let Some((reason, message)) = self.failure(pods)
        {
            self.add_condition(FAILURE_TARGET, reason, message);
        }
        let mut created = 0;
        if self.has_condition(FAILURE_TARGET) {
            self.delete_active(|_| true, Counts::AsFailed);
        } else if suspended || self.has_condition(SUCCESS_CRITERIA_MET) {
            self.delete_active(|_| true, Counts::Not);
        } else {
            created = self.bring_to_number(pods, context);
        }
        self.status.active = Some(count(&self.active) + created);
        self.status.ready = Some(count(self.active.iter().filter(|pod| pod::is_ready(pod))));
        self.status.terminating = Some(self.terminating);
        self.conclude();
    }

    /// Deletes pods that are too many, or makes those that are missing; returns how many it makes.
    fn bring_to_number(&mut self, pods: &[&Pod], context: &mut Knowledge<'_>) -> i32 {
        if self.is_indexed() {
            self.delete_doubles();
        }
        let wanted = self.wanted_active();
        let active = count(&self.active);
        if active > wanted {
            self.delete_surplus(active - wanted);
            return 0;
        }
        let waiting = if self.replaces_only_failed() { self.terminating } else { 0 };
        let missing = wanted - active - waiting;
        if missing <= 0 || self.must_wait(pods) {
            return 0;
        }
        if self.is_indexed() {
            return self.create_indexed(missing, pods, context);
        }
        for _ in 0..missing {
            self.create(None, context);
        }
        missing
    }

    /// How many pods should be running or about to.
    fn wanted_active(&self) -> i32 {
        let parallelism = self.spec.parallelism.unwrap_or(1).max(0);
        let succeeded = self.status.succeeded.unwrap_or(0);
        match self.spec.completions {
            // A work queue: after the first success, who is still at it finishes.
            None if succeeded > 0 => count(&self.active).min(parallelism),
            None => parallelism,
            Some(completions) => parallelism.min((completions - succeeded - self.given_up()).max(0)),
        }
    }

    fn delete_surplus(&mut self, surplus: i32) {
        let mut order: Vec<&Pod> = self.active.iter().collect();
        ranking::sort_for_deletion(&mut order, &BTreeMap::new(), self.now);
        let surplus = usize::try_from(surplus).unwrap_or(0);
        let gone: Vec<String> = order.into_iter().take(surplus).map(|pod| pod::uid(pod).to_owned()).collect();
        self.delete_active(|pod| gone.iter().any(|uid| uid == pod::uid(pod)), Counts::Not);
    }

    /// Two pods of one index, or one whose index is done or not wanted, are of no use.
    fn delete_doubles(&mut self) {
        let mut taken = self.closed_indexes();
        let completions = self.spec.completions.unwrap_or(0);
        let mut useless = Vec::new();
        for pod in &self.active {
            let index = pods::index_of(pod).filter(|index| *index < completions);
            if index.is_none_or(|index| !taken.insert(index)) {
                useless.push(pod::uid(pod).to_owned());
            }
        }
        self.delete_active(|pod| useless.iter().any(|uid| uid == pod::uid(pod)), Counts::Not);
    }

    /// The indexes for which no pod is wanted any more.
    fn closed_indexes(&self) -> Indexes {
        let mut closed = Indexes::parse(self.status.completed_indexes.as_deref());
        closed.extend(&Indexes::parse(self.status.failed_indexes.as_deref()));
        closed
    }

    /// How many indexes failed for good.
    fn given_up(&self) -> i32 {
        Indexes::parse(self.status.failed_indexes.as_deref()).len()
    }

    /// Adds the last conditions once nothing of the Job runs.
    fn conclude(&mut self) {
        if self.status.active != Some(0) {
            return;
        }
        if !self.is_decided() && !self.spec.suspend.unwrap_or(false) {
            self.judge();
        }
        if self.terminating > 0 {
            return;
        }
        if let Some((reason, message)) = self.why(FAILURE_TARGET) {
            self.outcome.warn(&self.owner.key(), conditions::event_reason(&reason), message.clone());
            self.add_condition(FAILED, &reason, message);
        } else if let Some((reason, message)) = self.why(SUCCESS_CRITERIA_MET) {
            self.outcome.note(&self.owner.key(), "Completed", "Job completed".into());
            self.add_condition(COMPLETE, &reason, message);
            self.status.completion_time = Some(Time(self.now));
        }
    }

    /// With nothing active: decides if there is nothing left to do.
    fn judge(&mut self) {
        let succeeded = self.status.succeeded.unwrap_or(0);
        let done = match self.spec.completions {
            None => succeeded > 0,
            Some(completions) => succeeded + self.given_up() >= completions,
        };
        if !done {
            return;
        }
        if self.given_up() > 0 {
            self.add_condition(FAILURE_TARGET, "FailedIndexes", "Job has failed indexes".into());
        } else {
            self.add_condition(
                SUCCESS_CRITERIA_MET,
                "CompletionsReached",
                "Reached expected number of succeeded pods".into(),
            );
        }
    }

    fn tell_of_suspension(&mut self, suspended: bool) {
        let was = self.status.conditions.iter().flatten().any(|c| c.type_ == SUSPENDED && c.status == "True");
        if suspended == was || self.is_decided() {
            return;
        }
        let (status, reason, message, event) = if suspended {
            ("True", "JobSuspended", "Job suspended", "Suspended")
        } else {
            self.status.start_time = Some(Time(self.now));
            ("False", "JobResumed", "Job resumed", "Resumed")
        };
        self.outcome.note(&self.owner.key(), event, message.into());
        conditions::set(
            &mut self.status,
            conditions::make(SUSPENDED, status, (reason, message.into()), self.now),
        );
    }

    fn is_decided(&self) -> bool {
        self.has_condition(FAILURE_TARGET) || self.has_condition(SUCCESS_CRITERIA_MET)
    }

    fn has_condition(&self, kind: &str) -> bool {
        self.why(kind).is_some()
    }

    fn why(&self, kind: &str) -> Option<(String, String)> {
        let condition = conditions::get(&self.status, kind)?;
        Some((condition.reason.clone().unwrap_or_default(), condition.message.clone().unwrap_or_default()))
    }

    fn add_condition(&mut self, kind: &str, reason: &str, message: String) {
        conditions::set(&mut self.status, conditions::make(kind, "True", (reason, message), self.now));
    }

    fn is_indexed(&self) -> bool {
        self.spec.completion_mode.as_deref() == Some("Indexed")
    }

    fn replaces_only_failed(&self) -> bool {
        self.spec.pod_replacement_policy.as_deref() == Some("Failed")
    }

    fn finish(mut self) -> Outcome {
        // With any write goes one to the Job itself, so that a decision on an old view is refused.
        if !self.outcome.writes.is_empty() || self.job.status.as_ref() != Some(&self.status) {
            self.outcome.update_status(Job { status: Some(self.status), ..self.job.clone() }.into());
        }
        self.outcome
    }
}
