//! Who has which address, and where packets go: nodes, pods and services as this node has them.

use super::facts::{Facts, Failure};
use super::path::{word, written};
use crate::announce::Announced;
use crate::node::Node;
use manifests::config::AgentConfiguration;
use netstack::{Client, Hop, Kernel, Lead, ServiceName, ServicePort, ServicesInForce, Subnet, Target};
use serde::{Deserialize, Serialize};

/// The network as one node has it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Overview {
    /// The node that says this.
    pub(crate) node: String,
    /// How packets get to other nodes: `network.backend`.
    pub(crate) backend: String,
    pub(crate) bridge: String,
    /// The longest packet of pods in bytes; 0 if there is no bridge.
    pub(crate) mtu: u32,
    pub(crate) nodes: Vec<NodeLine>,
    pub(crate) pods: Vec<PodLine>,
    pub(crate) services: Vec<ServiceLine>,
    /// What the world hears of the node's addresses.
    pub(crate) announced: Announced,
    /// Connections of pods that go past netfilter, the busiest first; none if there is no fast path.
    pub(crate) fast_path: Option<Vec<FlowLine>>,
}

/// A connection in one direction, which is there or was there a short time ago.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct FlowLine {
    /// Address and port.
    pub(crate) from: String,
    /// The pod that has the address.
    pub(crate) from_pod: Option<String>,
    pub(crate) to: String,
    pub(crate) to_pod: Option<String>,
    /// How many went past netfilter, before they are cut to what links take.
    pub(crate) packets: u64,
}

/// A node, and the way to its pods.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct NodeLine {
    pub(crate) name: String,
    pub(crate) ready: bool,
    pub(crate) addresses: Vec<String>,
    /// Networks of its pods.
    pub(crate) pod_networks: Vec<String>,
    /// What the kernel does with packets for them.
    pub(crate) ways: Vec<String>,
}

/// A pod of this node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct PodLine {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) addresses: Vec<String>,
    /// The node's end of its link; none in the network of the node.
    pub(crate) link: Option<String>,
    /// What is wrong with the link.
    pub(crate) fault: Option<String>,
}

/// A port of a service.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ServiceLine {
    pub(crate) namespace: String,
    pub(crate) name: String,
    /// Address, port and protocol.
    pub(crate) at: String,
    /// Where the kernel leads pods of this node.
    pub(crate) endpoints: Vec<String>,
    /// Said instead, where it leads them nowhere.
    pub(crate) outcome: Option<String>,
}

/// What this node has.
///
/// # Errors
/// If the kernel cannot be asked.
pub(crate) async fn overview(node: &Node, configuration: &AgentConfiguration) -> Result<Overview, Failure> {
    let me = &configuration.node_name;
    let facts = super::facts(node, configuration);
    let bridge = configuration.network.bridge.clone();
    let kernel = Kernel::read(&bridge).await?;
    let routes = kernel.routes().await?;
    let services = tokio::task::spawn_blocking(move || ServicesInForce::read(&bridge)).await;
    let services = services.map_err(std::io::Error::other)??;
    Ok(Overview {
        node: me.clone(),
        // Who is alone leads to nobody.
        backend: configuration.cluster.as_ref().map_or("none", |_| &configuration.network.backend).to_owned(),
        bridge: configuration.network.bridge.clone(),
        mtu: kernel.bridge_mtu().unwrap_or(0),
        nodes: nodes(&facts, &routes),
        pods: pods(&facts, &kernel),
        services: service_lines(&facts, &services),
        announced: node.announced.borrow().clone(),
        fast_path: flows(node, &facts)?,
    })
}

fn flows(node: &Node, facts: &Facts) -> Result<Option<Vec<FlowLine>>, Failure> {
    let network = node.network.get();
    let Some(fast_path) = network.as_ref().ok().and_then(|network| network.fast_path()) else {
        return Ok(None);
    };
    let mut flows = fast_path.flows()?;
    flows.sort_by_key(|flow| (std::cmp::Reverse(flow.packets), flow.source, flow.destination));
    let pod = |end: std::net::SocketAddr| {
        facts.owner(end.ip()).map(|pod| format!("{}/{}", pod.object.namespace(), pod.object.name()))
    };
    let line = |flow: netstack::Flow| FlowLine {
        from: flow.source.to_string(),
        from_pod: pod(flow.source),
        to: flow.destination.to_string(),
        to_pod: pod(flow.destination),
        packets: flow.packets,
    };
    Ok(Some(flows.into_iter().map(line).collect()))
}

