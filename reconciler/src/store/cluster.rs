//! The members of the cluster, as one of them sees it, and what they ask of it.

use super::election;
use super::forward;
use super::heard::Heard;
use super::log::{Identity, LogStore};
use super::network;
use super::proposer::Request;
use super::pulse;
use super::raft::Raft;
use super::snapshot::Head;
use crate::peer::{Answerer, CallError, NodeId, Peer, Topic, Transport};
use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, mpsc, watch};
use tokio::time::Instant;

/// A leader that is removed gives way first: another has to go on.
const REMOVALS: usize = 16;
const REMOVAL_REST: Duration = Duration::from_millis(500);
/// What a member said holds for as long.
const WORDS_HOLD: Duration = Duration::from_secs(5);
/// How long an answer of the leader is waited for.
pub(super) const LEADER_PATIENCE: Duration = Duration::from_secs(10);

/// Who leads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Leadership {
    /// Nobody, as far as this member knows: nothing can be written.
    #[default]
    Nobody,
    /// Another member.
    Follows(NodeId),
    /// This member, and a majority follows it.
    Leads,
}

/// One member, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its number.
    pub id: NodeId,
    /// Its name and where it answers.
    pub peer: Peer,
    /// True if it counts for majorities; else it only follows.
    pub is_voter: bool,
    /// How long ago it answered the leader; none if this member does not lead, or it never did.
    pub heard: Option<Duration>,
    /// For how long its disk has done nothing of what it was asked; none while it works. Each member
    /// knows it of itself, the leader of all.
    pub stuck: Option<Duration>,
}

/// A change of the membership, or a question to the leader, failed.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// There is no leader to ask.
    #[error("the cluster has no leader that a majority follows")]
    NoLeader,
    /// The leader refused.
    #[error("the leader refused: {0}")]
    Refused(String),
    /// The leader could not be asked.
    #[error("the leader could not be asked")]
    Call(#[source] CallError),
    /// The store is closing.
    #[error("the store is closed")]
    Closed,
}

/// A time in which this member leads. What is decided in it may be written in it alone: see
/// [`Store::write_each_in`](super::Store::write_each_in).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Term(pub(super) u64);

/// One member's view of its cluster. Clones are the same.
#[derive(Clone)]
pub struct Cluster {
    raft: Raft,
    identity: Identity,
    log: LogStore,
    applied: watch::Receiver<Head>,
    heard: watch::Sender<Heard>,
    leadership: watch::Receiver<Leadership>,
    requests: mpsc::WeakSender<Vec<Request>>,
    transport: Option<Arc<dyn Transport>>,
    word: watch::Sender<Bytes>,
    /// The number that was given last. Numbers are given one after the other.
    given: Arc<Mutex<NodeId>>,
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("identity", &self.identity).finish_non_exhaustive()
    }
}

/// What a member has beside its log.
pub(super) struct Outside {
    pub(super) heard: watch::Sender<Heard>,
    pub(super) leadership: watch::Receiver<Leadership>,
    pub(super) requests: mpsc::WeakSender<Vec<Request>>,
    pub(super) transport: Option<Arc<dyn Transport>>,
    pub(super) word: watch::Sender<Bytes>,
}

impl Cluster {
    pub(super) fn new(
        raft: Raft,
        identity: Identity,
        log: LogStore,
        applied: watch::Receiver<Head>,
        outside: Outside,
    ) -> Self {
        let Outside { heard, leadership, requests, transport, word } = outside;
        let given = Arc::default();
        Self { raft, identity, log, applied, heard, leadership, requests, transport, word, given }
    }

