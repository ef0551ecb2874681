//! Node: gives each a block of the cluster's pod networks; no two get the same.
//!
//! All nodes are looked at together, so that what one decision gives away, it gives away once. What a
//! node has it keeps: only of two that have the same, as nodes had that were once alone, the younger
//! gets another. A node that is gone has given back what it had.

#[cfg(test)]
mod tests;

use super::{Knowledge, Outcome};
use crate::store::{Event, State};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use manifests::config::IpNetwork;
use manifests::{Kind, ObjectKey};
use std::collections::BTreeMap;

/// The annotation of a node whose own configuration says what it has.
pub const STATIC: &str = "evenkeel.dev/static-pod-cidr";

/// Where the blocks are from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PodNetworkRules {
    /// A network, and how long the prefixes of its blocks are; no node gets one if `None`.
    pub v4: Option<(IpNetwork, u8)>,
    /// The same for IPv6.
    pub v6: Option<(IpNetwork, u8)>,
}

/// What stands for all nodes.
fn all() -> ObjectKey {
    ObjectKey::new(Kind::Node, "", "")
}

/// The keys to look at after `event`.
#[must_use]
pub fn keys(_: &State, event: &Event) -> Vec<ObjectKey> {
    if event.object.kind() == Kind::Node { vec![all()] } else { Vec::new() }
}

/// Every node has a block of each network, or says what it lacks.
#[must_use]
pub fn reconcile(state: &State, key: &ObjectKey, context: &mut Knowledge<'_>) -> Outcome {
    let mut outcome = Outcome::default();
    let rules = context.pods;
    if *key != all() || rules == PodNetworkRules::default() {
        return outcome;
    }
    let nodes = by_age(state);
    let mut taken = Taken::default();
    let held: Vec<_> = nodes.iter().map(|node| taken.note(node, &mut outcome)).collect();
    for (node, held) in nodes.into_iter().zip(held) {
        if !is_static(node) {
            taken.complete(node, held, rules, &mut outcome);
        }
    }
    outcome
}

/// The networks of its pods that the node `name` may use: none before it has one, or while an older
/// node has the same.
#[must_use]
pub fn networks_of(state: &State, name: &str) -> Vec<IpNetwork> {
    let own = held(state).into_iter().find(|(node, _)| node.metadata.name.as_deref() == Some(name));
    own.map(|(_, networks)| networks).unwrap_or_default()
}

/// All nodes with the networks that they may use.
#[must_use]
pub fn held(state: &State) -> Vec<(&Node, Vec<IpNetwork>)> {
    let mut taken = Taken::default();
    let note = |node| (node, taken.note(node, &mut Outcome::default()));
    by_age(state).into_iter().map(note).collect()
}

/// The networks that are written in `node`.
#[must_use]
pub fn recorded(node: &Node) -> Vec<IpNetwork> {
    let Some(spec) = &node.spec else { return Vec::new() };
    let mut texts: Vec<_> = spec.pod_cidrs.iter().flatten().collect();
    if texts.is_empty() {
        texts.extend(&spec.pod_cidr);
    }
    texts.into_iter().filter_map(|text| IpNetwork::parse(text)).collect()
}

fn is_static(node: &Node) -> bool {
    node.metadata.annotations.as_ref().is_some_and(|all| all.contains_key(STATIC))
}

fn by_age(state: &State) -> Vec<&Node> {
    let nodes = state.list(Kind::Node, None);
    let mut nodes: Vec<&Node> = nodes.filter_map(|object| (&**object).try_into().ok()).collect();
    nodes.sort_by_key(|node| {
        let born = node.metadata.creation_timestamp.as_ref().map_or(Timestamp::MAX, |time| time.0);
        (born, node.metadata.name.as_ref())
    });
    nodes
}

fn key_of(node: &Node) -> ObjectKey {
    ObjectKey::new(Kind::Node, "", node.metadata.name.as_deref().unwrap_or_default())
}

/// What is given away: by first addresses, the last ones. None overlap.
#[derive(Debug, Default)]
struct Taken {
    v4: BTreeMap<u128, u128>,
    v6: BTreeMap<u128, u128>,
    owners: BTreeMap<IpNetwork, String>,
}

impl Taken {
    fn family(&mut self, network: IpNetwork) -> &mut BTreeMap<u128, u128> {
        if network.address.is_ipv4() { &mut self.v4 } else { &mut self.v6 }
    }

    /// The last address of what has addresses in common with `network`.
    fn in_the_way(&mut self, network: IpNetwork) -> Option<u128> {
        let before = self.family(network).range(..=network.last()).next_back();
        before.map(|(_, last)| *last).filter(|last| *last >= network.first())
    }

    fn take(&mut self, network: IpNetwork) {
        self.family(network).insert(network.first(), network.last());
    }

    /// What of the node's own nobody had before it.
    fn note(&mut self, node: &Node, outcome: &mut Outcome) -> Vec<IpNetwork> {
        let name = node.metadata.name.clone().unwrap_or_default();
        let mut held = Vec::new();
        for network in recorded(node) {
            if self.in_the_way(network).is_none() {
                self.take(network);
                self.owners.insert(network, name.clone());
                held.push(network);
            } else {
                let owner = self.owners.iter().find(|(other, _)| other.overlaps(network));
                let owner = owner.map_or("another node", |(_, name)| name);
                let message =
                    format!("its pod network {network} has addresses in common with that of {owner}");
                outcome.warn(&key_of(node), "CIDRConflict", message);
            }
        }
        held
    }

    /// The node has a block of each family, beside what it holds.
    fn complete(
        &mut self,
        node: &Node,
        mut held: Vec<IpNetwork>,
        rules: PodNetworkRules,
        outcome: &mut Outcome,
    ) {
        for (network, prefix) in rules.v4.into_iter().chain(rules.v6) {
            if held.iter().any(|held| held.address.is_ipv4() == network.address.is_ipv4()) {
                continue;
            }
            match self.free_block(network, prefix) {
                Some(block) => {
                    self.take(block);
                    held.push(block);
                }
                None => {
                    let message = format!("no block of {network} with a prefix of {prefix} bits is free");
                    outcome.warn(&key_of(node), "CIDRNotAvailable", message);
                }
            }
        }
        if held == recorded(node) {
            return;
        }
        let mut changed = node.clone();
        let spec = changed.spec.get_or_insert_default();
        spec.pod_cidr = held.first().map(ToString::to_string);
        spec.pod_cidrs = (!held.is_empty()).then(|| held.iter().map(ToString::to_string).collect());
        if let Some(cidr) = &spec.pod_cidr {
            outcome.note(&key_of(node), "CIDRAssigned", format!("its pods have addresses of {cidr}"));
        }
        outcome.update(changed.into());
    }

    /// The lowest that nobody has.
    fn free_block(&mut self, network: IpNetwork, prefix: u8) -> Option<IpNetwork> {
        let bits = if network.address.is_ipv4() { 32 } else { 128_u32 };
        let size = 1_u128.checked_shl(bits.saturating_sub(prefix.into()))?;
        let mut first = network.first();
        while first <= network.last() {
            let block = network.sibling(first, prefix);
            let Some(last) = self.in_the_way(block) else { return Some(block) };
            // What is in the way may be larger than a block.
            first = (last / size).checked_add(1)?.checked_mul(size)?;
        }
        None
    }
}
