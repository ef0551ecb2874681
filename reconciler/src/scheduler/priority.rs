//! How important a Pod is: its PriorityClass as a number.

use crate::store::State;
use manifests::k8s_openapi::api::core::v1::Pod;
use manifests::k8s_openapi::api::scheduling::v1::PriorityClass;
use manifests::{Kind, ObjectKey};

/// The classes that every cluster has.
const SYSTEM: [(&str, i32); 2] =
    [("system-cluster-critical", 2_000_000_000), ("system-node-critical", 2_000_001_000)];

/// How important `pod` is, be it said in the Pod or by its class; 0 without either.
pub(super) fn of(pod: &Pod, state: &State) -> i32 {
    let Some(spec) = &pod.spec else { return 0 };
    let Some(name) = spec.priority_class_name.as_deref().filter(|name| !name.is_empty()) else {
        return spec.priority.unwrap_or(0);
    };
    if let Some((_, value)) = SYSTEM.iter().find(|(system, _)| *system == name) {
        return *value;
    }
    let stored = state.get(&ObjectKey::new(Kind::PriorityClass, "", name));
    let class = stored.and_then(|object| <&PriorityClass>::try_from(&**object).ok());
    class.and_then(|class| class.value).or(spec.priority).unwrap_or(0)
}

/// `spec.priority` and `spec.preemptionPolicy` are those of the Pod's class, or of the class that
/// is the default for all, or 0. What the Pod says itself stays where it names no class. False
/// if it names a class that is not there.
pub(crate) fn resolve(pod: &mut Pod, state: &State) -> bool {
    let Some(spec) = &mut pod.spec else { return true };
    let named = spec.priority_class_name.clone().filter(|name| !name.is_empty());
    if let Some(name) = &named {
        if let Some((_, value)) = SYSTEM.iter().find(|(system, _)| system == name) {
            spec.priority = Some(*value);
            return true;
        }
        let stored = state.get(&ObjectKey::new(Kind::PriorityClass, "", name.clone()));
        let Some(class) = stored.and_then(|object| <&PriorityClass>::try_from(&**object).ok()) else {
            return false;
        };
        spec.priority = Some(class.value.unwrap_or(0));
        spec.preemption_policy = spec.preemption_policy.take().or_else(|| class.preemption_policy.clone());
        return true;
    }
    if spec.priority.is_some() {
        return true;
    }
    let classes = state.list(Kind::PriorityClass, None);
    let classes = classes.filter_map(|object| <&PriorityClass>::try_from(&**object).ok());
    // Of several defaults, the lowest holds.
    let default = classes.filter(|class| class.global_default == Some(true)).min_by_key(|class| class.value);
    if let Some(class) = default {
        spec.preemption_policy = spec.preemption_policy.take().or_else(|| class.preemption_policy.clone());
    }
    spec.priority = Some(default.and_then(|class| class.value).unwrap_or(0));
    true
}
