//! The leader's pulse: it is alive, and who hears it.
//!
//! Nothing of it is written. It passes by the log and the disk, so a leader whose disk is slow
//! is not taken for dead; one whose disk does nothing for long is.

use super::cluster::Leadership;
use super::heard::{self, Heard};
use super::log::{Flushing, Identity};
use super::raft::{Raft, Vote};
use super::wire::{self, VoteMessage};
use crate::peer::{NodeId, Peer, Topic, Transport};
use bytes::Bytes;
use openraft::ServerState;
use prost::Message;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Between two pulses to one voter.
pub(super) const PERIOD: Duration = Duration::from_millis(50);
/// The same to a member that only follows.
pub(super) const LEARNER_PERIOD: Duration = Duration::from_secs(1);
/// An answer that takes longer is none.
const PATIENCE: Duration = Duration::from_secs(1);
/// A majority must have answered within this time for a leader to be one.
const QUORUM_PATIENCE: Duration = Duration::from_secs(2);
/// A leader whose disk has been busy with one commit for this long gives no more pulse.
const DISK_PATIENCE: Duration = Duration::from_secs(10);
/// The same for one whose disk refuses.
const REFUSAL_PATIENCE: Duration = Duration::from_secs(2);
/// Raft itself is asked to speak to its followers this often when nothing happens: a follower
/// that missed the end of the log gets it then.
const HEARTBEAT: Duration = Duration::from_millis(500);

#[derive(Clone, PartialEq, Message)]
struct PulseQuestion {
    #[prost(string, tag = "1")]
    cluster: String,
    #[prost(message, optional, tag = "2")]
    vote: Option<VoteMessage>,
    /// How far the leader shows the log.
    #[prost(uint64, tag = "3")]
    applied: u64,
    #[prost(bytes = "bytes", tag = "4")]
    word: Bytes,
}

#[derive(Clone, PartialEq, Message)]
struct PulseAnswer {
    #[prost(message, optional, tag = "1")]
    vote: Option<VoteMessage>,
    #[prost(uint64, tag = "2")]
    last_index: u64,
    #[prost(bytes = "bytes", tag = "3")]
    word: Bytes,
    /// For how long the disk has done nothing of what it was asked; 0 while it works.
    #[prost(uint64, tag = "15")]
    stuck_ms: u64,
}

/// Notes the pulse of a leader.
pub(super) fn answer(
    raft: &Raft,
    cluster: &str,
    flushing: &Flushing,
    (heard, word): (&watch::Sender<Heard>, Bytes),
    body: Bytes,
) -> Result<Bytes, String> {
    let question: PulseQuestion = wire::decode("a pulse", body).map_err(|error| crate::chain(&error))?;
    if question.cluster != cluster {
        return Err(format!("this is a member of cluster {cluster}, not of {}", question.cluster));
    }
    let vote: Vote = question.vote.ok_or("the pulse is of no leader")?.into();
    let metrics = raft.metrics().borrow().clone();
    if vote >= metrics.vote {
        let applied = metrics.last_applied.map_or(0, |id| id.index);
        let votes = metrics.membership_config.membership().voter_ids().any(|id| id == metrics.id);
        heard.send_modify(|heard| {
            heard.hear(vote, votes, Instant::now());
            heard.compare(applied, question.applied, Instant::now());
            heard.words = BTreeMap::from([(vote.leader_id.node_id, question.word)]);
        });
    }
    let stuck = flushing.stuck(Instant::now()).unwrap_or_default();
    let answer = PulseAnswer {
        stuck_ms: u64::try_from(stuck.as_millis()).unwrap_or(u64::MAX),
        vote: Some(metrics.vote.into()),
        last_index: metrics.last_log_index.unwrap_or_default(),
        word,
    };
    Ok(answer.encode_to_vec().into())
}

/// Sends pulses while this member leads, and says who leads.
pub(super) struct Pulser {
    pub(super) raft: Raft,
    pub(super) transport: Arc<dyn Transport>,
    pub(super) identity: Identity,
    pub(super) heard: watch::Sender<Heard>,
    pub(super) leadership: watch::Sender<Leadership>,
    pub(super) flushing: watch::Receiver<Flushing>,
    pub(super) word: watch::Receiver<Bytes>,
}

type Answered = (NodeId, Option<PulseAnswer>);
/// What changes with elections and members only.
type Standing = openraft::metrics::RaftServerMetrics<NodeId, Peer>;

