//! Containers that are added to pods while they run, to look into them.
//!
//! Each is begun once. What keeps one from beginning is written to its status, and it is tried
//! again, by the kubelet's back-off.

use super::work::{Inputs, plan_problem, words};
use super::{Node, pod_of, pull, runtime_class};
use crate::chain::chain;
use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateWaiting, ContainerStatus, EphemeralContainer, Pod,
};
use manifests::{Object, ObjectKey};
use reconciler::store::Write;
use runtime::plan::address::fill_in;
use runtime::plan::{ContainerPlan, build};
use runtime::pods::AddError;
use runtime::state::{self, PodState, Stage};
use runtime::status::Problem;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

const FIRST_WAIT: Duration = Duration::from_secs(10);
const LONGEST_WAIT: Duration = Duration::from_secs(300);
/// When nothing waits to be tried again.
const IDLE: Duration = Duration::from_secs(3600);

/// The pod's uid, and the container's name.
type Id = (String, String);

/// How far a container is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    Working { failures: u32 },
    Begun,
    RetryAt { at: Instant, failures: u32 },
}

/// A task ended.
struct Done {
    id: Id,
    well: bool,
}

/// Watches pods until `stop`.
///
/// # Errors
/// If the store or the runtime ended under it.
pub(crate) async fn run(node: Arc<Node>, stop: CancellationToken) -> anyhow::Result<()> {
    let mut all = BTreeMap::new();
    let mut work: JoinSet<Done> = JoinSet::new();
    let (mut stored, mut supervised) = (node.store.changes(), node.runtime.changes());
    loop {
        stored.borrow_and_update();
        supervised.borrow_and_update();
        look(&node, &mut all, &mut work);
        let wake = all.values().filter_map(retry_at).min().unwrap_or_else(|| Instant::now() + IDLE);
        tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(()),
            changed = stored.changed() => changed?,
            changed = supervised.changed() => changed?,
            Some(done) = work.join_next() => finish(&mut all, &done?),
            () = sleep_until(wake) => {}
        }
    }
}

fn retry_at(progress: &Progress) -> Option<Instant> {
    match progress {
        Progress::RetryAt { at, .. } => Some(*at),
        Progress::Working { .. } | Progress::Begun => None,
    }
}

/// Begins what is due, and forgets what is wanted no more.
fn look(node: &Arc<Node>, all: &mut BTreeMap<Id, Progress>, work: &mut JoinSet<Done>) {
    let mut asked = node.pods();
    asked.retain(|object| pod_of(object).is_some_and(|pod| added(pod).next().is_some()));
    let is_asked = |(uid, name): &Id| {
        let pod = asked.iter().find(|object| object.uid() == uid).and_then(|object| pod_of(object));
        pod.is_some_and(|pod| added(pod).any(|container| container.name == *name))
    };
    all.retain(|id, _| is_asked(id));
    if asked.is_empty() {
        return;
    }
    let (observed, now) = (node.runtime.observe(), Instant::now());
    for object in &asked {
        let (Some(pod), Some(state)) = (pod_of(object), observed.get(object.uid())) else { continue };
        for container in added(pod).filter(|container| is_to_begin(pod, state, &container.name)) {
            let id = (object.uid().to_owned(), container.name.clone());
            let failures = match all.get(&id) {
                None => 0,
                Some(Progress::RetryAt { at, failures }) if *at <= now => *failures,
                Some(_) => continue,
            };
            all.insert(id.clone(), Progress::Working { failures });
            let (node, object, state) = (Arc::clone(node), Arc::clone(object), state.clone());
            let container = container.clone();
            work.spawn(async move { Done { well: perform(&node, &object, &container, &state).await, id } });
        }
    }
}

