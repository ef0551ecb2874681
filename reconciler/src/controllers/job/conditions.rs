//! The conditions of a Job, by type.

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{Job, JobCondition, JobStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

pub(crate) const COMPLETE: &str = "Complete";
pub(crate) const FAILED: &str = "Failed";
/// It will fail, once its pods are at their end.
pub(super) const FAILURE_TARGET: &str = "FailureTarget";
/// It will be complete, once its pods are at their end.
pub(super) const SUCCESS_CRITERIA_MET: &str = "SuccessCriteriaMet";
pub(super) const SUSPENDED: &str = "Suspended";

/// A condition that came about at `now`; `why` is its reason and message.
pub(super) fn make(kind: &str, status: &str, why: (&str, String), now: Timestamp) -> JobCondition {
    JobCondition {
        type_: kind.into(),
        status: status.into(),
        reason: Some(why.0.into()),
        message: Some(why.1),
        last_transition_time: Some(Time(now)),
        last_probe_time: Some(Time(now)),
    }
}

/// The condition of type `kind`, if it is `True`.
pub(crate) fn get<'a>(status: &'a JobStatus, kind: &str) -> Option<&'a JobCondition> {
    status.conditions.iter().flatten().find(|condition| condition.type_ == kind && condition.status == "True")
}

/// Puts `condition` in place of the one of its type.
pub(super) fn set(status: &mut JobStatus, condition: JobCondition) {
    let conditions = status.conditions.get_or_insert_default();
    conditions.retain(|other| other.type_ != condition.type_);
    conditions.push(condition);
}

/// When the Job came to its end, well or not; `None` before.
pub(crate) fn finished_at(job: &Job) -> Option<Timestamp> {
    let status = job.status.as_ref()?;
    let condition = get(status, COMPLETE).or_else(|| get(status, FAILED))?;
    let noted = condition.last_transition_time.as_ref().map(|time| time.0);
    Some(noted.or(status.completion_time.as_ref().map(|time| time.0)).unwrap_or(Timestamp::MIN))
}

/// The reason of the event for a Job that failed for `reason`.
pub(super) fn event_reason(reason: &str) -> &'static str {
    match reason {
        "BackoffLimitExceeded" => "BackoffLimitExceeded",
        "DeadlineExceeded" => "DeadlineExceeded",
        "PodFailurePolicy" => "PodFailurePolicy",
        "MaxFailedIndexesExceeded" => "MaxFailedIndexesExceeded",
        "FailedIndexes" => "FailedIndexes",
        _ => "Failed",
    }
}

/// The condition of type `kind` of `job`, if it is `True`.
pub(crate) fn condition<'a>(job: &'a Job, kind: &str) -> Option<&'a JobCondition> {
    get(job.status.as_ref()?, kind)
}
