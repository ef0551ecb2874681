//! Names, labels and annotations.

use crate::kind::Kind;
use crate::names;
use crate::object::Object;
use crate::path::Path;
use crate::report::Report;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::collections::BTreeMap;

/// All annotations of one object, in bytes.
const MAX_ANNOTATIONS: usize = 256 << 10;
/// A CronJob's jobs add eleven characters to its name.
const MAX_CRON_JOB_NAME: usize = 52;

pub(super) fn check(object: &Object, report: &mut Report<'_>) {
    let at = Path::ROOT.field("metadata");
    let meta = object.metadata();
    name(object.kind(), meta, &at, report);
    match (object.kind().is_namespaced(), &meta.namespace) {
        (true, Some(namespace)) => report.name(&at.field("namespace"), namespace, names::label),
        (false, Some(namespace)) if !namespace.is_empty() => {
            let message = format!("a {} lives in no namespace", object.kind());
            report.error(&at.field("namespace"), "not-allowed", message);
        }
        _ => {}
    }
    words(meta, &at, report);
}

fn name(kind: Kind, meta: &ObjectMeta, at: &Path<'_>, report: &mut Report<'_>) {
    if meta.generate_name.as_ref().is_some_and(|n| !n.is_empty()) {
        let message = "an object in Git needs a name that stays, not a generated one";
        let help = Some("use `name`".to_owned());
        report.error_with(&at.field("generateName"), "not-allowed", message, help);
    }
    let Some(name) = meta.name.as_deref().filter(|n| !n.is_empty()) else {
        if meta.generate_name.is_none() {
            report.error(at, "missing-field", "field `name` is missing");
        }
        return;
    };
    let at = at.field("name");
    match kind {
        Kind::Namespace => report.name(&at, name, names::label),
        Kind::Service => report.name(&at, name, names::label_1035),
        // It becomes the value of a label of its pods.
        Kind::Job => {
            report.name(&at, name, |n| names::subdomain(n).and_then(|()| names::label_length(n, 63)))
        }
        Kind::CronJob => {
            report.name(&at, name, |n| {
                names::subdomain(n).and_then(|()| names::label_length(n, MAX_CRON_JOB_NAME))
            });
        }
        Kind::Role | Kind::RoleBinding | Kind::ClusterRole | Kind::ClusterRoleBinding => {
            report.name(&at, name, names::path_segment);
        }
        // Its pods' names, which are host names too, are made from it.
        Kind::StatefulSet => {
            report.name(&at, name, |n| names::subdomain(n).and_then(|()| names::label_length(n, 63)))
        }
        Kind::Node
        | Kind::Revision
        | Kind::ServiceAccount
        | Kind::PriorityClass
        | Kind::RuntimeClass
        | Kind::StorageClass
        | Kind::IngressClass
        | Kind::LimitRange
        | Kind::ResourceQuota
        | Kind::ConfigMap
        | Kind::Secret
        | Kind::PersistentVolume
        | Kind::PersistentVolumeClaim
        | Kind::Endpoints
        | Kind::EndpointSlice
        | Kind::NetworkPolicy
        | Kind::DaemonSet
        | Kind::Deployment
        | Kind::ReplicaSet
        | Kind::ReplicationController
        | Kind::Pod
        | Kind::HorizontalPodAutoscaler
        | Kind::PodDisruptionBudget
        | Kind::Ingress
        | Kind::APIService
        | Kind::Event => report.name(&at, name, names::subdomain),
    }
}

/// Labels and annotations, of an object or of a template.
pub(super) fn words(meta: &ObjectMeta, at: &Path<'_>, report: &mut Report<'_>) {
    labels(meta.labels.as_ref(), &at.field("labels"), report);
    let annotations = at.field("annotations");
    let mut size = 0;
    for (key, value) in meta.annotations.iter().flatten() {
        size += key.len() + value.len();
        report.key(&annotations.key(key), |key| names::qualified(&key.to_ascii_lowercase()));
    }
    if size > MAX_ANNOTATIONS {
        let message = format!("annotations have {size} bytes; at most {MAX_ANNOTATIONS} are kept");
        report.error(&annotations, "too-large", message);
    }
}

/// Keys and values of labels, wherever they stand.
pub(super) fn labels(labels: Option<&BTreeMap<String, String>>, at: &Path<'_>, report: &mut Report<'_>) {
    for (key, value) in labels.into_iter().flatten() {
        let at = at.key(key);
        report.key(&at, names::qualified);
        if let Err((rule, help)) = names::label_value(value) {
            report.error_with(&at, "bad-name", format!("`{key}` {rule}"), help);
        }
    }
}
