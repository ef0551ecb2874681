//! One way of a packet, from a pod of this node to whom it is led.

use super::facts::{Facts, PodFacts};
use super::report::{Outcome, Path, Step};
use crate::chain::chain;
use netstack::policies::{Attempt, Direction, InForce, Judgement, PolicyName};
use netstack::{Family, Kernel, Protocol, Target, Transport};
use runtime::state::PodState;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

/// What a packet is judged by.
pub(super) struct Place<'a> {
    pub(super) facts: &'a Facts,
    pub(super) kernel: &'a Kernel,
    pub(super) policies: &'a InForce,
    /// The pods' bridge.
    pub(super) bridge: &'a str,
    /// Pods that have processes here, by uid.
    pub(super) held: &'a BTreeMap<String, Arc<PodState>>,
}

/// The protocol in words.
pub(super) const fn word(transport: Transport) -> &'static str {
    match transport {
        Transport::Tcp => "TCP",
        Transport::Udp => "UDP",
    }
}

/// Address and port as they are written together.
pub(super) fn written(target: Target) -> String {
    std::net::SocketAddr::new(target.address, target.port).to_string()
}

/// Follows a packet of the pod `asker` to `target`.
pub(super) async fn follow(
    place: &Place<'_>,
    asker: &PodFacts,
    (transport, target): (Transport, Target),
) -> Path {
    let owner = place.facts.owner(target.address);
    let mut steps = Vec::new();
    let from = asker.addresses.iter().find(|own| Family::of(**own) == Family::of(target.address)).copied();
    let Some(from) = from else {
        let family = if target.address.is_ipv4() { "IPv4" } else { "IPv6" };
        let text = format!("{} has no {family} address to ask from", asker.name);
        steps.push(Step::new("pod", Outcome::Dropped, text));
        return Path { to: written(target), whose: whose(place.facts, target.address), steps };
    };
    let protocol = match transport {
        Transport::Tcp => Protocol::Tcp,
        Transport::Udp => Protocol::Udp,
    };
    let attempt = Attempt { from, to: target.address, protocol, port: target.port };
    let what = (place, (asker, owner), attempt);
    steps.extend(judged(what, Direction::Egress));
    steps.push(routed(place, owner, target.address).await);
    steps.extend(judged(what, Direction::Ingress));
    steps.push(match owner {
        Some(owner) => received(place, owner, (transport, target.port)),
        None => Step::new("answer", Outcome::Unknown, "whether anybody answers there is not seen from here"),
    });
    Path { to: written(target), whose: whose(place.facts, target.address), steps }
}

/// Who has an address.
fn whose(facts: &Facts, address: IpAddr) -> String {
    if let Some(pod) = facts.owner(address) {
        let node = pod.node.as_deref().unwrap_or("no node");
        return format!("pod {} on {node}", pod.name);
    }
    match facts.node_at(address) {
        Some((name, node)) if node.ready => format!("node {name}"),
        Some((name, _)) => format!("node {name}, which is not Ready"),
        None => "nobody of the cluster".into(),
    }
}

type Judged<'a> = (&'a Place<'a>, (&'a PodFacts, Option<&'a PodFacts>), Attempt);

/// What the policies of one end say; nothing where they have no say.
fn judged((place, (asker, owner), attempt): Judged<'_>, direction: Direction) -> Option<Step> {
    let name = match direction {
        Direction::Egress => "egress",
        Direction::Ingress => "ingress",
    };
    // What the node itself sends goes by the rules for what it passes on.
    let is_own = owner.is_some_and(|owner| owner.node == asker.node);
    let own = match direction {
        Direction::Egress if asker.host_network => return None,
        Direction::Ingress if asker.host_network && is_own => {
            return Some(Step::new(name, Outcome::Passes, "the node may always ask its own pods"));
        }
        Direction::Egress => asker,
        Direction::Ingress => owner?,
    };
    let judgement = place.facts.world.judge(direction, attempt);
    let text = said(&judgement, own, attempt);
    let wanted = judgement.allows();
    if own.node.as_deref() != Some(place.facts.me.as_str()) {
        let outcome = if wanted { Outcome::Passes } else { Outcome::Dropped };
        return Some(Step::new(name, outcome, text));
    }
    let is = place.policies.passes(direction, attempt);
    let outcome = if is { Outcome::Passes } else { Outcome::Dropped };
    let kernel = match (wanted, is) {
        (true, false) => ", but the kernel's rules still drop it",
        (false, true) => ", but the kernel's rules do not drop it yet",
        (true, true) | (false, false) if !place.policies.is_sound() => {
            " (somebody else changed the rules in the kernel)"
        }
        (true, true) | (false, false) => "",
    };
    Some(Step::new(name, outcome, text + kernel))
}

fn said(judgement: &Judgement, own: &PodFacts, attempt: Attempt) -> String {
    let names = |names: &[PolicyName]| names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let protocol = match attempt.protocol {
        Protocol::Tcp => "TCP",
        Protocol::Udp => "UDP",
        Protocol::Sctp => "SCTP",
    };
    match (&judgement.allowed_by, judgement.selected_by.as_slice()) {
        (_, []) => format!("no policy selects {}", own.name),
        (Some((name, place)), _) => format!("rule {} of policy {name} allows it", place + 1),
        (None, selecting) => {
            let is_asked = own.addresses.contains(&attempt.to);
            let other =
                if is_asked { format!("from {}", attempt.from) } else { format!("to {}", attempt.to) };
            let (own, port) = (&own.name, attempt.port);
            format!(
                "{own} is selected by {}, of which no rule allows {port}/{protocol} {other}",
                names(selecting)
            )
        }
    }
}

