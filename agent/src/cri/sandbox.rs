//! Sandboxes: run, stopped, removed, listed.

use super::book::Sandbox;
use super::{Cri, filter, pod, ports, state, v1};
use crate::chain::chain;
use crate::node::network::Maker;
use crate::node::plugins::Wishes;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use manifests::bandwidth::Bandwidth;
use netstack::Rates;
use netstack::cni::{CniPod, NetworkList};
use runtime::image::Image;
use runtime::plan::{PodInput, PodPlan, Resources, build};
use runtime::state::{PodState, Stage};
use runtime::volume;
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use tonic::Status;

/// The only runtime handler beside none.
pub(super) const HANDLER: &str = "keel";

/// A name that nothing else has: 32 hexadecimal digits.
///
/// # Errors
/// If the kernel gives no random bytes.
pub(super) fn new_id() -> Result<String, Status> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| Status::internal(format!("no random bytes: {error}")))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

pub(super) fn internal(error: &dyn std::error::Error) -> Status {
    Status::internal(chain(error))
}

/// How fast the sandbox may be, as its annotations say.
fn bandwidth(config: &v1::PodSandboxConfig) -> Result<Bandwidth, Status> {
    let annotations = config.annotations.clone().into_iter().collect();
    Bandwidth::of(&annotations).map_err(|errors| {
        let words: Vec<_> = errors.iter().map(|error| format!("{}: {}", error.key, error.message)).collect();
        Status::invalid_argument(words.join("; "))
    })
}

impl Cri {
    /// The runtime's word on the sandbox.
    pub(super) fn seen(&self, id: &str) -> Option<Arc<PodState>> {
        self.node.runtime.observe().remove(id)
    }

    /// What an agent that ended halfway through a request has left is gone.
    pub(super) async fn forget_unfinished(&self) {
        for (uid, _) in self.node.runtime.observe().into_iter().filter(|(_, state)| state.by_request) {
            if self.book.find_sandbox(&uid).is_none() {
                self.clear(&uid).await;
            }
        }
    }

    /// The ports of the node lead to the sandboxes that are ready.
    pub(super) async fn republish(&self) {
        let observed = self.node.runtime.observe();
        for sandbox in self.book.sandboxes() {
            let ready = state::sandbox_state(observed.get(&sandbox.id)) == v1::PodSandboxState::SandboxReady;
            let wanted = ports::host_ports(&sandbox.config, &sandbox.addresses);
            if ready && let Err(error) = self.node.network.publish(&sandbox.id, wanted).await {
                tracing::warn!(
                    sandbox = sandbox.id,
                    error = chain(&error),
                    "its host ports do not lead to it"
                );
            }
        }
    }

    async fn clear(&self, uid: &str) {
        let network = self.node.network.detach(uid).await.map_err(|error| chain(&error));
        let rest = self.node.runtime.remove(uid).await.map_err(|error| chain(&error));
        for error in [network.err(), rest.err()].into_iter().flatten() {
            tracing::warn!(uid, error, "an unfinished sandbox was not removed whole");
        }
    }

    pub(super) async fn run_sandbox(&self, request: v1::RunPodSandboxRequest) -> Result<String, Status> {
        let config =
            request.config.ok_or_else(|| Status::invalid_argument("the configuration is missing"))?;
        let handler = request.runtime_handler;
        if !handler.is_empty() && handler != HANDLER {
            return Err(Status::invalid_argument(format!("there is no runtime handler {handler:?}")));
        }
        let id = new_id()?;
        let pod = pod::pod(&id, &config)?;
        let made = self.make_sandbox(&id, &pod, &config).await;
        let addresses = match made {
            Ok(addresses) => addresses,
            Err(error) => {
                self.clear(&id).await;
                return Err(error);
            }
        };
        let created_at = state::nanoseconds(Timestamp::now());
        let sandbox = Sandbox { id: id.clone(), config, runtime_handler: handler, created_at, addresses };
        if let Err(error) = self.book.add_sandbox(sandbox) {
            self.clear(&id).await;
            return Err(internal(&error));
        }
        self.events.sandbox_created(self, &id);
        Ok(id)
    }

