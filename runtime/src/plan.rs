//! Everything that a supervisor needs to run one pod, resolved: no reference to
//! a ConfigMap, Secret, image name or field is left in it.
//!
//! Written once per pod as `plan.json` in the pod's folder, mode 0600 because it
//! holds the values of secrets. The supervisor reads it and needs the agent no more.

mod action;
pub mod address;
mod apparmor;
mod args;
pub mod build;
mod capability;
mod device;
mod env;
mod error;
mod expand;
mod field;
mod file_variable;
mod habits;
mod image_volume;
mod memory;
mod mounts;
mod process;
mod quantity;
mod resize;
mod resource;
mod security;
mod sysctl;
mod user;
mod values;

pub use action::{Action, HookPlans, HttpAction, Place, ProbePlan, ProbePlans};
pub use apparmor::AppArmorProfile;
pub use build::{ClusterDns, NodeFacts, PodInput, build};
pub use device::{DeviceRule, Devices, USUAL};
pub use error::{Cause, PlanError};
pub(crate) use field::{annotations_file, field_value, labels_file, service_account};
pub use file_variable::{FileVariable, FileVariableError, FileVariables};
pub(crate) use habits::{CREDENTIALS, notify_socket};
pub use habits::{CredentialPlan, HabitPlan};
pub use image_volume::image_key;
pub use mounts::BENEATH_OPTION;
pub(crate) use mounts::{bidirectional, sub_paths};
pub use process::{STOP_SIGNAL_ANNOTATION, USER_ANNOTATION};
pub(crate) use quantity::{are_equal as quantities_are_equal, is_positive as quantity_is_positive};
pub(crate) use resize::is_due as resize_is_due;
pub use resize::{Resize, pod_limits, resizes};
pub(crate) use resource::{TIERS, resource_field};
pub use security::{ContainerSecurity, Handler, NodeRules, PodSecurity, SeccompProfile};
pub(crate) use values::{config_map_values, secret_values};

use oci_spec::runtime::Spec;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// One pod, ready to run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PodPlan {
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
    /// Host name inside the pod.
    pub hostname: String,
    /// Stay in the host's network namespace.
    pub host_network: bool,
    /// Stay in the host's IPC namespace.
    pub host_ipc: bool,
    /// Containers see the host's processes.
    pub host_pid: bool,
    /// `spec.restartPolicy`.
    pub restart_policy: RestartPolicy,
    /// Seconds between SIGTERM and SIGKILL.
    pub grace_seconds: u32,
    /// When `spec.activeDeadlineSeconds` ends the pod, in seconds after its start.
    pub active_deadline_seconds: Option<u32>,
    /// The pod's cgroup, from the root of each hierarchy: `keel/pod<uid>`.
    pub cgroup: String,
    /// Limits of the whole pod.
    pub resources: Resources,
    /// `<log_dir>/<namespace>_<name>_<uid>`.
    pub log_dir: PathBuf,
    /// How much of its containers' logs is kept.
    #[serde(default)]
    pub log_limits: LogLimits,
    /// The pod's folder under the state directory: volumes, writable layers, `status.json`.
    pub state_dir: PathBuf,
    /// tmpfs mounts shared by the pod's containers, made in the supervisor's mount namespace.
    pub memory_volumes: Vec<MemoryVolume>,
    /// Places of the host in which containers may mount for the host to see.
    #[serde(default)]
    pub shared_mounts: Vec<SharedMount>,
    /// Images that are volumes, mounted in the supervisor's mount namespace.
    #[serde(default)]
    pub image_volumes: Vec<ImageVolume>,
    /// Run one after the other, each to success, before `containers`.
    pub init_containers: Vec<ContainerPlan>,
    /// Run together.
    pub containers: Vec<ContainerPlan>,
    /// What its containers share, and what keeps all of them apart.
    #[serde(default)]
    pub security: PodSecurity,
    /// Containers come, start, stop and go one by one as the agent is asked for it, and none
    /// starts by itself; the pod lasts until it is stopped, with or without any.
    #[serde(default)]
    pub by_request: bool,
}

impl PodPlan {
    /// True if a container's end leaves other processes in its PID namespace.
    pub(crate) const fn shares_processes(&self) -> bool {
        self.host_pid || self.security.share_processes || self.security.handler.is_some()
    }
}

/// One container.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ContainerPlan {
    /// Its name in the pod.
    pub name: String,
    /// The image as the manifest names it.
    pub image: String,
    /// The image's id: digest of its configuration, or the reference for `host:`.
    pub image_id: String,
    /// What its root is made of.
    pub rootfs: Rootfs,
    /// The OCI runtime specification: process, mounts (host path → container
    /// path), capabilities, masked paths. `root.path` and namespaces are the supervisor's to fill.
    pub spec: Spec,
    /// Limits of this container.
    pub resources: Resources,
    /// How it is watched.
    #[serde(default)]
    pub probes: ProbePlans,
    /// What is done at its start and before its end.
    #[serde(default)]
    pub hooks: HookPlans,
    /// An init container that goes on running beside the others.
    #[serde(default)]
    pub sidecar: bool,
    /// Its own restart policy, instead of the pod's.
    #[serde(default)]
    pub restart: Option<RestartPolicy>,
    /// Exit codes after which it runs again whatever the policy says.
    #[serde(default)]
    pub restart_rules: Vec<ExitRule>,
    /// Instead of SIGTERM and of what the image says: `SIGUSR1`.
    #[serde(default)]
    pub stop_signal: Option<String>,
    /// The file that it writes why it ends to; none if empty.
    #[serde(default = "usual_message_path")]
    pub message_path: String,
    /// If that is empty after a failure, the end of the log is taken.
    #[serde(default)]
    pub message_from_log: bool,
    /// Its standard input is open, for those who attach; else it is at its end at once.
    #[serde(default)]
    pub stdin: bool,
    /// The first one who attaches to its standard input closes it when he leaves.
    #[serde(default)]
    pub stdin_once: bool,
    /// Where its output is kept.
    #[serde(default)]
    pub log: LogPlace,
    /// Places of the host that it binds from, as they are when it is added by request.
    #[serde(default)]
    pub ties: Vec<SharedMount>,
    /// Images that it mounts as volumes, if it is added by request.
    #[serde(default)]
    pub image_volumes: Vec<ImageVolume>,
    /// It shares the PID namespace of the container of that name.
    #[serde(default)]
    pub processes_of: Option<String>,
    /// It is added to a pod that has containers of its own, whose end does not wait for it.
    #[serde(default)]
    pub ephemeral: bool,
    /// What it has taken over from systemd's services.
    #[serde(default)]
    pub habits: HabitPlan,
    /// What keeps it apart.
    #[serde(default)]
    pub security: ContainerSecurity,
    /// What is read from files of the pod's each time that it starts.
    #[serde(default)]
    pub file_variables: FileVariables,
}

