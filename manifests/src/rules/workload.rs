//! Deployments, ReplicaSets and DaemonSets.

use super::{bandwidth, habits, metadata, pod, security, selector};
use crate::path::Path;
use crate::report::Report;
use k8s_openapi::api::apps::v1::{DaemonSetSpec, DeploymentSpec, ReplicaSetSpec};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

pub(super) fn deployment(spec: &DeploymentSpec, at: &Path<'_>, report: &mut Report<'_>) {
    report.not_negative(&at.field("replicas"), spec.replicas);
    report.not_negative(&at.field("minReadySeconds"), spec.min_ready_seconds);
    report.not_negative(&at.field("revisionHistoryLimit"), spec.revision_history_limit);
    let deadline = spec.progress_deadline_seconds;
    report.not_negative(&at.field("progressDeadlineSeconds"), deadline);
    if deadline.is_some_and(|d| d >= 0 && d <= spec.min_ready_seconds.unwrap_or(0)) {
        let message = "progressDeadlineSeconds must be greater than minReadySeconds";
        report.error(&at.field("progressDeadlineSeconds"), "out-of-range", message);
    }
    if let Some(strategy) = &spec.strategy {
        let at = at.field("strategy");
        report.one_of(&at.field("type"), strategy.type_.as_deref(), &["RollingUpdate", "Recreate"]);
        if let Some(rolling) = &strategy.rolling_update {
            let at = at.field("rollingUpdate");
            if strategy.type_.as_deref() == Some("Recreate") {
                report.error(&at, "not-allowed", "`rollingUpdate` is not allowed with type Recreate");
            }
            rolling_update(rolling.max_surge.as_ref(), rolling.max_unavailable.as_ref(), &at, report);
        }
    }
    selector::of_template(&spec.selector, &spec.template, at, report);
    template(&spec.template, at, report);
}

pub(super) fn replica_set(spec: &ReplicaSetSpec, at: &Path<'_>, report: &mut Report<'_>) {
    report.not_negative(&at.field("replicas"), spec.replicas);
    report.not_negative(&at.field("minReadySeconds"), spec.min_ready_seconds);
    let Some(template) = &spec.template else {
        return report.error(at, "missing-field", "field `template` is missing");
    };
    selector::of_template(&spec.selector, template, at, report);
    self::template(template, at, report);
}

pub(super) fn daemon_set(spec: &DaemonSetSpec, at: &Path<'_>, report: &mut Report<'_>) {
    report.not_negative(&at.field("minReadySeconds"), spec.min_ready_seconds);
    report.not_negative(&at.field("revisionHistoryLimit"), spec.revision_history_limit);
    if let Some(strategy) = &spec.update_strategy {
        let at = at.field("updateStrategy");
        report.one_of(&at.field("type"), strategy.type_.as_deref(), &["RollingUpdate", "OnDelete"]);
        if let Some(rolling) = &strategy.rolling_update {
            let at = at.field("rollingUpdate");
            rolling_update(rolling.max_surge.as_ref(), rolling.max_unavailable.as_ref(), &at, report);
            let both =
                [&rolling.max_surge, &rolling.max_unavailable].into_iter().flatten().all(|n| !is_zero(n));
            if both && rolling.max_surge.is_some() && rolling.max_unavailable.is_some() {
                let message = "maxSurge needs maxUnavailable to be 0 in a DaemonSet";
                report.error(&at.field("maxSurge"), "not-allowed", message);
            }
        }
    }
    selector::of_template(&spec.selector, &spec.template, at, report);
    template(&spec.template, at, report);
}

fn template(template: &PodTemplateSpec, at: &Path<'_>, report: &mut Report<'_>) {
    template_with_volumes(template, &[], at, report);
}

/// A template of pods that run for ever, with volumes that its specification does not name.
pub(super) fn template_with_volumes(
    template: &PodTemplateSpec,
    more: &[&str],
    at: &Path<'_>,
    report: &mut Report<'_>,
) {
    let at = at.field("template");
    if let Some(meta) = &template.metadata {
        metadata::words(meta, &at.field("metadata"), report);
    }
    let Some(spec) = &template.spec else {
        return report.error(&at, "missing-field", "field `spec` is missing");
    };
    habits::check(template.metadata.as_ref(), spec, &at.field("metadata"), report);
    security::annotations(template.metadata.as_ref(), spec, &at.field("metadata"), report);
    bandwidth(template.metadata.as_ref(), &at.field("metadata"), report);
    let at = at.field("spec");
    pod::check_with_volumes(spec, more, &at, report);
    if let Some(policy @ ("OnFailure" | "Never")) = spec.restart_policy.as_deref() {
        let message = format!("`{policy}` is not allowed here: these pods are always restarted");
        let help = Some("use `Always`, or a Job for something that ends".to_owned());
        report.error_with(&at.field("restartPolicy"), "bad-value", message, help);
    }
    if spec.active_deadline_seconds.is_some() {
        let message = "`activeDeadlineSeconds` is not allowed here: these pods run for ever";
        report.error(&at.field("activeDeadlineSeconds"), "not-allowed", message);
    }
}

fn rolling_update(
    surge: Option<&IntOrString>,
    unavailable: Option<&IntOrString>,
    at: &Path<'_>,
    report: &mut Report<'_>,
) {
    for (field, amount) in [("maxSurge", surge), ("maxUnavailable", unavailable)] {
        let Some(amount) = amount else { continue };
        let at = at.field(field);
        match share(amount) {
            Ok(percent) if field == "maxUnavailable" && percent.is_some_and(|p| p > 100) => {
                report.error(&at, "out-of-range", "must not be more than 100%");
            }
            Ok(_) => {}
            Err(message) => {
                let help = Some("write a number of pods, or a percentage like `25%`".to_owned());
                report.error_with(&at, "bad-value", message, help);
            }
        }
    }
    if surge.is_some_and(is_zero) && unavailable.is_some_and(is_zero) {
        let message = "maxSurge and maxUnavailable are both 0, so the update could never go on";
        report.error(&at.field("maxUnavailable"), "bad-value", message);
    }
}

/// The percentage, if it is one.
fn share(amount: &IntOrString) -> Result<Option<u32>, String> {
    match amount {
        IntOrString::Int(n) if *n < 0 => Err(format!("{n} must not be negative")),
        IntOrString::Int(_) => Ok(None),
        IntOrString::String(text) => {
            let digits = text.strip_suffix('%').filter(|d| d.bytes().all(|b| b.is_ascii_digit()));
            match digits.and_then(|d| d.parse().ok()) {
                Some(percent) => Ok(Some(percent)),
                None => Err(format!("`{text}` is neither a number nor a percentage")),
            }
        }
    }
}

fn is_zero(amount: &IntOrString) -> bool {
    match amount {
        IntOrString::Int(n) => *n == 0,
        IntOrString::String(text) => matches!(share(amount), Ok(Some(0))) || text == "0",
    }
}