    /// The cluster's id: a member of another is refused.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.identity.cluster
    }

    /// This member's number.
    #[must_use]
    pub const fn node(&self) -> NodeId {
        self.identity.node
    }

    /// Who leads, now.
    #[must_use]
    pub fn leadership(&self) -> Leadership {
        *self.leadership.borrow()
    }

    /// Who leads, as a level to wait on.
    #[must_use]
    pub fn leaderships(&self) -> watch::Receiver<Leadership> {
        self.leadership.clone()
    }

    /// Every member.
    #[must_use]
    pub fn members(&self) -> Vec<Member> {
        let membership = self.raft.metrics().borrow().membership_config.clone();
        let voters: Vec<_> = membership.membership().voter_ids().collect();
        let (heard, stuck) = {
            let all = self.heard.borrow();
            (all.answered.clone(), all.stuck.clone())
        };
        let now = Instant::now();
        let mine = self.log.flushing().borrow().stuck(now);
        let member = |(id, peer): (&NodeId, &Peer)| Member {
            id: *id,
            peer: peer.clone(),
            is_voter: voters.contains(id),
            heard: heard.get(id).map(|at| now.saturating_duration_since(*at)),
            stuck: if *id == self.identity.node { mine } else { stuck.get(id).copied() },
        };
        membership.membership().nodes().map(member).collect()
    }

    /// The term in which this member leads; none if it does not.
    #[must_use]
    pub fn leading_term(&self) -> Option<Term> {
        let leads = self.leadership() == Leadership::Leads;
        leads.then(|| Term(self.raft.metrics().borrow().current_term))
    }

    /// From here on, this member says `word` of itself with each pulse: to the leader, or if it leads to
    /// all. It is kept in memory only, and is to be short: some kilobytes at most.
    pub fn say(&self, word: Bytes) {
        self.word.send_if_modified(|said| std::mem::replace(said, word.clone()) != word);
    }

    /// What others say of themselves, where they were heard lately: to a leader every member, to
    /// another the leader alone.
    #[must_use]
    pub fn words(&self) -> BTreeMap<NodeId, Bytes> {
        let (heard, now) = (self.heard.borrow(), Instant::now());
        let leads = self.leadership() == Leadership::Leads;
        let mut words = heard.words.clone();
        words.retain(|id, _| {
            let lately = |at: &Instant| now < *at + WORDS_HOLD;
            if leads { heard.answered.get(id).is_some_and(lately) } else { heard.live_leader(now).is_some() }
        });
        words
    }

    /// How old what this member shows may be: since then it has not heard of all that was written.
    /// None if it never did since it was started. Zero on the leader.
    #[must_use]
    pub fn staleness(&self) -> Option<Duration> {
        if self.leadership() == Leadership::Leads {
            return Some(Duration::ZERO);
        }
        let at = self.heard.borrow().fresh_at?;
        Some(Instant::now().saturating_duration_since(at))
    }

    pub(super) fn head(&self) -> Head {
        self.applied.borrow().clone()
    }

    /// How far the log is applied here.
    #[must_use]
    pub fn applied_index(&self) -> u64 {
        self.applied.borrow().last.map_or(0, |last| last.index)
    }

    /// Waits until this member's state holds everything that was acknowledged before the call.
    ///
    /// # Errors
    /// If there is no leader with a majority to ask.
    pub async fn catch_up(&self) -> Result<(), ClusterError> {
        let index = match self.leader()? {
            None => self.read_index().await?,
            Some(leader) => forward::read_index(&*self.way()?, leader, &self.identity.cluster).await?,
        };
        let reached = |head: &Head| head.last.is_some_and(|last| last.index >= index);
        let mut applied = self.applied.clone();
        applied.wait_for(reached).await.map(drop).map_err(|_| ClusterError::Closed)
    }

    /// The place in the log that a read must wait for, as the leader that this member is.
    async fn read_index(&self) -> Result<u64, ClusterError> {
        let log_id = self.raft.ensure_linearizable().await.map_err(|_| ClusterError::NoLeader)?;
        Ok(log_id.map_or(0, |id| id.index))
    }

    fn way(&self) -> Result<Arc<dyn Transport>, ClusterError> {
        self.transport.clone().ok_or(ClusterError::NoLeader)
    }

    /// The leader; none if it is this member.
    fn leader(&self) -> Result<Option<Peer>, ClusterError> {
        match self.leadership() {
            Leadership::Leads => Ok(None),
            Leadership::Nobody => Err(ClusterError::NoLeader),
            Leadership::Follows(id) => {
                let membership = self.raft.metrics().borrow().membership_config.clone();
                membership.membership().get_node(&id).cloned().map(Some).ok_or(ClusterError::NoLeader)
            }
        }
    }

    /// Adds `peer` as a member that follows, and gives it a number. A member of that name is
    /// replaced: its disk is taken to be lost. Asks the leader where this member is not it.
    ///
    /// # Errors
    /// If there is no leader, or it refuses.
    pub async fn add(&self, peer: Peer) -> Result<NodeId, ClusterError> {
        if let Some(leader) = self.leader()? {
            return forward::add(&*self.way()?, leader, &self.identity.cluster, peer).await;
        }
        // What Raft says of itself may be old: two that join at once must not get one number.
        let mut given = self.given.lock().await;
        let members = self.members();
        if let Some(old) = members.iter().find(|member| member.peer.name == peer.name) {
            self.remove_here(old.id).await?;
        }
        // Numbers are never given twice: a removed member's stays below one that is left, or is
        // remembered by the log's own place.
        let highest = members.iter().map(|member| member.id).max().unwrap_or_default();
        let index = self.raft.metrics().borrow().last_log_index.unwrap_or_default();
        let id = index.max(highest).max(*given) + 1;
        *given = id;
        let refused = |error: &dyn std::error::Error| ClusterError::Refused(crate::chain(error));
        self.raft.add_learner(id, peer, false).await.map_err(|error| refused(&error))?;
        Ok(id)
    }

    /// Peers find this member as `me` says, from here on.
    ///
    /// # Errors
    /// If there is no leader, or it refuses.
    pub async fn move_to(&self, me: Peer) -> Result<(), ClusterError> {
        match self.leader()? {
            Some(leader) => {
                forward::update(&*self.way()?, leader, &self.identity.cluster, self.node(), me).await
            }
            None => self.update_here(self.node(), me).await,
        }
    }

    pub(super) async fn update_here(&self, id: NodeId, peer: Peer) -> Result<(), ClusterError> {
        let known = self.members().into_iter().find(|member| member.id == id);
        match known {
            Some(known) if known.peer.name != peer.name => {
                return Err(ClusterError::Refused(format!("member {id} is {}", known.peer.name)));
            }
            None => return Err(ClusterError::Refused(format!("there is no member {id}"))),
            Some(_) => {}
        }
        let change = openraft::ChangeMembers::SetNodes(BTreeMap::from([(id, peer)]));
        let refused = |error: &dyn std::error::Error| ClusterError::Refused(crate::chain(error));
        self.raft.change_membership(change, true).await.map(drop).map_err(|error| refused(&error))
    }

    /// The member `id` is none after. One that leads goes on until it has given that to the others.
    ///
    /// # Errors
    /// If there is no leader, or it refuses.
    pub async fn remove(&self, id: NodeId) -> Result<(), ClusterError> {
        let mut last = ClusterError::NoLeader;
        let mut leaderships = self.leaderships();
        for _ in 0..REMOVALS {
            let found = leaderships.wait_for(|leadership| *leadership != Leadership::Nobody);
            if !matches!(tokio::time::timeout(LEADER_PATIENCE, found).await, Ok(Ok(_))) {
                return Err(last);
            }
            match self.remove_once(id).await {
                Ok(()) => return Ok(()),
                Err(error) => last = error,
            }
            tokio::time::sleep(REMOVAL_REST).await;
        }
        Err(last)
    }

    async fn remove_once(&self, id: NodeId) -> Result<(), ClusterError> {
        match self.leader()? {
            Some(leader) => forward::remove(&*self.way()?, leader, &self.identity.cluster, id).await,
            None => self.remove_here(id).await,
        }
    }

    async fn remove_here(&self, id: NodeId) -> Result<(), ClusterError> {
        let refused = |error: &dyn std::error::Error| ClusterError::Refused(crate::chain(error));
        let membership = self.raft.metrics().borrow().membership_config.clone();
        let gone = std::collections::BTreeSet::from([id]);
        let voters: Vec<_> = membership.membership().voter_ids().collect();
        if voters == [id] {
            // Somebody has to be able to go on: who was heard last.
            let others = self.members().into_iter().filter(|member| member.id != id);
            let heir = others.min_by_key(|member| (member.heard.unwrap_or(Duration::MAX), member.id));
            let heir = heir.ok_or_else(|| ClusterError::Refused("it is the only member".into()))?;
            let change = openraft::ChangeMembers::AddVoterIds([heir.id].into());
            self.raft.change_membership(change, true).await.map_err(|error| refused(&error))?;
        }
        if voters.contains(&id) {
            let change = openraft::ChangeMembers::RemoveVoters(gone.clone());
            self.raft.change_membership(change, false).await.map_err(|error| refused(&error))?;
        }
        let change = openraft::ChangeMembers::RemoveNodes(gone);
        self.raft.change_membership(change, false).await.map(drop).map_err(|error| refused(&error))
    }

    /// Ends this member at once, as a crash does: for simulations.
    #[cfg(test)]
    pub(super) async fn kill(&self) {
        self.log.give_up();
        // What ends badly was to end.
        drop(self.raft.shutdown().await);
    }

    /// Why this member does nothing any more, if it does not: for simulations.
    #[cfg(test)]
    pub(super) fn failure(&self) -> Option<String> {
        self.raft.metrics().borrow().running_state.as_ref().err().map(ToString::to_string)
    }

    /// The number of the election that the newest known leader won: for simulations.
    #[cfg(test)]
    pub(super) fn term(&self) -> u64 {
        self.raft.metrics().borrow().current_term
    }

    async fn answer_here(&self, topic: Topic, body: Bytes) -> Result<Bytes, String> {
        let cluster = &self.identity.cluster;
        if let Some(answer) = network::answer(&self.raft, cluster, topic, body.clone()).await? {
            return Ok(answer);
        }
        match topic {
            Topic::Pulse => {
                let flushing = self.log.flushing().borrow().clone();
                let word = self.word.borrow().clone();
                pulse::answer(&self.raft, cluster, &flushing, (&self.heard, word), body)
            }
            Topic::PreVote => election::answer(&self.raft, cluster, &self.log, &self.heard, body),
            Topic::Write => {
                let requests = self.requests.upgrade().ok_or("the store is closed")?;
                forward::answer_write(requests, cluster, (self.leadership(), &self.applied), body).await
            }
            Topic::ReadIndex => {
                let index = self.read_index().await.map_err(|error| error.to_string())?;
                forward::answer_read_index(cluster, index, body)
            }
            Topic::Member => forward::answer_member(self, cluster, body).await,
            Topic::Append | Topic::Vote | Topic::Snapshot | Topic::Sync | Topic::Blob => {
                Err("not understood".into())
            }
        }
    }
}

impl Answerer for Cluster {
    fn answer(&self, _: String, topic: Topic, body: Bytes) -> BoxFuture<'static, Result<Bytes, String>> {
        let cluster = self.clone();
        async move { cluster.answer_here(topic, body).await }.boxed()
    }
}
