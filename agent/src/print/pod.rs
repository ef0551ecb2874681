//! The row of a Pod. Its STATUS follows kubectl's printer word for word, since
//! people and scripts read it.

use super::age::{human_duration, seconds_between, since};
use super::or_none;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod, PodSpec, PodStatus};

pub(super) const HEADS: (&[&str], &[&str]) =
    (&["NAME", "READY", "STATUS", "RESTARTS", "AGE"], &["IP", "NODE", "NOMINATED NODE", "READINESS GATES"]);

/// What the table says of a Pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PodSummary {
    /// Containers that are ready.
    pub(crate) ready: usize,
    /// Containers, sidecars included.
    pub(crate) total: usize,
    /// `Running`, `CrashLoopBackOff`, `Init:0/1`, `Terminating`…
    pub(crate) status: String,
    /// Of all containers that count now.
    pub(crate) restarts: i32,
    /// When the newest run that was followed by a restart ended.
    pub(crate) last_restart: Option<Timestamp>,
}

impl PodSummary {
    /// True if the pod is as it should be, or on its way there without a failure.
    pub(crate) fn is_failing(&self) -> bool {
        let status = self.status.strip_prefix("Init:").unwrap_or(&self.status);
        status.contains("BackOff")
            || status.contains("Err")
            || status.contains("Error")
            || [
                "Failed",
                "OOMKilled",
                "ContainerCannotRun",
                "DeadlineExceeded",
                "Evicted",
                "InvalidImageName",
                "StartLimitHit",
                "StartTimeout",
                "Watchdog",
            ]
            .contains(&status)
            || status.starts_with("ExitCode:")
            || status.starts_with("Signal:")
    }

    /// `2 (5m ago)`.
    pub(crate) fn restarts_text(&self, now: Timestamp) -> String {
        match self.last_restart {
            Some(at) if self.restarts != 0 => {
                format!("{} ({} ago)", self.restarts, human_duration(seconds_between(at, now)))
            }
            Some(_) | None => self.restarts.to_string(),
        }
    }
}

/// The summary of `pod`.
pub(crate) fn summary(pod: &Pod) -> PodSummary {
    let empty = (PodSpec::default(), PodStatus::default());
    let spec = pod.spec.as_ref().unwrap_or(&empty.0);
    let status = pod.status.as_ref().unwrap_or(&empty.1);
    let init: &[Container] = spec.init_containers.as_deref().unwrap_or_default();
    let mut tally = Tally::default();
    let mut summary = PodSummary {
        ready: 0,
        total: spec.containers.len() + init.iter().filter(|c| is_sidecar(c)).count(),
        status: first_reason(status),
        restarts: 0,
        last_restart: None,
    };
    let initializing = init_reason(status, init, &mut summary, &mut tally);
    if !initializing || is_true(status, "Initialized") {
        tally.all = tally.sidecars;
        container_reason(status, &mut summary, &mut tally.all);
    }
    summary.restarts = tally.all.restarts;
    summary.last_restart = tally.all.last;
    let finished = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
    if pod.metadata.deletion_timestamp.is_some() {
        if status.reason.as_deref() == Some("NodeLost") {
            summary.status = "Unknown".into();
        } else if !finished {
            summary.status = "Terminating".into();
        }
    }
    summary
}

/// Restarts counted so far.
#[derive(Debug, Clone, Copy, Default)]
struct Restarts {
    restarts: i32,
    last: Option<Timestamp>,
}

impl Restarts {
    fn count(&mut self, container: &ContainerStatus) {
        self.restarts += container.restart_count;
        let last = container.last_state.as_ref().and_then(|state| state.terminated.as_ref());
        let ended = last.and_then(|ended| ended.finished_at.as_ref()).map(|at| at.0);
        self.last = self.last.max(ended);
    }
}

#[derive(Debug, Default)]
struct Tally {
    all: Restarts,
    sidecars: Restarts,
}

fn first_reason(status: &PodStatus) -> String {
    let gated = status
        .conditions
        .iter()
        .flatten()
        .any(|c| c.type_ == "PodScheduled" && c.reason.as_deref() == Some("SchedulingGated"));
    if gated {
        return "SchedulingGated".into();
    }
    let reason = status.reason.as_ref().filter(|reason| !reason.is_empty());
    reason.or(status.phase.as_ref()).cloned().unwrap_or_default()
}