fn nodes(facts: &Facts, routes: &[(Subnet, Hop)]) -> Vec<NodeLine> {
    let line = |(name, node): (&String, &super::facts::NodeFacts)| {
        let pods = facts.pod_networks.get(name).cloned().unwrap_or_default();
        let ways = if *name == facts.me {
            vec!["this node".into()]
        } else {
            pods.iter().map(|pods| way(facts, routes, *pods)).collect()
        };
        NodeLine {
            name: name.clone(),
            ready: node.ready,
            addresses: node.addresses.iter().map(ToString::to_string).collect(),
            pod_networks: pods.iter().map(ToString::to_string).collect(),
            ways,
        }
    };
    facts.nodes.iter().map(line).collect()
}

fn way(facts: &Facts, routes: &[(Subnet, Hop)], pods: Subnet) -> String {
    let Some((_, hop)) = routes.iter().find(|(to, _)| *to == pods) else { return "no route".into() };
    if !hop.up {
        return format!("{} is down", hop.interface);
    }
    let node =
        |address| facts.node_at(address).map_or_else(|| format!("{address}"), |(name, _)| name.clone());
    match (hop.tunnel, hop.gateway) {
        (Some(None), _) => format!("tunnel {}, which knows no node there", hop.interface),
        (Some(Some(end)), _) => format!("tunnel {} to {}", hop.interface, node(end)),
        (None, Some(gateway)) => format!("{} to {}", hop.interface, node(gateway)),
        (None, None) => hop.interface.clone(),
    }
}

fn pods(facts: &Facts, kernel: &Kernel) -> Vec<PodLine> {
    let here = facts.pods().filter(|pod| pod.node.as_ref() == Some(&facts.me) && !pod.addresses.is_empty());
    let line = |pod: &super::facts::PodFacts| {
        let link = if pod.host_network { None } else { kernel.pod(&pod.uid) };
        let joined = facts.joined.get(&pod.uid);
        let fault = match &link {
            _ if pod.host_network || joined.is_some() => None,
            None => Some("has no link"),
            Some(link) if !link.up => Some("is down"),
            Some(link) if !link.bridged => Some("is not on the bridge"),
            Some(_) => None,
        };
        PodLine {
            namespace: pod.object.namespace().into(),
            name: pod.object.name().into(),
            addresses: pod.addresses.iter().map(ToString::to_string).collect(),
            link: joined.map(|network| format!("CNI {network}")).or(link.map(|link| link.interface)),
            fault: fault.map(Into::into),
        }
    };
    // Who has ended has no link, and its address is another's soon.
    here.filter(|pod| {
        pod.host_network || facts.owner(pod.addresses[0]).is_some_and(|owner| owner.uid == pod.uid)
    })
    .map(line)
    .collect()
}

fn service_lines(facts: &Facts, services: &ServicesInForce) -> Vec<ServiceLine> {
    let mut lines = Vec::new();
    for name in facts.catalog.names() {
        let Some((service, slices)) = facts.catalog.get(name) else { continue };
        for port in crate::services::ports(service, &slices) {
            lines.extend(ports(name, &port, services));
        }
    }
    lines
}

fn ports(name: &ServiceName, port: &ServicePort, services: &ServicesInForce) -> Vec<ServiceLine> {
    let addresses =
        port.cluster_addresses.iter().chain(&port.balancer.addresses).chain(&port.external_addresses);
    let line = |address: &std::net::IpAddr| {
        let target = Target { address: *address, port: port.port };
        let (endpoints, outcome) = match services.lead(Client::Pod, (port.transport, target)) {
            Some(Lead::OneOf { targets, .. }) => (targets.into_iter().map(written).collect(), None),
            Some(Lead::Refused) => (Vec::new(), Some("refused: no endpoint".into())),
            Some(Lead::Dropped) => (Vec::new(), Some("dropped: no endpoint on this node".into())),
            None => (Vec::new(), Some("not in force".into())),
        };
        ServiceLine {
            namespace: name.namespace.clone(),
            name: name.name.clone(),
            at: format!("{}/{}", written(target), word(port.transport)),
            endpoints,
            outcome,
        }
    };
    addresses.map(line).collect()
}
