//! Other nodes, as the store has them. Pure.

use crate::node::network::subnet;
use k8s_openapi::api::core::v1::Node;
use netstack::{Peer, Subnet};
use reconciler::controllers::nodeipam;
use reconciler::store::State;
use std::net::IpAddr;

/// The label of hollow nodes, and their taint, which keeps pods away: what runs there does nothing, and
/// nobody reaches it.
pub(crate) const HOLLOW: &str = "evenkeel.dev/hollow";

/// The nodes but `me` whose pods can be told from `own` ones.
pub(super) fn peers(state: &State, me: &str, own: &[Subnet]) -> Vec<Peer> {
    let all = nodeipam::held(state).into_iter();
    let others = all.filter(|(node, _)| node.metadata.name.as_deref() != Some(me) && !is_hollow(node));
    let peer = |(node, held): (&Node, Vec<_>)| {
        let pods = held.into_iter().map(subnet);
        let pods: Vec<_> =
            pods.filter(|pods| !own.iter().any(|own| own.covers(*pods) || pods.covers(*own))).collect();
        let name = node.metadata.name.clone()?;
        (!pods.is_empty()).then(|| Peer { name, addresses: addresses(node), pods })
    };
    others.filter_map(peer).collect()
}

fn is_hollow(node: &Node) -> bool {
    node.metadata.labels.as_ref().is_some_and(|labels| labels.contains_key(HOLLOW))
}

fn addresses(node: &Node) -> Vec<IpAddr> {
    let all = node.status.iter().flat_map(|status| status.addresses.iter().flatten());
    let internal = all.filter(|address| address.type_ == "InternalIP");
    internal.filter_map(|address| address.address.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use manifests::{Kind, Object};
    use serde_json::json;
    use std::sync::Arc;

    fn node(name: &str, label: &str, cidr: &str) -> Object {
        let node = json!({"apiVersion": "v1", "kind": "Node",
            "metadata": {"name": name, "labels": {label: "true"}},
            "spec": {"podCIDR": cidr, "podCIDRs": [cidr]},
            "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.7"},
                {"type": "Hostname", "address": name}]}});
        Object::from_json(Kind::Node, node).expect("a node")
    }

    #[test]
    fn peers_are_others_with_machines_and_pods_of_their_own() {
        let mut state = State::default();
        for (name, label, cidr) in [
            ("a", "x", "10.244.0.0/24"),
            ("b", "x", "10.244.1.0/24"),
            ("c", HOLLOW, "100.64.0.0/24"),
            ("d", "x", "10.244.0.128/25"),
        ] {
            state.insert(Arc::new(node(name, label, cidr)), 1);
        }
        let found = peers(&state, "a", &["10.244.0.0/24".parse().expect("a network")]);
        let names: Vec<_> = found.iter().map(|peer| (peer.name.as_str(), peer.addresses.len())).collect();
        assert_eq!(names, [("b", 1)]);
    }
}
