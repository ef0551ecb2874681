//! The slow work on one pod: each action of the node loop as a task of its own,
//! so that no pod waits for another.

mod joining;

use super::network::{Maker, PodNetworkError};
use super::reconcile::Action;
use super::service_account::{self, Account};
use super::{Node, pod_of, pull, runtime_class};
use crate::chain::chain;
use k8s_openapi::api::core::v1::{ConfigMap, Container, Pod, Secret};
use manifests::{Kind, Object};
use runtime::image::Image;
use runtime::plan::address::fill_in;
use runtime::plan::{PlanError, PodInput, PodPlan, build};
use runtime::pods::CreateError;
use runtime::state::Stage;
use runtime::status::Problem;
use runtime::volume::{self, VolumeError};
use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;

/// A task ended.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) uid: String,
    pub(crate) failure: Option<Failure>,
}

/// An action failed; it will be tried again.
#[derive(Debug)]
pub(crate) struct Failure {
    /// What the pod's status shows meanwhile.
    pub(crate) problem: Problem,
}

/// Does `action`. Safe to repeat; what fails is noted as an event.
pub(super) async fn perform(node: &Arc<Node>, uid: String, pod: Option<Arc<Object>>, action: Action) -> Done {
    let metrics = &node.metrics;
    let result = match action {
        Action::Start => match pod.clone() {
            Some(pod) => metrics.operation("start_pod", start(node, &uid, pod)).await,
            None => Ok(()),
        },
        Action::Stop { grace_seconds } => {
            if let Some(pod) = &pod {
                node.note(&pod.key(), false, "Killing", "Stopping the pod's containers".into());
            }
            metrics
                .operation("stop_pod", node.runtime.stop(&uid, grace_seconds))
                .await
                .map_err(|e| pod_problem("FailedKillPod", &e).into())
        }
        Action::Release => metrics
            .operation("release_pod", node.network.detach(&uid))
            .await
            .map_err(|e| pod_problem("NetworkNotReady", &e).into()),
        Action::Remove => metrics.operation("remove_pod", remove(node, &uid)).await.map_err(Trouble::from),
        Action::Forget | Action::Fail | Action::WaitUntil(_) => Ok(()),
    };
    let (event, failure) = match result.err() {
        Some(Trouble { problem, event }) => (event, Some(Failure { problem })),
        None => ("Failed", None),
    };
    if let Some(failure) = &failure {
        let (reason, message) = words(&failure.problem);
        tracing::warn!(
            uid,
            pod = pod.as_ref().map(|pod| pod.key().to_string()),
            reason,
            message,
            "action failed"
        );
        if let Some(pod) = &pod {
            let message =
                if event == SANDBOX_EVENT { message.to_owned() } else { format!("{reason}: {message}") };
            node.note(&pod.key(), true, event, message);
        }
    }
    Done { uid, failure }
}

/// What a failed action leads to.
#[derive(Debug)]
struct Trouble {
    problem: Problem,
    /// What the pod's event is called.
    event: &'static str,
}

impl From<Problem> for Trouble {
    fn from(problem: Problem) -> Self {
        Self { problem, event: "Failed" }
    }
}

/// The kubelet's word for a sandbox that has no network.
const SANDBOX_EVENT: &str = "FailedCreatePodSandBox";

/// Reason and message of a problem.
pub(super) fn words(problem: &Problem) -> (&str, &str) {
    match problem {
        Problem::Failed { reason, message }
        | Problem::Pod { reason, message }
        | Problem::Container { reason, message, .. } => (reason, message),
    }
}

fn pod_problem(reason: &str, error: &dyn Error) -> Problem {
    Problem::Pod { reason: reason.to_owned(), message: chain(error) }
}

