//! What the runtime shows of sandboxes and containers, in the interface's words. Pure.

use super::book::{Container, Sandbox};
use super::v1;
use jiff::Timestamp;
use runtime::state::{ContainerState, ContainerStatus, PodState, Stage};
use std::sync::Arc;

/// The code of a container whose end nobody saw.
const UNSEEN_END: i32 = 255;

/// Nanoseconds since 1970.
pub(super) fn nanoseconds(at: Timestamp) -> i64 {
    i64::try_from(at.as_nanosecond()).unwrap_or(0)
}

/// The sandbox is ready while its supervisor holds its namespaces.
pub(super) fn sandbox_state(seen: Option<&Arc<PodState>>) -> v1::PodSandboxState {
    match seen.map(|state| state.stage) {
        Some(Stage::Created | Stage::Started) => v1::PodSandboxState::SandboxReady,
        Some(Stage::Stopping | Stage::Finished | Stage::Lost) | None => v1::PodSandboxState::SandboxNotready,
    }
}

/// How far a container is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) state: v1::ContainerState,
    pub(super) pid: Option<i32>,
    pub(super) started_at: i64,
    pub(super) finished_at: i64,
    pub(super) exit_code: i32,
    pub(super) reason: String,
    pub(super) message: String,
}

impl Seen {
    fn waiting() -> Self {
        Self {
            state: v1::ContainerState::ContainerCreated,
            pid: None,
            started_at: 0,
            finished_at: 0,
            exit_code: 0,
            reason: String::new(),
            message: String::new(),
        }
    }
}

/// The runtime's word on the container of that name.
pub(super) fn status_of<'a>(pod: Option<&'a Arc<PodState>>, id: &str) -> Option<&'a ContainerStatus> {
    pod?.containers.iter().find(|container| container.name == id)
}

/// What is seen of the container in its pod.
pub(super) fn container_state(pod: Option<&Arc<PodState>>, id: &str) -> Seen {
    let over = pod.is_none_or(|pod| matches!(pod.stage, Stage::Finished | Stage::Lost));
    let Some(status) = status_of(pod, id) else { return Seen::waiting() };
    match &status.state {
        ContainerState::Waiting { .. } => Seen::waiting(),
        // Its supervisor has taken it along, and could not say so.
        ContainerState::Running { started_at, .. } if over => Seen {
            state: v1::ContainerState::ContainerExited,
            started_at: nanoseconds(*started_at),
            finished_at: nanoseconds(*started_at),
            exit_code: UNSEEN_END,
            reason: "Unknown".to_owned(),
            message: "the pod's supervisor ended before the container did".to_owned(),
            ..Seen::waiting()
        },
        ContainerState::Running { pid, started_at } => Seen {
            state: v1::ContainerState::ContainerRunning,
            pid: Some(*pid),
            started_at: nanoseconds(*started_at),
            ..Seen::waiting()
        },
        ContainerState::Terminated(end) => Seen {
            state: v1::ContainerState::ContainerExited,
            started_at: nanoseconds(end.started_at),
            finished_at: nanoseconds(end.finished_at),
            exit_code: end.exit_code,
            reason: end.reason.clone(),
            message: end.message.clone(),
            ..Seen::waiting()
        },
    }
}

/// The sandbox as lists have it.
pub(super) fn sandbox_item(sandbox: &Sandbox, seen: Option<&Arc<PodState>>) -> v1::PodSandbox {
    v1::PodSandbox {
        id: sandbox.id.clone(),
        metadata: sandbox.config.metadata.clone(),
        state: sandbox_state(seen).into(),
        created_at: sandbox.created_at,
        labels: sandbox.config.labels.clone(),
        annotations: sandbox.config.annotations.clone(),
        runtime_handler: sandbox.runtime_handler.clone(),
    }
}

/// The sandbox in full.
pub(super) fn sandbox_status(sandbox: &Sandbox, seen: Option<&Arc<PodState>>) -> v1::PodSandboxStatus {
    let mut addresses = sandbox.addresses.iter().cloned();
    let ready = sandbox_state(seen) == v1::PodSandboxState::SandboxReady;
    let network = ready.then(|| v1::PodSandboxNetworkStatus {
        ip: addresses.next().unwrap_or_default(),
        additional_ips: addresses.map(|ip| v1::PodIp { ip }).collect(),
    });
    v1::PodSandboxStatus {
        id: sandbox.id.clone(),
        metadata: sandbox.config.metadata.clone(),
        state: sandbox_state(seen).into(),
        created_at: sandbox.created_at,
        network: Some(network.unwrap_or_default()),
        linux: Some(v1::LinuxPodSandboxStatus {
            namespaces: Some(v1::Namespace { options: Some(super::pod::namespaces(&sandbox.config)) }),
        }),
        labels: sandbox.config.labels.clone(),
        annotations: sandbox.config.annotations.clone(),
        runtime_handler: sandbox.runtime_handler.clone(),
    }
}

fn image(container: &Container) -> Option<v1::ImageSpec> {
    let mut image = container.config.image.clone()?;
    if !image.user_specified_image.is_empty() {
        image.image.clone_from(&image.user_specified_image);
    }
    Some(image)
}

/// The container as lists have it.
pub(super) fn container_item(container: &Container, pod: Option<&Arc<PodState>>) -> v1::Container {
    v1::Container {
        id: container.id.clone(),
        pod_sandbox_id: container.sandbox.clone(),
        metadata: container.config.metadata.clone(),
        image: image(container),
        image_ref: container.image_ref.clone(),
        state: container_state(pod, &container.id).state.into(),
        created_at: container.created_at,
        labels: container.config.labels.clone(),
        annotations: container.config.annotations.clone(),
        image_id: container.image_id.clone(),
    }
}

/// The container in full.
pub(super) fn container_status(container: &Container, pod: Option<&Arc<PodState>>) -> v1::ContainerStatus {
    let seen = container_state(pod, &container.id);
    let linux = container.resources.clone();
    v1::ContainerStatus {
        id: container.id.clone(),
        metadata: container.config.metadata.clone(),
        state: seen.state.into(),
        created_at: container.created_at,
        started_at: seen.started_at,
        finished_at: seen.finished_at,
        exit_code: seen.exit_code,
        image: image(container),
        image_ref: container.image_ref.clone(),
        reason: seen.reason,
        message: seen.message,
        labels: container.config.labels.clone(),
        annotations: container.config.annotations.clone(),
        mounts: container.config.mounts.clone(),
        log_path: container.log_path.clone(),
        resources: linux.map(|linux| v1::ContainerResources { linux: Some(linux) }),
        image_id: container.image_id.clone(),
        user: user(seen.pid),
        stop_signal: container.config.stop_signal,
    }
}

/// As whom the container's first process runs, by the kernel's word.
fn user(pid: Option<i32>) -> Option<v1::ContainerUser> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", pid?)).ok()?;
    let numbers = |key: &str| -> Vec<i64> {
        let line = status.lines().find_map(|line| line.strip_prefix(key));
        line.into_iter().flat_map(str::split_whitespace).filter_map(|word| word.parse().ok()).collect()
    };
    let linux = v1::LinuxContainerUser {
        uid: numbers("Uid:").first().copied()?,
        gid: numbers("Gid:").first().copied()?,
        supplemental_groups: numbers("Groups:"),
    };
    Some(v1::ContainerUser { linux: Some(linux) })
}
