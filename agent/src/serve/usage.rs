//! What pods and the node use now, as the metrics API of Kubernetes tells it
//! (`metrics.k8s.io/v1beta1`).

use super::query::Filter;
use super::status::Refusal;
use super::{Api, objects};
use crate::netdev;
use axum::Json;
use axum::extract::{Path, Query as QueryExtractor, State as StateExtractor};
use jiff::Timestamp;
use manifests::{Kind, Object, ObjectKey};
use runtime::cgroup::{GroupStats, PodStats};
use runtime::state::ContainerState;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

const VERSION: &str = "metrics.k8s.io/v1beta1";
/// Over which CPU time is counted.
const WINDOW: Duration = Duration::from_secs(1);
/// Of the times in `/proc/stat`, on every architecture that Linux lets programs see.
const TICKS_PER_SECOND: u64 = 100;

/// Answers `GET …/pods`, of every namespace or of one.
pub(crate) async fn pods(
    StateExtractor(api): StateExtractor<Api>,
    namespace: Option<Path<String>>,
    QueryExtractor(query): QueryExtractor<objects::Query>,
) -> Result<Json<Value>, Refusal> {
    let filter = Filter::new(&query).map_err(|error| Refusal::bad_request(error.to_string()))?;
    let namespace = namespace.map(|Path(namespace)| namespace);
    let (pods, _) = api.store.list(Kind::Pod, namespace.as_deref());
    let pods = pods.into_iter().filter(|pod| filter.matches(pod)).collect();
    let items = usage_of(&api, pods).await;
    Ok(Json(json!({"apiVersion": VERSION, "kind": "PodMetricsList", "metadata": {}, "items": items})))
}

/// Answers `GET …/namespaces/{namespace}/pods/{name}`.
pub(crate) async fn pod(
    StateExtractor(api): StateExtractor<Api>,
    Path((namespace, name)): Path<(String, String)>,
) -> Result<Json<Value>, Refusal> {
    let missing =
        || Refusal::not_found(format!("podmetrics.metrics.k8s.io \"{namespace}/{name}\" not found"));
    let key = ObjectKey::new(Kind::Pod, namespace.clone(), name.clone());
    let pod = api.store.get(&key).ok_or_else(missing)?;
    usage_of(&api, vec![pod]).await.pop().map(Json).ok_or_else(missing)
}

/// Answers `GET …/nodes`.
pub(crate) async fn nodes(StateExtractor(api): StateExtractor<Api>) -> Result<Json<Value>, Refusal> {
    let items = [node_usage(&api).await?];
    Ok(Json(json!({"apiVersion": VERSION, "kind": "NodeMetricsList", "metadata": {}, "items": items})))
}

/// Answers `GET …/nodes/{name}`.
pub(crate) async fn node(
    StateExtractor(api): StateExtractor<Api>,
    Path(name): Path<String>,
) -> Result<Json<Value>, Refusal> {
    if name != api.configuration.node_name {
        return Err(Refusal::not_found(format!("nodemetrics.metrics.k8s.io \"{name}\" not found")));
    }
    Ok(Json(node_usage(&api).await?))
}

/// The usage of those of `pods` that run here.
async fn usage_of(api: &Api, pods: Vec<Arc<Object>>) -> Vec<Value> {
    let observed = api.node.runtime.observe();
    let running: Vec<_> = pods.into_iter().filter(|pod| observed.contains_key(pod.uid())).collect();
    if running.is_empty() {
        return Vec::new();
    }
    let sample = || {
        running
            .iter()
            .map(|pod| (pod.uid().to_owned(), api.node.runtime.stats(pod.uid())))
            .collect::<BTreeMap<_, _>>()
    };
    let traffic = || {
        let own = observed.values().filter(|state| !state.addresses.is_empty());
        own.map(|state| (state.uid.clone(), netdev::bytes_of_process(state.supervisor_pid)))
            .collect::<BTreeMap<_, _>>()
    };
    let traffic_before = traffic();
    let (began, before) = (Instant::now(), sample());
    tokio::time::sleep(WINDOW).await;
    let (window, now, after) = (began.elapsed(), Timestamp::now(), sample());
    let traffic_after = traffic();
    let of_pod = |pod: &Arc<Object>| {
        let stats = |of: &BTreeMap<String, PodStats>| of.get(pod.uid()).cloned().unwrap_or_default();
        let (before, after) = (stats(&before), stats(&after));
        let state = observed.get(pod.uid())?;
        let containers: Vec<_> = state
            .containers
            .iter()
            .chain(&state.init_containers)
            .filter(|container| matches!(container.state, ContainerState::Running { .. }))
            .filter_map(|container| {
                let (name, usual) = (&container.name, GroupStats::default());
                let before = before.containers.get(name).unwrap_or(&usual);
                let usage = usage(before, after.containers.get(name)?, window);
                Some(json!({"name": name, "usage": usage}))
            })
            .collect();
        Some(json!({
            "metadata": {"name": pod.name(), "namespace": pod.namespace(), "labels": pod.metadata().labels},
            "timestamp": now,
            "window": format!("{}ms", window.as_millis()),
            "network": network(traffic_before.get(pod.uid()), traffic_after.get(pod.uid()), window),
            "containers": containers,
        }))
    };
    running.iter().filter_map(of_pod).collect()
}