/// Looks at the init containers up to the first that is not done; returns true
/// if there is one.
fn init_reason(status: &PodStatus, init: &[Container], summary: &mut PodSummary, tally: &mut Tally) -> bool {
    for (at, container) in status.init_container_statuses.iter().flatten().enumerate() {
        let sidecar = init.iter().any(|c| c.name == container.name && is_sidecar(c));
        tally.all.count(container);
        if sidecar {
            tally.sidecars.count(container);
        }
        let state = container.state.clone().unwrap_or_default();
        let waiting = state.waiting.and_then(|waiting| waiting.reason).filter(|reason| !reason.is_empty());
        match (state.terminated, waiting) {
            (Some(ended), _) if ended.exit_code == 0 => continue,
            _ if sidecar && container.started == Some(true) => {
                summary.ready += usize::from(container.ready);
                continue;
            }
            (Some(ended), _) => {
                summary.status =
                    format!("Init:{}", ended_reason(ended.reason.as_deref(), ended.signal, ended.exit_code));
            }
            (None, Some(reason)) if reason != "PodInitializing" => summary.status = format!("Init:{reason}"),
            (None, _) => summary.status = format!("Init:{at}/{}", init.len()),
        }
        return true;
    }
    false
}

/// Looks at the containers; the first one that is not running says the status.
fn container_reason(status: &PodStatus, summary: &mut PodSummary, restarts: &mut Restarts) {
    let mut running = false;
    for container in status.container_statuses.iter().flatten().rev() {
        restarts.count(container);
        let state = container.state.clone().unwrap_or_default();
        let waiting = state.waiting.and_then(|waiting| waiting.reason).filter(|reason| !reason.is_empty());
        if let Some(reason) = waiting {
            summary.status = reason;
        } else if let Some(ended) = state.terminated {
            summary.status = ended_reason(ended.reason.as_deref(), ended.signal, ended.exit_code);
        } else if container.ready && state.running.is_some() {
            running = true;
            summary.ready += 1;
        }
    }
    if summary.status == "Completed" && running {
        summary.status = if is_true(status, "Ready") { "Running".into() } else { "NotReady".into() };
    }
}

fn ended_reason(reason: Option<&str>, signal: Option<i32>, exit_code: i32) -> String {
    match (reason.filter(|reason| !reason.is_empty()), signal.filter(|signal| *signal != 0)) {
        (Some(reason), _) => reason.to_owned(),
        (None, Some(signal)) => format!("Signal:{signal}"),
        (None, None) => format!("ExitCode:{exit_code}"),
    }
}

fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

fn is_true(status: &PodStatus, condition: &str) -> bool {
    status.conditions.iter().flatten().any(|c| c.type_ == condition && c.status == "True")
}

pub(super) fn row(pod: &Pod, wide: bool, now: Timestamp) -> Vec<String> {
    let summary = summary(pod);
    let mut cells = vec![
        pod.metadata.name.clone().unwrap_or_default(),
        format!("{}/{}", summary.ready, summary.total),
        summary.status.clone(),
        summary.restarts_text(now),
        since(pod.metadata.creation_timestamp.as_ref(), now),
    ];
    if wide {
        let status = pod.status.as_ref();
        let ip = status.and_then(|s| s.pod_ips.as_ref()?.first()).map(|ip| ip.ip.clone());
        let ip = ip.or_else(|| status.and_then(|s| s.pod_ip.clone()));
        cells.push(or_none(ip.unwrap_or_default()));
        cells.push(or_none(pod.spec.as_ref().and_then(|s| s.node_name.clone()).unwrap_or_default()));
        cells.push(or_none(status.and_then(|s| s.nominated_node_name.clone()).unwrap_or_default()));
        cells.push(readiness_gates(pod));
    }
    cells
}

fn readiness_gates(pod: &Pod) -> String {
    let gates = pod.spec.as_ref().and_then(|spec| spec.readiness_gates.as_deref()).unwrap_or_default();
    if gates.is_empty() {
        return "<none>".into();
    }
    let status = pod.status.clone().unwrap_or_default();
    let open = gates.iter().filter(|gate| is_true(&status, &gate.condition_type)).count();
    format!("{open}/{}", gates.len())
}

#[cfg(test)]
mod tests;