async fn remove(node: &Node, uid: &str) -> Result<(), Problem> {
    // A built-in link goes with the namespace anyway, and asking first frees the address early. What
    // plugins made does not: the pod is there until they have taken it back.
    let network = node.network.detach(uid).await;
    if let Err(error @ PodNetworkError::Plugins(_)) = &network {
        return Err(pod_problem("NetworkNotReady", error));
    }
    node.runtime.remove(uid).await.map_err(|error| pod_problem("FailedKillPod", &error))?;
    network.map_err(|error| pod_problem("NetworkNotReady", &error))
}

/// The pod's containers are told to run.
async fn start(node: &Arc<Node>, uid: &str, object: Arc<Object>) -> Result<(), Trouble> {
    let observed = node.runtime.observe().remove(uid);
    // An agent that died between making the sandbox and starting it left it `Created`.
    let made = observed.filter(|state| state.stage == Stage::Created);
    let maker = match pod_of(&object).is_some_and(|pod| !has_host_network(pod)) {
        true => Some(node.network.maker(uid, made.is_some()).await.map_err(|error| network_trouble(&error))?),
        false => None,
    };
    pull::pull_all(node, &object).await?;
    let plan = {
        let (node, object, maker) = (Arc::clone(node), Arc::clone(&object), maker.clone());
        let prepared = tokio::task::spawn_blocking(move || prepare(&node, &object, maker.as_ref())).await;
        prepared.map_err(|error| pod_problem("CreatePodSandboxError", &error))??
    };
    let supervisor_pid = match made {
        Some(state) => state.supervisor_pid,
        None => create(node, &plan).await?,
    };
    let addresses = match maker {
        Some(maker) => joining::join(node, &object, &maker, supervisor_pid).await?,
        None => Vec::new(),
    };
    let started = node.runtime.start(uid, addresses).await;
    started.map_err(|error| pod_problem("CreatePodSandboxError", &error).into())
}

async fn create(node: &Node, plan: &PodPlan) -> Result<i32, Problem> {
    let created = node.metrics.operation("run_podsandbox", node.runtime.create(plan)).await;
    created.map(|created| created.supervisor_pid).map_err(|error| {
        let of_container = |container: &str, source: &dyn Error| {
            let (name, reason) = (container.to_owned(), "CreateContainerError".to_owned());
            Problem::Container { name, reason, message: chain(source) }
        };
        if let CreateError::Seccomp { container, source } = &error {
            return of_container(container, source);
        }
        if let CreateError::AppArmor { container, source } = &error {
            return of_container(container, source);
        }
        pod_problem("CreatePodSandboxError", &error)
    })
}

fn has_host_network(pod: &Pod) -> bool {
    pod.spec.as_ref().is_some_and(|spec| spec.host_network == Some(true))
}

/// A pod waits for its node's network, as it waits for what it mounts; and for plugins, as with the
/// kubelet.
fn network_trouble(error: &PodNetworkError) -> Trouble {
    match error {
        PodNetworkError::NotReady => pod_problem("ContainerCreating", error).into(),
        PodNetworkError::Plugins(_) => {
            Trouble { problem: pod_problem("ContainerCreating", error), event: SANDBOX_EVENT }
        }
        PodNetworkError::Exhausted(_) | PodNetworkError::Attach(_) | PodNetworkError::Network(_) => {
            pod_problem("CreatePodSandboxError", error).into()
        }
    }
}

/// A pod and all that its plan is made from.
#[derive(Debug)]
pub(super) struct Inputs {
    pod: Pod,
    account: Option<Account>,
    config_maps: BTreeMap<String, ConfigMap>,
    secrets: BTreeMap<String, Secret>,
    images: BTreeMap<String, Image>,
}