    /// The sandbox's namespaces, cgroup and network are there; returns its addresses.
    async fn make_sandbox(
        &self,
        id: &str,
        pod: &Pod,
        config: &v1::PodSandboxConfig,
    ) -> Result<Vec<String>, Status> {
        let node = &self.node;
        let maker = match pod::has_host_network(config) {
            true => None,
            false => Some(node.network.maker(id, false).await.map_err(|error| internal(&error))?),
        };
        let reserved = match &maker {
            None => node.facts.host_ips.clone(),
            Some(Maker::BuiltIn) => {
                let reserved = node.network.reserve(id).map_err(|error| internal(&error))?;
                reserved.iter().map(ToString::to_string).collect()
            }
            // They say it when they have joined it.
            Some(Maker::Plugins(_)) => Vec::new(),
        };
        let plan = self.plan(pod, config, &BTreeMap::new())?;
        self.write_files(pod, &reserved).await?;
        let created = node.metrics.operation("run_podsandbox", node.runtime.create(&plan)).await;
        let pid = created.map_err(|error| internal(&error))?.supervisor_pid;
        let addresses = match &maker {
            None => Vec::new(),
            Some(Maker::BuiltIn) => self.join(id, pid, config).await?,
            Some(Maker::Plugins(list)) => {
                let addresses = self.join_by_plugins(id, pid, (config, list)).await?;
                self.write_files(pod, &addresses).await?;
                addresses
            }
        };
        node.runtime.start(id, addresses.clone()).await.map_err(|error| internal(&error))?;
        Ok(addresses)
    }

    /// The sandbox has the built-in network; returns its addresses.
    async fn join(&self, id: &str, pid: i32, config: &v1::PodSandboxConfig) -> Result<Vec<String>, Status> {
        let network = &self.node.network;
        let attached = network.attach(id, pid).await.map_err(|error| internal(&error))?;
        let bandwidth = bandwidth(config)?;
        let rates = Rates { ingress: bandwidth.ingress, egress: bandwidth.egress };
        network.shape(id, pid, rates).await.map_err(|error| internal(&error))?;
        let addresses: Vec<_> = attached.addresses.iter().map(ToString::to_string).collect();
        let published = network.publish(id, ports::host_ports(config, &addresses)).await;
        published.map_err(|error| internal(&error))?;
        Ok(addresses)
    }

    /// The same by the plugins of a network.
    async fn join_by_plugins(
        &self,
        id: &str,
        pid: i32,
        (config, list): (&v1::PodSandboxConfig, &NetworkList),
    ) -> Result<Vec<String>, Status> {
        let annotations: BTreeMap<String, String> = config.annotations.clone().into_iter().collect();
        let wishes = Wishes {
            ports: ports::mappings(config),
            bandwidth: bandwidth(config)?,
            dns: None,
            annotations: Some(&annotations),
        };
        let metadata = config.metadata.clone().unwrap_or_default();
        let asked = CniPod {
            uid: id.to_owned(),
            namespace: metadata.namespace,
            name: metadata.name,
            pid,
            capabilities: wishes.capabilities(),
        };
        let joined = self.node.network.join(list, &asked).await.map_err(|error| internal(&error))?;
        Ok(joined.iter().map(ToString::to_string).collect())
    }

    /// The plan of the pod, made by request.
    pub(super) fn plan(
        &self,
        pod: &Pod,
        config: &v1::PodSandboxConfig,
        images: &BTreeMap<String, Image>,
    ) -> Result<PodPlan, Status> {
        let none = (BTreeMap::new(), BTreeMap::new());
        let mut node = self.node.facts.clone();
        // What pods of the store may not set is this client's to say.
        node.rules.allowed_unsafe_sysctls = ["kernel.*", "net.*", "fs.mqueue.*"].map(str::to_owned).to_vec();
        let node = &node;
        let input = PodInput { pod, config_maps: &none.0, secrets: &none.1, images, node, identity: None };
        let mut plan = build(&input).map_err(|error| Status::invalid_argument(chain(&error)))?;
        plan.by_request = true;
        if let Some((first, count)) = pod::user_ids(config) {
            (plan.security.first_id, plan.security.id_count) = (Some(first), Some(count));
        }
        // Which quality of service it is, only the client knows.
        plan.cgroup = format!("{}/pod{}", self.node.facts.cgroup_root, plan.uid);
        // Nobody knows yet what will be in it.
        plan.resources = Resources::default();
        if !config.log_directory.is_empty() {
            plan.log_dir = PathBuf::from(&config.log_directory);
        }
        Ok(plan)
    }