fn finish(all: &mut BTreeMap<Id, Progress>, done: &Done) {
    let Some(progress) = all.get_mut(&done.id) else { return };
    let failures = match progress {
        Progress::Working { failures } | Progress::RetryAt { failures, .. } => *failures,
        Progress::Begun => 0,
    };
    let wait = (FIRST_WAIT * (1 << failures.min(5))).min(LONGEST_WAIT);
    *progress = match done.well {
        true => Progress::Begun,
        false => Progress::RetryAt { at: Instant::now() + wait, failures: failures + 1 },
    };
}

fn added(pod: &Pod) -> impl Iterator<Item = &EphemeralContainer> {
    pod.spec.iter().flat_map(|spec| spec.ephemeral_containers.iter().flatten())
}

/// True for a container that has not run in this pod, under this supervisor or one before.
fn is_to_begin(pod: &Pod, state: &PodState, name: &str) -> bool {
    if state.stage != Stage::Started || pod.metadata.deletion_timestamp.is_some() {
        return false;
    }
    if let Some(known) = state.containers.iter().find(|container| container.name == name) {
        // An agent that ended between the two words has only added it.
        let waits = matches!(known.state, state::ContainerState::Waiting { .. });
        return waits && known.container_id.is_empty();
    }
    let statuses = pod.status.iter().flat_map(|status| status.ephemeral_container_statuses.iter().flatten());
    let ran = |state: &ContainerState| state.running.is_some() || state.terminated.is_some();
    !statuses.filter(|status| status.name == name).any(|status| status.state.as_ref().is_some_and(ran))
}

/// The container is told to run; true if it was.
async fn perform(node: &Arc<Node>, object: &Object, wanted: &EphemeralContainer, state: &PodState) -> bool {
    match begin(node, object, wanted, state).await {
        Ok(()) => true,
        Err(problem) => {
            let (reason, message) = words(&problem);
            tracing::warn!(pod = %object.key(), container = wanted.name, reason, message, "container was not added");
            node.note(&object.key(), true, "Failed", format!("{reason}: {message}"));
            tell(node, &object.key(), wanted, (reason, message)).await;
            false
        }
    }
}

async fn begin(
    node: &Arc<Node>,
    object: &Object,
    wanted: &EphemeralContainer,
    state: &PodState,
) -> Result<(), Problem> {
    let alone = alone(object, wanted)?;
    pull::pull_all(node, &alone).await?;
    let (planner, addresses) = (Arc::clone(node), state.addresses.clone());
    let target = wanted.target_container_name.clone().filter(|name| !name.is_empty());
    let planned = tokio::task::spawn_blocking(move || {
        let mut container = plan(&planner, &alone)?;
        fill_in(&mut container.spec, &addresses);
        Ok(container)
    });
    let failed = |message: String| Problem::Container {
        name: wanted.name.clone(),
        reason: "CreateContainerError".to_owned(),
        message,
    };
    let planned = planned.await.map_err(|error| failed(error.to_string()))??;
    let container = ContainerPlan { ephemeral: true, processes_of: target, ..planned };
    let added = node.runtime.add_container(&state.uid, &container).await;
    added.map_err(|error: AddError| failed(chain(&error)))?;
    let started = node.runtime.start_container(&state.uid, &container.name).await;
    started.map_err(|error| failed(chain(&error)))
}

/// The pod as if the container were its only one.
fn alone(object: &Object, wanted: &EphemeralContainer) -> Result<Object, Problem> {
    let invalid = |error: serde_json::Error| Problem::Pod {
        reason: "CreateContainerConfigError".to_owned(),
        message: error.to_string(),
    };
    let container = serde_json::to_value(wanted).map_err(invalid)?;
    let container: Container = serde_json::from_value(container).map_err(invalid)?;
    let mut pod = pod_of(object).cloned().unwrap_or_default();
    if let Some(spec) = &mut pod.spec {
        (spec.init_containers, spec.ephemeral_containers) = (None, None);
        spec.containers = vec![container];
    }
    let mut alone = Object::from(pod);
    manifests::defaults::apply(&mut alone);
    Ok(alone)
}

