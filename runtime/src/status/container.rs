//! `status.containerStatuses` and `status.initContainerStatuses`.

use super::Problem;
use crate::state::{self, PodState, Stage, Termination};
use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting,
    ContainerStatus, PodSpec, PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// Which containers of a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Group {
    Init,
    Main,
    Ephemeral,
}

/// The statuses of one group, in the specification's order.
pub(super) fn statuses(
    group: Group,
    spec: &PodSpec,
    state: Option<&PodState>,
    problem: Option<&Problem>,
    before: &PodStatus,
) -> Vec<ContainerStatus> {
    let (containers, reported, old) = match group {
        Group::Init => (
            spec.init_containers.as_deref().unwrap_or_default(),
            state.map(|state| &state.init_containers),
            before.init_container_statuses.as_deref().unwrap_or_default(),
        ),
        Group::Main => (
            spec.containers.as_slice(),
            state.map(|state| &state.containers),
            before.container_statuses.as_deref().unwrap_or_default(),
        ),
        // Theirs have rules of their own.
        Group::Ephemeral => return Vec::new(),
    };
    let waits = state.is_some_and(|state| matches!(state.stage, Stage::Created | Stage::Lost));
    let is_held_up = waits && matches!(problem, Some(Problem::Pod { .. }));
    let has_init = spec.init_containers.as_ref().is_some_and(|init| !init.is_empty());
    let one = |container: &Container| {
        let reported = reported.and_then(|all| all.iter().find(|status| status.name == container.name));
        let old = old.iter().find(|status| status.name == container.name);
        match (reported, old) {
            // What its last supervisor said is over, or nothing yet, and something is in the way.
            (Some(_), _) if is_held_up => not_started(container, has_init, problem, old),
            (Some(reported), _) => {
                from_report(reported, group, group == Group::Init && is_sidecar(container), problem)
            }
            // The supervisor is gone, and the container's last word stands.
            (None, Some(old)) if is_final(old, before) => old.clone(),
            (None, old) => not_started(container, has_init, problem, old),
        }
    };
    containers.iter().map(one).collect()
}

/// True for an init container that goes on running beside the others.
pub(super) fn is_sidecar(init: &Container) -> bool {
    init.restart_policy.as_deref() == Some("Always")
}

fn is_final(old: &ContainerStatus, before: &PodStatus) -> bool {
    let ended = matches!(before.phase.as_deref(), Some("Succeeded" | "Failed"));
    ended && old.state.as_ref().is_some_and(|state| state.running.is_none())
}

/// The status of a container that no supervisor has; its restarts are not forgotten.
fn not_started(
    container: &Container,
    has_init: bool,
    problem: Option<&Problem>,
    old: Option<&ContainerStatus>,
) -> ContainerStatus {
    let usual = if has_init { "PodInitializing" } else { "ContainerCreating" };
    let (reason, message) = match problem {
        Some(Problem::Container { name, reason, message }) if *name == container.name => {
            (reason.clone(), Some(message.clone()))
        }
        Some(Problem::Pod { reason, message }) => (reason.clone(), Some(message.clone())),
        _ => (usual.to_owned(), None),
    };
    ContainerStatus {
        name: container.name.clone(),
        image: container.image.clone().unwrap_or_default(),
        started: Some(false),
        restart_count: old.map_or(0, |old| old.restart_count),
        last_state: old.and_then(|old| old.last_state.clone()),
        state: Some(ContainerState {
            waiting: Some(ContainerStateWaiting { reason: Some(reason), message }),
            ..ContainerState::default()
        }),
        ..ContainerStatus::default()
    }
}

pub(super) fn from_report(
    reported: &state::ContainerStatus,
    group: Group,
    sidecar: bool,
    problem: Option<&Problem>,
) -> ContainerStatus {
    let mut now = ContainerState::default();
    let (mut ready, mut started) = (false, false);
    match &reported.state {
        state::ContainerState::Waiting { reason, message, retry_at: _ } => {
            now.waiting = Some(waiting(reported, reason, message, problem));
        }
        state::ContainerState::Running { pid: _, started_at } => {
            now.running = Some(ContainerStateRunning { started_at: Some(Time(*started_at)) });
            started = reported.started;
            ready = reported.ready && (group == Group::Main || sidecar);
        }
        state::ContainerState::Terminated(ended) => {
            now.terminated = Some(terminated(ended));
            ready = group == Group::Init && !sidecar && ended.exit_code == 0;
        }
    }
    ContainerStatus {
        name: reported.name.clone(),
        image: reported.image.clone(),
        image_id: reported.image_id.clone(),
        container_id: container_id(&reported.container_id),
        state: Some(now),
        last_state: reported
            .last
            .as_ref()
            .map(|last| ContainerState { terminated: Some(terminated(last)), ..ContainerState::default() }),
        ready,
        started: Some(started),
        restart_count: i32::try_from(reported.restarts).unwrap_or(i32::MAX),
        ..ContainerStatus::default()
    }
}

/// A problem that the agent knows says more than that the container waits.
fn waiting(
    reported: &state::ContainerStatus,
    reason: &str,
    message: &str,
    problem: Option<&Problem>,
) -> ContainerStateWaiting {
    let (reason, message) = match problem {
        Some(Problem::Container { name, reason, message }) if *name == reported.name => {
            (reason.as_str(), message.as_str())
        }
        _ => (reason, message),
    };
    ContainerStateWaiting {
        reason: Some(reason.to_owned()),
        message: (!message.is_empty()).then(|| message.to_owned()),
    }
}

fn terminated(ended: &Termination) -> ContainerStateTerminated {
    ContainerStateTerminated {
        container_id: container_id(&ended.container_id),
        exit_code: ended.exit_code,
        signal: ended.signal,
        reason: Some(ended.reason.clone()),
        message: (!ended.message.is_empty()).then(|| ended.message.clone()),
        started_at: Some(Time(ended.started_at)),
        finished_at: Some(Time(ended.finished_at)),
    }
}

fn container_id(id: &str) -> Option<String> {
    (!id.is_empty()).then(|| format!("keel://{id}"))
}
