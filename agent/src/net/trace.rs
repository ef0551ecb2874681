//! From a pod to a service, a pod or an address: each step, and why a packet ends there.

use super::ask::Question;
use super::facts::{Facts, Failure, PodFacts};
use super::path::{Place, follow, word, written};
use super::report::{Outcome, Step, Trace};
use super::resolve::resolve;
use crate::node::Node;
use manifests::config::AgentConfiguration;
use netstack::policies::InForce;
use netstack::{Client, Kernel, Lead, ServicesInForce, Target, Transport};
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
    let facts = super::facts(node, configuration);
    let asker = asker(&facts, question)?;
    let asked = resolve(&facts, &configuration.network.dns.cluster_domain, question)?;
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
    trace.steps.extend(asked.name);
    let client = if asker.host_network { Client::Node } else { Client::Pod };
    for (transport, target) in asked.targets {
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
            None if !asked.is_service && facts.is_for_services(target.address) => {
                let text = format!("no service has {}/{}", written(target), word(transport));
                trace.steps.push(Step::new("service", Outcome::Refused, text));
            }
            None if asked.is_service => {
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
