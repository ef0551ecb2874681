//! `resources` and `allocatedResources` of containers, and the condition that says that they are
//! not yet what was asked for.

use crate::plan::resize_is_due;
use crate::state::PodState;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, ContainerStatus, PodCondition, PodSpec, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

const IN_PROGRESS: &str = "PodResizeInProgress";

/// Adds what each running container may use to `statuses`; true if one waits for other limits.
pub(super) fn report(
    statuses: &mut [ContainerStatus],
    containers: &[Container],
    state: Option<&PodState>,
    before: &[ContainerStatus],
) -> bool {
    let mut waits = false;
    for status in statuses {
        let Some(have) = state.and_then(|state| state.limits.get(&status.name)) else { continue };
        let Some(container) = containers.iter().find(|container| container.name == status.name) else {
            continue;
        };
        let running = status.state.as_ref().is_some_and(|state| state.running.is_some());
        if running && resize_is_due(container, have) {
            waits = true;
            let old = before.iter().find(|old| old.name == status.name);
            status.resources = old.and_then(|old| old.resources.clone());
            status.allocated_resources = old.and_then(|old| old.allocated_resources.clone());
        } else if let Some(resources) = &container.resources {
            status.resources = Some(resources.clone());
            status.allocated_resources = resources.requests.clone().or_else(|| resources.limits.clone());
        }
    }
    waits
}

/// Says in `conditions` whether the pod waits.
pub(super) fn condition(conditions: &mut Vec<PodCondition>, waits: bool, before: &PodStatus, now: Timestamp) {
    conditions.retain(|one| one.type_ != IN_PROGRESS);
    if waits {
        let old = before.conditions.iter().flatten().find(|one| one.type_ == IN_PROGRESS);
        conditions.push(PodCondition {
            type_: IN_PROGRESS.to_owned(),
            status: "True".to_owned(),
            last_transition_time: old.and_then(|one| one.last_transition_time.clone()).or(Some(Time(now))),
            ..PodCondition::default()
        });
    }
}

/// The containers of a group.
pub(super) fn of_group(spec: &PodSpec, init: bool) -> &[Container] {
    if init { spec.init_containers.as_deref().unwrap_or_default() } else { &spec.containers }
}
