//! What there is to report of a container, by its state.

use super::Outcome;
use super::habits::START_LIMIT;
use crate::state::{ContainerState, ContainerStatus, Termination};
use jiff::Timestamp;

/// What there is to report of a container that has not run yet.
pub(super) fn fresh(plan: &crate::plan::ContainerPlan, reason: &str) -> ContainerStatus {
    ContainerStatus {
        name: plan.name.clone(),
        image: plan.image.clone(),
        image_id: plan.image_id.clone(),
        container_id: String::new(),
        state: waiting(reason),
        last: None,
        restarts: 0,
        started: false,
        ready: false,
        status_text: String::new(),
    }
}

pub(super) const BACKOFF: &str = "CrashLoopBackOff";

pub(super) fn waiting(reason: &str) -> ContainerState {
    ContainerState::Waiting { reason: reason.to_owned(), message: String::new(), retry_at: None }
}

pub(super) fn waiting_for(reason: &str, message: String) -> ContainerState {
    ContainerState::Waiting { reason: reason.to_owned(), message, retry_at: None }
}

pub(super) fn waits_for_retry(state: &ContainerState) -> bool {
    matches!(state, ContainerState::Waiting { reason, .. } if [BACKOFF, START_LIMIT].contains(&reason.as_str()))
}

pub(super) fn ended(state: &ContainerState) -> Option<&Termination> {
    match state {
        ContainerState::Terminated(termination) => Some(termination),
        ContainerState::Waiting { .. } | ContainerState::Running { .. } => None,
    }
}

pub(super) fn succeeded(state: &ContainerState) -> bool {
    ended(state).is_some_and(|termination| termination.exit_code == 0)
}

pub(super) fn reason(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome { failure: Some(reason), .. } => reason,
        Outcome { oom: true, exit_code, .. } if *exit_code != 0 => "OOMKilled",
        Outcome { exit_code: 0, .. } => "Completed",
        Outcome { .. } => "Error",
    }
}

/// Goes on from what was reported before: counts always, results where they are final.
pub(super) fn resume(
    container: &mut ContainerStatus,
    before: &[ContainerStatus],
    final_results: bool,
    now: Timestamp,
) {
    let Some(before) = before.iter().find(|before| before.name == container.name) else { return };
    container.restarts = before.restarts;
    container.container_id.clone_from(&before.container_id);
    container.last.clone_from(&before.last);
    match &before.state {
        ContainerState::Terminated(termination) if final_results => {
            container.state = ContainerState::Terminated(termination.clone());
        }
        ContainerState::Terminated(termination) => container.last = Some(termination.clone()),
        ContainerState::Running { started_at, .. } => {
            container.last = Some(Termination {
                exit_code: 255,
                signal: None,
                reason: "Unknown".to_owned(),
                message: "the supervisor ended before the container did".to_owned(),
                started_at: *started_at,
                finished_at: now,
                container_id: before.container_id.clone(),
            });
        }
        ContainerState::Waiting { .. } => {}
    }
}
