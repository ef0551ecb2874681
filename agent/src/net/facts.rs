//! What the store says of pods, services, policies and nodes at one moment. Pure.

use crate::catalog::Catalog;
use crate::node::network::subnet;
use crate::policies::{told_of_namespace, told_of_pod, told_of_policy};
use k8s_openapi::api::core::v1::{Node, Pod};
use manifests::{Kind, Object, ObjectKey};
use netstack::Subnet;
use netstack::policies::World;
use reconciler::controllers::nodeipam;
use reconciler::store::State;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

/// Why nothing can be traced.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// There is no such object.
    #[error("{kind} {namespace}/{name} not found")]
    NotFound {
        /// `pod` or `service`.
        kind: &'static str,
        namespace: String,
        name: String,
    },
    /// Its packets are not seen from here.
    #[error("pod {pod} is on node {node}: ask there")]
    Elsewhere {
        /// Namespace and name.
        pod: String,
        /// Where it is.
        node: String,
    },
    /// It sends nothing.
    #[error("pod {pod} has no address: {why}")]
    NoAddress {
        /// Namespace and name.
        pod: String,
        /// What it waits for.
        why: String,
    },
    /// No port is asked, or one that is not there.
    #[error("{0}")]
    Port(String),
    /// The kernel could not be asked.
    #[error("cannot see what the kernel has")]
    Kernel(#[from] std::io::Error),
}

/// A pod.
#[derive(Debug, Clone)]
pub(super) struct PodFacts {
    pub(super) object: Arc<Object>,
    /// Namespace and name.
    pub(super) name: String,
    pub(super) uid: String,
    /// Where it is bound to.
    pub(super) node: Option<String>,
    pub(super) addresses: Vec<IpAddr>,
    pub(super) host_network: bool,
    /// Why it is not Ready, if it is not.
    pub(super) unready: Option<String>,
}

/// A node.
#[derive(Debug, Clone)]
pub(super) struct NodeFacts {
    pub(super) addresses: Vec<IpAddr>,
    pub(super) ready: bool,
}

/// What the store says.
#[derive(Debug, Default)]
pub(super) struct Facts {
    /// The networks of others that pods of this node are joined to, by their uids.
    pub(super) joined: BTreeMap<String, String>,
    /// The networks of nodes' pods, by the nodes' names.
    pub(super) pod_networks: BTreeMap<String, Vec<Subnet>>,
    /// The networks of services' addresses.
    pub(super) service_networks: Vec<Subnet>,
    pub(super) me: String,
    pub(super) world: World,
    pub(super) catalog: Catalog,
    pub(super) nodes: BTreeMap<String, NodeFacts>,
    pods: BTreeMap<ObjectKey, PodFacts>,
}

impl Facts {
    /// `state` as the node `me` sees it.
    pub(super) fn of(state: &State, me: &str) -> Self {
        let mut facts = Self { me: me.into(), ..Self::default() };
        for object in state.list(Kind::Namespace, None) {
            facts.world.tell(told_of_namespace(object, true));
        }
        for object in state.list(Kind::NetworkPolicy, None) {
            let told = told_of_policy(object).and_then(|(name, policy)| Some((name, policy?)));
            facts.world.policies.extend(told);
        }
        for object in state.list(Kind::Pod, None) {
            let Some(pod) = pod_facts(object) else { continue };
            facts.world.pods.extend(told_of_pod(object, me));
            facts.pods.insert(object.key(), pod);
        }
        for object in [Kind::Service, Kind::EndpointSlice].into_iter().flat_map(|kind| state.list(kind, None))
        {
            facts.catalog.put(object, true);
        }
        for object in state.list(Kind::Node, None) {
            if let Ok(node) = <&Node>::try_from(&**object) {
                facts.nodes.insert(object.name().into(), node_facts(node));
            }
        }
        for (node, networks) in nodeipam::held(state) {
            let networks = networks.into_iter().map(subnet).collect();
            facts.pod_networks.extend(node.metadata.name.clone().map(|name| (name, networks)));
        }
        facts
    }

    /// A pod may have the address.
    pub(super) fn is_for_pods(&self, address: IpAddr) -> bool {
        let mut all = self.pod_networks.values().flatten();
        all.any(|network| network.contains(address) && network.gateway() != address)
    }

    /// A service may have the address.
    pub(super) fn is_for_services(&self, address: IpAddr) -> bool {
        self.service_networks.iter().any(|network| network.contains(address))
    }

    /// The pod of that name.
    pub(super) fn pod(&self, namespace: &str, name: &str) -> Option<&PodFacts> {
        self.pods.get(&ObjectKey::new(Kind::Pod, namespace, name))
    }

    /// All pods.
    pub(super) fn pods(&self) -> impl Iterator<Item = &PodFacts> {
        self.pods.values()
    }

    /// The pod with a network of its own that has the address.
    pub(super) fn owner(&self, address: IpAddr) -> Option<&PodFacts> {
        self.pods().find(|pod| !pod.host_network && !has_ended(pod) && pod.addresses.contains(&address))
    }

    /// The node that has the address.
    pub(super) fn node_at(&self, address: IpAddr) -> Option<(&String, &NodeFacts)> {
        self.nodes.iter().find(|(_, node)| node.addresses.contains(&address))
    }
}

fn has_ended(pod: &PodFacts) -> bool {
    matches!(phase(&pod.object).as_deref(), Some("Succeeded" | "Failed"))
}

fn phase(object: &Object) -> Option<String> {
    <&Pod>::try_from(object).ok()?.status.as_ref()?.phase.clone()
}

fn pod_facts(object: &Arc<Object>) -> Option<PodFacts> {
    let pod = <&Pod>::try_from(&**object).ok()?;
    let (spec, status) = (pod.spec.as_ref()?, pod.status.as_ref());
    let listed = status.and_then(|status| status.pod_ips.as_ref()).into_iter().flatten();
    Some(PodFacts {
        name: format!("{}/{}", object.namespace(), object.name()),
        uid: object.uid().into(),
        node: spec.node_name.clone().filter(|name| !name.is_empty()),
        addresses: listed.filter_map(|ip| ip.ip.parse().ok()).collect(),
        host_network: spec.host_network == Some(true),
        unready: unready(pod),
        object: Arc::clone(object),
    })
}

fn unready(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref();
    if pod.metadata.deletion_timestamp.is_some() {
        return Some("it is being deleted".into());
    }
    let conditions = status.and_then(|status| status.conditions.as_ref()).into_iter().flatten();
    let ready = conditions.into_iter().find(|condition| condition.type_ == "Ready");
    if ready.is_some_and(|condition| condition.status == "True") {
        return None;
    }
    let phase = status.and_then(|status| status.phase.as_deref()).unwrap_or("Pending");
    let said = ready.and_then(|condition| condition.message.clone().or_else(|| condition.reason.clone()));
    Some(match said.filter(|said| !said.is_empty()) {
        Some(said) => format!("it is {phase}, and not Ready: {said}"),
        None => format!("it is {phase}, and not Ready"),
    })
}

fn node_facts(node: &Node) -> NodeFacts {
    let status = node.status.as_ref();
    let addresses = status.and_then(|status| status.addresses.as_ref()).into_iter().flatten();
    let conditions = status.and_then(|status| status.conditions.as_ref()).into_iter().flatten();
    NodeFacts {
        addresses: addresses.filter_map(|address| address.address.parse().ok()).collect(),
        ready: conditions.into_iter().any(|one| one.type_ == "Ready" && one.status == "True"),
    }
}
