//! The ways to pods of other nodes, in force on this one: needs its own replica of the store, and nobody.

mod view;

use crate::chain::chain;
use crate::node::Node;
use crate::node::network::{backend, cluster_networks};
use crate::node::wireguard;
use manifests::config::AgentConfiguration;
use manifests::{Kind, ObjectKey};
use netstack::{Changed, Overlay, OverlayError, OverlayOptions, Peer, PrivateKey, Unreachable};
use reconciler::controllers::{Note, PodNetworkRules};
use reconciler::store::{Store, Watch};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
pub(crate) use view::HOLLOW;

/// Nothing tells of some things that others break.
const LOOK: Duration = Duration::from_secs(30);

/// Where the addresses of nodes' pods are from, as the configuration says.
pub(crate) fn rules(configuration: &AgentConfiguration) -> PodNetworkRules {
    let mut rules = PodNetworkRules::default();
    if configuration.cluster.is_none() {
        return rules;
    }
    for network in manifests::config::networks(&configuration.network.cluster_cidr) {
        let rule = Some((network, configuration.network.node_prefix(network)));
        if network.address.is_ipv4() {
            rules.v4 = rule;
        } else {
            rules.v6 = rule;
        }
    }
    rules
}

/// Keeps the ways to other nodes' pods in force until `stop`. They stay so after it.
///
/// # Errors
/// Never: what the kernel refuses is said, and tried again.
pub(crate) async fn run(
    node: Arc<Node>,
    configuration: Arc<AgentConfiguration>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let Some(network) = stop.run_until_cancelled(node.network.opened()).await else { return Ok(()) };
    let addresses = node.facts.host_ips.iter().filter_map(|text| text.parse().ok()).collect();
    let options = OverlayOptions {
        bridge: configuration.network.bridge.clone(),
        backend: backend(&configuration),
        own: network.pod_cidrs(),
        formers: network.formers().to_vec(),
        cluster: cluster_networks(&configuration),
        addresses,
        masquerade: configuration.network.ip_masq,
        mtu: configuration.network.mtu,
        private_key: key(&configuration),
        fast_path: network.fast_path().cloned(),
    };
    let mut teller =
        Teller { node: Arc::clone(&node), said: String::new(), unreachable: Vec::new(), long_way: None };
    while !stop.is_cancelled() {
        if let Err(error) = follow(&node.store, &options, &mut teller, &stop).await {
            teller.failed(&error);
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }
    Ok(())
}

/// The node's key, if it needs one; that there is none is said again by who needs it.
fn key(configuration: &AgentConfiguration) -> Option<PrivateKey> {
    let key = wireguard::private_key(configuration);
    let told = key.inspect_err(|error| tracing::warn!(error = chain(error), "there is no key for wireguard"));
    told.ok().flatten().map(PrivateKey)
}

/// What all nodes are, and what changes of them after it.
fn read(store: &Store, me: &str, options: &OverlayOptions) -> (Vec<Peer>, Watch) {
    store.read_and_watch(Some(Kind::Node), |state| view::peers(state, me, &options.own.subnets()))
}

async fn follow(
    store: &Store,
    options: &OverlayOptions,
    teller: &mut Teller,
    stop: &CancellationToken,
) -> Result<(), OverlayError> {
    let me = teller.node.facts.node_name.clone();
    let mut overlay = Overlay::open(options.clone()).await?;
    let mut changes = store.changes();
    let (mut peers, mut watch) = read(store, &me, options);
    teller.tell(overlay.replace(peers.clone()).await?, false);
    loop {
        let mut others_may_have = true;
        // Every arm is cancel-safe, and none awaits in its body.
        tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(()),
            changed = changes.changed() => {
                if changed.is_err() {
                    return Ok(());
                }
                others_may_have = false;
            }
            () = overlay.disturbed() => {}
            () = tokio::time::sleep(LOOK) => {}
        }
        if others_may_have {
            teller.tell(overlay.verify().await?, true);
            continue;
        }
        changes.borrow_and_update();
        let mut moved = false;
        let behind = loop {
            match watch.try_next() {
                Ok(Some(_)) => moved = true,
                Ok(None) => break false,
                Err(_expired) => break true,
            }
        };
        if !moved && !behind {
            continue;
        }
        let (next, anew) = read(store, &me, options);
        watch = anew;
        if next != peers {
            peers = next;
            teller.tell(overlay.replace(peers.clone()).await?, false);
        }
    }
}

/// Says what became of the ways, each thing once.
struct Teller {
    node: Arc<Node>,
    said: String,
    unreachable: Vec<(String, Unreachable)>,
    long_way: Option<String>,
}

impl Teller {
    fn failed(&mut self, error: &OverlayError) {
        let error = chain(error);
        if error != self.said {
            tracing::warn!(error, "pods of other nodes may not be reached from here; it is tried again");
            self.said = error;
        }
    }

    fn tell(&mut self, changed: Changed, by_others: bool) {
        self.said.clear();
        if by_others && !changed.is_nothing() {
            tracing::warn!("somebody else changed the ways to other nodes; they are put back");
        }
        let Changed { put, removed, rebuilt, unreachable, long_way } = changed;
        if let Some(error) = long_way.as_ref().filter(|_| self.long_way != long_way) {
            tracing::warn!(error, "packets for pods of other nodes take the way through netfilter");
        }
        self.long_way = long_way;
        tracing::debug!(put, removed, rebuilt, "the ways to other nodes are in force");
        for (name, why) in unreachable.iter().filter(|one| !self.unreachable.contains(one)) {
            let message = format!("its pods are not reached from node {}: {why}", self.node.facts.node_name);
            tracing::warn!(node = name, "{message}");
            let about = ObjectKey::new(Kind::Node, "", name.as_str());
            self.node.recorder.record(Note {
                about,
                warning: true,
                reason: "PodNetworkUnreachable",
                message,
            });
        }
        self.unreachable = unreachable;
    }
}
