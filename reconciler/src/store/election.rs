//! When a member asks for votes.
//!
//! Nobody asks for votes before a majority has said that it would give them: a member that
//! comes back from a partition, or whose clock runs, disturbs no leader that others hear. How
//! long a leader may be silent is learnt from how it was heard.
//!
//! Who says that it would vote for one says so to no other for a moment, and asks for no votes itself: two
//! that miss their leader at once would else divide the votes, and both wait and ask anew.

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
/// How long who was told yes has time to become the leader, before others may try.
const PROMISE: Duration = Duration::from_millis(150);
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

/// Who asks for votes, and what it has: of two that ask at once the greater one goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Candidacy {
    last: Option<LogId>,
    node: NodeId,
}

impl Heard {
    /// Whether the member `me` says yes to `candidate` at `now`, if it would vote for it: then to no other, and to
    /// itself neither, for the time of a promise.
    fn favour(&mut self, candidate: Candidacy, me: NodeId, now: Instant) -> bool {
        let rival = self.rival(candidate.node, now);
        let yields = rival.is_none_or(|rival| rival.node == me && candidate > rival);
        if yields {
            self.favoured = Some((candidate, now + PROMISE));
        }
        yields
    }

    /// Who else than `node` is favoured at `now`.
    fn rival(&self, node: NodeId, now: Instant) -> Option<Candidacy> {
        let (candidate, until) = self.favoured?;
        (candidate.node != node && now < until).then_some(candidate)
    }
}

/// Would this member vote for the one that asks? Nothing changes by the question but whom it favours.
pub(super) fn answer(
    raft: &Raft,
    identity: &Identity,
    log: &LogStore,
    heard: &watch::Sender<Heard>,
    body: Bytes,
) -> Result<Bytes, String> {
    let question: AskQuestion = wire::decode("a question", body).map_err(|error| crate::chain(&error))?;
    if question.cluster != identity.cluster {
        let (mine, theirs) = (&identity.cluster, question.cluster);
        return Err(format!("this is a member of cluster {mine}, not of {theirs}"));
    }
    let vote: Vote = question.vote.ok_or("nobody in particular asks for votes")?.into();
    let metrics = raft.metrics().borrow().clone();
    let leads = metrics.state == ServerState::Leader;
    let hears = heard.borrow().live_leader(Instant::now()).is_some();
    let last: Option<LogId> = question.last.map(Into::into);
    // A vote has to be on disk before it is given.
    let is_stuck = log.flushing().borrow().stuck(Instant::now()).is_some();
    let mut would = !leads && !hears && !is_stuck && last >= log.last();
    if would {
        let candidate = Candidacy { last, node: vote.leader_id.node_id };
        heard.send_if_modified(|heard| {
            would = heard.favour(candidate, identity.node, Instant::now());
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
            spread = self.spread();
            if let Some((_, until)) = self.heard.borrow().favoured.filter(|_| self.rival().is_some()) {
                again_at = until + spread / 2;
                continue;
            }
            if self.may_ask() && self.stands().await {
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
        }
    }

    /// Until `due`, or until this member votes.
    async fn wait(&mut self, due: Instant) {
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

    fn rival(&self) -> Option<Candidacy> {
        self.heard.borrow().rival(self.identity.node, Instant::now())
    }

    /// True if this member is to ask for votes: it would win, and favoured nobody else meanwhile.
    async fn stands(&self) -> bool {
        let own = Candidacy { last: self.log.last(), node: self.identity.node };
        let favour = |until: Option<Instant>| {
            let mut is_mine = false;
            self.heard.send_if_modified(|heard| {
                is_mine = heard.rival(own.node, Instant::now()).is_none();
                if is_mine {
                    heard.favoured = until.map(|until| (own, until));
                }
                // Nobody waits for it.
                false
            });
            is_mine
        };
        if !favour(Some(Instant::now() + PATIENCE)) {
            return false;
        }
        let wins = self.would_win().await;
        favour(wins.then(|| Instant::now() + PROMISE)) && wins
    }

    /// True if a majority of each set of voters would vote for this member.
    async fn would_win(&self) -> bool {
        let metrics = self.raft.metrics().borrow().clone();
        let membership = metrics.membership_config.membership();
        let question = AskQuestion {
            cluster: self.identity.cluster.clone(),
            vote: Some(Vote::new(metrics.vote.leader_id.term + 1, self.identity.node).into()),
            last: self.log.last().map(Into::into),
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

    #[test]
    fn of_two_that_ask_at_once_one_goes_on() {
        let now = Instant::now();
        let of = |node| Candidacy { last: None, node };
        let asks = |node, until| Heard { favoured: Some((of(node), until)), ..Heard::default() };
        let (mut two, mut three) = (asks(2, now + PATIENCE), asks(3, now + PATIENCE));
        assert!(two.favour(of(3), 2, now), "who has the greater number is let go first");
        assert!(!three.favour(of(2), 3, now));
        assert_eq!(two.rival(2, now), Some(of(3)), "and the other waits");
        assert_eq!(three.rival(3, now), None);

        let later = now + PROMISE;
        assert!(two.favour(of(3), 2, now), "the same may ask again");
        assert!(!two.favour(of(4), 2, now), "a promise is given to one");
        assert!(two.favour(of(4), 2, later), "and holds for a while only");
        assert_eq!(two.rival(2, later + PROMISE), None);
    }
}
