//! From a pod to a service, a pod or an address: each step, and why a packet ends there.

use super::ask::{Asked, Question};
use super::facts::{Facts, Failure, PodFacts};
use super::path::{Place, follow, word, written};
use super::report::{Outcome, Step, Trace};
use crate::node::Node;
use k8s_openapi::api::core::v1::{Pod, Service};
use manifests::Kind;
use manifests::config::AgentConfiguration;
use netstack::policies::InForce;
use netstack::{Client, Kernel, Lead, ServiceName, ServicesInForce, Target, Transport};
use std::net::IpAddr;

/// What packets of a pod of this node go through.
///
/// # Errors
/// If there is no such pod or service, the pod is on another node, or the kernel cannot be asked.
pub(crate) async fn trace(
    node: &Node,
    configuration: &AgentConfiguration,
    question: &Question,
) -> Result<Trace, Failure> {
    let mut facts = node.store.read(|state| Facts::of(state, &configuration.node_name));
    facts.joined = node.network.joined_by_plugins();
    let asker = asker(&facts, question)?;
    let asks = asks(&facts, configuration, question)?;
    let bridge = configuration.network.bridge.clone();
    let kernel = Kernel::read(&bridge).await?;
    let read = move || Ok((ServicesInForce::read(&bridge)?, InForce::read(&bridge)?));
    let read = tokio::task::spawn_blocking(read).await.map_err(std::io::Error::other)?;
    let (services, policies): (ServicesInForce, InForce) = read.map_err(Failure::Kernel)?;
    let held = node.runtime.observe();
    let place = Place {
        facts: &facts,
        kernel: &kernel,
        policies: &policies,
        bridge: &configuration.network.bridge,
        held: &held,
    };
    let mut trace = Trace { steps: vec![sent(&place, asker)], paths: Vec::new() };
    trace.steps.extend(asks.name);
    let client = if asker.host_network { Client::Node } else { Client::Pod };
    for (transport, target) in asks.targets {
        if let Some(step) = kept_out(asker, &services, (transport, target)) {
            trace.steps.push(step);
            continue;
        }
        match services.lead(client, (transport, target)) {
            Some(lead) => {
                let (step, targets) = led(&facts, (transport, target), lead);
                trace.steps.push(step);
                for target in targets {
                    trace.paths.push(follow(&place, asker, (transport, target)).await);
                }
            }
            None if asks.is_service => {
                let text =
                    format!("{}/{}: the kernel leads it nowhere yet", written(target), word(transport));
                trace.steps.push(Step::new("service", Outcome::Refused, text));
            }
            None => trace.paths.push(follow(&place, asker, (transport, target)).await),
        }
    }
    Ok(trace)
}

/// The pod that asks, on this node, with an address.
fn asker<'a>(facts: &'a Facts, question: &Question) -> Result<&'a PodFacts, Failure> {
    let (namespace, name) = (&question.namespace, &question.pod);
    let not_found = || Failure::NotFound { kind: "pod", namespace: namespace.clone(), name: name.clone() };
    let pod = facts.pod(namespace, name).ok_or_else(not_found)?;
    match &pod.node {
        Some(node) if *node != facts.me => {
            Err(Failure::Elsewhere { pod: pod.name.clone(), node: node.clone() })
        }
        Some(_) if !pod.addresses.is_empty() => Ok(pod),
        Some(_) | None => {
            let why = pod.unready.clone().unwrap_or_else(|| "it is not bound to a node".into());
            Err(Failure::NoAddress { pod: pod.name.clone(), why })
        }
    }
}

/// Whom to follow packets to.
#[derive(Debug, Default)]
struct Asks {
    /// What the name comes to, if one is asked.
    name: Vec<Step>,
    /// They are addresses of a service's own.
    is_service: bool,
    targets: Vec<(Transport, Target)>,
}

