//! Jobs and CronJobs.

use super::{bandwidth, habits, metadata, pod, security, selector};
use crate::cron::Schedule;
use crate::path::Path;
use crate::report::Report;
use k8s_openapi::api::batch::v1::{CronJobSpec, JobSpec};

/// Kubernetes' bound for the completions of an indexed job with many failures allowed.
const MAX_INDEXED_PARALLELISM: i64 = 100_000;

pub(super) fn job(spec: &JobSpec, at: &Path<'_>, report: &mut Report<'_>) {
    if spec.manual_selector == Some(true) {
        match &spec.selector {
            Some(selector) => selector::of_template(selector, &spec.template, at, report),
            None => report.error(
                at,
                "missing-field",
                "field `selector` is missing, since `manualSelector` is true",
            ),
        }
    } else if spec.selector.is_some() {
        let message = "the selector of a Job is made for it";
        let help = Some("remove it, or set `manualSelector: true`".to_owned());
        report.error_with(&at.field("selector"), "not-allowed", message, help);
    }
    template(spec, at, report);
    numbers(spec, at, report);
    report.one_of(&at.field("completionMode"), spec.completion_mode.as_deref(), &["NonIndexed", "Indexed"]);
    let policies: &[&str] =
        if spec.pod_failure_policy.is_some() { &["Failed"] } else { &["TerminatingOrFailed", "Failed"] };
    report.one_of(&at.field("podReplacementPolicy"), spec.pod_replacement_policy.as_deref(), policies);
    let indexed = spec.completion_mode.as_deref() == Some("Indexed");
    if indexed {
        if spec.completions.is_none() {
            report.error(
                at,
                "missing-field",
                "field `completions` is missing, since completionMode is Indexed",
            );
        }
        report.between(&at.field("parallelism"), spec.parallelism, 0, MAX_INDEXED_PARALLELISM);
    } else {
        let only_indexed = [
            ("backoffLimitPerIndex", spec.backoff_limit_per_index.is_some()),
            ("maxFailedIndexes", spec.max_failed_indexes.is_some()),
            ("successPolicy", spec.success_policy.is_some()),
        ];
        for (field, given) in only_indexed {
            if given {
                let message = format!("`{field}` needs completionMode Indexed");
                report.error(&at.field(field), "not-allowed", message);
            }
        }
    }
    let never = spec.template.spec.as_ref().is_some_and(|s| s.restart_policy.as_deref() == Some("Never"));
    if spec.pod_failure_policy.is_some() && !never {
        let message = "`podFailurePolicy` needs restartPolicy Never";
        report.error(&at.field("podFailurePolicy"), "not-allowed", message);
    }
}

fn numbers(spec: &JobSpec, at: &Path<'_>, report: &mut Report<'_>) {
    let numbers = [
        ("completions", spec.completions),
        ("parallelism", spec.parallelism),
        ("backoffLimit", spec.backoff_limit),
        ("backoffLimitPerIndex", spec.backoff_limit_per_index),
        ("maxFailedIndexes", spec.max_failed_indexes),
        ("ttlSecondsAfterFinished", spec.ttl_seconds_after_finished),
    ];
    for (field, number) in numbers {
        report.not_negative(&at.field(field), number);
    }
    report.between(&at.field("activeDeadlineSeconds"), spec.active_deadline_seconds, 1, i64::MAX);
}

fn template(spec: &JobSpec, at: &Path<'_>, report: &mut Report<'_>) {
    let at = at.field("template");
    if let Some(meta) = &spec.template.metadata {
        metadata::words(meta, &at.field("metadata"), report);
    }
    let Some(pod) = &spec.template.spec else {
        return report.error(&at, "missing-field", "field `spec` is missing");
    };
    habits::check(spec.template.metadata.as_ref(), pod, &at.field("metadata"), report);
    security::annotations(spec.template.metadata.as_ref(), pod, &at.field("metadata"), report);
    bandwidth(spec.template.metadata.as_ref(), &at.field("metadata"), report);
    let at = at.field("spec");
    pod::check(pod, &at, report);
    if pod.restart_policy.as_deref() != Some("Always") {
        return;
    }
    let help = Some("use `OnFailure` to restart the container, `Never` for a new pod".to_owned());
    if report.is_written(&at.field("restartPolicy")) {
        let message = "`Always` is not allowed in a Job, which has an end";
        report.error_with(&at.field("restartPolicy"), "bad-value", message, help);
    } else {
        let message = "field `restartPolicy` is missing; its default, Always, is not allowed in a Job";
        report.error_with(&at, "missing-field", message, help);
    }
}

pub(super) fn cron_job(spec: &CronJobSpec, at: &Path<'_>, report: &mut Report<'_>) {
    if let Err(error) = Schedule::parse(&spec.schedule, spec.time_zone.as_deref()) {
        let (field, code) =
            if error.is_about_zone() { ("timeZone", "bad-time-zone") } else { ("schedule", "bad-schedule") };
        report.error_with(&at.field(field), code, error.to_string(), error.help());
        // A wrong zone hides what is wrong with the schedule.
        if error.is_about_zone()
            && let Err(error) = Schedule::parse(&spec.schedule, None)
        {
            report.error_with(&at.field("schedule"), "bad-schedule", error.to_string(), error.help());
        }
    }
    let policies = ["Allow", "Forbid", "Replace"];
    report.one_of(&at.field("concurrencyPolicy"), spec.concurrency_policy.as_deref(), &policies);
    report.not_negative(&at.field("startingDeadlineSeconds"), spec.starting_deadline_seconds);
    report.not_negative(&at.field("successfulJobsHistoryLimit"), spec.successful_jobs_history_limit);
    report.not_negative(&at.field("failedJobsHistoryLimit"), spec.failed_jobs_history_limit);
    let at = at.field("jobTemplate");
    if let Some(meta) = &spec.job_template.metadata {
        metadata::words(meta, &at.field("metadata"), report);
    }
    match &spec.job_template.spec {
        Some(job) => self::job(job, &at.field("spec"), report),
        None => report.error(&at, "missing-field", "field `spec` is missing"),
    }
}
