//! The rows of Job and CronJob.

use super::age::{human_duration, seconds_between, since};
use super::workload::template_cells;
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{CronJob, Job, JobSpec, JobStatus};

const WIDE: &[&str] = &["CONTAINERS", "IMAGES", "SELECTOR"];

pub(super) const JOB_HEADS: (&[&str], &[&str]) =
    (&["NAME", "STATUS", "COMPLETIONS", "DURATION", "AGE"], WIDE);
pub(super) const CRON_JOB_HEADS: (&[&str], &[&str]) =
    (&["NAME", "SCHEDULE", "TIMEZONE", "SUSPEND", "ACTIVE", "LAST SCHEDULE", "AGE"], WIDE);

pub(super) fn job_row(o: &Job, wide: bool, now: Timestamp) -> Vec<String> {
    let (spec, status) = (o.spec.clone().unwrap_or_default(), o.status.clone().unwrap_or_default());
    let mut cells = vec![
        o.metadata.name.clone().unwrap_or_default(),
        job_status(o, &status).to_owned(),
        completions(&spec, &status),
        duration(&status, now),
        since(o.metadata.creation_timestamp.as_ref(), now),
    ];
    if wide {
        cells.extend(template_cells(Some(&spec.template), spec.selector.as_ref()));
    }
    cells
}

fn job_status(job: &Job, status: &JobStatus) -> &'static str {
    let is = |kind: &str| status.conditions.iter().flatten().any(|c| c.type_ == kind && c.status == "True");
    if is("Complete") {
        "Complete"
    } else if is("Failed") {
        "Failed"
    } else if job.metadata.deletion_timestamp.is_some() {
        "Terminating"
    } else if is("Suspended") {
        "Suspended"
    } else if is("FailureTarget") {
        "FailureTarget"
    } else if is("SuccessCriteriaMet") {
        "SuccessCriteriaMet"
    } else {
        "Running"
    }
}

fn completions(spec: &JobSpec, status: &JobStatus) -> String {
    let succeeded = status.succeeded.unwrap_or(0);
    match (spec.completions, spec.parallelism.unwrap_or(0)) {
        (Some(completions), _) => format!("{succeeded}/{completions}"),
        (None, parallelism) if parallelism > 1 => format!("{succeeded}/1 of {parallelism}"),
        (None, _) => format!("{succeeded}/1"),
    }
}

fn duration(status: &JobStatus, now: Timestamp) -> String {
    status.start_time.as_ref().map_or_else(String::new, |start| {
        let end = status.completion_time.as_ref().map_or(now, |at| at.0);
        human_duration(seconds_between(start.0, end))
    })
}

pub(super) fn cron_job_row(o: &CronJob, wide: bool, now: Timestamp) -> Vec<String> {
    let status = o.status.clone().unwrap_or_default();
    let last = status.last_schedule_time.as_ref();
    let mut cells = vec![
        o.metadata.name.clone().unwrap_or_default(),
        o.spec.schedule.clone(),
        o.spec.time_zone.clone().unwrap_or_else(|| "<none>".into()),
        if o.spec.suspend == Some(true) { "True".into() } else { "False".into() },
        status.active.unwrap_or_default().len().to_string(),
        last.map_or_else(|| "<none>".into(), |at| since(Some(at), now)),
        since(o.metadata.creation_timestamp.as_ref(), now),
    ];
    if wide {
        let job = o.spec.job_template.spec.as_ref();
        cells.extend(template_cells(job.map(|job| &job.template), job.and_then(|job| job.selector.as_ref())));
    }
    cells
}
