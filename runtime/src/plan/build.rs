//! From a Pod and everything that it refers to, to its plan. Pure: the folders
//! and files that the plan names are made by [`crate::volume`].

use super::error::{Cause, PlanError};
use super::{
    ContainerPlan, ExitRule, LogPlace, PodPlan, RestartPolicy, Rootfs, action, file_variable, habits,
    image_volume, memory, mounts, process, resource, security,
};
use crate::image::Image;
use crate::status::qos_class;
use crate::token::Identity;
use k8s_openapi::api::core::v1::{ConfigMap, Container, Pod, PodSpec, Secret};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// A pod and what it refers to.
#[derive(Debug, Clone, Copy)]
pub struct PodInput<'a> {
    /// The pod, with its `metadata.uid`.
    pub pod: &'a Pod,
    /// By name, of the pod's namespace.
    pub config_maps: &'a BTreeMap<String, ConfigMap>,
    /// By name, of the pod's namespace.
    pub secrets: &'a BTreeMap<String, Secret>,
    /// By the container's name, init containers too; those of volumes by their [`super::image_key`].
    pub images: &'a BTreeMap<String, Image>,
    /// The node that runs it.
    pub node: &'a NodeFacts,
    /// For service account tokens; without it there are none.
    pub identity: Option<Identity<'a>>,
}

/// What a plan needs to know of its node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeFacts {
    /// The Node object's name.
    pub node_name: String,
    /// The node's addresses, the first one first.
    pub host_ips: Vec<String>,
    /// The agent's state directory.
    pub state_dir: PathBuf,
    /// Where pods' log folders are.
    pub log_dir: PathBuf,
    /// How much of a container's log is kept.
    pub log_limits: super::LogLimits,
    /// The cgroup over all pods, from the hierarchy's root.
    pub cgroup_root: String,
    /// What a container on the host's root must not see: the agent's own folders.
    pub hidden: Vec<PathBuf>,
    /// What pods may use in all, in thousandths of a core.
    pub cpu_millis: u64,
    /// What pods may use in all, in bytes.
    pub memory_bytes: u64,
    /// What pods may use in all of the disk, in bytes.
    pub storage_bytes: u64,
    /// Most processes and threads of one container; no limit if `None`.
    pub default_pids: Option<u64>,
    /// What the node's configuration says of pods' rights.
    pub rules: super::NodeRules,
    /// The node's own name server; without it, pods ask the host's.
    pub dns: Option<ClusterDns>,
}

/// A name server that knows the cluster's names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterDns {
    /// Its addresses; none while they are not known, and pods ask the host's then.
    pub servers: Vec<String>,
    /// The domain of the cluster's names.
    pub domain: String,
}

/// The domain of everything in the cluster, if nothing is said.
const CLUSTER_DOMAIN: &str = "cluster.local";
/// The longest name that the kernel takes for a host.
const HOSTNAME_BYTES: usize = 64;

