//! What a pod's processes are and use: the part of `keel status` that the
//! store does not know.

use super::Api;
use super::status::Refusal;
use crate::netdev;
use axum::Json;
use axum::extract::{Path, State as StateExtractor};
use manifests::{Kind, ObjectKey};
use runtime::cgroup::{GroupStats, Pressure, Stall};
use runtime::state::{ContainerState, PodState};
use serde_json::{Value, json};

/// Answers `GET /evenkeel/v1alpha1/pods/{namespace}/{name}/inspect`.
pub(crate) async fn answer(
    StateExtractor(api): StateExtractor<Api>,
    Path((namespace, name)): Path<(String, String)>,
) -> Result<Json<Value>, Refusal> {
    let key = ObjectKey::new(Kind::Pod, namespace, name);
    let pod =
        api.store.get(&key).ok_or_else(|| Refusal::not_found(format!("pods \"{}\" not found", key.name)))?;
    let observed = api.node.runtime.observe();
    let state = observed
        .get(pod.uid())
        .ok_or_else(|| Refusal::not_found(format!("{key} has no process on this node")))?;
    let stats = api.node.runtime.stats(pod.uid());
    let containers = state.init_containers.iter().chain(&state.containers).filter_map(|container| {
        let group = stats.containers.get(&container.name)?;
        let pid = match container.state {
            ContainerState::Running { pid, .. } => Some(pid),
            ContainerState::Waiting { .. } | ContainerState::Terminated(_) => None,
        };
        Some(json!({
            "name": container.name,
            "pid": pid,
            "statusText": container.status_text,
            "memoryBytes": group.memory_bytes,
            "cpuNanos": group.cpu_nanoseconds,
            "cgroup": group.cgroup,
            "processes": processes(group),
        }))
    });
    Ok(Json(json!({
        "socket": runtime::supervisor::socket_path(&api.configuration.run_dir, pod.uid()),
        "supervisorPid": state.supervisor_pid,
        "cgroup": stats.pod.cgroup,
        "memoryBytes": stats.pod.memory_bytes,
        "cpuNanos": stats.pod.cpu_nanoseconds,
        "pids": stats.pod.pids,
        "network": network(state),
        "pressure": api.node.runtime.pressure(pod.uid()).map(pressure),
        "containers": containers.collect::<Vec<_>>(),
    })))
}

/// What came and went; nothing of a pod in the host's network, which has none of its own.
fn network(state: &PodState) -> Option<Value> {
    (!state.addresses.is_empty()).then(|| {
        let (received, sent) = netdev::bytes_of_process(state.supervisor_pid);
        json!({"receivedBytes": received, "sentBytes": sent})
    })
}

fn pressure(pressure: Pressure) -> Value {
    let stall = |stall: Stall| json!({"some": stall.some, "full": stall.full});
    json!({"cpu": stall(pressure.cpu), "memory": stall(pressure.memory), "io": stall(pressure.io)})
}

fn processes(group: &GroupStats) -> Vec<Value> {
    group.processes.iter().map(|pid| json!({"pid": pid, "command": command(*pid)})).collect()
}

/// The words of a process, or its name in brackets if it has none, as `ps` shows it.
fn command(pid: i32) -> String {
    let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let text = String::from_utf8_lossy(&words).trim_end_matches('\0').replace('\0', " ");
    if !text.is_empty() {
        return text;
    }
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    format!("[{}]", name.trim())
}
