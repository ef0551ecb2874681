//! `status.phase`.

use super::container::is_sidecar;
use crate::state::{PodState, Stage};
use k8s_openapi::api::core::v1::{ContainerStatus, PodSpec};

/// True once no container of the pod will ever start again.
pub(super) fn is_terminal(state: Option<&PodState>) -> bool {
    state.is_some_and(|state| state.stage == Stage::Finished)
}

/// True while the pod has namespaces and, where it needs one, an address.
pub(super) fn has_sandbox(state: Option<&PodState>) -> bool {
    state.is_some_and(|state| matches!(state.stage, Stage::Started | Stage::Stopping))
}

/// What one container does for the phase.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Run {
    /// Never ran.
    Waiting,
    Running,
    /// Ended, and may be about to run again.
    Stopped {
        well: bool,
    },
}

fn run(status: &ContainerStatus) -> Run {
    let state = status.state.as_ref();
    if state.is_some_and(|state| state.running.is_some()) {
        return Run::Running;
    }
    let last = status.last_state.as_ref().and_then(|last| last.terminated.as_ref());
    match (state.and_then(|state| state.terminated.as_ref()), last) {
        (Some(ended), _) => Run::Stopped { well: ended.exit_code == 0 },
        // Only a container that has stopped for good counts as done well.
        (None, Some(_)) => Run::Stopped { well: false },
        (None, None) => Run::Waiting,
    }
}

/// Whether an init container still has to run. One that serves the others lets on when it
/// has started once.
fn init_is_pending(spec: &PodSpec, status: &ContainerStatus) -> bool {
    if serves(spec, status) {
        return status.started != Some(true) && status.restart_count == 0;
    }
    matches!(run(status), Run::Waiting | Run::Running)
}

fn serves(spec: &PodSpec, status: &ContainerStatus) -> bool {
    spec.init_containers.iter().flatten().any(|one| one.name == status.name && is_sidecar(one))
}

fn init_has_failed(status: &ContainerStatus) -> bool {
    let ended = status.state.as_ref().and_then(|state| state.terminated.as_ref());
    let last = status.last_state.as_ref().and_then(|last| last.terminated.as_ref());
    let running = status.state.as_ref().is_some_and(|state| state.running.is_some());
    !running && ended.or(last).is_some_and(|ended| ended.exit_code != 0)
}

/// The phase by the kubelet's rules. `terminal`: nothing will start again.
pub(super) fn phase(
    spec: &PodSpec,
    init: &[ContainerStatus],
    main: &[ContainerStatus],
    terminal: bool,
) -> &'static str {
    let policy = spec.restart_policy.as_deref().unwrap_or("Always");
    let init_failed = init.iter().any(|one| !serves(spec, one) && init_has_failed(one));
    let pending = |one: &ContainerStatus| init_is_pending(spec, one);
    if init_failed && (policy == "Never" || terminal) {
        return "Failed";
    }
    let runs: Vec<Run> = main.iter().map(run).collect();
    let stopped = runs.iter().filter(|run| matches!(run, Run::Stopped { .. })).count();
    let well = runs.iter().filter(|run| matches!(run, Run::Stopped { well: true })).count();
    if terminal && (stopped < runs.len() || init.iter().any(|one| !serves(spec, one) && pending(one))) {
        // Ended before everything had its turn.
        return "Failed";
    }
    if init.iter().any(pending) || runs.contains(&Run::Waiting) || runs.is_empty() {
        return "Pending";
    }
    if runs.contains(&Run::Running) {
        return "Running";
    }
    match (terminal, policy) {
        (false, "Always") => "Running",
        _ if stopped == well => "Succeeded",
        (true, _) | (_, "Never") => "Failed",
        _ => "Running",
    }
}
