//! The node's part in how the world hears of addresses: it answers for some of them on its links, and
//! tells routers of them. Needs its own replica of the store, and nobody.

mod routers;
mod view;

use crate::chain::chain;
use crate::node::Node;
use crate::systemd;
use jiff::Timestamp;
use manifests::ObjectKey;
use manifests::config::AgentConfiguration;
use netstack::{AnnounceError, Announcer, Answered, BgpSummary, Placement};
use reconciler::controllers::Note;
use reconciler::store::Watch;
use routers::Routers;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use view::Wanted;

/// After how long it is tried again where the kernel lacks something.
const RETRY: Duration = Duration::from_secs(30);

/// What this node announces now.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Announced {
    /// By the names of its links, addresses that it answers for there.
    pub(crate) links: BTreeMap<String, BTreeSet<IpAddr>>,
    /// Addresses that it would answer for, but on no link.
    pub(crate) nowhere: BTreeSet<IpAddr>,
    /// Sessions with routers.
    pub(crate) routers: Vec<Router>,
}

/// A session with a router.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Router {
    /// Its address.
    pub(crate) address: IpAddr,
    /// The number of its autonomous system.
    pub(crate) asn: u32,
    /// As routers call it: `Idle`, `Connect`, `OpenSent`, `OpenConfirm`, `Established`.
    pub(crate) state: String,
    /// Since when.
    pub(crate) since: Timestamp,
    /// Networks of IPv4 and IPv6 that it was told.
    pub(crate) prefixes: usize,
    /// Why the session ended last, or was not begun.
    pub(crate) last_error: Option<String>,
}

impl Router {
    fn of(summary: &BgpSummary) -> Self {
        Self {
            address: summary.address,
            asn: summary.asn,
            state: summary.state.as_str().into(),
            since: Timestamp::try_from(summary.since).unwrap_or(Timestamp::UNIX_EPOCH),
            prefixes: summary.announced.0 + summary.announced.1,
            last_error: summary.last_error.clone(),
        }
    }
}

/// Announces what the store says until `stop`.
///
/// # Errors
/// Never: what the kernel refuses is said, and tried again.
pub(crate) async fn run(
    node: Arc<Node>,
    configuration: Arc<AgentConfiguration>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let network = &configuration.network;
    if network.load_balancer.pools.is_empty() && network.bgp.is_none() {
        stop.cancelled().await;
        return Ok(());
    }
    let mut said = String::new();
    while !stop.is_cancelled() {
        let Err(error) = follow(&node, &configuration, &stop).await else { break };
        let error = chain(&error);
        if error != said {
            tracing::warn!(error, "addresses are not answered for on this node; it is tried again");
            said = error;
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = tokio::time::sleep(RETRY) => {}
        }
    }
    Ok(())
}

fn placement(configuration: &AgentConfiguration) -> Placement {
    let network = &configuration.network;
    Placement { interfaces: network.load_balancer.interfaces.clone(), never: vec![network.bridge.clone()] }
}

/// What came first.
enum Happened {
    Stored,
    /// It is time to look at links and routers again.
    Disturbed(Option<AnnounceError>),
    Told,
    Closing,
}

async fn follow(
    node: &Node,
    configuration: &AgentConfiguration,
    stop: &CancellationToken,
) -> Result<(), AnnounceError> {
    let Some(network) = stop.run_until_cancelled(node.network.opened()).await else { return Ok(()) };
    let me = configuration.node_name.as_str();
    let read = || node.store.read_and_watch(None, |state| view::wanted(state, me, configuration));
    let mut announcer = Announcer::open(placement(configuration)).await?;
    let mut routers = Routers::new(node, configuration, &network);
    let (mut changes, mut closing) = (node.store.changes(), node.closing.subscribe());
    let (mut wanted, mut watch) = read();
    let mut teller = Teller { node, links: BTreeMap::new(), told: Announced::default(), said: String::new() };
    loop {
        if *closing.borrow_and_update() {
            leave(&mut announcer, &mut routers).await?;
            if stop.run_until_cancelled(closing.wait_for(|closing| !closing)).await.is_none() {
                return Ok(());
            }
        }
        match announcer.set(wanted.link.keys().copied().collect()).await {
            Ok(answered) => teller.tell(answered, &wanted),
            Err(error) => teller.failed(&error),
        }
        if let Some(routers) = &mut routers {
            routers.set(&wanted.labels, &wanted.routes);
            teller.tell_of(routers.show());
        }
        loop {
            match happened(&mut announcer, &mut routers, &mut changes, &mut closing, stop).await {
                None => {
                    // Whoever comes back after a restart is waited for; a machine that goes down is not.
                    if systemd::goes_down().await {
                        leave(&mut announcer, &mut routers).await?;
                    }
                    return Ok(());
                }
                Some(Happened::Closing) => break,
                Some(Happened::Told) => teller.tell_of(routers.iter_mut().flat_map(Routers::show).collect()),
                Some(Happened::Disturbed(failure)) => {
                    if let Some(error) = &failure {
                        tracing::debug!(error = chain(error), "a link is looked at again");
                    }
                    break;
                }
                Some(Happened::Stored) if moved(&mut watch, &wanted) => {
                    let next;
                    (next, watch) = read();
                    if next != wanted {
                        wanted = next;
                        break;
                    }
                }
                Some(Happened::Stored) => {}
            }
        }
    }
}

