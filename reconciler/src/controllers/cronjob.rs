//! CronJob: makes a Job whenever its schedule says so.
//!
//! A Job is named by the minute that it is for, so no decision taken twice, and
//! no restart, makes two for one.

mod history;
mod runs;
#[cfg(test)]
mod tests;

use super::job::{COMPLETE, FAILED, condition, finished_at};
use super::template::owner_reference;
use super::{Knowledge, Outcome};
use crate::store::{State, Write};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::{CronJob, CronJobStatus, Job};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use manifests::cron::Schedule;
use manifests::{Kind, Object, ObjectKey};
use runs::Due;
use std::sync::Arc;

/// On a Job: the time that it was made for, RFC 3339.
const SCHEDULED_ANNOTATION: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";
/// A run that could not start is told about while it is news, not at each look.
const NEWS: SignedDuration = SignedDuration::from_secs(10);

/// Starts the Job that the CronJob `key` has due, forgets old ones, and brings
/// its status to what is there.
#[must_use]
pub fn reconcile(state: &State, key: &ObjectKey, context: &mut Knowledge<'_>) -> Outcome {
    let outcome = Outcome::default();
    let Some(owner) = state.get(key) else { return outcome };
    let Ok(cron_job) = <&CronJob>::try_from(owner.as_ref()) else { return outcome };
    if cron_job.metadata.deletion_timestamp.is_some() {
        return outcome;
    }
    let own = |object: &&Arc<Object>| {
        object.kind() == Kind::Job && object.controller().is_some_and(|by| by.uid == owner.uid())
    };
    let jobs = state.owned_by(owner.uid()).filter(own).cloned().collect();
    let status = cron_job.status.clone().unwrap_or_default();
    let mut round = Round { state, key, owner, cron_job, jobs, now: context.now, status, outcome };
    round.forget_old_jobs();
    round.look_after_jobs();
    round.run();
    round.finish()
}

/// One look at one CronJob.
struct Round<'a> {
    state: &'a State,
    key: &'a ObjectKey,
    owner: &'a Object,
    cron_job: &'a CronJob,
    /// Its Jobs, by name.
    jobs: Vec<Arc<Object>>,
    now: Timestamp,
    /// What the CronJob's status becomes.
    status: CronJobStatus,
    outcome: Outcome,
}

