//! Sessions with the routers that the configuration names for this node.

use crate::node::Node;
use futures::FutureExt as _;
use futures::future::{BoxFuture, pending, select_all};
use manifests::config::{AgentConfiguration, BgpAnnouncement, BgpConfiguration, BgpPeerConfiguration};
use manifests::{Kind, ObjectKey};
use netstack::{BgpOptions, BgpPassword, BgpPeer, BgpState, BgpSummary, Network, Speaker, Subnet};
use reconciler::controllers::Note;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// A session.
struct Session {
    speaker: Speaker,
    summaries: watch::Receiver<Vec<BgpSummary>>,
    shown: Option<BgpSummary>,
}

/// The routers of this node.
pub(super) struct Routers<'a> {
    node: &'a Node,
    bgp: &'a BgpConfiguration,
    /// Without routers.
    options: BgpOptions,
    /// What they are told in any case.
    fixed: BTreeSet<Subnet>,
    /// By their places in the configuration.
    sessions: BTreeMap<usize, Session>,
    ending: JoinSet<()>,
    /// What keeps a session from being begun, by its place; said once.
    refused: BTreeMap<usize, String>,
}

impl<'a> Routers<'a> {
    /// Nobody is told anything yet. None if there are no routers, or the node has no name for them.
    pub(super) fn new(
        node: &'a Node,
        configuration: &'a AgentConfiguration,
        network: &Network,
    ) -> Option<Self> {
        let bgp = configuration.network.bgp.as_ref().filter(|bgp| !bgp.peers.is_empty())?;
        let addresses: Vec<IpAddr> =
            node.facts.host_ips.iter().filter_map(|text| text.parse().ok()).collect();
        let own = addresses.iter().find_map(|a| if let IpAddr::V4(a) = a { Some(*a) } else { None });
        let Some(router_id) = bgp.router_id.parse::<Ipv4Addr>().ok().or(own) else {
            tracing::warn!(
                "routers are not told anything: this node has no IPv4 address to be called by; \
                            set network.bgp.routerID"
            );
            return None;
        };
        let mut fixed = BTreeSet::new();
        if bgp.announces(BgpAnnouncement::PodCidr) {
            fixed.extend(network.pod_cidrs().subnets());
        }
        if bgp.announces(BgpAnnouncement::ServiceCidr) {
            let networks = manifests::config::networks(&configuration.network.service_cidr);
            fixed.extend(networks.into_iter().map(|n| Subnet::containing(n.address, n.prefix)));
        }
        let restart_time = bgp.restart_time();
        let options = BgpOptions { asn: bgp.asn, router_id, restart_time, addresses, peers: Vec::new() };
        let (sessions, ending, refused) = (BTreeMap::new(), JoinSet::new(), BTreeMap::new());
        Some(Self { node, bgp, options, fixed, sessions, ending, refused })
    }

    /// The routers that a node with these labels tells know these networks. What could not be begun is
    /// tried again.
    pub(super) fn set(&mut self, labels: &BTreeMap<String, String>, routes: &BTreeSet<Subnet>) {
        let routes: BTreeSet<Subnet> = routes.union(&self.fixed).copied().collect();
        while self.ending.try_join_next().is_some() {}
        for (place, peer) in self.bgp.peers.iter().enumerate() {
            let is_chosen = peer.node_selector.iter().all(|(key, value)| labels.get(key) == Some(value));
            match (self.sessions.get(&place), is_chosen) {
                (Some(session), true) => session.speaker.announce(routes.clone()),
                (Some(_), false) => self.end(place),
                (None, true) => self.begin(place, peer, routes.clone()),
                (None, false) => {}
            }
        }
    }

    fn begin(&mut self, place: usize, peer: &BgpPeerConfiguration, routes: BTreeSet<Subnet>) {
        match made(peer) {
            Ok(Some(made)) => {
                let options = BgpOptions { peers: vec![made], ..self.options.clone() };
                let speaker = Speaker::start(&options, routes);
                let summaries = speaker.summaries();
                self.sessions.insert(place, Session { speaker, summaries, shown: None });
                self.refused.remove(&place);
            }
            Ok(None) => {}
            Err(error) => {
                let error = error.to_string();
                if self.refused.get(&place) != Some(&error) {
                    tracing::warn!(router = peer.address, error, "the password file cannot be read");
                    self.refused.insert(place, error);
                }
            }
        }
    }