/// Where the kernel sends it.
async fn routed(place: &Place<'_>, owner: Option<&PodFacts>, to: IpAddr) -> Step {
    let step = |outcome, text: String| Step::new("route", outcome, text);
    let is_ours = |owner: &&PodFacts| {
        let here = owner.node.as_deref() == Some(place.facts.me.as_str());
        // Where plugins have joined a pod, the kernel knows the way.
        here && !place.facts.joined.contains_key(&owner.uid)
    };
    if let Some(owner) = owner.filter(is_ours) {
        return match place.kernel.pod(&owner.uid) {
            None => step(Outcome::Dropped, format!("{} has no link on this node", owner.name)),
            Some(link) if !link.up => step(Outcome::Dropped, format!("link {} is down", link.interface)),
            Some(link) if !link.bridged => {
                let text = format!("link {} is not a port of bridge {}", link.interface, place.bridge);
                step(Outcome::Dropped, text)
            }
            Some(link) => step(Outcome::Passes, format!("bridge {}, link {}", place.bridge, link.interface)),
        };
    }
    if owner.is_none() && place.facts.is_for_pods(to) {
        return step(Outcome::Dropped, format!("{to} is of the pods' networks, and no pod has it"));
    }
    let hop = match place.kernel.towards(to).await {
        Ok(hop) => hop,
        Err(error) => return step(Outcome::Dropped, format!("the kernel knows no way: {}", chain(&error))),
    };
    if !hop.up {
        return step(Outcome::Dropped, format!("{} is down", hop.interface));
    }
    let node = |address: IpAddr| match place.facts.node_at(address) {
        Some((name, _)) => format!("{name} ({address})"),
        None => address.to_string(),
    };
    let lost = owner
        .and_then(|owner| owner.node.as_ref())
        .filter(|name| place.facts.nodes.get(*name).is_some_and(|node| !node.ready));
    let text = match (hop.tunnel, hop.gateway) {
        (Some(None), _) => {
            return step(Outcome::Dropped, format!("tunnel {} knows no node behind {to}", hop.interface));
        }
        (Some(Some(end)), _) => format!("tunnel {} to node {}", hop.interface, node(end)),
        (None, Some(gateway)) if place.facts.node_at(gateway).is_some() => {
            format!("{} to node {}", hop.interface, node(gateway))
        }
        (None, Some(gateway)) => format!("{} by router {gateway}", hop.interface),
        (None, None) => hop.interface.clone(),
    };
    match lost {
        Some(name) => step(Outcome::Unknown, format!("{text}; node {name} is not Ready")),
        None => step(Outcome::Passes, text),
    }
}

/// Whether the pod would answer.
fn received(place: &Place<'_>, owner: &PodFacts, (transport, port): (Transport, u16)) -> Step {
    let state = owner.unready.as_deref().unwrap_or("it is Ready");
    let listening = place.held.get(&owner.uid).map(|held| listens(held.supervisor_pid, transport, port));
    match listening {
        Some(Some(false)) => {
            let text = format!("nobody in {} listens on {port}/{}; {state}", owner.name, word(transport));
            Step::new("pod", Outcome::Refused, text)
        }
        Some(Some(true)) => Step::new("pod", Outcome::Passes, format!("it listens; {state}")),
        Some(None) | None => {
            Step::new("pod", Outcome::Unknown, format!("{state}; whether it listens is seen on its node"))
        }
    }
}

/// Whether somebody in the network of process `pid` has a socket at the port that takes what comes. Source:
/// proc_net(5).
fn listens(pid: i32, transport: Transport, port: u16) -> Option<bool> {
    const LISTEN: &str = "0A";
    let (files, state) = match transport {
        Transport::Tcp => (["tcp", "tcp6"], Some(LISTEN)),
        Transport::Udp => (["udp", "udp6"], None),
    };
    let mut found = None;
    for file in files {
        let Ok(text) = std::fs::read_to_string(format!("/proc/{pid}/net/{file}")) else { continue };
        let is_it = text.lines().skip(1).any(|line| has(line, port, state));
        found = Some(found.unwrap_or(false) || is_it);
    }
    found
}

/// `sl: local_address rem_address st …`, in hexadecimal digits.
fn has(line: &str, port: u16, state: Option<&str>) -> bool {
    let mut words = line.split_whitespace().skip(1);
    let (local, _, is) = (words.next(), words.next(), words.next());
    let local = local.and_then(|local| local.rsplit_once(':')).map(|(_, port)| port);
    local.and_then(|local| u16::from_str_radix(local, 16).ok()) == Some(port)
        && state.is_none_or(|state| is == Some(state))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_are_told_from_connections() {
        let line =
            "   0: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1";
        assert!(has(line, 8080, Some("0A")) && !has(line, 80, Some("0A")));
        let open =
            "   1: 0100007F:1F90 0100007F:A2B4 01 00000000:00000000 00:00000000 00000000     0        0 2";
        assert!(!has(open, 8080, Some("0A")) && has(open, 8080, None));
        assert!(!has("nonsense", 1, None));
    }
}