/// The plan of the only container. Blocking.
fn plan(node: &Node, alone: &Object) -> Result<ContainerPlan, Problem> {
    let pod = pod_of(alone).cloned().unwrap_or_default();
    let mut inputs = Inputs::gather(node, &pod);
    inputs.resolve_images(node, &pod)?;
    let mut plan = build(&inputs.input(node)).map_err(|error| plan_problem(&error))?;
    runtime_class::choose(node, &pod, &mut plan)?;
    let unsupported = |message: &str| Problem::Pod {
        reason: "CreateContainerError".to_owned(),
        message: message.to_owned(),
    };
    if plan.security.handler.is_some() {
        return Err(unsupported("no container can be added to a pod of another OCI runtime"));
    }
    plan.containers.pop().ok_or_else(|| unsupported("the plan has no container"))
}

/// The container's status says what it waits for. Whoever changes the pod meanwhile is faster: it
/// is told with the next try.
async fn tell(node: &Node, key: &ObjectKey, wanted: &EphemeralContainer, (reason, message): (&str, &str)) {
    let Some(object) = node.store.get(key) else { return };
    let Some(mut pod) = pod_of(&object).cloned() else { return };
    let waiting =
        ContainerStateWaiting { reason: Some(reason.to_owned()), message: Some(message.to_owned()) };
    let told = ContainerStatus {
        name: wanted.name.clone(),
        image: wanted.image.clone().unwrap_or_default(),
        state: Some(ContainerState { waiting: Some(waiting), ..ContainerState::default() }),
        ..ContainerStatus::default()
    };
    let status = pod.status.get_or_insert_default();
    let statuses = status.ephemeral_container_statuses.get_or_insert_default();
    match statuses.iter_mut().find(|status| status.name == wanted.name) {
        Some(status) => *status = told,
        None => statuses.push(told),
    }
    if let Err(error) = node.store.write(vec![Write::UpdateStatus(Object::from(pod))]).await {
        tracing::debug!(pod = %key, error = &error as &dyn std::error::Error, "the status was not stored");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;
    use serde_json::json;

    fn pod(status: serde_json::Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"uid": "u"}, "spec": {"containers": [{"name": "a"}],
            "ephemeralContainers": [{"name": "d"}]}, "status": {"ephemeralContainerStatuses": [status]}}))
        .expect("a pod")
    }

    fn state(stage: Stage) -> PodState {
        PodState {
            uid: "u".into(),
            namespace: "default".into(),
            name: "p".into(),
            supervisor_pid: 1,
            cgroup: String::new(),
            stage,
            created_at: Timestamp::UNIX_EPOCH,
            addresses: Vec::new(),
            init_containers: Vec::new(),
            containers: Vec::new(),
            limits: BTreeMap::new(),
            notices: Vec::new(),
            by_request: false,
        }
    }

    #[test]
    fn a_container_begins_once_and_only_in_a_pod_that_runs() {
        let named = |state: serde_json::Value| json!({"name": "d", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state});
        let begins = |status: serde_json::Value, stage| is_to_begin(&pod(named(status)), &state(stage), "d");
        assert!(begins(json!({"waiting": {"reason": "ErrImagePull"}}), Stage::Started));
        assert!(!begins(json!({"waiting": {}}), Stage::Created));
        assert!(!begins(json!({"terminated": {"exitCode": 0}}), Stage::Started));
        assert!(!begins(json!({"running": {}}), Stage::Started));
    }

    #[test]
    fn what_failed_is_tried_again_later_and_later() {
        let id: Id = ("u".into(), "d".into());
        let mut all = BTreeMap::from([(id.clone(), Progress::Working { failures: 3 })]);
        finish(&mut all, &Done { id: id.clone(), well: false });
        assert!(matches!(all[&id], Progress::RetryAt { failures: 4, .. }), "{all:?}");
        all.insert(id.clone(), Progress::Working { failures: 4 });
        finish(&mut all, &Done { id: id.clone(), well: true });
        assert_eq!(all[&id], Progress::Begun);
    }
}
