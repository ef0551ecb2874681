//! The network as this node sees it, for people: who has which address, where packets go, and why they do not
//! arrive. What the store says and what the kernel has are looked at side by side; nothing is changed.

mod ask;
mod facts;
mod overview;
mod path;
mod report;
mod resolve;
mod trace;

pub(crate) use ask::{Asked, Question};
pub(crate) use facts::Failure;
pub(crate) use overview::{FlowLine, NodeLine, Overview, PodLine, ServiceLine, overview};
#[cfg(test)]
pub(crate) use report::Path;
pub(crate) use report::{Outcome, Step, Trace};
pub(crate) use trace::trace;

use crate::node::Node;
use facts::Facts;
use manifests::config::AgentConfiguration;

/// What the store and the configuration say.
fn facts(node: &Node, configuration: &AgentConfiguration) -> Facts {
    let me = &configuration.node_name;
    let mut facts = node.store.read(|state| Facts::of(state, me));
    facts.joined = node.network.joined_by_plugins();
    let services = manifests::config::networks(&configuration.network.service_cidr);
    facts.service_networks = services.into_iter().map(crate::node::network::subnet).collect();
    // Who is alone is given none.
    let own = facts.pod_networks.entry(me.clone()).or_default();
    if let Some(network) = node.network.get().ok().filter(|_| own.is_empty()) {
        *own = network.pod_cidrs().subnets();
    }
    facts
}
