//! `status.ephemeralContainerStatuses`: containers that were added to look into the pod. They run
//! once, are never ready, and nothing of the pod depends on them.

use super::container::{Group, from_report};
use crate::state::PodState;
use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus, EphemeralContainer,
    PodSpec, PodStatus,
};

/// The code of a container whose end nobody saw.
const UNSEEN_END: i32 = 137;

/// In the specification's order.
pub(super) fn statuses(spec: &PodSpec, state: Option<&PodState>, before: &PodStatus) -> Vec<ContainerStatus> {
    let reported = |name: &str| state?.containers.iter().find(|one| one.name == name);
    let old =
        |name: &str| before.ephemeral_container_statuses.iter().flatten().find(|status| status.name == name);
    let one = |container: &EphemeralContainer| match (reported(&container.name), old(&container.name)) {
        (Some(reported), _) => ContainerStatus {
            started: None,
            ready: false,
            ..from_report(reported, Group::Ephemeral, false, None)
        },
        (None, Some(old)) => left_alone(old),
        (None, None) => waiting(container),
    };
    spec.ephemeral_containers.iter().flatten().map(one).collect()
}

/// No supervisor has it: it waits as it did, or has ended, and is not run again.
fn left_alone(old: &ContainerStatus) -> ContainerStatus {
    let Some(running) = old.state.as_ref().and_then(|state| state.running.as_ref()) else {
        return old.clone();
    };
    let ended = ContainerStateTerminated {
        exit_code: UNSEEN_END,
        reason: Some("ContainerStatusUnknown".to_owned()),
        message: Some("the pod's supervisor ended before the container did".to_owned()),
        started_at: running.started_at.clone(),
        container_id: old.container_id.clone(),
        ..ContainerStateTerminated::default()
    };
    let state = Some(ContainerState { terminated: Some(ended), ..ContainerState::default() });
    ContainerStatus { state, ..old.clone() }
}

fn waiting(container: &EphemeralContainer) -> ContainerStatus {
    let waiting =
        ContainerStateWaiting { reason: Some("ContainerCreating".to_owned()), ..Default::default() };
    ContainerStatus {
        name: container.name.clone(),
        image: container.image.clone().unwrap_or_default(),
        state: Some(ContainerState { waiting: Some(waiting), ..ContainerState::default() }),
        ..ContainerStatus::default()
    }
}