impl PodInput<'_> {
    pub(crate) const fn spec(&self) -> Option<&PodSpec> {
        self.pod.spec.as_ref()
    }

    pub(crate) fn uid(&self) -> &str {
        self.pod.metadata.uid.as_deref().unwrap_or_default()
    }

    pub(crate) fn namespace(&self) -> &str {
        self.pod.metadata.namespace.as_deref().unwrap_or("default")
    }

    pub(crate) fn name(&self) -> &str {
        self.pod.metadata.name.as_deref().unwrap_or_default()
    }

    /// `<stateDir>/pods/<uid>`.
    #[must_use]
    pub fn pod_dir(&self) -> PathBuf {
        self.node.state_dir.join("pods").join(self.uid())
    }

    /// The container or init container of this name.
    pub(crate) fn container(&self, name: &str) -> Option<&Container> {
        let spec = self.spec()?;
        spec.containers.iter().chain(spec.init_containers.iter().flatten()).find(|c| c.name == name)
    }

    pub(crate) fn is_init(&self, container: &Container) -> bool {
        let init = self.spec().and_then(|spec| spec.init_containers.as_ref());
        init.is_some_and(|init| init.iter().any(|one| one.name == container.name))
    }

    /// True for an init container that goes on running beside the others.
    pub(crate) fn is_sidecar(&self, container: &Container) -> bool {
        self.is_init(container) && container.restart_policy.as_deref() == Some("Always")
    }

    pub(crate) fn key_not_found(&self, kind: &'static str, name: &str, key: &str) -> Cause {
        Cause::KeyNotFound {
            kind,
            namespace: self.namespace().to_owned(),
            name: name.to_owned(),
            key: key.to_owned(),
        }
    }

    /// The name of the host in the kernel's words: with `setHostnameAsFQDN`, the whole one.
    pub(crate) fn kernel_hostname(&self) -> Result<String, Cause> {
        let whole = self.spec().and_then(|spec| spec.set_hostname_as_fqdn) == Some(true);
        match self.domain().filter(|_| whole) {
            Some(domain) => {
                let name = format!("{}.{domain}", self.hostname());
                if name.len() <= HOSTNAME_BYTES { Ok(name) } else { Err(Cause::LongHostname { name }) }
            }
            None => Ok(self.hostname()),
        }
    }

    /// The domain that the pod's `subdomain` puts it in.
    pub(crate) fn domain(&self) -> Option<String> {
        let subdomain = self.spec()?.subdomain.as_deref().filter(|subdomain| !subdomain.is_empty())?;
        let cluster = self.node.dns.as_ref().map_or(CLUSTER_DOMAIN, |dns| &dns.domain);
        Some(format!("{subdomain}.{}.svc.{cluster}", self.namespace()))
    }

    /// What `hostname` prints in the pod: at most 63 bytes, as the kubelet cuts it.
    pub(crate) fn hostname(&self) -> String {
        let spec = self.spec();
        let set = |name: &Option<String>| name.clone().filter(|name| !name.is_empty());
        if let Some(name) = spec.and_then(|spec| set(&spec.hostname_override)) {
            return name;
        }
        if spec.and_then(|spec| spec.host_network) == Some(true) {
            return self.node.node_name.clone();
        }
        let name = spec.and_then(|spec| set(&spec.hostname)).unwrap_or_else(|| self.name().to_owned());
        let cut: String = name.chars().take(63).collect();
        cut.trim_end_matches(['-', '.']).to_owned()
    }
}

/// The plan of a pod.
///
/// # Errors
/// The first container, in order, that cannot be planned, with the reason and
/// message that its status then shows.
pub fn build(input: &PodInput<'_>) -> Result<PodPlan, PlanError> {
    let spec = input.spec().cloned().unwrap_or_default();
    refuse_unsupported(&spec)?;
    let init = spec.init_containers.as_deref().unwrap_or_default();
    let all =
        |list: &[Container]| list.iter().map(|one| container(one, input)).collect::<Result<Vec<_>, _>>();
    let log_name = format!("{}_{}_{}", input.namespace(), input.name(), input.uid());
    let whole = |seconds: i64| u32::try_from(seconds.max(0)).unwrap_or(u32::MAX);
    Ok(PodPlan {
        uid: input.uid().to_owned(),
        namespace: input.namespace().to_owned(),
        name: input.name().to_owned(),
        hostname: input.kernel_hostname().map_err(Cause::in_pod)?,
        host_network: spec.host_network == Some(true),
        host_ipc: spec.host_ipc == Some(true),
        host_pid: spec.host_pid == Some(true),
        restart_policy: restart_policy(&spec),
        grace_seconds: whole(spec.termination_grace_period_seconds.unwrap_or(30)),
        active_deadline_seconds: spec.active_deadline_seconds.map(whole),
        cgroup: format!(
            "{}/pod{}",
            resource::tier(&input.node.cgroup_root, qos_class(input.pod)),
            input.uid()
        ),
        resources: resource::pod(&spec, input.node).map_err(Cause::in_pod)?,
        log_dir: input.node.log_dir.join(log_name),
        log_limits: input.node.log_limits,
        state_dir: input.pod_dir(),
        memory_volumes: memory::volumes(&spec, input).map_err(Cause::in_pod)?,
        shared_mounts: mounts::shared(input),
        image_volumes: image_volume::volumes(input).map_err(Cause::in_pod)?,
        init_containers: all(init)?,
        containers: all(&spec.containers)?,
        security: security::of_pod(&spec),
        by_request: false,
    })
}

