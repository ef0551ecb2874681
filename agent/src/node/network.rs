//! The network of the node's pods, which is opened as soon as the node knows its addresses: at once
//! if its configuration or its store says so, or when its cluster has given it some.

use super::Node;
use super::plugins::{Plugins, PluginsError};
use crate::chain::chain;
use anyhow::Context as _;
use k8s_openapi::api::core::v1::Pod;
use manifests::Kind;
use manifests::config::{AgentConfiguration, IpNetwork, NetworkBackend};
use netstack::cni::{CniPod, NetworkList};
use netstack::{
    AttachError, Attachment, Backend, Exhausted, HostPort, Namespace, Network, NetworkError, NetworkOptions,
    PodCidrs, Rates, Subnet, path_mtu,
};
use reconciler::controllers::nodeipam;
use reconciler::store::Store;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

/// After how long it is tried again where the kernel refuses.
const RETRY: Duration = Duration::from_secs(30);
/// The network of nodes that were once alone.
const ALONE: &str = "10.99.0.0/16";

/// The pods' network: what is built in, once there is one, and what plugins make.
#[derive(Debug)]
pub(crate) struct PodNetwork {
    built_in: watch::Sender<Option<Arc<Network>>>,
    pub(super) plugins: Plugins,
}

/// Who makes a pod's network.
#[derive(Debug, Clone)]
pub(crate) enum Maker {
    /// We do.
    BuiltIn,
    /// The plugins of that network.
    Plugins(Arc<NetworkList>),
}

