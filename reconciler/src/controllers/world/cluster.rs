//! The world's nodes: silent ones, and looks of the controllers that care for nodes.

use super::World;
use crate::controllers::node::NodeRules;
use crate::controllers::{Heard, Knowledge, Outcome};
use crate::scheduler::Ledger;
use crate::testing::Reconcile;
use manifests::{Kind, ObjectKey};
use std::collections::BTreeMap;
use std::time::Duration;

/// For how many seconds each node has been silent; who is not in it speaks.
#[derive(Debug, Clone, Default)]
pub(crate) struct Silence(pub(crate) BTreeMap<String, u64>);

impl Heard for Silence {
    fn age(&self, node: &str) -> Duration {
        Duration::from_secs(self.0.get(node).copied().unwrap_or(0))
    }
}

impl World {
    /// What `reconcile` decides about `key` now.
    pub(crate) fn see(&mut self, reconcile: Reconcile, key: &ObjectKey, heard: &Silence) -> Outcome {
        let ledger = &mut Ledger::of(&self.state);
        let rules = NodeRules { most_ended: 3, ..NodeRules::default() };
        let knowledge = &mut Knowledge {
            now: self.now,
            random: &mut self.dice,
            ledger,
            heard,
            rules,
            services: crate::controllers::ServiceRules::NONE,
            pods: crate::controllers::PodNetworkRules::default(),
        };
        reconcile(&self.state, key, knowledge)
    }

    /// The same, written.
    pub(crate) fn look(&mut self, reconcile: Reconcile, key: &ObjectKey, heard: &Silence) -> Outcome {
        let outcome = self.see(reconcile, key, heard);
        self.apply(&outcome.writes).unwrap_or_else(|error| panic!("{key}: {error}: {outcome:#?}"));
        outcome
    }

    /// The taints of a node, as `key:effect`.
    pub(crate) fn taints(&self, node: &str) -> Vec<String> {
        let node = self.json(&ObjectKey::new(Kind::Node, "", node));
        let taints = node["spec"]["taints"].as_array().cloned().unwrap_or_default();
        let word = |taint: &serde_json::Value, field: &str| taint[field].as_str().unwrap().to_owned();
        taints.iter().map(|taint| format!("{}:{}", word(taint, "key"), word(taint, "effect"))).collect()
    }
}
