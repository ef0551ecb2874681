//! What probes and lifecycle hooks do, with everything resolved.

use super::build::PodInput;
use super::error::Cause;
use k8s_openapi::api::core::v1::{Container, GRPCAction, LifecycleHandler, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde::{Deserialize, Serialize};

/// Something that is done to a container and goes well or does not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// A command in the container; well if it exits with 0.
    Exec(Vec<String>),
    /// A GET; well if the answer is 200 to 399.
    Http(HttpAction),
    /// A connection; well if it is made.
    Tcp(Place),
    /// `grpc.health.v1.Health/Check`; well if it says SERVING.
    Grpc {
        /// Where.
        place: Place,
        /// Whom to ask for; empty for the server as a whole.
        service: String,
    },
    /// A wait of so many seconds; always well.
    Sleep(u32),
}

/// Whom to speak to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The pod's own address if `None`.
    pub host: Option<String>,
    /// TCP port.
    pub port: u16,
}

/// One request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpAction {
    /// Where.
    pub place: Place,
    /// With the query.
    pub path: String,
    /// HTTPS; the certificate is not verified.
    pub tls: bool,
    /// Name and value.
    pub headers: Vec<(String, String)>,
}

/// A probe and its numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbePlan {
    /// What it does.
    pub action: Action,
    /// Seconds after the container's start.
    pub initial_delay: u32,
    /// Seconds between two.
    pub period: u32,
    /// Seconds that one may take.
    pub timeout: u32,
    /// In a row, to count as well.
    pub success: u32,
    /// In a row, to count as failed.
    pub failure: u32,
    /// Seconds to end in after a failure; the pod's own grace if `None`.
    pub grace: Option<u32>,
}

/// The probes of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbePlans {
    /// Until it goes well, the others do not begin.
    pub startup: Option<ProbePlan>,
    /// Says whether the container is ready.
    pub readiness: Option<ProbePlan>,
    /// Says whether the container is to be killed.
    pub liveness: Option<ProbePlan>,
}

/// The lifecycle hooks of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookPlans {
    /// Right after its start.
    pub post_start: Option<Action>,
    /// Before it is asked to end.
    pub pre_stop: Option<Action>,
}

/// The probes of `container`.
///
/// # Errors
/// If a port is named that the container does not have.
pub(super) fn probes(container: &Container, input: &PodInput<'_>) -> Result<ProbePlans, Cause> {
    let plan =
        |probe: &Option<Probe>| probe.as_ref().map(|one| self::probe(one, container, input)).transpose();
    Ok(ProbePlans {
        startup: plan(&container.startup_probe)?.flatten(),
        readiness: plan(&container.readiness_probe)?.flatten(),
        liveness: plan(&container.liveness_probe)?.flatten(),
    })
}

/// The hooks of `container`.
///
/// # Errors
/// As [`probes`].
pub(super) fn hooks(container: &Container, input: &PodInput<'_>) -> Result<HookPlans, Cause> {
    let Some(lifecycle) = &container.lifecycle else { return Ok(HookPlans::default()) };
    let plan = |handler: &Option<LifecycleHandler>| match handler {
        Some(handler) => of_handler(handler, container, input),
        None => Ok(None),
    };
    Ok(HookPlans { post_start: plan(&lifecycle.post_start)?, pre_stop: plan(&lifecycle.pre_stop)? })
}

fn probe(probe: &Probe, container: &Container, input: &PodInput<'_>) -> Result<Option<ProbePlan>, Cause> {
    let Probe { exec, http_get, tcp_socket, grpc, .. } = probe.clone();
    let action = match grpc {
        Some(grpc) => Some(of_grpc(&grpc, input)),
        None => of_handler(&LifecycleHandler { exec, http_get, tcp_socket, sleep: None }, container, input)?,
    };
    let number = |value: Option<i32>, usual: u32| {
        value.and_then(|value| u32::try_from(value).ok()).filter(|value| *value > 0).unwrap_or(usual)
    };
    let grace = probe.termination_grace_period_seconds.and_then(|seconds| u32::try_from(seconds).ok());
    Ok(action.map(|action| ProbePlan {
        action,
        initial_delay: number(probe.initial_delay_seconds, 0),
        period: number(probe.period_seconds, 10),
        timeout: number(probe.timeout_seconds, 1),
        success: number(probe.success_threshold, 1),
        failure: number(probe.failure_threshold, 3),
        grace,
    }))
}

fn of_handler(
    handler: &LifecycleHandler,
    container: &Container,
    input: &PodInput<'_>,
) -> Result<Option<Action>, Cause> {
    if let Some(exec) = &handler.exec {
        return Ok(Some(Action::Exec(exec.command.clone().unwrap_or_default())));
    }
    if let Some(http) = &handler.http_get {
        let place = place(http.host.as_deref(), &http.port, container, input)?;
        let headers = http.http_headers.iter().flatten();
        return Ok(Some(Action::Http(HttpAction {
            place,
            path: http.path.clone().filter(|path| !path.is_empty()).unwrap_or_else(|| "/".to_owned()),
            tls: http.scheme.as_deref() == Some("HTTPS"),
            headers: headers.map(|header| (header.name.clone(), header.value.clone())).collect(),
        })));
    }
    if let Some(tcp) = &handler.tcp_socket {
        return Ok(Some(Action::Tcp(place(tcp.host.as_deref(), &tcp.port, container, input)?)));
    }
    Ok(handler.sleep.as_ref().map(|sleep| Action::Sleep(u32::try_from(sleep.seconds).unwrap_or(0))))
}

fn of_grpc(grpc: &GRPCAction, input: &PodInput<'_>) -> Action {
    let port = u16::try_from(grpc.port).unwrap_or(0);
    let service = grpc.service.clone().unwrap_or_default();
    Action::Grpc { place: Place { host: usual_host(input), port }, service }
}

/// With host network the pod's own address is the host's.
fn usual_host(input: &PodInput<'_>) -> Option<String> {
    let host_network = input.spec().and_then(|spec| spec.host_network) == Some(true);
    host_network.then(|| input.node.host_ips.first().cloned()).flatten()
}

fn place(
    host: Option<&str>,
    port: &IntOrString,
    container: &Container,
    input: &PodInput<'_>,
) -> Result<Place, Cause> {
    let host = host.filter(|host| !host.is_empty()).map(str::to_owned).or_else(|| usual_host(input));
    let number = match port {
        IntOrString::Int(number) => u16::try_from(*number).ok(),
        IntOrString::String(name) => match name.parse() {
            Ok(number) => Some(number),
            Err(_) => {
                let mut ports = container.ports.iter().flatten();
                let found = ports.find(|port| port.name.as_deref() == Some(name));
                found.and_then(|port| u16::try_from(port.container_port).ok())
            }
        },
    };
    let unknown = || match port {
        IntOrString::Int(number) => number.to_string(),
        IntOrString::String(name) => name.clone(),
    };
    let port = number.ok_or_else(|| Cause::UnknownPort { port: unknown() })?;
    Ok(Place { host, port })
}