    fn end(&mut self, place: usize) {
        let Some(session) = self.sessions.remove(&place) else { return };
        if let Some(shown) = &session.shown {
            self.node.metrics.announce.forget(shown);
        }
        self.ending.spawn(session.speaker.shut_down());
    }

    /// All routers forget what they were told, and nobody is told any more.
    pub(super) async fn shut_down(&mut self) {
        let places: Vec<usize> = self.sessions.keys().copied().collect();
        places.into_iter().for_each(|place| self.end(place));
        while self.ending.join_next().await.is_some() {}
    }

    /// Ends when something became of a session.
    ///
    /// # Cancel safety
    /// Nothing is lost when dropped.
    pub(super) async fn changed(&mut self) {
        let mut waits: Vec<BoxFuture<'_, bool>> = Vec::new();
        for session in self.sessions.values_mut() {
            waits.push(session.summaries.changed().map(|changed| changed.is_ok()).boxed());
        }
        if waits.is_empty() {
            return pending().await;
        }
        let (is_there, ..) = select_all(waits).await;
        if !is_there {
            // The speaker is gone, as only at the end.
            pending::<()>().await;
        }
    }

    /// Says what became of the sessions, each thing once. Returns them all.
    pub(super) fn show(&mut self) -> Vec<BgpSummary> {
        let mut all = Vec::new();
        for session in self.sessions.values_mut() {
            let Some(now) = session.summaries.borrow_and_update().first().cloned() else { continue };
            let before = session.shown.replace(now.clone());
            self.node.metrics.announce.tell(&now);
            say(self.node, before.as_ref(), &now);
            all.push(now);
        }
        all
    }
}

fn say(node: &Node, before: Option<&BgpSummary>, now: &BgpSummary) {
    let is_up = |summary: &BgpSummary| summary.state == BgpState::Established;
    let was_up = before.is_some_and(is_up);
    let error = now.last_error.clone().unwrap_or_default();
    let note = |warning: bool, reason: &'static str, message: String| {
        let about = ObjectKey::new(Kind::Node, "", node.facts.node_name.as_str());
        node.recorder.record(Note { about, warning, reason, message });
    };
    let router = format!("router {} of system {}", now.address, now.asn);
    if is_up(now) && !was_up {
        tracing::info!(router = %now.address, asn = now.asn, "the router is told");
        note(false, "BGPSessionEstablished", format!("{router} is told of this node's addresses"));
    } else if was_up && !is_up(now) {
        tracing::warn!(router = %now.address, asn = now.asn, error, "the session with the router ended");
        note(true, "BGPSessionLost", format!("the session with {router} ended: {error}"));
    } else if !is_up(now) && !error.is_empty() && before.is_none_or(|b| b.last_error != now.last_error) {
        tracing::warn!(router = %now.address, asn = now.asn, error, "the router is not reached");
        note(true, "BGPSessionFailed", format!("no session with {router}: {error}"));
    }
}

/// What the configuration says of a router; nothing if it has no address, which is refused before.
fn made(peer: &BgpPeerConfiguration) -> io::Result<Option<BgpPeer>> {
    let Ok(address) = peer.address.parse() else { return Ok(None) };
    let password = peer.password_file.as_deref().map(password).transpose()?;
    Ok(Some(BgpPeer {
        address,
        port: peer.port,
        asn: peer.asn,
        hold_time: peer.hold_time(),
        multihop: peer.ebgp_multihop,
        password,
        source: peer.source_address.as_ref().and_then(|text| text.parse().ok()),
    }))
}

fn password(path: &Path) -> io::Result<BgpPassword> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    let text = std::fs::read(path).map_err(named)?;
    let text = text.trim_ascii_end().to_vec();
    if text.is_empty() || text.len() > 80 {
        return Err(named(io::Error::new(io::ErrorKind::InvalidData, "a password has 1 to 80 bytes")));
    }
    Ok(BgpPassword(text))
}