impl Round<'_> {
    /// Brings the list of active Jobs, and the time of the last success, to what the Jobs say.
    fn look_after_jobs(&mut self) {
        let was_active = self.status.active.take().unwrap_or_default();
        let mut active = Vec::new();
        for object in &self.jobs {
            let Ok(job) = <&Job>::try_from(object.as_ref()) else { continue };
            if finished_at(job).is_none() {
                active.push(reference(object));
                continue;
            }
            let end = if condition(job, COMPLETE).is_some() { COMPLETE } else { FAILED };
            if was_active.iter().any(|reference| reference.uid.as_deref() == Some(object.uid())) {
                let message = format!("Saw completed job: {}, condition: {end}", object.name());
                self.outcome.note(self.key, "SawCompletedJob", message);
            }
            let ended = job.status.as_ref().and_then(|status| status.completion_time.clone());
            let last = self.status.last_successful_time.as_ref().map(|time| time.0);
            if let Some(ended) =
                ended.filter(|ended| end == COMPLETE && last.is_none_or(|last| ended.0 > last))
            {
                self.status.last_successful_time = Some(ended);
            }
        }
        self.status.active = Some(active).filter(|active| !active.is_empty());
    }

    /// Starts what is due, and looks again at the next time.
    fn run(&mut self) {
        let spec = &self.cron_job.spec;
        if spec.suspend.unwrap_or(false) {
            return;
        }
        let schedule = match Schedule::parse(&spec.schedule, spec.time_zone.as_deref()) {
            Ok(schedule) => schedule,
            Err(error) => {
                let about_zone = error.is_about_zone();
                let reason = if about_zone { "UnknownTimeZone" } else { "UnparseableSchedule" };
                return self.outcome.warn(self.key, reason, error.to_string());
            }
        };
        let due = runs::latest_due(&schedule, self.earliest(), self.now);
        // Counted on from the last run, not from now: `@every` has no other anchor.
        if let Some(next) = schedule.next_after(due.map_or_else(|| self.earliest(), |due| due.at)) {
            self.outcome.wake_by(next);
        }
        if let Some(due) = due {
            self.start(due);
        }
    }

    /// Runs before this time are no matter any more.
    fn earliest(&self) -> Timestamp {
        let made = self.cron_job.metadata.creation_timestamp.as_ref().map_or(self.now, |time| time.0);
        self.status.last_schedule_time.as_ref().map_or(made, |time| time.0)
    }

    fn start(&mut self, due: Due) {
        let at = Timestamp::from_second(due.at.as_second()).unwrap_or(due.at);
        let deadline = self.cron_job.spec.starting_deadline_seconds.map(SignedDuration::from_secs);
        let too_late = |deadline| at.saturating_add(deadline).is_ok_and(|last| last < self.now);
        if deadline.is_some_and(too_late) {
            let message = format!("Missed scheduled time to start a job: {}", time_text(at));
            return self.outcome.warn(self.key, "MissSchedule", message);
        }
        if due.missed_too_many && deadline.is_none() {
            let message = "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew";
            self.outcome.warn(self.key, "TooManyMissedTimes", message.into());
        }
        let name = format!("{}-{}", self.owner.name(), at.as_second().div_euclid(60));
        let key = ObjectKey::new(Kind::Job, self.owner.namespace(), name);
        if self.state.get(&key).is_some() {
            self.status.last_schedule_time = Some(Time(at));
            return;
        }
        let policy = self.cron_job.spec.concurrency_policy.as_deref();
        let busy = self.status.active.is_some();
        if policy == Some("Forbid") && busy {
            if self.now.duration_since(at) <= NEWS {
                let message =
                    "Not starting job because prior execution is running and concurrency policy is Forbid";
                self.outcome.note(self.key, "JobAlreadyActive", message.into());
            }
            return;
        }
        if policy == Some("Replace") {
            self.delete_active();
        }
        let message = format!("Created job {}", key.name);
        self.outcome.note(self.key, "SuccessfulCreate", message);
        self.outcome.writes.push(Write::Create(self.job(key.name, at).into()));
        self.status.last_schedule_time = Some(Time(at));
    }

    fn delete_active(&mut self) {
        for reference in self.status.active.take().unwrap_or_default() {
            let Some(job) = self.jobs.iter().find(|job| Some(job.uid()) == reference.uid.as_deref()) else {
                continue;
            };
            self.outcome.note(self.key, "SuccessfulDelete", format!("Deleted job {}", job.name()));
            self.outcome.delete(job);
        }
    }

    /// The Job for the run at `at`.
    fn job(&self, name: String, at: Timestamp) -> Job {
        let template = &self.cron_job.spec.job_template;
        let meta = template.metadata.as_ref();
        let mut annotations = meta.and_then(|meta| meta.annotations.clone()).unwrap_or_default();
        annotations.insert(SCHEDULED_ANNOTATION.into(), time_text(at));
        Job {
            metadata: ObjectMeta {
                name: Some(name),
                namespace: Some(self.owner.namespace().into()),
                labels: meta.and_then(|meta| meta.labels.clone()),
                annotations: Some(annotations),
                owner_references: Some(vec![owner_reference(self.owner)]),
                ..ObjectMeta::default()
            },
            spec: template.spec.clone(),
            status: None,
        }
    }

    fn finish(mut self) -> Outcome {
        // With any write goes one to the CronJob itself, so that a decision on an old view is refused.
        if !self.outcome.writes.is_empty() || self.cron_job.status.as_ref() != Some(&self.status) {
            self.outcome.update_status(CronJob { status: Some(self.status), ..self.cron_job.clone() }.into());
        }
        self.outcome
    }
}

fn reference(job: &Object) -> ObjectReference {
    ObjectReference {
        api_version: Some(Kind::Job.api_version().into()),
        kind: Some(Kind::Job.as_str().into()),
        namespace: job.metadata().namespace.clone(),
        name: job.metadata().name.clone(),
        uid: job.metadata().uid.clone(),
        ..ObjectReference::default()
    }
}

fn time_text(at: Timestamp) -> String {
    Timestamp::from_second(at.as_second()).unwrap_or(at).to_string()
}
