//! When a member asks for votes.
//!
//! Nobody asks for votes before a majority has said that it would give them: a member that
//! comes back from a partition, or whose clock runs, disturbs no leader that others hear. How
//! long a leader may be silent is learnt from how it was heard.
//!
//! Who says that it would vote for another lets that one go first, once: two that miss their leader at once
//! would else divide the votes, and both wait and ask anew.

use super::cluster::Heard;
use super::command::SeededRandom;
use super::log::{Identity, LogStore};
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

/// Who asks for votes, and what it has. Of two that ask at once the greater one goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Candidate {
    last: Option<LogId>,
    node: NodeId,
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
    let would = !leads && !hears && !is_stuck && last >= log.last();
    if let Some(vote) = question.vote.map(Vote::from).filter(|_| would) {
        let candidate = Candidate { last, node: vote.leader_id.node_id };
        heard.send_if_modified(|heard| {
            heard.candidate = Some((candidate, Instant::now()));
            // Nobody waits for it.
            false
        });
    }
    Ok(AskAnswer { would }.encode_to_vec().into())
}

/// Asks for votes when the leader is lost.
pub(super) struct Elector {
    pub(super) raft: Raft,
    pub(super) log: LogStore,
    pub(super) transport: Arc<dyn Transport>,
    pub(super) identity: Identity,
    pub(super) heard: watch::Receiver<Heard>,
    pub(super) chance: SeededRandom,
}

impl Elector {
    /// Runs until it is dropped.
    pub(super) async fn run(mut self) {
        let started_at = Instant::now();
        let mut again_at = started_at;
        let mut refusals = 0;
        let mut spread = self.spread();
        let mut courtesy = Courtesy::new(started_at);
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
            if heard_at > courtesy.asked_at {
                courtesy = Courtesy::new(heard_at);
            }
            if let Some(at) = courtesy.lets_go_first(self.candidate(), None) {
                again_at = at + timeout;
                continue;
            }
            spread = self.spread();
            courtesy.asked_at = Instant::now();
            let own = Candidate { last: self.log.last(), node: self.identity.node };
            if self.may_ask() && self.would_win(own).await {
                if let Some(at) = courtesy.lets_go_first(self.candidate(), Some(own)) {
                    again_at = at + timeout;
                    continue;
                }
                tracing::info!(node = self.identity.node, "the leader is lost; asks for votes");
                if self.raft.trigger().elect().await.is_err() {
                    return;
                }
                refusals = 0;
                again_at = Instant::now() + timeout + spread;
            } else {
                // Others may be a little more patient with the leader. Nobody at all is asked more seldom.
                refusals = if heard_at > again_at { 0 } else { refusals + 1 };
                again_at = Instant::now() + pause(refusals) + spread / 2;
            }
            courtesy.is_spent = false;
        }
    }

    fn candidate(&self) -> Option<(Candidate, Instant)> {
        self.heard.borrow().candidate
    }

    /// Until `due`, or until this member votes.
    async fn wait(&mut self, due: Instant) {
        let votes = |heard: &Heard| heard.votes == Some(true);
        if votes(&self.heard.borrow()) {
            return tokio::time::sleep_until(due).await;
        }
        tokio::select! {
            biased;
            () = tokio::time::sleep_until(due) => {}
            Ok(_) = self.heard.wait_for(votes) => {}
        }
    }

    /// Members that lost their leader at once must not ask at once.
    fn spread(&mut self) -> Duration {
        let most = u64::try_from(PERIOD.as_micros() * 3).unwrap_or(u64::MAX);
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

/// How a member lets another candidate go first: once, and then it asks itself. So nobody is kept from asking by
/// one that asks over and over and never wins.
#[derive(Debug)]
struct Courtesy {
    /// When this member asked last, or heard a leader if that was later.
    asked_at: Instant,
    /// Whether it let one go first since, and has not asked for votes.
    is_spent: bool,
}

impl Courtesy {
    const fn new(asked_at: Instant) -> Self {
        Self { asked_at, is_spent: false }
    }

    /// When `candidate` was told yes, if it is to go first: since `asked_at`, and if this member asks, too, with more
    /// than its `own`.
    fn lets_go_first(
        &mut self,
        candidate: Option<(Candidate, Instant)>,
        own: Option<Candidate>,
    ) -> Option<Instant> {
        let (candidate, at) = candidate?;
        let is_first = at >= self.asked_at && own.is_none_or(|own| candidate > own);
        if self.is_spent || !is_first {
            return None;
        }
        self.is_spent = true;
        Some(at)
    }
}

/// How long to wait before the next question, after so many in a row were refused.
fn pause(refusals: u32) -> Duration {
    PERIOD.saturating_mul(1 << refusals.saturating_sub(2).min(5)).min(LONGEST_PAUSE)
}

/// True if `for_me` is a majority of each set.
fn wins(sets: &[BTreeSet<NodeId>], for_me: &BTreeSet<NodeId>) -> bool {
    sets.iter().all(|set| set.intersection(for_me).count() * 2 > set.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Duration = Duration::from_millis(1);

    const fn of(node: NodeId) -> Candidate {
        Candidate { last: None, node }
    }

    #[test]
    fn of_two_that_ask_at_once_one_goes_first() {
        let asked = Instant::now();
        let told = asked + STEP;
        let (mut two, mut three) = (Courtesy::new(asked), Courtesy::new(asked));
        assert_eq!(two.lets_go_first(Some((of(3), told)), Some(of(2))), Some(told));
        assert_eq!(three.lets_go_first(Some((of(2), told)), Some(of(3))), None);
    }

    #[test]
    fn another_goes_first_once_and_never_for_a_question_of_long_ago() {
        let asked = Instant::now();
        let mut courtesy = Courtesy::new(asked);
        assert_eq!(courtesy.lets_go_first(None, None), None);
        assert_eq!(courtesy.lets_go_first(Some((of(1), asked - STEP)), None), None);
        assert_eq!(courtesy.lets_go_first(Some((of(1), asked)), None), Some(asked));
        assert_eq!(courtesy.lets_go_first(Some((of(1), asked + STEP)), None), None, "it asks over and over");
        assert_eq!(courtesy.lets_go_first(Some((of(3), asked + STEP)), Some(of(2))), None);
    }
}
