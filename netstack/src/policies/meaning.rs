//! What policies mean, said as plainly as can be: no groups, no numbers, nothing prepared. Pure.
//!
//! It says by name who forbids what, for people; and tests compare with it what was made for the kernel, and
//! what the kernel does.

use super::model::{
    Direction, IpBlock, Labels, NAMESPACE_LABEL, NamedPort, News, Peer, Policy, PolicyName, PolicyPod, Ports,
    Rule,
};
use crate::network::Protocol;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// A cluster as policies see it.
#[derive(Debug, Clone, Default)]
pub struct World {
    /// Labels of namespaces, by their names.
    pub namespaces: BTreeMap<String, Labels>,
    /// All policies.
    pub policies: BTreeMap<PolicyName, Policy>,
    /// All pods, by their uids.
    pub pods: BTreeMap<String, PolicyPod>,
}

/// A connection that somebody wants to open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempt {
    /// Who asks.
    pub from: IpAddr,
    /// Who is asked.
    pub to: IpAddr,
    /// By which protocol.
    pub protocol: Protocol,
    /// At which port.
    pub port: u16,
}

/// What policies say of a connection at one of its ends.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Judgement {
    /// The policies that select the pod there, for that direction. Without any, everything is allowed.
    pub selected_by: Vec<PolicyName>,
    /// The first of them that allows it, and the place of its rule, from 0.
    pub allowed_by: Option<(PolicyName, usize)>,
}

impl Judgement {
    /// Whether it is allowed.
    #[must_use]
    pub fn allows(&self) -> bool {
        self.selected_by.is_empty() || self.allowed_by.is_some()
    }
}

impl World {
    /// Takes in what is told.
    pub fn tell(&mut self, news: News) {
        match news {
            News::Namespace(name, labels) => keep(&mut self.namespaces, name, labels),
            News::Policy(name, policy) => keep(&mut self.policies, name, policy),
            News::Pod(uid, pod) => keep(&mut self.pods, uid, pod),
        }
    }

    /// Whether the policies of both ends let it through, wherever those are.
    #[must_use]
    pub fn allows(&self, attempt: Attempt) -> bool {
        Direction::BOTH.into_iter().all(|direction| self.judge(direction, attempt).allows())
    }

    /// What the policies say that select the end which that direction is about: who asks, for egress.
    #[must_use]
    pub fn judge(&self, direction: Direction, attempt: Attempt) -> Judgement {
        let mut judgement = Judgement::default();
        let (from, to) = (self.owner(attempt.from), self.owner(attempt.to));
        let (own, other, address) = match direction {
            Direction::Egress => (from, to, attempt.to),
            Direction::Ingress => (to, from, attempt.from),
        };
        // Who asks itself is asked by nobody else.
        let Some(own) = own.filter(|_| attempt.from != attempt.to) else { return judgement };
        let end = End { other, address, attempt, asked: to };
        for (name, policy) in &self.policies {
            let Some(rules) = policy.rules(direction) else { continue };
            if name.namespace != own.namespace || !policy.pods.matches(&own.labels) {
                continue;
            }
            judgement.selected_by.push(name.clone());
            if judgement.allowed_by.is_none() {
                let allows = |rule: &Rule| self.rule_allows((name, rule), &end);
                judgement.allowed_by = rules.iter().position(allows).map(|place| (name.clone(), place));
            }
        }
        judgement
    }

    /// The pod that has the address; of several, the one that was let in last.
    #[must_use]
    pub fn owner(&self, address: IpAddr) -> Option<&PolicyPod> {
        let owners = self.pods.values().filter(|pod| pod.addresses.contains(&address));
        owners.max_by_key(|pod| (pod.order, pod.here))
    }

    fn rule_allows(&self, (name, rule): (&PolicyName, &Rule), end: &End<'_>) -> bool {
        let ports =
            |asked| rule.ports.is_empty() || rule.ports.iter().any(|port| holds(port, end.attempt, asked));
        // Who is asked for being in a block is no pod, whose ports would have names.
        let is_own = end.attempt.to != end.address;
        let peer = |peer: &Peer| match peer {
            Peer::Block(block) => block_holds(block, end.address) && ports(end.asked.filter(|_| is_own)),
            Peer::Pods { namespaces, pods } => {
                let named = end.other.is_some_and(|other| {
                    let of_namespace = match namespaces {
                        None => other.namespace == name.namespace,
                        Some(selector) => selector.matches(&self.labels(&other.namespace)),
                    };
                    of_namespace && pods.matches(&other.labels)
                });
                named && ports(end.asked)
            }
        };
        if rule.peers.is_empty() { ports(end.asked) } else { rule.peers.iter().any(peer) }
    }

    fn labels(&self, namespace: &str) -> Labels {
        let mut labels = self.namespaces.get(namespace).cloned().unwrap_or_default();
        labels.insert(NAMESPACE_LABEL.into(), namespace.into());
        labels
    }
}

/// A connection as one of its ends sees it.
struct End<'a> {
    other: Option<&'a PolicyPod>,
    address: IpAddr,
    attempt: Attempt,
    asked: Option<&'a PolicyPod>,
}

fn keep<K: Ord, V>(all: &mut BTreeMap<K, V>, key: K, value: Option<V>) {
    match value {
        Some(value) => drop(all.insert(key, value)),
        None => drop(all.remove(&key)),
    }
}

fn holds(ports: &Ports, attempt: Attempt, asked: Option<&PolicyPod>) -> bool {
    match ports {
        Ports::All(protocol) => *protocol == attempt.protocol,
        Ports::Range(protocol, first, last) => {
            *protocol == attempt.protocol && *first <= attempt.port && attempt.port <= *last
        }
        Ports::Named(protocol, name) => asked.is_some_and(|pod| {
            let is_it = |port: &NamedPort| {
                port.name == *name && port.protocol == *protocol && port.port == attempt.port
            };
            *protocol == attempt.protocol && pod.ports.iter().any(is_it)
        }),
    }
}

fn block_holds(block: &IpBlock, address: IpAddr) -> bool {
    within(block.network, address) && !block.except.iter().any(|except| within(*except, address))
}

fn within((network, prefix): (IpAddr, u8), address: IpAddr) -> bool {
    let bits = |address: IpAddr| match address {
        IpAddr::V4(address) => (address.octets().to_vec(), 4),
        IpAddr::V6(address) => (address.octets().to_vec(), 6),
    };
    let (a, b) = (bits(network), bits(address));
    let bit = |bytes: &[u8], at: usize| bytes[at / 8] >> (7 - at % 8) & 1;
    a.1 == b.1 && (0..usize::from(prefix)).all(|at| bit(&a.0, at) == bit(&b.0, at))
}
