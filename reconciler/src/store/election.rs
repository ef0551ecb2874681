//! When a member asks for votes.
//!
//! Nobody asks for votes before a majority has said that it would give them: a member that
//! comes back from a partition, or whose clock runs, disturbs no leader that others hear. How
//! long a leader may be silent is learnt from how it was heard.
//!
//! Two that miss their leader at once must not divide the votes, or one outvote the other that just won. So who says
//! that it would vote for another lets that one go first, once; who asks says so to nobody who has less; and who
//! votes for another waits for that one's first word.

use super::command::SeededRandom;
use super::courtesy::{Candidate, Courtesy};
use super::heard::{self, Heard};
use super::log::{Identity, LogStore};
use super::patience::VOTE;
use super::pulse::PERIOD;
use super::raft::{LogId, Raft, Vote};
use super::wire::{self, LogIdMessage, VoteMessage};
use crate::peer::{NodeId, Topic, Transport};
use crate::random::RandomSource as _;
use bytes::Bytes;
use openraft::ServerState;
use prost::Message;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// How long answers are waited for.
const PATIENCE: Duration = Duration::from_millis(500);
/// Between two questions that nobody says yes to.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

#[derive(Clone, PartialEq, Message)]
struct AskQuestion {
    #[prost(string, tag = "1")]
    cluster: String,
    #[prost(message, optional, tag = "2")]
    vote: Option<VoteMessage>,
    #[prost(message, optional, tag = "3")]
    last: Option<LogIdMessage>,
}

#[derive(Clone, PartialEq, Message)]
struct AskAnswer {
    #[prost(bool, tag = "1")]
    would: bool,
}

/// Would this member vote for the one that asks? Nothing changes by the question but that it is remembered.
pub(super) fn answer(
    raft: &Raft,
    cluster: &str,
    log: &LogStore,
    heard: &watch::Sender<Heard>,
    body: Bytes,
) -> Result<Bytes, String> {
    let question: AskQuestion = wire::decode("a question", body).map_err(|error| crate::chain(&error))?;
    if question.cluster != cluster {
        return Err(format!("this is a member of cluster {cluster}, not of {}", question.cluster));
    }
    let metrics = raft.metrics().borrow().clone();
    let leads = metrics.state == ServerState::Leader;
    let hears = heard.borrow().live_leader(Instant::now()).is_some();
    let last: Option<LogId> = question.last.map(Into::into);
    // A vote has to be on disk before it is given.
    let is_stuck = log.flushing().borrow().stuck(Instant::now()).is_some();
    let mut would = !leads && !hears && !is_stuck && last >= log.last();
    if let Some(vote) = question.vote.map(Vote::from).filter(|_| would) {
        let candidate = Candidate { last, node: vote.leader_id.node_id };
        heard::note(heard, |heard| would = heard.back(candidate, Instant::now()));
    }
    Ok(AskAnswer { would }.encode_to_vec().into())
}

/// Asks for votes when the leader is lost.
pub(super) struct Elector {
    pub(super) raft: Raft,
    pub(super) log: LogStore,
    pub(super) transport: Arc<dyn Transport>,
    pub(super) identity: Identity,
    pub(super) heard: watch::Sender<Heard>,
    pub(super) chance: SeededRandom,
}

impl Elector {
    /// Runs until it is dropped.
    pub(super) async fn run(mut self) {
        let started_at = Instant::now();
        let mut again_at = started_at;
        let mut refusals = 0;
        let mut spread = self.spread();
        let mut courtesy = Courtesy::new(started_at, self.vote());
        loop {
            let (heard_at, timeout) = {
                let heard = self.heard.borrow();
                (heard.leader.map_or(started_at, |(_, at)| at), heard.timeout())
            };
            let due = (heard_at + timeout + spread).max(again_at);
            if Instant::now() < due {
                self.wait(due).await;
                continue;
            }
            if self.heard.borrow().live_leader(Instant::now()).is_some() {
                // It slept itself.
                again_at = Instant::now() + PERIOD;
                continue;
            }
            spread = self.spread();
            match self.stand(&mut courtesy, heard_at).await {
                Outcome::Stood(own) => {
                    refusals = 0;
                    // Votes have to be on disks, which may be slow: nobody is to be outbid before.
                    again_at = Instant::now() + (timeout * courtesy.next_patience()).min(VOTE) + spread;
                    self.note_asking(Some((own, again_at)));
                }
                Outcome::Yielded(at) => again_at = at + timeout,
                Outcome::Refused => {
                    // Others may be a little more patient with the leader. Nobody at all is asked more seldom.
                    refusals = if heard_at > again_at { 0 } else { refusals + 1 };
                    again_at = Instant::now() + pause(refusals) + spread / 2;
                }
                Outcome::Closed => return,
            }
        }
    }

