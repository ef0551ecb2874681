//! Autoscalers, disruption budgets, priorities, runtimes, limits and quotas.

use super::selector;
use crate::names;
use crate::path::Path;
use crate::quantity::Quantity;
use crate::report::Report;
use k8s_openapi::api::autoscaling::v2::{HorizontalPodAutoscalerSpec, MetricSpec};
use k8s_openapi::api::core::v1::{LimitRangeSpec, ResourceQuotaSpec};
use k8s_openapi::api::node::v1::RuntimeClass;
use k8s_openapi::api::policy::v1::PodDisruptionBudgetSpec;
use k8s_openapi::api::scheduling::v1::PriorityClass;

/// Above it are the classes that Kubernetes has itself.
const MAX_USER_PRIORITY: i64 = 1_000_000_000;

pub(super) fn autoscaler(spec: &HorizontalPodAutoscalerSpec, at: &Path<'_>, report: &mut Report<'_>) {
    report.between(&at.field("minReplicas"), spec.min_replicas, 0, i64::MAX);
    report.between(&at.field("maxReplicas"), Some(spec.max_replicas), 1, i64::MAX);
    if spec.min_replicas.is_some_and(|min| min > spec.max_replicas) {
        report.error(&at.field("maxReplicas"), "out-of-range", "maxReplicas is less than minReplicas");
    }
    let target = at.field("scaleTargetRef");
    report.not_empty(&target.field("kind"), &spec.scale_target_ref.kind);
    report.not_empty(&target.field("name"), &spec.scale_target_ref.name);
    let list = at.field("metrics");
    for (index, metric) in spec.metrics.iter().flatten().enumerate() {
        self::metric(metric, &list.index(index), report);
    }
}

fn metric(metric: &MetricSpec, at: &Path<'_>, report: &mut Report<'_>) {
    let given = [
        ("Object", "object", metric.object.is_some()),
        ("Pods", "pods", metric.pods.is_some()),
        ("Resource", "resource", metric.resource.is_some()),
        ("ContainerResource", "containerResource", metric.container_resource.is_some()),
        ("External", "external", metric.external.is_some()),
    ];
    report.one_of(&at.field("type"), Some(&metric.type_), &given.map(|(word, ..)| word));
    for (word, field, is_given) in given {
        if word == metric.type_ && !is_given {
            let message = format!("field `{field}` is missing, since type is {word}");
            report.error(at, "missing-field", message);
        }
        if word != metric.type_ && is_given {
            let message = format!("`{field}` is not allowed with type {}", metric.type_);
            report.error(&at.field(field), "not-allowed", message);
        }
    }
}

pub(super) fn disruption_budget(spec: &PodDisruptionBudgetSpec, at: &Path<'_>, report: &mut Report<'_>) {
    if spec.min_available.is_some() && spec.max_unavailable.is_some() {
        let message = "a budget has `minAvailable` or `maxUnavailable`, not both";
        report.error(&at.field("maxUnavailable"), "not-allowed", message);
    }
    let policies = ["IfHealthyBudget", "AlwaysAllow"];
    let policy = spec.unhealthy_pod_eviction_policy.as_deref();
    report.one_of(&at.field("unhealthyPodEvictionPolicy"), policy, &policies);
    if let Some(pods) = &spec.selector {
        selector::check(pods, &at.field("selector"), report);
    }
}

pub(super) fn priority_class(class: &PriorityClass, report: &mut Report<'_>) {
    let name = class.metadata.name.as_deref().unwrap_or_default();
    if name.starts_with("system-") {
        let message = "names with `system-` belong to the classes that are always there";
        report.error(&Path::ROOT.field("metadata").field("name"), "not-allowed", message);
    }
    report.between(&Path::ROOT.field("value"), class.value, i64::from(i32::MIN), MAX_USER_PRIORITY);
    let words = ["PreemptLowerPriority", "Never"];
    report.one_of(&Path::ROOT.field("preemptionPolicy"), class.preemption_policy.as_deref(), &words);
}

pub(super) fn runtime_class(class: &RuntimeClass, report: &mut Report<'_>) {
    report.name(&Path::ROOT.field("handler"), &class.handler, names::label);
}

pub(super) fn limit_range(spec: &LimitRangeSpec, at: &Path<'_>, report: &mut Report<'_>) {
    let list = at.field("limits");
    for (index, item) in spec.limits.iter().enumerate() {
        let at = list.index(index);
        let types = ["Pod", "Container", "PersistentVolumeClaim"];
        report.one_of(&at.field("type"), Some(&item.type_), &types);
        let path = at.field("max");
        for (name, max) in item.max.iter().flatten() {
            let min = item.min.as_ref().and_then(|min| min.get(name));
            let [max, min] = [Some(max), min].map(|text| text.and_then(|t| Quantity::parse(&t.0).ok()));
            if let (Some(max), Some(min)) = (max, min)
                && max < min
            {
                report.error(&path.key(name), "out-of-range", format!("max {max} is less than min {min}"));
            }
        }
    }
}

pub(super) fn quota(spec: &ResourceQuotaSpec, at: &Path<'_>, report: &mut Report<'_>) {
    let path = at.field("hard");
    for (name, amount) in spec.hard.iter().flatten() {
        let Ok(amount) = Quantity::parse(&amount.0) else { continue };
        if amount.is_negative() {
            report.error(&path.key(name), "out-of-range", format!("{amount} must not be negative"));
        }
    }
}
