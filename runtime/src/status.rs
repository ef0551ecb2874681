//! A Pod's status from what its supervisor reports. Pure: the time and the
//! status before are arguments.
//!
//! Phases and conditions follow the kubelet's rules (`getPhase` in
//! `pkg/kubelet/kubelet_pods.go`, `pkg/kubelet/status/generate.go`).

mod conditions;
mod container;
mod ephemeral;
mod phase;
mod qos;
mod resize;

pub use qos::qos_class;

use crate::state::PodState;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{HostIP, Pod, PodIP, PodSpec, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// What keeps a pod from running, seen outside of its supervisor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// It has ended for good: `Evicted`, `DeadlineExceeded`, `NodeLost`…
    Failed {
        /// For `status.reason`.
        reason: String,
        /// For `status.message`.
        message: String,
    },
    /// Nothing of it can start now: a volume or the network is missing. Will be tried again.
    Pod {
        /// For each container that waits.
        reason: String,
        /// For each container that waits.
        message: String,
    },
    /// One container cannot start now: its image or configuration is missing. Will be tried again.
    Container {
        /// Its name.
        name: String,
        /// `ErrImagePull`, `CreateContainerConfigError`…
        reason: String,
        /// For a person.
        message: String,
    },
}

/// The status of `pod` at `now`: what `state` says if its supervisor runs, and
/// `problem` if something is wrong. Transition times and the start time are
/// kept from the status that `pod` has.
#[must_use]
pub fn pod_status(
    pod: &Pod,
    state: Option<&PodState>,
    problem: Option<&Problem>,
    host_ips: &[String],
    now: Timestamp,
) -> PodStatus {
    let empty = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&empty);
    let before = pod.status.clone().unwrap_or_default();
    let mut init = container::statuses(container::Group::Init, spec, state, problem, &before);
    let mut main = container::statuses(container::Group::Main, spec, state, problem, &before);
    let mut resizes = false;
    for (statuses, is_init, old) in
        [(&mut init, true, &before.init_container_statuses), (&mut main, false, &before.container_statuses)]
    {
        let old = old.as_deref().unwrap_or_default();
        resizes |= resize::report(statuses, resize::of_group(spec, is_init), state, old);
    }
    let ended = ending(&init, &main, problem, &before);
    let phase = match before.phase.as_deref() {
        // No pod leaves these: what its containers did is history.
        Some("Succeeded") => "Succeeded",
        Some("Failed") => "Failed",
        _ if ended.is_some() => "Failed",
        _ => phase::phase(spec, &init, &main, phase::is_terminal(state)),
    };
    let seen = conditions::Seen { spec, phase, sandbox: phase::has_sandbox(state), init: &init, main: &main };
    let addresses = addresses(spec, state, host_ips, &before);
    let (reason, message) = ended.unzip();
    let mut conditions = conditions::conditions(&seen, &before, now);
    resize::condition(&mut conditions, resizes, &before, now);
    PodStatus {
        conditions: Some(conditions),
        host_ip: host_ips.first().cloned(),
        host_ips: some(host_ips.iter().map(|ip| HostIP { ip: ip.clone() }).collect()),
        pod_ip: addresses.first().cloned(),
        pod_ips: some(addresses.into_iter().map(|ip| PodIP { ip }).collect()),
        phase: Some(phase.to_owned()),
        reason,
        message,
        qos_class: Some(qos_class(pod).to_owned()),
        start_time: before.start_time.clone().or(Some(Time(now))),
        observed_generation: pod.metadata.generation,
        init_container_statuses: some(init),
        container_statuses: some(main),
        ephemeral_container_statuses: some(ephemeral::statuses(spec, state, &before)),
        ..before
    }
}

fn some<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}

/// Why the pod as a whole has failed, if not by its containers' own doing.
fn ending(
    init: &[k8s_openapi::api::core::v1::ContainerStatus],
    main: &[k8s_openapi::api::core::v1::ContainerStatus],
    problem: Option<&Problem>,
    before: &PodStatus,
) -> Option<(String, String)> {
    if let Some(Problem::Failed { reason, message }) = problem {
        return Some((reason.clone(), message.clone()));
    }
    if let (Some("Failed"), Some(reason)) = (before.phase.as_deref(), &before.reason) {
        return Some((reason.clone(), before.message.clone().unwrap_or_default()));
    }
    let terminated = init.iter().chain(main).filter_map(|status| status.state.as_ref()?.terminated.as_ref());
    let mut reasons = terminated.filter_map(|ended| ended.reason.as_deref());
    reasons.any(|reason| reason == "DeadlineExceeded").then(|| {
        let message = "Pod was active on the node longer than the specified deadline";
        ("DeadlineExceeded".to_owned(), message.to_owned())
    })
}

/// The pod's own addresses: the host's with host network, and the last known
/// ones after its supervisor has gone.
fn addresses(
    spec: &PodSpec,
    state: Option<&PodState>,
    host_ips: &[String],
    before: &PodStatus,
) -> Vec<String> {
    match state {
        Some(_) if spec.host_network == Some(true) => host_ips.to_vec(),
        Some(state) if !state.addresses.is_empty() => state.addresses.clone(),
        _ => before.pod_ips.iter().flatten().map(|known| known.ip.clone()).collect(),
    }
}

#[cfg(test)]
mod tests;