/// How much of a container's log is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLimits {
    /// A file that is longer gives way to a new one.
    pub file_bytes: u64,
    /// The one in use, and those that gave way.
    pub files: u32,
}

impl Default for LogLimits {
    fn default() -> Self {
        Self { file_bytes: 10 << 20, files: 5 }
    }
}

/// Where a container's output is kept, as CRI log lines.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogPlace {
    /// `<log_dir>/<container>/<run>.log`, rotated by the supervisor.
    #[default]
    Own,
    /// This file; who asked for it rotates it.
    File(PathBuf),
    /// Nowhere.
    Nowhere,
}

fn usual_message_path() -> String {
    "/dev/termination-log".to_owned()
}

/// Exit codes that mean a restart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitRule {
    /// The codes are those that mean it; else all others do.
    pub listed: bool,
    /// Never 0.
    pub codes: Vec<i32>,
}

impl ExitRule {
    /// True if the rule says that a container that exits so runs again.
    #[must_use]
    pub fn fits(&self, exit_code: i32) -> bool {
        self.codes.contains(&exit_code) == self.listed
    }
}

/// What a container's root is made of: layers under a writable one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Rootfs {
    /// Unpacked layers, topmost first; the writable layer is on disk.
    Layers(Vec<PathBuf>),
    /// The host's own root, seen read-only under a writable layer in memory.
    /// The folders in `hidden` are empty in the container (the agent's own state).
    Host {
        /// Absolute paths to cover.
        hidden: Vec<PathBuf>,
    },
}

/// A memory-backed `emptyDir`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryVolume {
    /// Where it is mounted, under the pod's folder; containers bind from here.
    pub path: PathBuf,
    /// `sizeLimit`.
    pub size_bytes: Option<u64>,
    /// Mode of its root; 0777 if `None`.
    #[serde(default)]
    pub mode: Option<u32>,
    /// The pod's `fsGroup`: its root's group, which everything made in it inherits.
    #[serde(default)]
    pub group: Option<u32>,
    /// Of pages of this size instead of ordinary memory.
    #[serde(default)]
    pub page_bytes: Option<u64>,
    /// What one container mounts in it, the others see.
    #[serde(default)]
    pub shared: bool,
}

/// An image as a volume: what its layers show, for nobody to change.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageVolume {
    /// Where it is mounted, under the pod's folder; containers bind from here.
    pub path: PathBuf,
    /// Unpacked, topmost first.
    pub layers: Vec<PathBuf>,
    /// Its programs may run.
    #[serde(default)]
    pub executable: bool,
    /// What of it is mounted by itself, and has to be there.
    #[serde(default)]
    pub sub_paths: Vec<PathBuf>,
}

/// A place of the host for mounts that go both ways (`mountPropagation: Bidirectional`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedMount {
    /// On the host.
    pub from: PathBuf,
    /// Where the supervisor keeps it tied to the host; containers bind from here.
    pub at: PathBuf,
}

/// `spec.restartPolicy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names are Kubernetes' own")]
pub enum RestartPolicy {
    Always,
    OnFailure,
    Never,
}

/// Limits, as the kernel takes them. `None` is no limit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// From `limits.memory`.
    pub memory_bytes: Option<u64>,
    /// From `limits.cpu`: thousandths of a core.
    pub cpu_millis: Option<u64>,
    /// From `requests.cpu`, in v1 shares (2 to 262144; 1024 is one core).
    pub cpu_shares: Option<u64>,
    /// Over how many microseconds `cpu_millis` is counted; 100000 if 0.
    #[serde(default)]
    pub cpu_period_us: u64,
    /// Most processes and threads.
    pub pids: Option<u64>,
    /// From `limits.hugepages-<size>`: bytes by the size of a page in bytes.
    #[serde(default, deserialize_with = "by_number")]
    pub hugepages: BTreeMap<u64, u64>,
    /// Which devices may be used.
    #[serde(default)]
    pub devices: Devices,
}

/// Keys that are numbers. JSON has them as texts, and what is inside of a tagged enum (as
/// everything is that supervisors say) is not read from the JSON itself, which would know that.
fn by_number<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<u64, u64>, D::Error> {
    let texts = BTreeMap::<String, u64>::deserialize(from)?;
    let numbers = texts.into_iter().map(|(key, value)| Ok((key.parse().map_err(Error::custom)?, value)));
    numbers.collect()
}

#[cfg(test)]
mod tests;
