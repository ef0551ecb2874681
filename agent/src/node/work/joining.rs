//! A pod whose sandbox is there is joined to its network, by whoever makes it.

use super::super::network::Maker;
use super::super::plugins::Wishes;
use super::super::{Node, host_ports, pod_of};
use super::{Inputs, Trouble, network_trouble, pod_problem, volume_problem};
use k8s_openapi::api::core::v1::Pod;
use manifests::Object;
use netstack::Rates;
use netstack::cni::{CniPod, NetworkList};
use runtime::plan::PodInput;
use runtime::volume;
use std::error::Error;
use std::net::IpAddr;
use std::sync::Arc;

/// The pod has its network, and whatever policies select it are in force; returns its addresses.
pub(super) async fn join(
    node: &Arc<Node>,
    object: &Arc<Object>,
    maker: &Maker,
    pid: i32,
) -> Result<Vec<String>, Trouble> {
    let Some(pod) = pod_of(object) else { return Ok(Vec::new()) };
    let addresses = match maker {
        Maker::BuiltIn => to_bridge(node, object, pod, pid).await?,
        Maker::Plugins(list) => by_plugins(node, object, (pod, list), pid).await?,
    };
    Ok(addresses.iter().map(ToString::to_string).collect())
}

async fn to_bridge(
    node: &Arc<Node>,
    object: &Arc<Object>,
    pod: &Pod,
    pid: i32,
) -> Result<Vec<IpAddr>, Trouble> {
    let (uid, failed) = (object.uid(), |error: &dyn Error| pod_problem("CreatePodSandboxError", error));
    let attaching = node.metrics.operation("attach_network", node.network.attach(uid, pid));
    let admitting = async {
        let not_ready = |error: &dyn Error| pod_problem("NetworkNotReady", error);
        let addresses = node.network.reserve(uid).map_err(|error| not_ready(&error))?;
        let_in(node, object, addresses).await
    };
    // Nothing of the pod's own runs before it is told to start.
    let (attached, admitted) = tokio::join!(attaching, admitting);
    let addresses = attached.map_err(|error| failed(&error))?.addresses;
    admitted?;
    let bandwidth = Wishes::of(pod).bandwidth;
    let rates = Rates { ingress: bandwidth.ingress, egress: bandwidth.egress };
    node.network.shape(uid, pid, rates).await.map_err(|error| failed(&error))?;
    let texts: Vec<_> = addresses.iter().map(ToString::to_string).collect();
    let published = node.network.publish(uid, host_ports::of_pod(pod, &texts)).await;
    published.map_err(|error| failed(&error))?;
    Ok(addresses)
}

async fn by_plugins(
    node: &Arc<Node>,
    object: &Arc<Object>,
    (pod, list): (&Pod, &NetworkList),
    pid: i32,
) -> Result<Vec<IpAddr>, Trouble> {
    let wishes = Wishes::of(pod);
    let asked = CniPod {
        uid: object.uid().to_owned(),
        namespace: object.namespace().to_owned(),
        name: object.name().to_owned(),
        pid,
        capabilities: wishes.capabilities(),
    };
    let joined = node.metrics.operation("attach_network", node.network.join(list, &asked)).await;
    let addresses = joined.map_err(|error| network_trouble(&error))?;
    if let Some(missing) = wishes.missing(list) {
        node.note(&object.key(), true, "NotSupportedByNetwork", missing);
    }
    let (there, pod, known) = (Arc::clone(node), Arc::clone(object), addresses.clone());
    let written = tokio::task::spawn_blocking(move || write_addresses(&there, &pod, &known)).await;
    written.map_err(|error| pod_problem("CreatePodSandboxError", &error))??;
    let_in(node, object, addresses.clone()).await?;
    Ok(addresses)
}

/// The policies that select the pod are in force for its addresses.
async fn let_in(node: &Node, pod: &Arc<Object>, addresses: Vec<IpAddr>) -> Result<(), Trouble> {
    let passed = node.gate.pass(Arc::clone(pod), addresses).await;
    passed.map_err(|error| pod_problem("NetworkNotReady", &error).into())
}

/// The pod's own `/etc/hosts` knows its addresses. Blocking.
fn write_addresses(node: &Node, object: &Object, addresses: &[IpAddr]) -> Result<(), Trouble> {
    let Some(pod) = pod_of(object) else { return Ok(()) };
    let inputs = Inputs::gather(node, pod);
    let facts = node.facts_now();
    let input = PodInput { node: &facts, ..inputs.input(node) };
    let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
    volume::etc::write(&input, &addresses).map_err(|error| volume_problem(&error).into())
}