/// Names what would otherwise be left out in silence and change what runs.
fn refuse_unsupported(spec: &PodSpec) -> Result<(), PlanError> {
    let unsupported = |feature: &str| Cause::Unsupported { feature: feature.to_owned() };
    for container in spec.containers.iter().chain(spec.init_containers.iter().flatten()) {
        if container.volume_devices.as_ref().is_some_and(|devices| !devices.is_empty()) {
            return Err(unsupported("volumeDevices").in_container(&container.name));
        }
    }
    Ok(())
}

fn restart_policy(spec: &PodSpec) -> RestartPolicy {
    spec.restart_policy.as_deref().and_then(policy).unwrap_or(RestartPolicy::Always)
}

fn policy(word: &str) -> Option<RestartPolicy> {
    match word {
        "Always" => Some(RestartPolicy::Always),
        "OnFailure" => Some(RestartPolicy::OnFailure),
        "Never" => Some(RestartPolicy::Never),
        _ => None,
    }
}

fn restart_rules(container: &Container) -> Vec<ExitRule> {
    let rules = container.restart_policy_rules.iter().flatten();
    let exits = rules.filter(|rule| rule.action == "Restart").filter_map(|rule| rule.exit_codes.as_ref());
    exits
        .map(|exits| ExitRule {
            listed: exits.operator == "In",
            codes: exits.values.clone().unwrap_or_default(),
        })
        .collect()
}

fn message_path(container: &Container) -> String {
    let own = container.termination_message_path.as_deref().filter(|path| !path.is_empty());
    own.unwrap_or("/dev/termination-log").to_owned()
}

fn container(container: &Container, input: &PodInput<'_>) -> Result<ContainerPlan, PlanError> {
    plan_container(container, input).map_err(|cause| cause.in_container(&container.name))
}

fn plan_container(container: &Container, input: &PodInput<'_>) -> Result<ContainerPlan, Cause> {
    let image = input.images.get(&container.name).ok_or(Cause::ImageNotResolved)?;
    let rootfs = match &image.rootfs {
        Rootfs::Layers(layers) => Rootfs::Layers(layers.clone()),
        Rootfs::Host { hidden } => {
            Rootfs::Host { hidden: hidden.iter().chain(&input.node.hidden).cloned().collect() }
        }
    };
    let mut spec = process::spec(container, image, input)?;
    let habits = habits::plan(container, input)?;
    habits::equip(&mut spec, &container.name, &habits, &input.pod_dir());
    Ok(ContainerPlan {
        name: container.name.clone(),
        image: container.image.clone().unwrap_or_default(),
        image_id: image.id.clone(),
        rootfs,
        spec,
        resources: resource::container(container, input.node)?,
        probes: action::probes(container, input)?,
        hooks: action::hooks(container, input)?,
        sidecar: input.is_sidecar(container),
        restart: container.restart_policy.as_deref().and_then(policy),
        restart_rules: restart_rules(container),
        stop_signal: container.lifecycle.as_ref().and_then(|hooks| hooks.stop_signal.clone()),
        message_path: message_path(container),
        message_from_log: container.termination_message_policy.as_deref() == Some("FallbackToLogsOnError"),
        stdin: container.stdin == Some(true),
        stdin_once: container.stdin_once == Some(true),
        log: LogPlace::Own,
        ties: Vec::new(),
        image_volumes: Vec::new(),
        processes_of: None,
        ephemeral: false,
        habits,
        security: security::of_container(container, input)?,
        file_variables: file_variable::of_container(container, input)?,
    })
}
