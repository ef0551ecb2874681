//! Keeps what the node knows of its cluster as the store has it: who the members are, which
//! nodes are alive, who was removed, who looks at Git, and the authority for those who may sign.

use super::SharedRecords;
use crate::peers::{Peers, Records};
use jiff::{SignedDuration, Timestamp};
use prometheus::Gauge;
use reconciler::heartbeats::Heartbeats;
use reconciler::peer::NodeId;
use reconciler::store::{Cluster, Leadership, Member, Store};
use reconciler::sync::SyncHandle;
use reconciler::sync::duty::{Holders, Word, assign};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Between two looks, if nobody else leads meanwhile.
const PERIOD: Duration = Duration::from_secs(1);
/// The record that holds the authority's key. Members that vote take it, so that any can sign.
const AUTHORITY: &str = "authority";

/// What is kept, and for whom.
pub(crate) struct Follower {
    /// This node's name.
    pub(crate) me: String,
    pub(crate) store: Arc<Store>,
    pub(crate) peers: Option<Arc<Peers>>,
    pub(crate) records: Arc<SharedRecords>,
    pub(crate) heartbeats: Arc<Heartbeats>,
    pub(crate) sync: SyncHandle,
    pub(crate) holders: watch::Sender<Holders>,
    pub(crate) disk_stuck: Gauge,
}

impl Follower {
    /// Looks until `stop`.
    ///
    /// # Errors
    /// Never: what fails is tried again.
    pub(crate) async fn run(self, stop: CancellationToken) -> anyhow::Result<()> {
        let mut tick = tokio::time::interval(PERIOD);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut leaderships = self.store.cluster().leaderships();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                changed = leaderships.changed() => changed?,
                _ = tick.tick() => {}
            }
            leaderships.borrow_and_update();
            self.heartbeats.hear(&self.me, Instant::now(), Timestamp::now());
            let members = self.store.cluster().members();
            let own = members.iter().find(|member| member.id == self.store.cluster().node());
            let stuck = own.and_then(|own| own.stuck).unwrap_or_default();
            self.disk_stuck.set(stuck.as_secs_f64());
            let Some(peers) = &self.peers else { continue };
            self.hear(&members);
            self.share_sources(&members);
            let result = self.look(peers, &members).await;
            let kept = peers.set_members(members.into_iter().map(|member| member.peer).collect());
            if let Err(error) = result.and(kept) {
                tracing::debug!(error = crate::chain::chain(&*error), "will be looked at again");
            }
        }
    }

    /// The controllers are told when each member was heard.
    fn hear(&self, members: &[Member]) {
        let (now, wall) = (Instant::now(), Timestamp::now());
        for member in members {
            if let Some(ago) = member.heard
                && let Some(at) = now.checked_sub(ago)
            {
                let ago = SignedDuration::try_from(ago).unwrap_or_default();
                self.heartbeats.hear(&member.peer.name, at, wall - ago);
            }
        }
    }

    /// This member says what it can look at; the leader decides, and the others hear of it.
    fn share_sources(&self, members: &[Member]) {
        let cluster = self.store.cluster();
        let mut word = Word { sources: self.sync.reached(), ..Word::default() };
        let holders = match cluster.leadership() {
            Leadership::Nobody => Holders::new(),
            Leadership::Follows(leader) => {
                cluster.words().get(&leader).map(|said| understand(said).holders).unwrap_or_default()
            }
            Leadership::Leads => {
                let mut words = named(cluster, members);
                words.insert(self.me.clone(), word.clone());
                word.holders = assign(&self.holders.borrow(), &self.me, &words);
                word.holders.clone()
            }
        };
        if let Ok(said) = serde_json::to_vec(&word) {
            cluster.say(said.into());
        }
        self.holders.send_if_modified(|known| std::mem::replace(known, holders.clone()) != holders);
    }

    async fn look(&self, peers: &Peers, members: &[Member]) -> anyhow::Result<()> {
        peers.office().look().await?;
        let cluster = self.store.cluster();
        let leads = cluster.leadership() == Leadership::Leads;
        let own = members.iter().find(|member| member.id == cluster.node());
        if let Some(own) = own
            && own.peer != *peers.me()
            && cluster.leadership() != Leadership::Nobody
        {
            cluster.move_to(peers.me().clone()).await?;
            tracing::info!(address = peers.me().address, "peers find this node here from now on");
        }
        let pem = peers.authority_pem();
        if pem.is_some() && leads {
            peers.office().know(&peers.me().name, peers.passport().key, Timestamp::now()).await?;
        }
        match (pem, self.records.get(AUTHORITY).await?) {
            (Some(pem), None) if leads => {
                self.records.swap(AUTHORITY, None, Some(json!({ "pem": pem }))).await?;
            }
            (None, Some(Value::Object(record))) => {
                if own.is_some_and(|own| own.is_voter)
                    && let Some(pem) = record.get("pem").and_then(Value::as_str)
                {
                    peers.set_authority(pem)?;
                    tracing::info!("this node can let others in from here on");
                }
            }
            (Some(_) | None, _) => {}
        }
        Ok(())
    }
}

/// What members say, by their names.
fn named(cluster: &Cluster, members: &[Member]) -> BTreeMap<String, Word> {
    let words = cluster.words();
    let said =
        |member: &Member| Some((member.peer.name.clone(), understand(words.get::<NodeId>(&member.id)?)));
    members.iter().filter_map(said).collect()
}

/// A word that a newer program says may hold more; one that is none says nothing.
fn understand(said: &[u8]) -> Word {
    serde_json::from_slice(said).unwrap_or_default()
}
