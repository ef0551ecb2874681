//! Defaults of what makes pods.

use super::{native, pod, set, set_word};
use k8s_openapi::api::apps::v1::{
    DaemonSet, Deployment, ReplicaSet, RollingUpdateDaemonSet, RollingUpdateDeployment, StatefulSet,
};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::ReplicationController;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

fn quarter() -> IntOrString {
    IntOrString::String("25%".to_owned())
}

pub(super) fn deployment(deployment: &mut Deployment) {
    let spec = &mut deployment.spec;
    set(&mut spec.replicas, 1);
    set(&mut spec.revision_history_limit, 10);
    set(&mut spec.progress_deadline_seconds, 600);
    let strategy = spec.strategy.get_or_insert_default();
    set_word(&mut strategy.type_, "RollingUpdate");
    if strategy.type_.as_deref() == Some("RollingUpdate") {
        let rolling = strategy.rolling_update.get_or_insert_with(RollingUpdateDeployment::default);
        set(&mut rolling.max_unavailable, quarter());
        set(&mut rolling.max_surge, quarter());
    }
    pod::template(&mut spec.template);
}

pub(super) fn replica_set(set: &mut ReplicaSet) {
    super::set(&mut set.spec.replicas, 1);
    if let Some(template) = &mut set.spec.template {
        pod::template(template);
    }
}

pub(super) fn daemon_set(set: &mut DaemonSet) {
    let spec = &mut set.spec;
    super::set(&mut spec.revision_history_limit, 10);
    let strategy = spec.update_strategy.get_or_insert_default();
    set_word(&mut strategy.type_, "RollingUpdate");
    if strategy.type_.as_deref() == Some("RollingUpdate") {
        let rolling = strategy.rolling_update.get_or_insert_with(RollingUpdateDaemonSet::default);
        super::set(&mut rolling.max_unavailable, IntOrString::Int(1));
        super::set(&mut rolling.max_surge, IntOrString::Int(0));
    }
    pod::template(&mut spec.template);
}

pub(super) fn stateful_set(set: &mut StatefulSet) {
    let spec = &mut set.spec;
    super::set(&mut spec.replicas, 1);
    super::set(&mut spec.revision_history_limit, 10);
    set_word(&mut spec.pod_management_policy, "OrderedReady");
    let strategy = spec.update_strategy.get_or_insert_default();
    set_word(&mut strategy.type_, "RollingUpdate");
    if strategy.type_.as_deref() == Some("RollingUpdate") {
        super::set(&mut strategy.rolling_update.get_or_insert_default().partition, 0);
    }
    let retention = spec.persistent_volume_claim_retention_policy.get_or_insert_default();
    set_word(&mut retention.when_deleted, "Retain");
    set_word(&mut retention.when_scaled, "Retain");
    for claim in spec.volume_claim_templates.iter_mut().flatten() {
        native::claim(claim);
    }
    pod::template(&mut spec.template);
}

/// Selector and labels are those of its pods unless it has some of its own.
pub(super) fn replication_controller(controller: &mut ReplicationController) {
    let Some(spec) = &mut controller.spec else { return };
    set(&mut spec.replicas, 1);
    let Some(template) = &mut spec.template else { return };
    if let Some(labels) = template.metadata.as_ref().and_then(|meta| meta.labels.clone()) {
        if spec.selector.as_ref().is_none_or(|selector| selector.is_empty()) {
            spec.selector = Some(labels.clone());
        }
        let own = &mut controller.metadata.labels;
        if own.as_ref().is_none_or(|own| own.is_empty()) {
            *own = Some(labels);
        }
    }
    pod::template(template);
}

/// The selector stays open: its controller makes it from the job's uid.
pub(super) fn job(job: &mut Job) {
    let Some(spec) = &mut job.spec else { return };
    // A parallelism alone means a work queue, which ends when one pod says so.
    if spec.completions.is_none() && spec.parallelism.is_none() {
        spec.completions = Some(1);
    }
    set(&mut spec.parallelism, 1);
    let limit = if spec.backoff_limit_per_index.is_some() { i32::MAX } else { 6 };
    set(&mut spec.backoff_limit, limit);
    set_word(&mut spec.completion_mode, "NonIndexed");
    set(&mut spec.suspend, false);
    set(&mut spec.manual_selector, false);
    let replace = if spec.pod_failure_policy.is_some() { "Failed" } else { "TerminatingOrFailed" };
    set_word(&mut spec.pod_replacement_policy, replace);
    pod::template(&mut spec.template);
    let labels = spec.template.metadata.as_ref().and_then(|m| m.labels.clone());
    if job.metadata.labels.as_ref().is_none_or(|l| l.is_empty()) && labels.is_some() {
        job.metadata.labels = labels;
    }
}

pub(super) fn cron_job(cron: &mut CronJob) {
    let spec = &mut cron.spec;
    set_word(&mut spec.concurrency_policy, "Allow");
    set(&mut spec.suspend, false);
    set(&mut spec.successful_jobs_history_limit, 3);
    set(&mut spec.failed_jobs_history_limit, 1);
    if let Some(job) = &mut spec.job_template.spec {
        pod::template(&mut job.template);
    }
}