impl Pulser {
    /// Runs until it is dropped.
    pub(super) async fn run(self) {
        // Those of the log change with each write, and are looked at when something is to be said.
        let mut metrics = self.raft.server_metrics();
        let mut under_way: JoinSet<Answered> = JoinSet::new();
        let mut calling = BTreeSet::new();
        let mut sent: BTreeMap<NodeId, Instant> = BTreeMap::new();
        let mut tick = tokio::time::interval(PERIOD);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut spoke_at = Instant::now();
        let mut led_since = None;
        loop {
            // Every arm is cancel-safe, and leads to the same full look.
            tokio::select! {
                biased;
                Some(Ok((id, answer))) = under_way.join_next(), if !under_way.is_empty() => {
                    calling.remove(&id);
                    self.take(id, answer).await;
                    continue;
                }
                changed = metrics.changed() => if changed.is_err() {
                    return self.say(Leadership::Nobody);
                },
                _ = tick.tick() => heard::note(&self.heard, |heard| heard.wake(Instant::now())),
            }
            let now = Instant::now();
            let known = metrics.borrow_and_update().clone();
            if known.state != ServerState::Leader {
                led_since = None;
                self.note_turn(&known, now);
                self.say(self.followed(now));
                continue;
            }
            let since = *led_since.get_or_insert_with(|| {
                self.heard.send_modify(Heard::forget_answers);
                now
            });
            let membership = known.membership_config.membership();
            if now >= spoke_at + HEARTBEAT {
                spoke_at = now;
                // Raft is closing if it cannot be asked; so is this task.
                drop(self.raft.trigger().heartbeat().await);
            }
            if !self.disk_moves(now) {
                // Somebody else is to lead; Raft learns of it when the disk lets it.
                let other = self.followed(now);
                self.say(if self.is_outvoted(known.vote) { other } else { Leadership::Nobody });
                continue;
            }
            let voters: BTreeSet<_> = membership.voter_ids().collect();
            let due = |id: NodeId| {
                let period = if voters.contains(&id) { PERIOD } else { LEARNER_PERIOD };
                sent.get(&id).is_none_or(|at| now + PERIOD / 2 >= *at + period)
            };
            let others = membership.nodes().filter(|(id, _)| **id != self.identity.node);
            let peers: Vec<_> = others.filter(|(id, _)| due(**id) && !calling.contains(*id)).collect();
            for (&id, peer) in peers {
                calling.insert(id);
                sent.insert(id, now);
                under_way.spawn(self.call(id, peer.clone(), self.question(&known)));
            }
            self.say(self.led(membership.get_joint_config(), since, now));
        }
    }

    /// The leader may be lost before it says the first word to a new voter.
    fn note_turn(&self, known: &Standing, now: Instant) {
        let votes = known.membership_config.membership().voter_ids().any(|id| id == self.identity.node);
        self.heard.send_if_modified(|heard| heard.leader.is_some() && heard.turn(votes, now));
    }

    fn disk_moves(&self, now: Instant) -> bool {
        let flushing = self.flushing.borrow();
        let patience = if flushing.failing.is_some() { REFUSAL_PATIENCE } else { DISK_PATIENCE };
        flushing.since.is_none_or(|since| now < since + patience)
    }

    fn question(&self, known: &Standing) -> Bytes {
        let applied = self.raft.data_metrics().borrow().last_applied;
        let question = PulseQuestion {
            cluster: self.identity.cluster.clone(),
            vote: Some(known.vote.into()),
            applied: applied.map_or(0, |id| id.index),
            word: self.word.borrow().clone(),
        };
        question.encode_to_vec().into()
    }

    fn call(&self, id: NodeId, peer: Peer, body: Bytes) -> impl Future<Output = Answered> + Send + 'static {
        let call = self.transport.call(peer, Topic::Pulse, body, PATIENCE);
        async move {
            let answer = call.await.ok();
            (id, answer.and_then(|bytes| wire::decode("an answer", bytes).ok()))
        }
    }

    /// Notes who answered. A higher vote means that another leads by now: Raft is to find out.
    async fn take(&self, id: NodeId, answer: Option<PulseAnswer>) {
        let Some(answer) = answer else { return };
        let now = Instant::now();
        let stuck = Duration::from_millis(answer.stuck_ms);
        self.heard.send_modify(|heard| {
            heard.answered.insert(id, now);
            heard.words.insert(id, answer.word);
            if stuck.is_zero() {
                heard.stuck.remove(&id);
            } else {
                heard.stuck.insert(id, stuck);
            }
        });
        let mine = self.raft.metrics().borrow().vote;
        if answer.vote.is_some_and(|vote| Vote::from(vote) > mine) {
            // Raft is closing if it cannot be asked; so is this task.
            drop(self.raft.trigger().heartbeat().await);
        }
    }

    /// True if a leader was heard that is newer than this one.
    fn is_outvoted(&self, mine: Vote) -> bool {
        self.heard.borrow().leader.is_some_and(|(vote, _)| vote > mine)
    }

    fn followed(&self, now: Instant) -> Leadership {
        let live = self.heard.borrow().live_leader(now);
        live.map_or(Leadership::Nobody, |vote| Leadership::Follows(vote.leader_id.node_id))
    }

    /// A leader leads while a majority of each set of voters answers, and knows all that is written.
    fn led(&self, voters: &[BTreeSet<NodeId>], since: Instant, now: Instant) -> Leadership {
        let heard = self.heard.borrow();
        let fresh = |id: &NodeId| {
            *id == self.identity.node
                || now < heard.answered.get(id).copied().unwrap_or(since) + QUORUM_PATIENCE
        };
        let follows = |set: &BTreeSet<NodeId>| set.iter().filter(|id| fresh(id)).count() * 2 > set.len();
        let leads = voters.iter().all(follows);
        drop(heard);
        if leads {
            heard::note(&self.heard, |heard| heard.fresh_at = Some(now));
        }
        if leads { Leadership::Leads } else { Leadership::Nobody }
    }

    fn say(&self, leadership: Leadership) {
        self.leadership.send_if_modified(|said| std::mem::replace(said, leadership) != leadership);
    }
}
