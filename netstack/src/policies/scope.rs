//! What matters here: the policies that select pods of this node, and whom their rules name. Pure.
//!
//! What no pod of this node is subject to costs nothing here, however much of it there is.

use super::model::{
    Direction, Labels, NAMESPACE_LABEL, Peer, Policy, PolicyName, PolicyPod, Ports, Selector,
};
use crate::names::digest;
use crate::network::Protocol;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// A policy, as far as it is about one direction.
pub(super) type Half = (PolicyName, Direction);
/// Ports by the names that a pod's containers give them.
pub(super) type Named = BTreeMap<(Protocol, String), BTreeSet<u16>>;

/// Pods that rules name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Party {
    namespaces: Place,
    pods: Selector,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Place {
    /// One namespace, by its name.
    One(String),
    /// All that have such labels.
    Labelled(Selector),
}

impl Party {
    /// All pods.
    pub(super) fn anybody() -> Self {
        Self { namespaces: Place::Labelled(Selector::default()), pods: Selector::default() }
    }

    /// What a peer in a policy of `namespace` means; nothing if it is no pods.
    pub(super) fn of(peer: &Peer, namespace: &str) -> Option<Self> {
        let Peer::Pods { namespaces, pods } = peer else { return None };
        let namespaces = match namespaces {
            None => Place::One(namespace.to_owned()),
            Some(selector) => Place::Labelled(selector.clone()),
        };
        Some(Self { namespaces, pods: pods.clone() })
    }

    fn is_in(&self, namespace: &str, labels: &Labels) -> bool {
        match &self.namespaces {
            Place::One(name) => name == namespace,
            Place::Labelled(selector) => selector.matches(labels),
        }
    }
}

/// Policies by their names.
pub(super) type Policies = BTreeMap<PolicyName, Policy>;

/// The policies that select `pod` in a direction.
pub(super) fn selecting<'a>(
    policies: &'a Policies,
    pod: &'a PolicyPod,
    direction: Direction,
) -> impl Iterator<Item = (&'a PolicyName, &'a Policy)> {
    let first = PolicyName { namespace: pod.namespace.clone(), name: String::new() };
    policies
        .range(first..)
        .take_while(|(name, _)| name.namespace == pod.namespace)
        .filter(move |(_, policy)| policy.rules(direction).is_some() && policy.pods.matches(&pod.labels))
}

/// Of the ports that a pod's containers have names for, those that are asked for.
pub(super) fn named(pod: &PolicyPod, wanted: &BTreeSet<(Protocol, String)>) -> Named {
    let mut named = Named::new();
    for port in &pod.ports {
        let name = (port.protocol, port.name.clone());
        if wanted.contains(&name) {
            named.entry(name).or_default().insert(port.port);
        }
    }
    named
}

/// The names of ports that the rules of a policy go by.
pub(super) fn names(policy: &Policy, direction: Direction) -> impl Iterator<Item = (Protocol, String)> {
    let ports = policy.rules(direction).unwrap_or_default().iter().flat_map(|rule| &rule.ports);
    ports.filter_map(|port| match port {
        Ports::Named(protocol, name) => Some((*protocol, name.clone())),
        Ports::All(_) | Ports::Range(..) => None,
    })
}

/// What matters; made anew when policies or namespaces change.
#[derive(Debug, Default)]
pub(super) struct Scope {
    /// Whose rules are looked at.
    halves: BTreeSet<Half>,
    parties: Vec<(Party, u64)>,
    numbers: HashMap<Party, usize>,
    /// Names of ports that rules for what goes out go by.
    pub(super) names: BTreeSet<(Protocol, String)>,
    /// The parties that pods of a namespace can be.
    by_namespace: HashMap<String, Vec<usize>>,
}

impl Scope {
    /// Of policies that select one of `here`.
    pub(super) fn of<'a>(policies: &Policies, here: impl Iterator<Item = &'a PolicyPod>) -> Self {
        let mut scope = Self::default();
        for pod in here {
            for direction in Direction::BOTH {
                for (name, _) in selecting(policies, pod, direction) {
                    scope.halves.insert((name.clone(), direction));
                }
            }
        }
        let mut parties = BTreeSet::new();
        for (name, direction) in &scope.halves {
            let Some(policy) = policies.get(name) else { continue };
            let rules = policy.rules(*direction).unwrap_or_default();
            let peers = rules.iter().flat_map(|rule| &rule.peers);
            parties.extend(peers.filter_map(|peer| Party::of(peer, &name.namespace)));
            if *direction == Direction::Egress {
                scope.names.extend(names(policy, *direction));
            }
        }
        if !scope.names.is_empty() {
            parties.insert(Party::anybody());
        }
        for (number, party) in parties.into_iter().enumerate() {
            scope.numbers.insert(party.clone(), number);
            let sum = digest(format!("{party:?}").as_bytes());
            scope.parties.push((party, sum));
        }
        scope
    }

    /// Whether the rules of that half are looked at.
    pub(super) fn has(&self, half: &Half) -> bool {
        self.halves.contains(half)
    }

    /// How many parties there are.
    pub(super) fn count(&self) -> usize {
        self.parties.len()
    }

    /// Whether labels of namespaces matter.
    pub(super) fn reads_namespaces(&self) -> bool {
        self.parties.iter().any(|(party, _)| matches!(party.namespaces, Place::Labelled(_)))
    }

    /// The number of a party, if rules name it.
    pub(super) fn number(&self, party: &Party) -> Option<usize> {
        self.numbers.get(party).copied()
    }

    /// What tells a party from others, from one start to the next.
    pub(super) fn sum(&self, number: usize) -> u64 {
        self.parties.get(number).map_or(0, |(_, sum)| *sum)
    }

    /// The parties that `pod` is.
    pub(super) fn parties_of(
        &mut self,
        pod: &PolicyPod,
        namespaces: &BTreeMap<String, Labels>,
    ) -> BTreeSet<usize> {
        let parties = &self.parties;
        let candidates = self.by_namespace.entry(pod.namespace.clone()).or_insert_with(|| {
            let mut labels = namespaces.get(&pod.namespace).cloned().unwrap_or_default();
            labels.insert(NAMESPACE_LABEL.into(), pod.namespace.clone());
            let is_in = |number: &usize| parties[*number].0.is_in(&pod.namespace, &labels);
            (0..parties.len()).filter(is_in).collect()
        });
        candidates.iter().copied().filter(|number| parties[*number].0.pods.matches(&pod.labels)).collect()
    }
}
