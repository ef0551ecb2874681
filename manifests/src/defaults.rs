//! What the Kubernetes API server fills in, for every kind that a manifest may hold.
//!
//! Applying the defaults again changes nothing, so whoever makes objects from a
//! template (a controller) may pass them through [`apply`] as the API server would.

mod native;
mod pod;
mod service;
mod workload;

use crate::object::Object;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use std::collections::BTreeMap;

/// Sets every default of `object` that is not set yet.
pub fn apply(object: &mut Object) {
    let namespaced = object.kind().is_namespaced();
    let meta = object.metadata_mut();
    if namespaced && meta.namespace.as_deref().unwrap_or_default().is_empty() {
        meta.namespace = Some("default".to_owned());
    }
    match object {
        Object::Namespace(namespace) => self::namespace(namespace),
        Object::Secret(secret) => self::secret(secret),
        Object::Service(service) => service::service(service),
        Object::Deployment(deployment) => workload::deployment(deployment),
        Object::ReplicaSet(set) => workload::replica_set(set),
        Object::DaemonSet(set) => workload::daemon_set(set),
        Object::Job(job) => workload::job(job),
        Object::CronJob(cron) => workload::cron_job(cron),
        Object::Pod(pod) => self::pod::pod(pod),
        Object::StatefulSet(set) => workload::stateful_set(set),
        Object::ReplicationController(controller) => workload::replication_controller(controller),
        Object::PersistentVolume(volume) => native::persistent_volume(volume),
        Object::PersistentVolumeClaim(claim) => native::claim(claim),
        Object::StorageClass(class) => native::storage_class(class),
        Object::NetworkPolicy(policy) => native::network_policy(policy),
        Object::EndpointSlice(slice) => native::endpoint_slice(slice),
        Object::HorizontalPodAutoscaler(scaler) => native::autoscaler(scaler),
        Object::PriorityClass(class) => set_word(&mut class.preemption_policy, "PreemptLowerPriority"),
        Object::RoleBinding(binding) => {
            native::binding(&mut binding.role_ref, binding.subjects.as_mut());
        }
        Object::ClusterRoleBinding(binding) => {
            native::binding(&mut binding.role_ref, binding.subjects.as_mut());
        }
        Object::ConfigMap(_)
        | Object::Node(_)
        | Object::Revision(_)
        | Object::Event(_)
        | Object::ServiceAccount(_)
        | Object::RuntimeClass(_)
        | Object::IngressClass(_)
        | Object::ClusterRole(_)
        | Object::Role(_)
        | Object::LimitRange(_)
        | Object::ResourceQuota(_)
        | Object::Endpoints(_)
        | Object::PodDisruptionBudget(_)
        | Object::Ingress(_)
        | Object::APIService(_) => {}
    }
}

/// What only the store may say of an object, taken out of what a manifest says.
pub(crate) fn clear_server_fields(object: &mut Object) {
    let meta = object.metadata_mut();
    meta.creation_timestamp = None;
    meta.deletion_grace_period_seconds = None;
    meta.deletion_timestamp = None;
    meta.finalizers = None;
    meta.generation = None;
    meta.managed_fields = None;
    meta.owner_references = None;
    meta.resource_version = None;
    meta.self_link = None;
    meta.uid = None;
}

fn set<T>(field: &mut Option<T>, value: impl Into<T>) {
    if field.is_none() {
        *field = Some(value.into());
    }
}

/// Like [`set`] for words, of which an empty one is none.
fn set_word(field: &mut Option<String>, value: &str) {
    if field.as_ref().is_none_or(String::is_empty) {
        *field = Some(value.to_owned());
    }
}

fn namespace(namespace: &mut Namespace) {
    let Some(name) = namespace.metadata.name.clone() else { return };
    let labels = namespace.metadata.labels.get_or_insert_with(BTreeMap::new);
    labels.entry("kubernetes.io/metadata.name".to_owned()).or_insert(name);
}

fn secret(secret: &mut Secret) {
    set_word(&mut secret.type_, "Opaque");
    if let Some(strings) = secret.string_data.take().filter(|s| !s.is_empty()) {
        let data = secret.data.get_or_insert_with(BTreeMap::new);
        data.extend(strings.into_iter().map(|(key, value)| (key, ByteString(value.into_bytes()))));
    }
}

#[cfg(test)]
mod tests;
