//! Environment variables.

use crate::names;
use crate::path::Path;
use crate::report::Report;
use k8s_openapi::api::core::v1::{Container, EnvVarSource};

/// The fields of a pod that a variable may show.
const FIELDS: [&str; 9] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

pub(super) fn check(container: &Container, at: &Path<'_>, report: &mut Report<'_>) {
    let list = at.field("env");
    for (index, variable) in container.env.iter().flatten().enumerate() {
        let at = list.index(index);
        report.name(&at.field("name"), &variable.name, names::env_name);
        let Some(from) = &variable.value_from else { continue };
        if variable.value.as_ref().is_some_and(|v| !v.is_empty()) {
            report.error(&at.field("valueFrom"), "not-allowed", "at most one of value and valueFrom");
        }
        value_from(from, &at.field("valueFrom"), report);
    }
    let list = at.field("envFrom");
    for (index, from) in container.env_from.iter().flatten().enumerate() {
        let at = list.index(index);
        if let Some(prefix) = from.prefix.as_ref().filter(|p| !p.is_empty()) {
            report.name(&at.field("prefix"), prefix, names::env_name);
        }
        match (&from.config_map_ref, &from.secret_ref) {
            (Some(reference), None) => object_name(&reference.name, &at.field("configMapRef.name"), report),
            (None, Some(reference)) => object_name(&reference.name, &at.field("secretRef.name"), report),
            (None, None) => {
                report.error(&at, "missing-field", "one of configMapRef and secretRef is missing")
            }
            (Some(_), Some(_)) => {
                report.error(&at, "not-allowed", "at most one of configMapRef and secretRef")
            }
        }
    }
}

fn object_name(name: &str, at: &Path<'_>, report: &mut Report<'_>) {
    report.name(at, name, names::subdomain);
}

fn value_from(from: &EnvVarSource, at: &Path<'_>, report: &mut Report<'_>) {
    let given = [
        from.config_map_key_ref.is_some(),
        from.secret_key_ref.is_some(),
        from.field_ref.is_some(),
        from.resource_field_ref.is_some(),
        from.file_key_ref.is_some(),
    ];
    match given.iter().filter(|g| **g).count() {
        0 => {
            let message = "one of configMapKeyRef, secretKeyRef, fieldRef and resourceFieldRef is missing";
            report.error(at, "missing-field", message);
        }
        1 => {}
        _ => report.error(at, "not-allowed", "a variable has one source only"),
    }
    if let Some(reference) = &from.config_map_key_ref {
        let at = at.field("configMapKeyRef");
        object_name(&reference.name, &at.field("name"), report);
        report.name(&at.field("key"), &reference.key, names::data_key);
    }
    if let Some(reference) = &from.secret_key_ref {
        let at = at.field("secretKeyRef");
        object_name(&reference.name, &at.field("name"), report);
        report.name(&at.field("key"), &reference.key, names::data_key);
    }
    if let Some(file) = &from.file_key_ref {
        let at = at.field("fileKeyRef");
        report.not_empty(&at.field("volumeName"), &file.volume_name);
        report.name(&at.field("key"), &file.key, names::env_name);
        let leads_out = file.path.starts_with('/') || file.path.split('/').any(|part| part == "..");
        if file.path.is_empty() || leads_out {
            let message = "this is a path in the volume, without `..`";
            report.error(&at.field("path"), "bad-path", message);
        }
    }
    if let Some(field) = &from.field_ref {
        field_path(&field.field_path, &at.field("fieldRef.fieldPath"), report);
    }
    if let Some(field) = &from.resource_field_ref {
        let resources = [
            "limits.cpu",
            "limits.memory",
            "limits.ephemeral-storage",
            "requests.cpu",
            "requests.memory",
            "requests.ephemeral-storage",
        ];
        if !field.resource.contains("hugepages-") {
            report.one_of(&at.field("resourceFieldRef.resource"), Some(&field.resource), &resources);
        }
    }
}

fn field_path(path: &str, at: &Path<'_>, report: &mut Report<'_>) {
    let of_map = ["metadata.labels['", "metadata.annotations['"]
        .iter()
        .any(|start| path.strip_prefix(start).is_some_and(|rest| rest.ends_with("']")));
    if !of_map {
        report.one_of(at, Some(path), &FIELDS);
    }
}