/// Bytes per second; nothing of a pod without a network of its own.
fn network(before: Option<&(u64, u64)>, after: Option<&(u64, u64)>, window: Duration) -> Option<Value> {
    let (before, after) = (before?, after?);
    let rate =
        |before: u64, after: u64| u128::from(after.saturating_sub(before)) * 1000 / window.as_millis().max(1);
    Some(
        json!({"received": rate(before.0, after.0).to_string(), "sent": rate(before.1, after.1).to_string()}),
    )
}

fn usage(before: &GroupStats, after: &GroupStats, window: Duration) -> Value {
    // A container that was started anew has used less than before.
    let used = after.cpu_nanoseconds.checked_sub(before.cpu_nanoseconds).unwrap_or(after.cpu_nanoseconds);
    quantities(Duration::from_nanos(used), window, after.working_set_bytes)
}

fn quantities(cpu: Duration, window: Duration, memory_bytes: u64) -> Value {
    let nanocores = cpu.as_nanos() * 1_000_000_000 / window.as_nanos().max(1);
    json!({"cpu": format!("{nanocores}n"), "memory": format!("{}Ki", memory_bytes / 1024)})
}

async fn node_usage(api: &Api) -> Result<Value, Refusal> {
    let read = |path: &str| {
        std::fs::read_to_string(path)
            .map_err(|error| Refusal::internal(format!("cannot read {path}: {error}")))
    };
    let (began, before) = (Instant::now(), busy(&read("/proc/stat")?));
    tokio::time::sleep(WINDOW).await;
    let (window, after) = (began.elapsed(), busy(&read("/proc/stat")?));
    let memory = used_memory(&read("/proc/meminfo")?);
    Ok(json!({
        "metadata": {"name": api.configuration.node_name},
        "timestamp": Timestamp::now(),
        "window": format!("{}ms", window.as_millis()),
        "usage": quantities(after.saturating_sub(before), window, memory),
    }))
}

/// Time that the CPUs have worked, by the first line of `/proc/stat`: all but idle and iowait.
fn busy(stat: &str) -> Duration {
    let times = stat.lines().next().unwrap_or_default().split_whitespace().skip(1).take(8);
    let busy = times.enumerate().filter(|(place, _)| !matches!(place, 3 | 4));
    let ticks: u64 = busy.filter_map(|(_, time)| time.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND)
}

/// What is not available for new programs, by `/proc/meminfo`, in bytes.
fn used_memory(meminfo: &str) -> u64 {
    let kibibytes = |key: &str| {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(key))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    let total = kibibytes("MemTotal:").unwrap_or(0);
    total.saturating_sub(kibibytes("MemAvailable:").unwrap_or(total)) * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_is_time_over_time() {
        let group = |cpu_nanoseconds| GroupStats {
            cpu_nanoseconds,
            working_set_bytes: 2048,
            ..GroupStats::default()
        };
        let half = usage(&group(1_000_000_000), &group(2_000_000_000), Duration::from_secs(2));
        assert_eq!(half, json!({"cpu": "500000000n", "memory": "2Ki"}));
        let anew = usage(&group(9_000_000_000), &group(1_000_000), Duration::from_secs(1));
        assert_eq!(anew["cpu"], "1000000n");
    }

    #[test]
    fn the_nodes_usage_is_the_kernels() {
        assert_eq!(busy("cpu  100 20 30 4000 500 1 2 3 0 0\ncpu0 1"), Duration::from_millis(1560));
        assert_eq!(used_memory("MemTotal:  1000 kB\nMemFree: 1 kB\nMemAvailable:  400 kB\n"), 600 * 1024);
    }
}