impl Inputs {
    /// What the store has for `pod`; images are not looked at.
    pub(super) fn gather(node: &Node, pod: &Pod) -> Self {
        let namespace = pod.metadata.namespace.as_deref();
        let config_maps = node.store.list(Kind::ConfigMap, namespace).0;
        let config_maps = config_maps.iter().filter_map(|object| {
            let map: &ConfigMap = (&**object).try_into().ok()?;
            Some((object.name().to_owned(), map.clone()))
        });
        let secrets = node.store.list(Kind::Secret, namespace).0;
        let secrets = secrets.iter().filter_map(|object| {
            let secret: &Secret = (&**object).try_into().ok()?;
            Some((object.name().to_owned(), secret.clone()))
        });
        let account = service_account::of(node, pod);
        Self {
            pod: service_account::with_token(pod, account.as_ref()),
            account,
            config_maps: config_maps.collect(),
            secrets: secrets.collect(),
            images: BTreeMap::new(),
        }
    }

    /// The images of `pod` are known, and unpacked. Blocking.
    pub(super) fn resolve_images(&mut self, node: &Node, pod: &Pod) -> Result<(), Problem> {
        for wanted in pull::wanted(pod) {
            let image = node.images.store().resolve(wanted.reference, wanted.policy);
            let image = image.map_err(|error| wanted.problem(&error))?;
            self.images.insert(wanted.key(), image);
        }
        Ok(())
    }

    /// The pod, with what it did not write itself.
    pub(super) const fn pod(&self) -> &Pod {
        &self.pod
    }

    pub(super) fn input<'a>(&'a self, node: &'a Node) -> PodInput<'a> {
        PodInput {
            pod: &self.pod,
            config_maps: &self.config_maps,
            secrets: &self.secrets,
            images: &self.images,
            node: &node.facts,
            identity: self.account.as_ref().map(|account| account.identity(&node.tokens)),
        }
    }
}

/// Images unpacked, volumes made, everything resolved. Blocking.
fn prepare(node: &Node, object: &Object, maker: Option<&Maker>) -> Result<PodPlan, Trouble> {
    let pod: &Pod =
        object.try_into().map_err(|error: manifests::object::WrongKind| pod_problem("InvalidPod", &error))?;
    let mut inputs = Inputs::gather(node, pod);
    inputs.resolve_images(node, pod)?;
    let input = inputs.input(node);
    let mut plan = build(&input).map_err(|error| plan_problem(&error))?;
    runtime_class::choose(node, pod, &mut plan)?;
    volume::prepare(&input).map_err(|error| volume_problem(&error))?;
    // Reserved before there is a network to join: the supervisor brings its containers
    // up to their start while the network is made, so their files must be there already.
    let addresses = match maker {
        None => Some(node.facts.host_ips.clone()),
        Some(Maker::BuiltIn) => {
            let reserved = node.network.reserve(object.uid());
            let reserved = reserved.map_err(|error| network_trouble(&error))?;
            Some(reserved.iter().map(ToString::to_string).collect())
        }
        // They say it when they have joined the pod: the supervisor fills it in.
        Some(Maker::Plugins(_)) => None,
    };
    for container in plan.init_containers.iter_mut().chain(&mut plan.containers) {
        if let Some(addresses) = &addresses {
            fill_in(&mut container.spec, addresses);
        }
    }
    let addresses = addresses.unwrap_or_default();
    // Where names are asked for is known with the network, not before.
    let facts = node.facts_now();
    let input = PodInput { node: &facts, ..input };
    volume::etc::write(&input, &addresses).map_err(|error| volume_problem(&error))?;
    Ok(plan)
}

pub(super) fn containers(pod: &Pod) -> impl Iterator<Item = &Container> {
    let spec = pod.spec.iter();
    spec.flat_map(|spec| spec.init_containers.iter().flatten().chain(&spec.containers))
}

fn volume_problem(error: &VolumeError) -> Problem {
    // The kubelet leaves such a pod in ContainerCreating, and tells why in an event.
    pod_problem("ContainerCreating", error)
}

pub(super) fn plan_problem(error: &PlanError) -> Problem {
    let (reason, message) = (error.reason().to_owned(), error.to_string());
    match &error.container {
        Some(name) => Problem::Container { name: name.clone(), reason, message },
        None => Problem::Pod { reason, message },
    }
}
