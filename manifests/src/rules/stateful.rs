//! StatefulSets and ReplicationControllers.

use super::{metadata, selector, storage, workload};
use crate::names;
use crate::path::Path;
use crate::report::Report;
use crate::selector::labels_match;
use k8s_openapi::api::apps::v1::StatefulSetSpec;
use k8s_openapi::api::core::v1::ReplicationControllerSpec;
use std::collections::HashMap;

pub(super) fn stateful_set(spec: &StatefulSetSpec, at: &Path<'_>, report: &mut Report<'_>) {
    report.not_negative(&at.field("replicas"), spec.replicas);
    report.not_negative(&at.field("minReadySeconds"), spec.min_ready_seconds);
    report.not_negative(&at.field("revisionHistoryLimit"), spec.revision_history_limit);
    let policies = ["OrderedReady", "Parallel"];
    report.one_of(&at.field("podManagementPolicy"), spec.pod_management_policy.as_deref(), &policies);
    if let Some(ordinals) = &spec.ordinals {
        report.not_negative(&at.field("ordinals").field("start"), ordinals.start);
    }
    if let Some(strategy) = &spec.update_strategy {
        let at = at.field("updateStrategy");
        report.one_of(&at.field("type"), strategy.type_.as_deref(), &["RollingUpdate", "OnDelete"]);
        if let Some(rolling) = &strategy.rolling_update {
            let at = at.field("rollingUpdate");
            if strategy.type_.as_deref() == Some("OnDelete") {
                report.error(&at, "not-allowed", "`rollingUpdate` is not allowed with type OnDelete");
            }
            report.not_negative(&at.field("partition"), rolling.partition);
        }
    }
    if let Some(policy) = &spec.persistent_volume_claim_retention_policy {
        let at = at.field("persistentVolumeClaimRetentionPolicy");
        let words = ["Retain", "Delete"];
        report.one_of(&at.field("whenDeleted"), policy.when_deleted.as_deref(), &words);
        report.one_of(&at.field("whenScaled"), policy.when_scaled.as_deref(), &words);
    }
    if let Some(name) = spec.service_name.as_deref().filter(|name| !name.is_empty()) {
        report.name(&at.field("serviceName"), name, names::subdomain);
    }
    selector::of_template(&spec.selector, &spec.template, at, report);
    let claims = claims(spec, at, report);
    workload::template_with_volumes(&spec.template, &claims, at, report);
}

/// The names of the volumes that the claim templates make.
fn claims<'s>(spec: &'s StatefulSetSpec, at: &Path<'_>, report: &mut Report<'_>) -> Vec<&'s str> {
    let list = at.field("volumeClaimTemplates");
    let mut seen: HashMap<&str, usize> = HashMap::new();
    for (index, claim) in spec.volume_claim_templates.iter().flatten().enumerate() {
        let at = list.index(index);
        let meta = at.field("metadata");
        let Some(name) = claim.metadata.name.as_deref().filter(|name| !name.is_empty()) else {
            report.error(&meta, "missing-field", "field `name` is missing");
            continue;
        };
        report.name(&meta.field("name"), name, names::label);
        if let Some(first) = seen.insert(name, index) {
            let first = list.index(first);
            let first = first.field("metadata");
            report.duplicate(&meta.field("name"), "volume claim", name, &first.field("name"));
        }
        match &claim.spec {
            Some(claim) => storage::claim(claim, &at.field("spec"), report),
            None => report.error(&at, "missing-field", "field `spec` is missing"),
        }
    }
    spec.volume_claim_templates.iter().flatten().filter_map(|claim| claim.metadata.name.as_deref()).collect()
}

pub(super) fn replication_controller(
    spec: &ReplicationControllerSpec,
    at: &Path<'_>,
    report: &mut Report<'_>,
) {
    report.not_negative(&at.field("replicas"), spec.replicas);
    report.not_negative(&at.field("minReadySeconds"), spec.min_ready_seconds);
    metadata::labels(spec.selector.as_ref(), &at.field("selector"), report);
    let Some(template) = &spec.template else {
        return report.error(at, "missing-field", "field `template` is missing");
    };
    let labels = template.metadata.as_ref().and_then(|meta| meta.labels.as_ref());
    match &spec.selector {
        Some(selector) if !selector.is_empty() => {
            if !labels_match(selector, labels) {
                let message = "the template's labels do not match the selector";
                report.error(&at.field("template.metadata.labels"), "selector-mismatch", message);
            }
        }
        _ => report.error(at, "missing-field", "field `selector` is missing, and the template has no labels"),
    }
    workload::template_with_volumes(template, &[], at, report);
}
