//! What the agent tells of itself, beyond the objects of Kubernetes
//! (`/evenkeel/v1alpha1/…`).

use crate::stall::MachineStall;
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// The end of one look at one source.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct SyncReport {
    /// The source's name.
    pub(crate) source: String,
    /// As in `RevisionStatus::result`.
    pub(crate) result: String,
    /// The commit that was looked at.
    pub(crate) commit: String,
    /// The commit that was in force before.
    pub(crate) previous_commit: String,
    /// What was wrong; empty if nothing was.
    pub(crate) message: String,
    /// How long the look took.
    pub(crate) duration_millis: u64,
}

/// How the agent and its node are.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct AgentStatus {
    /// Of the program.
    pub(crate) version: String,
    /// The Node object's name.
    pub(crate) node_name: String,
    /// The agent's process.
    pub(crate) pid: i32,
    /// RFC 3339.
    pub(crate) started_at: String,
    /// Where its state is kept.
    pub(crate) state_dir: String,
    /// Where it listens.
    pub(crate) socket: String,
    /// Pods of this node.
    pub(crate) pods: Counts,
    /// Containers of this node.
    pub(crate) containers: Counts,
    /// Of the agent itself.
    pub(crate) memory_bytes: Option<u64>,
    /// Of the agent itself, since its start.
    #[serde(deserialize_with = "whole_nanos")]
    pub(crate) cpu_nanos: Option<u64>,
    /// Each configured source.
    pub(crate) sources: Vec<SourceStatus>,
    /// How long programs had to wait, by what for.
    pub(crate) stalls: BTreeMap<String, MachineStall>,
    /// What the user should know; empty if all is well.
    pub(crate) warnings: Vec<String>,
    /// Images on their way.
    pub(crate) pulls: Vec<PullStatus>,
}

/// How far an image is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct PullStatus {
    /// In full, with registry and tag.
    pub(crate) reference: String,
    /// Bytes that are there.
    pub(crate) done: u64,
    /// Bytes that are needed; 0 until that is known.
    pub(crate) total: u64,
}

/// How many there are.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct Counts {
    /// That run.
    pub(crate) running: u64,
    /// In all.
    pub(crate) total: u64,
}

/// How one source is.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct SourceStatus {
    /// Its name.
    pub(crate) name: String,
    /// Without credentials.
    pub(crate) url: String,
    /// Branch, tag or commit that is followed.
    pub(crate) reference: String,
    /// As in `RevisionStatus::result`.
    pub(crate) result: String,
    /// RFC 3339, when `result` last changed.
    pub(crate) since: String,
    /// In force.
    pub(crate) commit: String,
    /// Of the commit in force.
    pub(crate) author: String,
    /// RFC 3339.
    pub(crate) committed_at: String,
    /// First line of its message.
    pub(crate) subject: String,
    /// What was wrong with the newest attempt; empty if nothing was.
    pub(crate) message: String,
    /// RFC 3339; empty before the first.
    #[serde(deserialize_with = "or_default")]
    pub(crate) last_attempt_at: String,
}

/// What a pod is on the machine.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct PodInspection {
    /// Where its supervisor answers.
    pub(crate) socket: PathBuf,
    /// The pod's supervisor.
    pub(crate) supervisor_pid: i32,
    /// From the hierarchy's root.
    #[serde(deserialize_with = "or_default")]
    pub(crate) cgroup: String,
    /// Of the whole pod; `None` if the kernel does not count it here.
    pub(crate) memory_bytes: Option<u64>,
    /// Of the whole pod, since its start.
    pub(crate) cpu_nanos: Option<u64>,
    /// Processes and threads.
    pub(crate) pids: Option<u64>,
    /// What came and went over its network; `None` if it has none of its own.
    pub(crate) network: Option<PodNetwork>,
    /// How long its processes wait; `None` where the kernel keeps no account.
    pub(crate) pressure: Option<PodPressure>,
    /// In the order of the specification.
    pub(crate) containers: Vec<ContainerUsage>,
}

/// What came and went over a pod's network, since its start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct PodNetwork {
    /// In bytes.
    pub(crate) received_bytes: u64,
    /// In bytes.
    pub(crate) sent_bytes: u64,
}

/// What a pod's processes waited for in the last ten seconds.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct PodPressure {
    /// A processor.
    pub(crate) cpu: Stall,
    /// Memory.
    pub(crate) memory: Stall,
    /// Disks.
    pub(crate) io: Stall,
}

/// In hundredths of a percent of the time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct Stall {
    /// At least one process waited.
    pub(crate) some: u32,
    /// All waited.
    pub(crate) full: u32,
}

/// What a container is on the machine.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ContainerUsage {
    /// Its name in the pod.
    pub(crate) name: String,
    /// Its first process, if it runs.
    pub(crate) pid: Option<i32>,
    /// What it last said of itself, if anything.
    pub(crate) status_text: String,
    /// In bytes.
    pub(crate) memory_bytes: Option<u64>,
    /// Since its start.
    pub(crate) cpu_nanos: Option<u64>,
    /// From the hierarchy's root.
    #[serde(deserialize_with = "or_default")]
    pub(crate) cgroup: String,
    /// Every process in it.
    pub(crate) processes: Vec<InspectedProcess>,
}

/// A process of a container.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct InspectedProcess {
    /// As the host counts.
    pub(crate) pid: i32,
    /// Its command line.
    pub(crate) command: String,
}

/// The agent divides seconds; what is less than a nanosecond is noise.
fn whole_nanos<'de, D: Deserializer<'de>>(value: D) -> Result<Option<u64>, D::Error> {
    let seconds = Option::<f64>::deserialize(value)?.map(|nanos| nanos / 1e9);
    let duration = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    Ok(duration.and_then(|duration| u64::try_from(duration.as_nanos()).ok()))
}

/// `null` is the same as nothing.
fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(value: D) -> Result<T, D::Error> {
    Option::<T>::deserialize(value).map(Option::unwrap_or_default)
}