/// Nobody is answered, and routers are told that the node stops.
async fn leave(announcer: &mut Announcer, routers: &mut Option<Routers<'_>>) -> Result<(), AnnounceError> {
    announcer.set(BTreeSet::new()).await?;
    if let Some(routers) = routers {
        routers.shut_down().await;
    }
    Ok(())
}

async fn happened(
    announcer: &mut Announcer,
    routers: &mut Option<Routers<'_>>,
    changes: &mut watch::Receiver<u64>,
    closing: &mut watch::Receiver<bool>,
    stop: &CancellationToken,
) -> Option<Happened> {
    let told = async {
        match routers {
            Some(routers) => routers.changed().await,
            None => std::future::pending().await,
        }
    };
    // Every arm is cancel-safe, and none awaits in its body.
    tokio::select! {
        biased;
        () = stop.cancelled() => None,
        changed = closing.changed() => changed.ok().map(|()| Happened::Closing),
        changed = changes.changed() => {
            changed.ok()?;
            changes.borrow_and_update();
            Some(Happened::Stored)
        }
        () = told => Some(Happened::Told),
        failure = announcer.disturbed() => Some(Happened::Disturbed(failure)),
    }
}

/// Whether something happened that can change what is wanted.
fn moved(watch: &mut Watch, wanted: &Wanted) -> bool {
    let mut moved = false;
    loop {
        match watch.try_next() {
            Ok(Some(event)) => {
                moved |= view::matters(&event.object, &wanted.services);
            }
            Ok(None) => return moved,
            Err(_expired) => return true,
        }
    }
}

/// Says what is announced, each thing once.
struct Teller<'a> {
    node: &'a Node,
    links: BTreeMap<IpAddr, BTreeSet<ObjectKey>>,
    told: Announced,
    said: String,
}

impl Teller<'_> {
    /// It is tried again with the next look.
    fn failed(&mut self, error: &AnnounceError) {
        let error = chain(error);
        if error != self.said {
            tracing::warn!(error, "not every address is answered for on this node; it is tried again");
            self.said = error;
        }
    }

    fn tell(&mut self, answered: Answered, wanted: &Wanted) {
        self.said.clear();
        let me = &self.node.facts.node_name;
        for (address, services) in &wanted.link {
            let is_nowhere = answered.nowhere.contains(address);
            let was_nowhere = self.told.nowhere.contains(address);
            if self.links.contains_key(address) && is_nowhere == was_nowhere {
                continue;
            }
            let links: Vec<_> = answered.links.iter().filter(|(_, all)| all.contains(address)).collect();
            let links: Vec<_> = links.into_iter().map(|(name, _)| name.as_str()).collect();
            let (reason, message) = if is_nowhere {
                ("AnnounceFailed", format!("no link of node {me} has a network with {address}"))
            } else if links.is_empty() {
                ("NodeAssigned", format!("{address} is an address of node {me} itself"))
            } else {
                ("NodeAssigned", format!("node {me} answers for {address} on {}", links.join(", ")))
            };
            tracing::info!(%address, "{message}");
            for about in services {
                let (about, message) = (about.clone(), message.clone());
                self.node.recorder.record(Note { about, warning: is_nowhere, reason, message });
            }
        }
        for address in self.links.keys().filter(|address| !wanted.link.contains_key(address)) {
            tracing::info!(%address, "the address is not answered for on this node any more");
        }
        self.links.clone_from(&wanted.link);
        let Answered { links, nowhere } = answered;
        self.node.metrics.announce.answer(links.values().map(BTreeSet::len).sum());
        (self.told.links, self.told.nowhere) = (links, nowhere);
        self.publish();
    }

    fn tell_of(&mut self, routers: Vec<BgpSummary>) {
        self.told.routers = routers.iter().map(Router::of).collect();
        self.publish();
    }

    fn publish(&self) {
        self.node.announced.send_if_modified(|told| std::mem::replace(told, self.told.clone()) != self.told);
    }
}
