//! What an object becomes when Git's word is laid onto it: Git's fields, with
//! what the store and the controllers have given it.

use crate::scheduler::taint;
use crate::store::copy_status;
use manifests::Object;
use manifests::k8s_openapi::api::batch::v1::Job;
use manifests::k8s_openapi::api::core::v1::Service;
use manifests::k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use manifests::revision::SOURCE_ANNOTATION;
use std::collections::BTreeMap;

type Map = BTreeMap<String, String>;

/// Labels that controllers set: kept when Git does not name them.
const CONTROLLERS_LABELS: [&str; 4] =
    ["batch.kubernetes.io/", "controller-uid", "job-name", "kubernetes.io/metadata.name"];
/// Annotations that controllers set: kept when Git does not name them.
const CONTROLLERS_ANNOTATIONS: [&str; 5] = [
    "deployment.kubernetes.io/",
    "batch.kubernetes.io/",
    "evenkeel.dev/",
    "deprecated.daemonset.template.generation",
    "kubectl.kubernetes.io/",
];

/// `wanted` as it is created for `source`.
pub(super) fn fresh(mut wanted: Object, source: &str) -> Object {
    let given = std::mem::take(wanted.metadata_mut());
    let mut annotations = given.annotations.unwrap_or_default();
    annotations.insert(SOURCE_ANNOTATION.into(), source.into());
    *wanted.metadata_mut() = ObjectMeta {
        name: given.name,
        namespace: given.namespace,
        labels: given.labels,
        annotations: Some(annotations),
        ..ObjectMeta::default()
    };
    wanted
}

/// `have`, with everything that Git owns in it as in `wanted`. Equal to `have`
/// if nothing is to be done.
pub(super) fn onto(wanted: Object, have: &Object, source: &str) -> Object {
    let mut next = fresh(wanted, source);
    let mut meta = have.metadata().clone();
    let git = next.metadata_mut();
    lay(&mut meta.labels, git.labels.take(), &CONTROLLERS_LABELS);
    lay(&mut meta.annotations, git.annotations.take(), &CONTROLLERS_ANNOTATIONS);
    *git = meta;
    copy_status(have, &mut next);
    keep_given(&mut next, have);
    next
}

/// `map` becomes `wanted`, with those of its keys that `kept` names or begins.
fn lay(map: &mut Option<Map>, wanted: Option<Map>, kept: &[&str]) {
    let wanted = wanted.unwrap_or_default();
    let is_kept =
        |key: &str| kept.iter().any(|k| if k.ends_with('/') { key.starts_with(k) } else { key == *k });
    let old = map.get_or_insert_default();
    old.retain(|key, _| wanted.contains_key(key) || is_kept(key));
    old.extend(wanted);
    if old.is_empty() {
        *map = None;
    }
}

/// Fields that are filled in after creation where Git leaves them open.
fn keep_given(next: &mut Object, have: &Object) {
    #[allow(clippy::wildcard_enum_match_arm, reason = "the other kinds have no such field")]
    match (next, have) {
        (Object::Pod(next), Object::Pod(have)) => {
            if let (Some(next), Some(have)) = (&mut next.spec, &have.spec) {
                keep(&mut next.node_name, &have.node_name);
                keep(&mut next.ephemeral_containers, &have.ephemeral_containers);
                let mut with_defaults = next.clone();
                taint::give_defaults(&mut with_defaults);
                if with_defaults.tolerations == have.tolerations {
                    next.tolerations = with_defaults.tolerations;
                }
                if next.priority_class_name == have.priority_class_name {
                    keep(&mut next.priority, &have.priority);
                    keep(&mut next.preemption_policy, &have.preemption_policy);
                }
                if next.runtime_class_name == have.runtime_class_name {
                    keep(&mut next.overhead, &have.overhead);
                }
            }
        }
        (Object::Namespace(next), Object::Namespace(have)) => keep(&mut next.spec, &have.spec),
        (Object::Job(next), Object::Job(have)) => keep_job(next, have),
        (Object::Service(next), Object::Service(have)) => keep_service(next, have),
        _ => {}
    }
}

fn keep<T: Clone>(next: &mut Option<T>, have: &Option<T>) {
    if next.is_none() {
        next.clone_from(have);
    }
}

fn keep_job(next: &mut Job, have: &Job) {
    let (Some(next), Some(have)) = (&mut next.spec, &have.spec) else { return };
    keep(&mut next.selector, &have.selector);
    let labels = have.template.metadata.as_ref().and_then(|meta| meta.labels.as_ref());
    let generated = |key: &&String| {
        CONTROLLERS_LABELS.iter().any(|k| key.as_str() == *k || (k.ends_with('/') && key.starts_with(k)))
    };
    for (key, value) in labels.into_iter().flatten().filter(|(key, _)| generated(key)) {
        let meta = next.template.metadata.get_or_insert_default();
        meta.labels.get_or_insert_default().entry(key.clone()).or_insert_with(|| value.clone());
    }
}

fn keep_service(next: &mut Service, have: &Service) {
    let (Some(next), Some(have)) = (&mut next.spec, &have.spec) else { return };
    keep(&mut next.cluster_ip, &have.cluster_ip);
    keep(&mut next.cluster_ips, &have.cluster_ips);
    keep(&mut next.ip_families, &have.ip_families);
    keep(&mut next.ip_family_policy, &have.ip_family_policy);
    keep(&mut next.health_check_node_port, &have.health_check_node_port);
    for port in next.ports.iter_mut().flatten() {
        let same = have.ports.iter().flatten().find(|had| had.port == port.port && had.name == port.name);
        if let Some(same) = same {
            keep(&mut port.node_port, &same.node_port);
        }
    }
}
