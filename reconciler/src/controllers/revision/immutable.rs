//! What cannot change in an object that is there.

use manifests::Object;
use manifests::k8s_openapi::api::batch::v1::Job;
use manifests::k8s_openapi::api::core::v1::{Pod, PodSpec, ResourceRequirements};

/// The field that differs between `have` and `next` and cannot change, if one does.
///
/// Source: the Kubernetes API's validation of updates. It lets a Pod's image
/// change; here a Pod is made as a whole, so any change of its spec makes another, but that
/// of its containers' CPU and memory, which are changed in place.
pub(super) fn differing(have: &Object, next: &Object) -> Option<&'static str> {
    match (have, next) {
        (Object::Pod(have), Object::Pod(next)) => {
            (without_resources(have) != without_resources(next)).then_some("spec")
        }
        (Object::Job(have), Object::Job(next)) => job(have, next),
        (Object::Deployment(have), Object::Deployment(next)) => {
            (have.spec.selector != next.spec.selector).then_some("spec.selector")
        }
        (Object::ReplicaSet(have), Object::ReplicaSet(next)) => {
            (have.spec.selector != next.spec.selector).then_some("spec.selector")
        }
        (Object::DaemonSet(have), Object::DaemonSet(next)) => {
            (have.spec.selector != next.spec.selector).then_some("spec.selector")
        }
        (Object::ConfigMap(have), Object::ConfigMap(next)) => (have.immutable == Some(true)
            && (next.immutable != Some(true)
                || have.data != next.data
                || have.binary_data != next.binary_data))
            .then_some("an immutable ConfigMap"),
        (Object::Secret(have), Object::Secret(next)) => {
            let content =
                have.immutable == Some(true) && (next.immutable != Some(true) || have.data != next.data);
            (content || have.type_ != next.type_).then_some("an immutable Secret, or its type,")
        }
        _ => None,
    }
}

/// The specification but for what can change while it runs. Its quality of service cannot.
fn without_resources(pod: &Pod) -> (Option<PodSpec>, [bool; 2]) {
    let mut spec = pod.spec.clone();
    let mut quality = [true, true];
    let containers = spec
        .iter_mut()
        .flat_map(|spec| spec.init_containers.iter_mut().flatten().chain(spec.containers.iter_mut()));
    for resources in containers.filter_map(|container| container.resources.as_mut()) {
        let ResourceRequirements { limits, requests, .. } = &mut *resources;
        quality[0] &= limits.is_some() && (limits == requests || requests.is_none());
        quality[1] &= limits.is_none() && requests.is_none();
        for amounts in [limits, requests].into_iter().flatten() {
            amounts.retain(|name, _| name != "cpu" && name != "memory");
        }
    }
    (spec, quality)
}

fn job(have: &Job, next: &Job) -> Option<&'static str> {
    let (have, next) = (have.spec.as_ref()?, next.spec.as_ref()?);
    let differs = [
        (have.template != next.template, "spec.template"),
        (have.selector != next.selector, "spec.selector"),
        (have.completions != next.completions, "spec.completions"),
        (have.completion_mode != next.completion_mode, "spec.completionMode"),
        (have.pod_failure_policy != next.pod_failure_policy, "spec.podFailurePolicy"),
        (have.backoff_limit_per_index != next.backoff_limit_per_index, "spec.backoffLimitPerIndex"),
    ];
    differs.into_iter().find_map(|(differs, field)| differs.then_some(field))
}
