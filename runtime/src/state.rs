//! What a supervisor reports of its pod: facts, no decisions.

use crate::plan::Resources;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A pod as its supervisor sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PodState {
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
    /// The supervisor's process; its `net` namespace is the pod's.
    pub supervisor_pid: i32,
    /// The pod's cgroup, from the root of each hierarchy; empty if its supervisor is too old to
    /// say.
    #[serde(default)]
    pub cgroup: String,
    /// How far the pod is.
    pub stage: Stage,
    /// When the sandbox was made.
    pub created_at: Timestamp,
    /// The pod's addresses, as told with the start; empty before it and with host network.
    pub addresses: Vec<String>,
    /// In the order of the specification.
    pub init_containers: Vec<ContainerStatus>,
    /// In the order of the specification.
    pub containers: Vec<ContainerStatus>,
    /// What each container may use now, by its name.
    #[serde(default)]
    pub limits: BTreeMap<String, Resources>,
    /// What happened lately beside changes of state, oldest first.
    #[serde(default)]
    pub notices: Vec<Notice>,
    /// It belongs to whoever asks for its containers one by one, not to the store.
    #[serde(default)]
    pub by_request: bool,
}

/// Something that a user should be told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// Counts from 1.
    pub sequence: u64,
    /// Something is wrong.
    pub warning: bool,
    /// `Unhealthy`, `Killing`, `FailedPostStartHook`…
    pub reason: String,
    /// For a person.
    pub message: String,
    /// When.
    pub at: Timestamp,
}

/// How far a pod is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    /// Namespaces are made; waits for its network and the word to start.
    Created,
    /// Containers run, or wait to run again.
    Started,
    /// SIGTERM was sent, or is about to be.
    Stopping,
    /// No process is left and none will start.
    Finished,
    /// The supervisor ended before its pod did, and took the containers with it.
    Lost,
}

/// A container as its supervisor sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ContainerStatus {
    /// Its name in the pod.
    pub name: String,
    /// The image as the manifest names it.
    pub image: String,
    /// The image's id.
    pub image_id: String,
    /// Unique for each run of it; empty before the first.
    pub container_id: String,
    /// Now.
    pub state: ContainerState,
    /// How the run before ended, if there was one.
    pub last: Option<Termination>,
    /// How often it was started again.
    pub restarts: u32,
    /// It runs, its postStart hook is done, and its startup probe has gone well.
    #[serde(default)]
    pub started: bool,
    /// It is started, and its readiness probe goes well.
    #[serde(default)]
    pub ready: bool,
    /// What it last said of itself (sd_notify's `STATUS=`).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub status_text: String,
}

/// Kubernetes' three states of a container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum ContainerState {
    /// Not running, but will be.
    Waiting {
        /// `PodInitializing`, `ContainerCreating`, `CrashLoopBackOff`, `CreateContainerError`…
        reason: String,
        /// For a person.
        message: String,
        /// When the next try is due.
        retry_at: Option<Timestamp>,
    },
    /// Its first process lives.
    Running {
        /// As the host counts.
        pid: i32,
        /// Since.
        started_at: Timestamp,
    },
    /// Ended, and stays so unless it becomes `Waiting`.
    Terminated(Termination),
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Termination {
    /// 128 + signal if a signal ended it.
    pub exit_code: i32,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// `Completed`, `Error`, `OOMKilled`, `ContainerCannotRun`, `StartError`, `DeadlineExceeded`…
    pub reason: String,
    /// For a person.
    pub message: String,
    /// When its first process began.
    pub started_at: Timestamp,
    /// When it ended.
    pub finished_at: Timestamp,
    /// Which run this was.
    pub container_id: String,
}
