//! Which lost nodes are given up, so that their Pods go: one after the other in each zone, slower
//! or not at all where so many are lost that the fault is likely elsewhere.
//!
//! The pace is kept by what the taints say of their time, so that a new leader keeps it too.

#[cfg(test)]
mod tests;

use super::node::{self, Health, NodeRules, drop_empty, is_ours, new_taint, taints_mut};
use super::{Knowledge, Outcome};
use crate::scheduler::zone;
use crate::store::{Event, State};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Node, Taint};
use manifests::{Kind, ObjectKey};
use std::collections::BTreeMap;
use std::time::Duration;

/// So many nodes are changed by one decision.
const PORTION: usize = 64;

/// Stands for all nodes: who is given up is decided for all of them together.
fn all() -> ObjectKey {
    ObjectKey::new(Kind::Node, "", "")
}

/// All nodes, when one has changed.
#[must_use]
pub fn keys(_: &State, event: &Event) -> Vec<ObjectKey> {
    if event.object.kind() == Kind::Node { vec![all()] } else { Vec::new() }
}

/// The nodes of one zone.
#[derive(Debug, Default)]
struct Zone<'s> {
    ready: usize,
    not_ready: usize,
    /// Not ready, and their Pods stay until now.
    waiting: Vec<(&'s Node, &'static str)>,
    /// When the last of its nodes was given up.
    last: Option<Timestamp>,
}

impl Zone<'_> {
    /// How long after the last node the next is given up; `None` for never.
    fn pace(&self, rules: &NodeRules) -> Option<Duration> {
        let count = self.ready + self.not_ready;
        if self.ready == 0 {
            return Some(rules.pace);
        }
        if self.not_ready > 2 && self.not_ready * 100 >= count * rules.unhealthy_percent {
            return (count > rules.small).then_some(rules.slow_pace);
        }
        Some(rules.pace)
    }
}

/// Gives up the nodes whose turn it is. If no node at all is ready, nobody is given up, and those
/// that were are not any more: who sees nothing is blind.
#[must_use]
pub fn reconcile(state: &State, _: &ObjectKey, context: &mut Knowledge<'_>) -> Outcome {
    let mut outcome = Outcome::default();
    let nodes = || state.list(Kind::Node, None).filter_map(|object| <&Node>::try_from(object.as_ref()).ok());
    let zones = zones(nodes(), context);
    if zones.values().all(|zone| zone.ready == 0) {
        let given_up = nodes().filter(|node| taints(node).any(is_final)).take(PORTION);
        for node in given_up {
            let mut spared = node.clone();
            taints_mut(&mut spared).retain(|taint| !is_final(taint));
            drop_empty(&mut spared);
            outcome.update(spared.into());
        }
        if outcome.writes.len() == PORTION {
            outcome.look.push(all());
        }
        return outcome;
    }
    for mut zone in zones.into_values() {
        let Some(pace) = zone.pace(&context.rules) else { continue };
        let pace = SignedDuration::try_from(pace).unwrap_or(SignedDuration::MAX);
        zone.waiting.sort_by_key(|(node, _)| (since(node), node.metadata.name.clone()));
        let Some((node, key)) = zone.waiting.first() else { continue };
        let due = zone.last.and_then(|last| last.checked_add(pace).ok()).unwrap_or(context.now);
        if due > context.now {
            outcome.wake_by(due);
        } else {
            let mut given_up = (*node).clone();
            taints_mut(&mut given_up).push(new_taint(key, "NoExecute", context.now));
            outcome.update(given_up.into());
            outcome.wake_by(context.now.checked_add(pace).unwrap_or(Timestamp::MAX));
        }
    }
    outcome
}

fn zones<'s>(nodes: impl Iterator<Item = &'s Node>, context: &Knowledge<'_>) -> BTreeMap<String, Zone<'s>> {
    let mut zones: BTreeMap<String, Zone<'s>> = BTreeMap::new();
    for node in nodes {
        let zone = zones.entry(zone(node)).or_default();
        let name = node.metadata.name.as_deref().unwrap_or_default();
        let silent = context.heard.age(name) >= context.rules.grace;
        let health = Health::of(node);
        if health == Health::Ready && !silent {
            zone.ready += 1;
        } else if health != Health::New || silent {
            zone.not_ready += 1;
        }
        let added =
            taints(node).filter(|taint| is_final(taint)).filter_map(|taint| taint.time_added.as_ref());
        let added = added.map(|time| time.0).max();
        zone.last = zone.last.max(added);
        if let Some(key) = health.taint().filter(|_| !taints(node).any(is_final)) {
            zone.waiting.push((node, key));
        }
    }
    zones
}

fn taints(node: &Node) -> impl Iterator<Item = &Taint> {
    node.spec.iter().flat_map(|spec| spec.taints.iter().flatten())
}

/// True for the taint that gives a node up.
fn is_final(taint: &Taint) -> bool {
    is_ours(taint) && taint.effect == "NoExecute"
}

/// Since when it is not ready.
fn since(node: &Node) -> Option<Timestamp> {
    node::ready(node)?.last_transition_time.as_ref().map(|time| time.0)
}
