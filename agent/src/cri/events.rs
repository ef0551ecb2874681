//! What happens to sandboxes and containers, as it happens.

use super::book::{Container, Sandbox};
use super::{Cri, state, v1};
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;
use v1::{ContainerEventType, ContainerState};

/// As many as a slow listener may be behind.
const KEPT: usize = 1024;

/// Where events go to.
#[derive(Debug, Clone)]
pub(super) struct Events(broadcast::Sender<Arc<v1::ContainerEventResponse>>);

impl Default for Events {
    fn default() -> Self {
        Self(broadcast::Sender::new(KEPT))
    }
}

impl Events {
    /// Every event from now on.
    pub(super) fn subscribe(&self) -> broadcast::Receiver<Arc<v1::ContainerEventResponse>> {
        self.0.subscribe()
    }

    fn send(
        &self,
        id: &str,
        kind: ContainerEventType,
        sandbox: Option<v1::PodSandboxStatus>,
        containers: Vec<v1::ContainerStatus>,
    ) {
        let event = v1::ContainerEventResponse {
            container_id: id.to_owned(),
            container_event_type: kind.into(),
            created_at: state::nanoseconds(Timestamp::now()),
            pod_sandbox_status: sandbox,
            containers_statuses: containers,
        };
        // Nobody has to listen.
        let _ = self.0.send(Arc::new(event));
    }

    /// With the sandbox as it is now.
    fn tell(&self, cri: &Cri, sandbox: &str, id: &str, kind: ContainerEventType) {
        let Some(known) = cri.book.find_sandbox(sandbox) else { return };
        let seen = cri.seen(sandbox);
        let containers = cri.book.containers_of(sandbox);
        let statuses = containers.iter().map(|one| state::container_status(one, seen.as_ref())).collect();
        self.send(id, kind, Some(state::sandbox_status(&known, seen.as_ref())), statuses);
    }

    /// A sandbox counts as a container that is created and started.
    pub(super) fn sandbox_created(&self, cri: &Cri, id: &str) {
        self.tell(cri, id, id, ContainerEventType::ContainerCreatedEvent);
        self.tell(cri, id, id, ContainerEventType::ContainerStartedEvent);
    }

    pub(super) fn sandbox_removed(&self, sandbox: &Sandbox, containers: &[Arc<Container>]) {
        let ids = containers.iter().map(|container| &container.id).chain([&sandbox.id]);
        for id in ids {
            let status = state::sandbox_status(sandbox, None);
            self.send(id, ContainerEventType::ContainerDeletedEvent, Some(status), Vec::new());
        }
    }

    pub(super) fn container_created(&self, cri: &Cri, id: &str) {
        if let Some(container) = cri.book.find_container(id) {
            self.tell(cri, &container.sandbox, id, ContainerEventType::ContainerCreatedEvent);
        }
    }

    pub(super) fn container_removed(&self, cri: &Cri, container: &Container) {
        let kind = ContainerEventType::ContainerDeletedEvent;
        self.tell(cri, &container.sandbox, &container.id, kind);
    }
}

/// What was last seen of a sandbox or container.
type Memory = BTreeMap<String, ContainerState>;

/// Tells of what starts and ends by itself, until `stop`.
pub(super) async fn watch(cri: Cri, stop: CancellationToken) {
    let mut changes = cri.node.runtime.changes();
    let mut memory = look(&cri, &Memory::new(), true);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            changed = changes.changed() => if changed.is_err() { return },
        }
        changes.borrow_and_update();
        memory = look(&cri, &memory, false);
    }
}

/// Tells what is new since `before`, and returns what is seen now.
fn look(cri: &Cri, before: &Memory, first: bool) -> Memory {
    let observed = cri.node.runtime.observe();
    let mut now = Memory::new();
    for container in cri.book.containers() {
        let seen = state::container_state(observed.get(&container.sandbox), &container.id).state;
        now.insert(container.id.clone(), seen);
        if first {
            continue;
        }
        for kind in between(before.get(&container.id).copied(), seen) {
            cri.events.tell(cri, &container.sandbox, &container.id, kind);
        }
    }
    for sandbox in cri.book.sandboxes() {
        let ready = state::sandbox_state(observed.get(&sandbox.id)) == v1::PodSandboxState::SandboxReady;
        let seen = if ready { ContainerState::ContainerRunning } else { ContainerState::ContainerExited };
        now.insert(sandbox.id.clone(), seen);
        let was_ready = before.get(&sandbox.id) == Some(&ContainerState::ContainerRunning);
        if !first && was_ready && !ready {
            cri.events.tell(cri, &sandbox.id, &sandbox.id, ContainerEventType::ContainerStoppedEvent);
        }
    }
    now
}

/// What must have happened between two looks at a container.
fn between(before: Option<ContainerState>, now: ContainerState) -> Vec<ContainerEventType> {
    let (started, stopped) =
        (ContainerEventType::ContainerStartedEvent, ContainerEventType::ContainerStoppedEvent);
    let ran = matches!(before, Some(ContainerState::ContainerRunning));
    let ended = matches!(before, Some(ContainerState::ContainerExited));
    match now {
        ContainerState::ContainerRunning if !ran => vec![started],
        ContainerState::ContainerExited if ran => vec![stopped],
        ContainerState::ContainerExited if !ended => vec![started, stopped],
        ContainerState::ContainerRunning
        | ContainerState::ContainerExited
        | ContainerState::ContainerCreated
        | ContainerState::ContainerUnknown => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_nobody_saw_began_and_ended() {
        use ContainerEventType::{ContainerStartedEvent as Started, ContainerStoppedEvent as Stopped};
        use ContainerState::{
            ContainerCreated as Created, ContainerExited as Exited, ContainerRunning as Running,
        };
        assert_eq!(between(Some(Created), Running), [Started]);
        assert_eq!(between(Some(Created), Exited), [Started, Stopped]);
        assert_eq!(between(None, Exited), [Started, Stopped]);
        assert_eq!(between(Some(Running), Exited), [Stopped]);
        assert_eq!(between(Some(Exited), Exited), []);
        assert_eq!(between(Some(Running), Running), []);
    }
}
