//! `status.conditions`.

use super::container::is_sidecar;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, PodCondition, PodSpec, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// What the conditions are computed from.
pub(super) struct Seen<'a> {
    pub(super) spec: &'a PodSpec,
    pub(super) phase: &'a str,
    pub(super) sandbox: bool,
    pub(super) init: &'a [ContainerStatus],
    pub(super) main: &'a [ContainerStatus],
}

/// True, or false with a reason and a message.
type Verdict = Result<Option<&'static str>, (&'static str, String)>;

/// The kubelet's five conditions, and whatever others `before` has.
pub(super) fn conditions(seen: &Seen<'_>, before: &PodStatus, now: Timestamp) -> Vec<PodCondition> {
    let old = before.conditions.as_deref().unwrap_or_default();
    let containers_ready = containers_ready(seen);
    let verdicts = [
        ("PodReadyToStartContainers", if seen.sandbox { Ok(None) } else { Err(("", String::new())) }),
        ("Initialized", initialized(seen)),
        ("Ready", ready(seen, &containers_ready, old)),
        ("ContainersReady", containers_ready),
        ("PodScheduled", Ok(None)),
    ];
    let own: Vec<_> =
        verdicts.into_iter().map(|(kind, verdict)| condition(kind, verdict, old, now)).collect();
    let foreign = old.iter().filter(|other| own.iter().all(|one| one.type_ != other.type_)).cloned();
    let foreign: Vec<_> = foreign.collect();
    own.into_iter().chain(foreign).collect()
}

fn condition(kind: &str, verdict: Verdict, old: &[PodCondition], now: Timestamp) -> PodCondition {
    let (status, reason, message) = match verdict {
        Ok(reason) => ("True", reason.unwrap_or_default(), String::new()),
        Err((reason, message)) => ("False", reason, message),
    };
    let same = old.iter().find(|one| one.type_ == kind && one.status == status);
    PodCondition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: (!reason.is_empty()).then(|| reason.to_owned()),
        message: (!message.is_empty()).then_some(message),
        last_transition_time: same.and_then(|one| one.last_transition_time.clone()).or(Some(Time(now))),
        last_probe_time: None,
        observed_generation: None,
    }
}

fn initialized(seen: &Seen<'_>) -> Verdict {
    if seen.spec.init_containers.as_ref().is_none_or(Vec::is_empty) {
        return Ok((seen.phase == "Succeeded").then_some("PodCompleted"));
    }
    let complete =
        |status: &&ContainerStatus| status.ready || (serves(seen, status) && status.started == Some(true));
    let incomplete: Vec<_> = seen.init.iter().filter(|status| !complete(status)).collect();
    if seen.phase == "Succeeded" {
        return Ok(Some("PodCompleted"));
    }
    let has_started = |status: &ContainerStatus| {
        let state = status.state.as_ref();
        state.is_some_and(|state| state.running.is_some() || state.terminated.is_some())
            || status.last_state.as_ref().is_some_and(|last| last.terminated.is_some())
    };
    if incomplete.is_empty() || seen.main.iter().any(has_started) {
        return Ok(None);
    }
    Err(("ContainersNotInitialized", format!("containers with incomplete status: [{}]", names(&incomplete))))
}

/// True for an init container that goes on running beside the others.
fn serves(seen: &Seen<'_>, status: &ContainerStatus) -> bool {
    seen.spec.init_containers.iter().flatten().any(|one| one.name == status.name && is_sidecar(one))
}

fn containers_ready(seen: &Seen<'_>) -> Verdict {
    match seen.phase {
        "Succeeded" => return Err(("PodCompleted", String::new())),
        "Failed" => return Err(("PodFailed", String::new())),
        _ => {}
    }
    let sidecars = seen.init.iter().filter(|status| serves(seen, status));
    let unready: Vec<_> = sidecars.chain(seen.main).filter(|status| !status.ready).collect();
    if unready.is_empty() {
        return Ok(None);
    }
    Err(("ContainersNotReady", format!("containers with unready status: [{}]", names(&unready))))
}

/// Ready as the containers are, and as the readiness gates say.
fn ready(seen: &Seen<'_>, containers: &Verdict, old: &[PodCondition]) -> Verdict {
    if containers.is_err() {
        return containers.clone();
    }
    let mut messages = Vec::new();
    for gate in seen.spec.readiness_gates.iter().flatten() {
        let kind = &gate.condition_type;
        match old.iter().find(|one| one.type_ == *kind) {
            None => {
                messages.push(format!(
                    "corresponding condition of pod readiness gate \"{kind}\" does not exist."
                ));
            }
            Some(one) if one.status != "True" => messages.push(format!(
                "the status of pod readiness gate \"{kind}\" is not \"True\", but {}",
                one.status
            )),
            Some(_) => {}
        }
    }
    if messages.is_empty() { Ok(None) } else { Err(("ReadinessGatesNotReady", messages.join(", "))) }
}

fn names(statuses: &[&ContainerStatus]) -> String {
    statuses.iter().map(|status| status.name.as_str()).collect::<Vec<_>>().join(" ")
}
