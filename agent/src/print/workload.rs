//! The rows of Deployment, ReplicaSet and DaemonSet.

use super::age::since;
use super::{labels, or_none};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

const WIDE: &[&str] = &["CONTAINERS", "IMAGES", "SELECTOR"];

pub(super) const DEPLOYMENT_HEADS: (&[&str], &[&str]) =
    (&["NAME", "READY", "UP-TO-DATE", "AVAILABLE", "AGE"], WIDE);
pub(super) const REPLICA_SET_HEADS: (&[&str], &[&str]) =
    (&["NAME", "DESIRED", "CURRENT", "READY", "AGE"], WIDE);
pub(super) const DAEMON_SET_HEADS: (&[&str], &[&str]) =
    (&["NAME", "DESIRED", "CURRENT", "READY", "UP-TO-DATE", "AVAILABLE", "NODE SELECTOR", "AGE"], WIDE);

pub(super) fn deployment_row(o: &Deployment, wide: bool, now: Timestamp) -> Vec<String> {
    let status = o.status.clone().unwrap_or_default();
    let mut cells = vec![
        o.metadata.name.clone().unwrap_or_default(),
        format!("{}/{}", status.ready_replicas.unwrap_or(0), o.spec.replicas.unwrap_or(1)),
        status.updated_replicas.unwrap_or(0).to_string(),
        status.available_replicas.unwrap_or(0).to_string(),
        since(o.metadata.creation_timestamp.as_ref(), now),
    ];
    if wide {
        cells.extend(template_cells(Some(&o.spec.template), Some(&o.spec.selector)));
    }
    cells
}

pub(super) fn replica_set_row(o: &ReplicaSet, wide: bool, now: Timestamp) -> Vec<String> {
    let status = o.status.clone().unwrap_or_default();
    let mut cells = vec![
        o.metadata.name.clone().unwrap_or_default(),
        o.spec.replicas.unwrap_or(1).to_string(),
        status.replicas.to_string(),
        status.ready_replicas.unwrap_or(0).to_string(),
        since(o.metadata.creation_timestamp.as_ref(), now),
    ];
    if wide {
        cells.extend(template_cells(o.spec.template.as_ref(), Some(&o.spec.selector)));
    }
    cells
}

pub(super) fn daemon_set_row(o: &DaemonSet, wide: bool, now: Timestamp) -> Vec<String> {
    let status = o.status.clone().unwrap_or_default();
    let node_selector = o.spec.template.spec.as_ref().and_then(|spec| spec.node_selector.as_ref());
    let mut cells = vec![
        o.metadata.name.clone().unwrap_or_default(),
        status.desired_number_scheduled.to_string(),
        status.current_number_scheduled.to_string(),
        status.number_ready.to_string(),
        status.updated_number_scheduled.unwrap_or(0).to_string(),
        status.number_available.unwrap_or(0).to_string(),
        labels(node_selector),
        since(o.metadata.creation_timestamp.as_ref(), now),
    ];
    if wide {
        cells.extend(template_cells(Some(&o.spec.template), Some(&o.spec.selector)));
    }
    cells
}

/// Containers, images and selector.
pub(super) fn template_cells(
    template: Option<&PodTemplateSpec>,
    selector: Option<&LabelSelector>,
) -> [String; 3] {
    let containers =
        template.and_then(|t| t.spec.as_ref()).map(|s| s.containers.as_slice()).unwrap_or_default();
    let names: Vec<_> = containers.iter().map(|c| c.name.as_str()).collect();
    let images: Vec<_> = containers.iter().map(|c| c.image.as_deref().unwrap_or_default()).collect();
    [names.join(","), images.join(","), selector_text(selector)]
}

/// A selector as `kubectl get -l` takes it: `app=web,tier in (a,b),!old`.
pub(in crate::print) fn selector_text(selector: Option<&LabelSelector>) -> String {
    let Some(selector) = selector else { return "<none>".into() };
    let mut parts: Vec<String> =
        selector.match_labels.iter().flatten().map(|(key, value)| format!("{key}={value}")).collect();
    for rule in selector.match_expressions.iter().flatten() {
        let values = rule.values.as_deref().unwrap_or_default().join(",");
        parts.push(match rule.operator.as_str() {
            "In" => format!("{} in ({values})", rule.key),
            "NotIn" => format!("{} notin ({values})", rule.key),
            "DoesNotExist" => format!("!{}", rule.key),
            _ => rule.key.clone(),
        });
    }
    or_none(parts.join(","))
}
