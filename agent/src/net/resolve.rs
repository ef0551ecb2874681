//! Whom a pod asks: a Service, a Pod or an address → addresses and ports. Pure.

use super::ask::{Asked, Question};
use super::facts::{Facts, Failure, PodFacts};
use super::report::{Outcome, Step};
use crate::services::transport;
use k8s_openapi::api::core::v1::{ContainerPort, Pod, Service, ServicePort};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use manifests::Kind;
use netstack::{ServiceName, Target, Transport};
use std::net::IpAddr;

/// Whom to follow packets to.
#[derive(Debug, Default)]
pub(super) struct Asks {
    /// What the name comes to, if one is asked.
    pub(super) name: Vec<Step>,
    /// They are addresses of a service's own.
    pub(super) is_service: bool,
    pub(super) targets: Vec<(Transport, Target)>,
}

/// Finds whom the question is about; names of services end in `domain`.
///
/// # Errors
/// If there is no such object, or it has no such port or no address.
pub(super) fn resolve(facts: &Facts, domain: &str, question: &Question) -> Result<Asks, Failure> {
    match &question.asked {
        Asked::Address(target) => {
            Ok(Asks { targets: vec![(question.transport, *target)], ..Asks::default() })
        }
        Asked::Object { kind: Kind::Service, namespace, name, port } => {
            let service = ServiceName { namespace: namespace.clone(), name: name.clone() };
            of_service(facts, domain, (&service, port.as_deref()))
        }
        Asked::Object { namespace, name, port, .. } => {
            let not_found =
                || Failure::NotFound { kind: "pod", namespace: namespace.clone(), name: name.clone() };
            let pod = facts.pod(namespace, name).ok_or_else(not_found)?;
            of_pod(pod, port.as_deref(), question.transport)
        }
    }
}

fn of_pod(pod: &PodFacts, port: Option<&str>, transport: Transport) -> Result<Asks, Failure> {
    if pod.addresses.is_empty() {
        let why = pod.unready.clone().unwrap_or_default();
        return Err(Failure::NoAddress { pod: pod.name.clone(), why });
    }
    let declared = declared_ports(pod);
    let ports: Vec<(Transport, u16)> = match port {
        None => declared.iter().map(|(_, transport, number)| (*transport, *number)).collect(),
        Some(text) => match text.parse::<u16>() {
            Ok(number) => vec![(transport, number)],
            Err(_) => {
                let named = declared.iter().filter(|(name, ..)| name == text);
                named.map(|(_, transport, number)| (*transport, *number)).collect()
            }
        },
    };
    if ports.is_empty() {
        let text = match port {
            None => {
                format!("at which port? pod {} declares none: write it behind the name, as :8080", pod.name)
            }
            Some(port) => format!("no container of pod {} has a port that is called {port}", pod.name),
        };
        return Err(Failure::Port(text));
    }
    let at = |port| pod.addresses.iter().map(move |address| Target { address: *address, port });
    let targets = ports.into_iter().flat_map(|(transport, port)| at(port).map(move |to| (transport, to)));
    Ok(Asks { targets: targets.collect(), ..Asks::default() })
}

fn declared_ports(pod: &PodFacts) -> Vec<(String, Transport, u16)> {
    let Ok(pod) = <&Pod>::try_from(&*pod.object) else { return Vec::new() };
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let ports = containers.flat_map(|container| container.ports.iter().flatten());
    let read = |port: &ContainerPort| {
        let transport = transport(port.protocol.as_deref())?;
        Some((port.name.clone().unwrap_or_default(), transport, u16::try_from(port.container_port).ok()?))
    };
    ports.filter_map(read).collect()
}

fn of_service(
    facts: &Facts,
    domain: &str,
    (name, port): (&ServiceName, Option<&str>),
) -> Result<Asks, Failure> {
    let not_found =
        || Failure::NotFound { kind: "service", namespace: name.namespace.clone(), name: name.name.clone() };
    let (service, slices) = facts.catalog.get(name).ok_or_else(not_found)?;
    let spec = service.spec.clone().unwrap_or_default();
    let full = format!("{}.{}.svc.{domain}", name.name, name.namespace);
    if spec.type_.as_deref() == Some("ExternalName") {
        let text = format!("{full} is another name of {}", spec.external_name.unwrap_or_default());
        return Ok(Asks { name: vec![Step::new("name", Outcome::Unknown, text)], ..Asks::default() });
    }
    let chosen = |one: &&ServicePort| {
        port.is_none_or(|port| one.name.as_deref() == Some(port) || one.port.to_string() == port)
    };
    let all = spec.ports.iter().flatten();
    let chosen: Vec<_> = all.clone().filter(chosen).collect();
    if chosen.is_empty() && port.is_some() {
        let known: Vec<_> = all.map(|one| one.port.to_string()).collect();
        let text =
            format!("service {name} has no port {}; it has {}", port.unwrap_or_default(), known.join(", "));
        return Err(Failure::Port(text));
    }
    let made = crate::services::ports(service, &slices);
    if made.is_empty() {
        return Ok(headless(service, &slices, &full));
    }
    let mut asks = Asks { is_service: true, ..Asks::default() };
    let addresses: Vec<IpAddr> = made.iter().flat_map(|port| port.cluster_addresses.clone()).collect();
    let mut told: Vec<_> = addresses.iter().map(ToString::to_string).collect();
    told.dedup();
    told.truncate(2);
    asks.name.push(Step::new("name", Outcome::Passes, format!("{full} is {}", told.join(" and "))));
    let is_it = |port: &ServicePort, one: &netstack::ServicePort| {
        port.port == i32::from(one.port) && transport(port.protocol.as_deref()) == Some(one.transport)
    };
    for one in made.iter().filter(|one| chosen.iter().any(|port| is_it(port, one))) {
        let at = |address: &IpAddr| (one.transport, Target { address: *address, port: one.port });
        asks.targets.extend(one.cluster_addresses.iter().map(at));
    }
    Ok(asks)
}

/// Whoever asks for the name is told the endpoints themselves.
fn headless(service: &Service, slices: &[&EndpointSlice], full: &str) -> Asks {
    let spec = service.spec.clone().unwrap_or_default();
    let early = spec.publish_not_ready_addresses == Some(true);
    let mut targets = Vec::new();
    for slice in slices {
        let ports: Vec<(Transport, u16)> = slice
            .ports
            .iter()
            .flatten()
            .filter_map(|port| Some((transport(port.protocol.as_deref())?, u16::try_from(port.port?).ok()?)))
            .collect();
        for endpoint in slice.endpoints.iter().flatten() {
            let ready = endpoint.conditions.as_ref().and_then(|one| one.ready).unwrap_or(true);
            let address = endpoint.addresses.first().and_then(|text| text.parse::<IpAddr>().ok());
            let Some(address) = address.filter(|_| ready || early) else { continue };
            targets
                .extend(ports.iter().map(|(transport, port)| (*transport, Target { address, port: *port })));
        }
    }
    let (outcome, text) = if targets.is_empty() {
        (Outcome::Refused, format!("{full} has no address: it is headless, and no endpoint is ready"))
    } else {
        (Outcome::Passes, format!("{full} is headless: its name is the addresses of its endpoints"))
    };
    Asks { name: vec![Step::new("name", outcome, text)], is_service: false, targets }
}