    /// Asks for votes if a majority would give them, and nobody is to go first.
    async fn stand(&self, courtesy: &mut Courtesy, heard_at: Instant) -> Outcome {
        courtesy.renew(heard_at);
        if courtesy.voted_for_another(self.vote(), self.identity.node) {
            return Outcome::Yielded(Instant::now());
        }
        if let Some(at) = courtesy.lets_go_first(self.candidate(), None) {
            return Outcome::Yielded(at);
        }
        courtesy.asked_at = Instant::now();
        let own = Candidate { last: self.log.last(), node: self.identity.node };
        self.note_asking(Some((own, courtesy.asked_at + PERIOD)));
        let wins = self.may_ask() && self.would_win(own).await;
        self.note_asking(None);
        // What was asked is old if it voted meanwhile.
        if courtesy.voted_for_another(self.vote(), self.identity.node) {
            return Outcome::Yielded(Instant::now());
        }
        if let Some(at) = courtesy.lets_go_first(self.candidate().filter(|_| wins), Some(own)) {
            return Outcome::Yielded(at);
        }
        courtesy.is_spent = false;
        if !wins {
            return Outcome::Refused;
        }
        tracing::info!(node = self.identity.node, "the leader is lost; asks for votes");
        let asked = self.raft.trigger().elect().await;
        asked.map_or(Outcome::Closed, |()| Outcome::Stood(own))
    }

    fn vote(&self) -> Vote {
        self.raft.server_metrics().borrow().vote
    }

    /// Who was told yes last.
    fn candidate(&self) -> Option<(Candidate, Instant)> {
        self.heard.borrow().candidate
    }

    fn note_asking(&self, asking: Option<(Candidate, Instant)>) {
        heard::note(&self.heard, |heard| heard.asking = asking);
    }

    /// Until `due`, or until this member votes.
    async fn wait(&self, due: Instant) {
        let votes = |heard: &Heard| heard.votes == Some(true);
        if votes(&self.heard.borrow()) {
            return tokio::time::sleep_until(due).await;
        }
        let mut heard = self.heard.subscribe();
        tokio::select! {
            biased;
            () = tokio::time::sleep_until(due) => {}
            Ok(_) = heard.wait_for(votes) => {}
        }
    }

    /// Members that lost their leader at once must not ask at once.
    fn spread(&mut self) -> Duration {
        let most = u64::try_from(PERIOD.as_micros() * 2).unwrap_or(u64::MAX);
        Duration::from_micros(self.chance.next() % most)
    }

    /// True for a voter that does not lead, and whose disk works.
    fn may_ask(&self) -> bool {
        let metrics = self.raft.metrics().borrow().clone();
        let votes = metrics.membership_config.membership().voter_ids().any(|id| id == self.identity.node);
        let is_stuck = self.log.flushing().borrow().stuck(Instant::now()).is_some();
        votes && !is_stuck && metrics.state != ServerState::Leader
    }

    /// True if a majority of each set of voters would vote for this member.
    async fn would_win(&self, own: Candidate) -> bool {
        let metrics = self.raft.metrics().borrow().clone();
        let membership = metrics.membership_config.membership();
        let question = AskQuestion {
            cluster: self.identity.cluster.clone(),
            vote: Some(Vote::new(metrics.vote.leader_id.term + 1, own.node).into()),
            last: own.last.map(Into::into),
        };
        let body = Bytes::from(question.encode_to_vec());
        let voters: BTreeSet<_> = membership.voter_ids().collect();
        let mut asked = JoinSet::new();
        for (id, peer) in membership.nodes().filter(|(id, _)| voters.contains(id)) {
            if *id == self.identity.node {
                continue;
            }
            let call = self.transport.call(peer.clone(), Topic::PreVote, body.clone(), PATIENCE);
            let id = *id;
            asked.spawn(async move { (id, call.await) });
        }
        let mut for_me = BTreeSet::from([self.identity.node]);
        while !wins(membership.get_joint_config(), &for_me) {
            let Some(answer) = asked.join_next().await else { return false };
            if let Ok((id, Ok(answer))) = answer
                && wire::decode::<AskAnswer>("an answer", answer).is_ok_and(|answer| answer.would)
            {
                for_me.insert(id);
            }
        }
        true
    }
}

/// What came of it when a member was to ask for votes.
#[derive(Debug)]
enum Outcome {
    /// It asks, with that.
    Stood(Candidate),
    /// Another goes first, from then on.
    Yielded(Instant),
    /// It would not win.
    Refused,
    /// Raft is closing.
    Closed,
}

/// How long to wait before the next question, after so many in a row were refused.
fn pause(refusals: u32) -> Duration {
    PERIOD.saturating_mul(1 << refusals.saturating_sub(2).min(5)).min(LONGEST_PAUSE)
}

/// True if `for_me` is a majority of each set.
fn wins(sets: &[BTreeSet<NodeId>], for_me: &BTreeSet<NodeId>) -> bool {
    sets.iter().all(|set| set.intersection(for_me).count() * 2 > set.len())
}
