//! Old Jobs of a CronJob: only the latest are kept.

use super::{COMPLETE, Round, condition, finished_at};
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use manifests::Object;
use std::sync::Arc;

impl Round<'_> {
    /// Deletes the oldest finished Jobs beyond the history limits.
    pub(super) fn forget_old_jobs(&mut self) {
        let spec = &self.cron_job.spec;
        let limits =
            (spec.successful_jobs_history_limit.unwrap_or(3), spec.failed_jobs_history_limit.unwrap_or(1));
        let finished = |object: &&Arc<Object>| job_of(object).is_some_and(|job| finished_at(job).is_some());
        let (good, bad): (Vec<_>, Vec<_>) = self
            .jobs
            .iter()
            .filter(finished)
            .cloned()
            .partition(|object| job_of(object).is_some_and(|job| condition(job, COMPLETE).is_some()));
        self.forget(good, limits.0);
        self.forget(bad, limits.1);
    }

    fn forget(&mut self, mut jobs: Vec<Arc<Object>>, limit: i32) {
        jobs.sort_by_key(|object| (started_at(object), object.name().to_owned()));
        let too_many = jobs.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
        for job in jobs.iter().take(too_many) {
            self.outcome.note(self.key, "SuccessfulDelete", format!("Deleted job {}", job.name()));
            self.outcome.delete(job);
        }
    }
}

fn job_of(object: &Object) -> Option<&Job> {
    <&Job>::try_from(object).ok()
}

fn started_at(object: &Object) -> Option<Timestamp> {
    job_of(object)?.status.as_ref()?.start_time.as_ref().map(|time| time.0)
}