/// Why a pod has no network.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PodNetworkError {
    /// Wait for it.
    #[error("this node has no network for pods yet: its cluster has given it none, or nobody leads")]
    NotReady,
    #[error(transparent)]
    Exhausted(#[from] Exhausted),
    #[error(transparent)]
    Attach(#[from] AttachError),
    #[error(transparent)]
    Network(#[from] NetworkError),
    #[error(transparent)]
    Plugins(#[from] PluginsError),
}

impl PodNetwork {
    /// The network, open if its addresses are known.
    ///
    /// # Errors
    /// If it cannot be, as [`Network::open`].
    pub(crate) async fn of(
        configuration: &AgentConfiguration,
        store: &Store,
        addresses: &[IpAddr],
    ) -> anyhow::Result<Self> {
        let network = Self { built_in: watch::Sender::default(), plugins: Plugins::of(configuration) };
        if let Some(cidrs) = known(store, configuration) {
            network.open(open(configuration, store, cidrs, addresses).await?);
        }
        Ok(network)
    }

    /// The network.
    ///
    /// # Errors
    /// If there is none yet.
    pub(crate) fn get(&self) -> Result<Arc<Network>, PodNetworkError> {
        self.built_in.borrow().clone().ok_or(PodNetworkError::NotReady)
    }

    /// The network, as soon as there is one.
    pub(crate) async fn opened(&self) -> Arc<Network> {
        let mut receiver = self.built_in.subscribe();
        loop {
            if let Some(network) = receiver.borrow_and_update().clone() {
                return network;
            }
            if receiver.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    fn open(&self, network: Network) {
        self.built_in.send_replace(Some(Arc::new(network)));
    }

    /// Who makes the network of the pod, whose sandbox waits for it, or is still to be made. The
    /// built-in one has to be open in any case: the node's name server is there.
    pub(crate) async fn maker(&self, uid: &str, is_made: bool) -> Result<Maker, PodNetworkError> {
        self.get()?;
        if is_made && let Some(list) = self.plugins.joined(uid)? {
            return Ok(Maker::Plugins(Arc::new(list)));
        }
        match self.plugins.network()? {
            Some(list) => Ok(Maker::Plugins(Arc::new(list))),
            None => {
                // Of a sandbox before this one.
                self.plugins.leave(uid).await?;
                Ok(Maker::BuiltIn)
            }
        }
    }

    /// The pod is joined to the network by its plugins; returns its addresses.
    pub(crate) async fn join(
        &self,
        list: &NetworkList,
        pod: &CniPod,
    ) -> Result<Vec<IpAddr>, PodNetworkError> {
        Ok(self.plugins.join(list, pod).await?)
    }

    /// As [`Network::shape`].
    pub(crate) async fn shape(&self, uid: &str, pid: i32, rates: Rates) -> Result<(), PodNetworkError> {
        if rates == Rates::default() {
            return Ok(());
        }
        Ok(self.get()?.shape(uid, (&Namespace::Process(pid), "eth0"), rates).await?)
    }

    /// As [`Network::reserve`].
    pub(crate) fn reserve(&self, uid: &str) -> Result<Vec<IpAddr>, PodNetworkError> {
        Ok(self.get()?.reserve(uid)?)
    }

    /// As [`Network::attach`].
    pub(crate) async fn attach(&self, uid: &str, pid: i32) -> Result<Attachment, PodNetworkError> {
        Ok(self.get()?.attach(uid, pid).await?)
    }

    /// As [`Network::publish`].
    pub(crate) async fn publish(&self, uid: &str, ports: Vec<HostPort>) -> Result<(), PodNetworkError> {
        Ok(self.get()?.publish(uid, ports).await?)
    }

    /// As [`Network::publish_all`].
    pub(crate) async fn publish_all(
        &self,
        all: BTreeMap<String, Vec<HostPort>>,
    ) -> Result<(), PodNetworkError> {
        Ok(self.get()?.publish_all(all).await?)
    }

    /// As [`Network::detach`], and plugins have taken back what they made; what is left from before
    /// there was a network, its opening sweeps away.
    pub(crate) async fn detach(&self, uid: &str) -> Result<(), PodNetworkError> {
        self.plugins.leave(uid).await?;
        match self.get() {
            Ok(network) => Ok(network.detach(uid).await?),
            Err(_) => Ok(()),
        }
    }

    /// As [`Network::sweep`].
    pub(crate) async fn sweep(&self, live: &BTreeSet<String>) -> Result<Vec<String>, PodNetworkError> {
        match self.get() {
            Ok(network) => Ok(network.sweep(live).await?),
            Err(_) => Ok(Vec::new()),
        }
    }

    /// The networks of others that pods of this node are joined to, by their uids.
    pub(crate) fn joined_by_plugins(&self) -> BTreeMap<String, String> {
        self.plugins.all_joined()
    }

    /// Whether a new pod can be joined, and why not.
    pub(crate) fn state(&self) -> Result<(), PodNetworkError> {
        self.get()?;
        Ok(self.plugins.state()?)
    }

    /// What the network has to say of the machine.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let network = self.get();
        let warnings = network.iter().flat_map(|network| network.warnings());
        warnings.map(ToString::to_string).collect()
    }
}

/// The networks that this node's pods have addresses of, if that is known.
pub(crate) fn known(store: &Store, configuration: &AgentConfiguration) -> Option<PodCidrs> {
    let recorded = store.read(|state| nodeipam::networks_of(state, &configuration.node_name));
    let networks = configuration.pod_networks(&recorded);
    let texts: Vec<_> = networks.iter().map(ToString::to_string).collect();
    texts.join(",").parse().ok()
}

/// How packets get to other nodes, if there are any.
pub(crate) fn backend(configuration: &AgentConfiguration) -> Backend {
    let network = &configuration.network;
    match network.backend() {
        _ if configuration.cluster.is_none() => Backend::None,
        NetworkBackend::Vxlan => Backend::Vxlan { vni: network.vxlan.vni, port: network.vxlan.port },
        NetworkBackend::Wireguard => Backend::Wireguard { port: network.wireguard.port },
        NetworkBackend::HostGateway => Backend::HostGateway,
        NetworkBackend::None => Backend::None,
    }
}

/// The networks of all nodes' pods, in the words of those who make them.
pub(crate) fn cluster_networks(configuration: &AgentConfiguration) -> Vec<Subnet> {
    let of_configuration = manifests::config::networks(&configuration.network.cluster_cidr);
    of_configuration.into_iter().map(subnet).collect()
}

/// The same network in other words.
pub(crate) fn subnet(network: IpNetwork) -> Subnet {
    Subnet::containing(network.address, network.prefix)
}

/// Pods of this node hold the addresses that they had before the machine was started: their status says which.
fn remember(network: &Network, store: &Store, node: &str) {
    for object in store.list(Kind::Pod, None).0 {
        let Ok(pod) = <&Pod>::try_from(&*object) else { continue };
        let is_here = pod
            .spec
            .as_ref()
            .is_some_and(|spec| spec.node_name.as_deref() == Some(node) && spec.host_network != Some(true));
        let status = pod
            .status
            .as_ref()
            .filter(|status| is_here && !matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")));
        let known = status.and_then(|status| status.pod_ips.as_ref()).into_iter().flatten();
        let addresses: Vec<_> = known.filter_map(|known| known.ip.parse().ok()).collect();
        network.remember(object.uid(), &addresses);
    }
}

/// The network is open.
///
/// # Errors
/// If it cannot be, as [`Network::open`].
async fn open(
    configuration: &AgentConfiguration,
    store: &Store,
    pod_cidrs: PodCidrs,
    addresses: &[IpAddr],
) -> anyhow::Result<Network> {
    let mtu = match configuration.network.mtu {
        0 => {
            path_mtu(backend(configuration), addresses).await.context("cannot see the way to other nodes")?
        }
        given => given,
    };
    let mut formers = cluster_networks(configuration);
    formers.extend(ALONE.parse::<Subnet>());
    let bridge = configuration.network.bridge.clone();
    let fast_path = configuration.network.fast_path;
    let options = NetworkOptions { bridge, pod_cidrs, formers, mtu, fast_path };
    let network = Network::open(options).await.context("cannot set up the pod network")?;
    remember(&network, store, &configuration.node_name);
    Ok(network)
}

/// Opens the network when the node knows its addresses, unless it is open; then says when they
/// change, until `stop`. Pods that waited are tried at once, through `retry`.
///
/// # Errors
/// Never: what fails is tried again.
pub(crate) async fn run(
    node: Arc<Node>,
    configuration: Arc<AgentConfiguration>,
    retry: Arc<Notify>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let addresses: Vec<IpAddr> = node.facts.host_ips.iter().filter_map(|text| text.parse().ok()).collect();
    let mut changes = node.store.changes();
    let mut said = None;
    loop {
        changes.borrow_and_update();
        let known = known(&node.store, &configuration);
        let mut wait = Duration::MAX;
        match (node.network.get(), known) {
            (Err(_), Some(cidrs)) => match open(&configuration, &node.store, cidrs, &addresses).await {
                Ok(network) => {
                    tracing::info!(%cidrs, "the network of pods is open");
                    network.warnings().iter().for_each(|warning| tracing::warn!("{warning}"));
                    node.network.open(network);
                    node.sweep().await;
                    node.republish().await;
                    retry.notify_one();
                }
                Err(error) => {
                    tracing::warn!(error = chain(&*error), "pods have no network; it is tried again");
                    wait = RETRY;
                }
            },
            (Ok(network), Some(cidrs)) if network.pod_cidrs() != cidrs && said != Some(cidrs) => {
                tracing::warn!(%cidrs, "this node was given other networks for its pods; its next start takes them");
                said = Some(cidrs);
            }
            (Ok(_) | Err(_), _) => {}
        }
        // A change of whatever else costs a look at the nodes: a few hundred at most, twice a second.
        tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(()),
            () = next(&mut changes, node.network.get().is_ok()) => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// Ends with the next change; for a network that is open, not soon.
async fn next(changes: &mut watch::Receiver<u64>, is_open: bool) {
    if is_open {
        tokio::time::sleep(RETRY).await;
    }
    if changes.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}