    async fn write_files(&self, pod: &Pod, addresses: &[String]) -> Result<(), Status> {
        let (node, pod, addresses) = (std::sync::Arc::clone(&self.node), pod.clone(), addresses.to_vec());
        let written = tokio::task::spawn_blocking(move || {
            let none = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
            let input = PodInput {
                pod: &pod,
                config_maps: &none.0,
                secrets: &none.1,
                images: &none.2,
                node: &node.facts,
                identity: None,
            };
            volume::etc::write(&input, &addresses)
        });
        let written = written.await.map_err(|error| internal(&error))?;
        written.map_err(|error| internal(&error))
    }

    /// No container of the sandbox runs any more, nor does it have a network.
    pub(super) async fn stop_sandbox(&self, id: &str) -> Result<(), Status> {
        let Some(sandbox) = self.book.find_sandbox(id) else { return Ok(()) };
        let runtime = &self.node.runtime;
        let mut changes = runtime.changes();
        // One that has ended meanwhile refuses, as well it may.
        let _ = runtime.stop(&sandbox.id, 0).await;
        loop {
            changes.borrow_and_update();
            let over = self
                .seen(&sandbox.id)
                .is_none_or(|state| matches!(state.stage, Stage::Finished | Stage::Lost));
            if over {
                break;
            }
            changes.changed().await.map_err(|error| internal(&error))?;
        }
        self.node.network.detach(&sandbox.id).await.map_err(|error| internal(&error))
    }

    /// Nothing is left of the sandbox and its containers but their logs.
    pub(super) async fn remove_sandbox(&self, id: &str) -> Result<(), Status> {
        let Some(sandbox) = self.book.find_sandbox(id) else { return Ok(()) };
        self.stop_sandbox(&sandbox.id).await?;
        let containers = self.book.containers_of(&sandbox.id);
        self.node.runtime.remove(&sandbox.id).await.map_err(|error| internal(&error))?;
        self.book.remove_sandbox(&sandbox.id);
        self.events.sandbox_removed(&sandbox, &containers);
        Ok(())
    }

    pub(super) fn sandbox_status(
        &self,
        request: &v1::PodSandboxStatusRequest,
    ) -> Result<v1::PodSandboxStatusResponse, Status> {
        let sandbox = self.book.sandbox(&request.pod_sandbox_id)?;
        let seen = self.seen(&sandbox.id);
        let containers = self.book.containers_of(&sandbox.id);
        let info = request.verbose.then(|| {
            let pid = seen.as_ref().map_or(0, |state| state.supervisor_pid);
            let text = serde_json::json!({
                "pid": pid,
                "cgroup": seen.as_ref().map(|state| state.cgroup.as_str()),
                "networkNamespace": format!("/proc/{pid}/ns/net"),
            });
            HashMap::from([("info".to_owned(), text.to_string())])
        });
        Ok(v1::PodSandboxStatusResponse {
            status: Some(state::sandbox_status(&sandbox, seen.as_ref())),
            info: info.unwrap_or_default(),
            containers_statuses: containers
                .iter()
                .map(|container| state::container_status(container, seen.as_ref()))
                .collect(),
            timestamp: state::nanoseconds(Timestamp::now()),
        })
    }

    pub(super) fn list_sandboxes(&self, wanted: Option<&v1::PodSandboxFilter>) -> Vec<v1::PodSandbox> {
        let observed = self.node.runtime.observe();
        let wanted = wanted.cloned().unwrap_or_default();
        let fits = |item: &v1::PodSandbox| {
            filter::id_fits(&item.id, &wanted.id)
                && wanted.state.as_ref().is_none_or(|state| state.state == item.state)
                && filter::labels_fit(&item.labels, &wanted.label_selector)
        };
        let all = self.book.sandboxes();
        let mut items: Vec<_> = all
            .iter()
            .map(|sandbox| state::sandbox_item(sandbox, observed.get(&sandbox.id)))
            .filter(fits)
            .collect();
        // The newest first.
        items.sort_by_key(|item| std::cmp::Reverse(item.created_at));
        items
    }
}