fn asks(facts: &Facts, configuration: &AgentConfiguration, question: &Question) -> Result<Asks, Failure> {
    match &question.asked {
        Asked::Address(target) => {
            Ok(Asks { targets: vec![(question.transport, *target)], ..Asks::default() })
        }
        Asked::Object { kind: Kind::Service, namespace, name, port } => {
            let service = ServiceName { namespace: namespace.clone(), name: name.clone() };
            asks_service(facts, configuration, (&service, port.as_deref()))
        }
        Asked::Object { namespace, name, port, .. } => {
            let not_found =
                || Failure::NotFound { kind: "pod", namespace: namespace.clone(), name: name.clone() };
            let pod = facts.pod(namespace, name).ok_or_else(not_found)?;
            asks_pod(pod, port.as_deref(), question.transport)
        }
    }
}

fn asks_pod(pod: &PodFacts, port: Option<&str>, transport: Transport) -> Result<Asks, Failure> {
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
    let read = |port: &k8s_openapi::api::core::v1::ContainerPort| {
        let transport = match port.protocol.as_deref() {
            Some("UDP") => Transport::Udp,
            Some("SCTP") => return None,
            Some(_) | None => Transport::Tcp,
        };
        Some((port.name.clone().unwrap_or_default(), transport, u16::try_from(port.container_port).ok()?))
    };
    ports.filter_map(read).collect()
}

