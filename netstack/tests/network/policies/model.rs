//! What policies mean, said as plainly as can be: no groups, no numbers, nothing prepared. For tests,
//! which compare with it what was made for the kernel, and what the kernel does.

use super::api::{IpBlock, Labels, Peer, Policy, PolicyName, PolicyPod, Ports, Protocol, Rule};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// A cluster.
#[derive(Debug, Clone, Default)]
pub(crate) struct World {
    pub(crate) namespaces: BTreeMap<String, Labels>,
    pub(crate) policies: BTreeMap<PolicyName, Policy>,
    pub(crate) pods: BTreeMap<String, PolicyPod>,
}

/// A connection that somebody wants to open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Attempt {
    pub(crate) from: IpAddr,
    pub(crate) to: IpAddr,
    pub(crate) protocol: Protocol,
    pub(crate) port: u16,
}

impl World {
    /// Whether the nodes that have the pods let it through.
    pub(crate) fn allows(&self, attempt: Attempt) -> bool {
        if attempt.from == attempt.to {
            return true;
        }
        let (from, to) = (self.owner(attempt.from), self.owner(attempt.to));
        self.end(from, |policy| policy.egress.as_ref(), (to, attempt.to), (attempt, to))
            && self.end(to, |policy| policy.ingress.as_ref(), (from, attempt.from), (attempt, to))
    }

    fn owner(&self, address: IpAddr) -> Option<&PolicyPod> {
        self.pods.values().find(|pod| pod.addresses.contains(&address))
    }

    /// One end has its say: if any policy of that direction selects it, one of them must allow it.
    fn end(
        &self,
        own: Option<&PolicyPod>,
        rules: impl Fn(&Policy) -> Option<&Vec<Rule>>,
        (other, address): (Option<&PolicyPod>, IpAddr),
        (attempt, asked): (Attempt, Option<&PolicyPod>),
    ) -> bool {
        let Some(own) = own.filter(|pod| pod.here) else { return true };
        let mut selected = false;
        for (name, policy) in &self.policies {
            let Some(rules) = rules(policy) else { continue };
            if name.namespace != own.namespace || !policy.pods.matches(&own.labels) {
                continue;
            }
            selected = true;
            let named = |peer: &Peer| match peer {
                Peer::Block(block) => block_holds(block, address),
                Peer::Pods { namespaces, pods } => other.is_some_and(|other| {
                    let of_namespace = match namespaces {
                        None => other.namespace == name.namespace,
                        Some(selector) => selector.matches(&self.labels(&other.namespace)),
                    };
                    of_namespace && pods.matches(&other.labels)
                }),
            };
            for rule in rules {
                let what = |asked| {
                    rule.ports.is_empty() || rule.ports.iter().any(|port| holds(port, attempt, asked))
                };
                // Who is asked for being in a block is no pod, whose ports would have names.
                let is_own = attempt.to != address;
                let by = |peer: &Peer| match peer {
                    Peer::Block(_) => what(asked.filter(|_| is_own)),
                    Peer::Pods { .. } => what(asked),
                };
                if rule.peers.is_empty() && what(asked)
                    || rule.peers.iter().any(|peer| named(peer) && by(peer))
                {
                    return true;
                }
            }
        }
        !selected
    }

    fn labels(&self, namespace: &str) -> Labels {
        let mut labels = self.namespaces.get(namespace).cloned().unwrap_or_default();
        labels.insert("kubernetes.io/metadata.name".into(), namespace.into());
        labels
    }
}

fn holds(ports: &Ports, attempt: Attempt, asked: Option<&PolicyPod>) -> bool {
    match ports {
        Ports::All(protocol) => *protocol == attempt.protocol,
        Ports::Range(protocol, first, last) => {
            *protocol == attempt.protocol && *first <= attempt.port && attempt.port <= *last
        }
        Ports::Named(protocol, name) => asked.is_some_and(|pod| {
            let is_it = |port: &super::api::NamedPort| {
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
