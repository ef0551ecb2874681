//! Defaults of storage, network and access.

use super::{set, set_word};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::rbac::v1::{RoleRef, Subject};
use k8s_openapi::api::storage::v1::StorageClass;

const RBAC: &str = "rbac.authorization.k8s.io";

pub(super) fn persistent_volume(volume: &mut PersistentVolume) {
    let Some(spec) = &mut volume.spec else { return };
    set_word(&mut spec.persistent_volume_reclaim_policy, "Retain");
    set_word(&mut spec.volume_mode, "Filesystem");
}

pub(super) fn claim(claim: &mut PersistentVolumeClaim) {
    if let Some(spec) = &mut claim.spec {
        set_word(&mut spec.volume_mode, "Filesystem");
    }
}

pub(super) fn storage_class(class: &mut StorageClass) {
    set_word(&mut class.reclaim_policy, "Delete");
    set_word(&mut class.volume_binding_mode, "Immediate");
}

/// A policy is about what comes in; about what goes out too if it says something of it.
pub(super) fn network_policy(policy: &mut NetworkPolicy) {
    let Some(spec) = &mut policy.spec else { return };
    spec.pod_selector.get_or_insert_default();
    if spec.policy_types.as_ref().is_none_or(Vec::is_empty) {
        let egress = spec.egress.as_ref().is_some_and(|rules| !rules.is_empty());
        let types = ["Ingress", "Egress"].into_iter().take(1 + usize::from(egress));
        spec.policy_types = Some(types.map(str::to_owned).collect());
    }
    let incoming = spec.ingress.iter_mut().flatten().flat_map(|rule| rule.ports.iter_mut().flatten());
    let outgoing = spec.egress.iter_mut().flatten().flat_map(|rule| rule.ports.iter_mut().flatten());
    for port in incoming.chain(outgoing) {
        set_word(&mut port.protocol, "TCP");
    }
}

pub(super) fn endpoint_slice(slice: &mut EndpointSlice) {
    for port in slice.ports.iter_mut().flatten() {
        set(&mut port.name, String::new());
        set_word(&mut port.protocol, "TCP");
    }
}

pub(super) fn autoscaler(scaler: &mut HorizontalPodAutoscaler) {
    set(&mut scaler.spec.min_replicas, 1);
}

pub(super) fn binding(role: &mut RoleRef, subjects: Option<&mut Vec<Subject>>) {
    set_word(&mut role.api_group, RBAC);
    for subject in subjects.into_iter().flatten() {
        let group = if subject.kind == "ServiceAccount" { "" } else { RBAC };
        set(&mut subject.api_group, group);
    }
}