fn asks_service(
    facts: &Facts,
    configuration: &AgentConfiguration,
    (name, port): (&ServiceName, Option<&str>),
) -> Result<Asks, Failure> {
    let not_found =
        || Failure::NotFound { kind: "service", namespace: name.namespace.clone(), name: name.name.clone() };
    let (service, slices) = facts.catalog.get(name).ok_or_else(not_found)?;
    let spec = service.spec.clone().unwrap_or_default();
    let domain = &configuration.network.dns.cluster_domain;
    let full = format!("{}.{}.svc.{domain}", name.name, name.namespace);
    if spec.type_.as_deref() == Some("ExternalName") {
        let text = format!("{full} is another name of {}", spec.external_name.unwrap_or_default());
        return Ok(Asks { name: vec![Step::new("name", Outcome::Unknown, text)], ..Asks::default() });
    }
    let chosen = |one: &&k8s_openapi::api::core::v1::ServicePort| {
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
    for one in made.iter().filter(|one| chosen.iter().any(|port| port.port == i32::from(one.port))) {
        let at = |address: &IpAddr| (one.transport, Target { address: *address, port: one.port });
        asks.targets.extend(one.cluster_addresses.iter().map(at));
    }
    Ok(asks)
}

/// Whoever asks for the name is told the endpoints themselves.
fn headless(
    service: &Service,
    slices: &[&k8s_openapi::api::discovery::v1::EndpointSlice],
    full: &str,
) -> Asks {
    let spec = service.spec.clone().unwrap_or_default();
    let early = spec.publish_not_ready_addresses == Some(true);
    let mut targets = Vec::new();
    for slice in slices {
        let ports: Vec<(Transport, u16)> = slice
            .ports
            .iter()
            .flatten()
            .filter_map(|port| {
                let transport =
                    if port.protocol.as_deref() == Some("UDP") { Transport::Udp } else { Transport::Tcp };
                Some((transport, u16::try_from(port.port?).ok()?))
            })
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

/// How a packet leaves the pod.
fn sent(place: &Place<'_>, asker: &PodFacts) -> Step {
    let step = |outcome, text: String| Step::new("from", outcome, text);
    let addresses: Vec<_> = asker.addresses.iter().map(ToString::to_string).collect();
    let who = format!("pod {}, {}", asker.name, addresses.join(" and "));
    if asker.host_network {
        return step(Outcome::Passes, format!("{who}, in the network of the node"));
    }
    if let Some(network) = place.facts.joined.get(&asker.uid) {
        return step(Outcome::Passes, format!("{who}, by plugins of CNI network {network}"));
    }
    match place.kernel.pod(&asker.uid) {
        None => step(Outcome::Dropped, format!("{who}: its link is not there")),
        Some(link) if !link.up => step(Outcome::Dropped, format!("{who}: link {} is down", link.interface)),
        Some(link) if !link.bridged => {
            let text = format!("{who}: link {} is not a port of bridge {}", link.interface, place.bridge);
            step(Outcome::Dropped, text)
        }
        Some(link) => {
            step(Outcome::Passes, format!("{who}, by link {} to bridge {}", link.interface, place.bridge))
        }
    }
}

/// The end of a packet for a load balancer's address at which others may ask.
fn kept_out(
    asker: &PodFacts,
    services: &ServicesInForce,
    (transport, target): (Transport, Target),
) -> Option<Step> {
    let source = asker.addresses.iter().find(|own| own.is_ipv4() == target.address.is_ipv4())?;
    services.keeps_out(*source, (transport, target)).then(|| {
        let place = format!("{}/{}", written(target), word(transport));
        let text = format!("{place} is dropped: loadBalancerSourceRanges of the service leave {source} out");
        Step::new("service", Outcome::Dropped, text)
    })
}

/// What the kernel does with a packet for a service, and where it goes then.
fn led(facts: &Facts, (transport, target): (Transport, Target), lead: Lead) -> (Step, Vec<Target>) {
    let place = format!("{}/{}", written(target), word(transport));
    match lead {
        Lead::Refused => {
            let why = why_nobody(facts, target.address);
            (Step::new("service", Outcome::Refused, format!("{place} is refused: {why}")), Vec::new())
        }
        Lead::Dropped => {
            let text =
                format!("{place} is dropped: its endpoints are on other nodes, and it may only ask its own");
            (Step::new("service", Outcome::Dropped, text), Vec::new())
        }
        Lead::OneOf { targets, sticky_seconds, .. } => {
            let mut text = match targets.len() {
                1 => format!("{place} leads to one endpoint"),
                count => format!("{place} leads to one of {count} endpoints, as it comes"),
            };
            if sticky_seconds > 0 {
                text.push_str(&format!("; a client stays with its endpoint for {sticky_seconds} s"));
            }
            (Step::new("service", Outcome::Passes, text), targets)
        }
    }
}

/// Why the service of that address has no endpoint.
fn why_nobody(facts: &Facts, address: IpAddr) -> String {
    const TOLD: usize = 3;
    let service =
        facts.catalog.names().filter_map(|name| facts.catalog.get(name).map(|found| (name, found.0)));
    let mut service = service.filter(|(_, service)| {
        let addresses = service.spec.iter().flat_map(|spec| spec.cluster_ips.iter().flatten());
        addresses.filter_map(|text| text.parse::<IpAddr>().ok()).any(|own| own == address)
    });
    let Some((name, service)) = service.next() else { return "no endpoint may be asked".into() };
    let selector = service.spec.as_ref().and_then(|spec| spec.selector.clone()).unwrap_or_default();
    if selector.is_empty() {
        return format!("service {name} has no selector, and nobody gave it endpoints");
    }
    let selected = |pod: &&PodFacts| {
        let labels = pod.object.metadata().labels.clone().unwrap_or_default();
        pod.object.namespace() == name.namespace
            && selector.iter().all(|(key, value)| labels.get(key) == Some(value))
    };
    let pods: Vec<_> = facts.pods().filter(selected).collect();
    if pods.is_empty() {
        let words: Vec<_> = selector.iter().map(|(key, value)| format!("{key}={value}")).collect();
        return format!("no pod of namespace {} has the labels {}", name.namespace, words.join(","));
    }
    let why = |pod: &&PodFacts| {
        let why = pod.unready.as_deref().unwrap_or("it is Ready, and has no such port or address");
        format!("{}: {why}", pod.name)
    };
    let told: Vec<_> = pods.iter().take(TOLD).map(why).collect();
    let more = if pods.len() > TOLD { format!("; and {} more", pods.len() - TOLD) } else { String::new() };
    format!("none of its pods may be asked ({}{more})", told.join("; "))
}
