//! What a member heard of others, and for how long it takes the leader to be alive by it.

use super::courtesy::Candidate;
use super::pulse::{LEARNER_PERIOD, PERIOD};
use super::raft::Vote;
use crate::peer::NodeId;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// Who notes that it is awake so much later than it did before has slept.
const NAP: Duration = Duration::from_millis(100);

/// What was heard of others, in memory only.
#[derive(Debug, Clone, Default)]
pub(super) struct Heard {
    /// The leader that was heard last, and when.
    pub(super) leader: Option<(Vote, Instant)>,
    /// The longest time between two words of one leader, of late.
    pub(super) slowest: Duration,
    /// Whether this member voted when it heard the leader last: voters are told more often.
    pub(super) votes: Option<bool>,
    /// Of a leader: when each member last answered.
    pub(super) answered: BTreeMap<NodeId, Instant>,
    /// Of a leader: whose disk does nothing of what it was asked, and for how long.
    pub(super) stuck: BTreeMap<NodeId, Duration>,
    /// What members say of themselves: to a leader all that answered, to another the leader.
    pub(super) words: BTreeMap<NodeId, Bytes>,
    /// When this member last showed all that the leader did.
    pub(super) fresh_at: Option<Instant>,
    /// How far the leader showed the log when this member was first seen behind, and when that was.
    pub(super) behind: Option<(u64, Instant)>,
    /// When this member was awake last: it is while it can note that.
    pub(super) awake_at: Option<Instant>,
    /// From when to when it slept last, with the machine or alone.
    pub(super) napped: Option<(Instant, Instant)>,
    /// Whom this member said it would vote for last, and when.
    pub(super) candidate: Option<(Candidate, Instant)>,
    /// With what this member asks for votes, and until when it says yes to nobody who has less.
    pub(super) asking: Option<(Candidate, Instant)>,
}

/// Does `change` to what was heard, where nobody waits for it.
pub(super) fn note(heard: &watch::Sender<Heard>, change: impl FnOnce(&mut Heard)) {
    heard.send_if_modified(|heard| {
        change(heard);
        false
    });
}

impl Heard {
    /// What was answered to an earlier leader is of no account.
    pub(super) fn forget_answers(&mut self) {
        self.answered.clear();
        self.words.clear();
        self.stuck.clear();
    }

    /// Notes that the leader of `vote` was heard at `now`, by a member that `votes` or only follows.
    pub(super) fn hear(&mut self, vote: Vote, votes: bool, now: Instant) {
        if !self.turn(votes, now)
            && let Some((_, at)) = self.leader.filter(|(known, _)| *known == vote)
        {
            let slept = self.nap(now).is_some_and(|(_, to)| to.is_none_or(|to| to > at));
            // What this member slept through says nothing of the leader.
            let gap = if slept { Duration::ZERO } else { now.saturating_duration_since(at) };
            if gap >= PERIOD * 2 && votes {
                tracing::debug!(?gap, patience = ?self.timeout(), "the leader was silent");
            }
            // A silence that was much longer than the patience was an outage, and says little of the next one.
            let longest = if votes { self.timeout() * 2 } else { Duration::MAX };
            // Slow once is remembered for a while: a sixteenth is forgotten each time.
            self.slowest = gap.min(longest).max(self.slowest - self.slowest / 16);
        }
        if self.leader.is_none_or(|(known, _)| vote >= known) {
            self.leader = Some((vote, now));
            self.asking = None;
        }
    }

    /// Notes at `now` that this member votes, or only follows. True if that was not known: what was usual of its
    /// leader is so no more, and a new voter waits for it from now on.
    pub(super) fn turn(&mut self, votes: bool, now: Instant) -> bool {
        let turned = self.votes.replace(votes) != Some(votes);
        if turned {
            self.slowest = if votes { Duration::ZERO } else { LEARNER_PERIOD };
            self.leader = self.leader.map(|(vote, at)| (vote, if votes { now } else { at }));
        }
        turned
    }

    /// Notes at `now` that the leader shows the log through `leader`, and this member through `mine`.
    pub(super) fn compare(&mut self, mine: u64, leader: u64, now: Instant) {
        // What the leader showed then, this member shows by now.
        if let Some((_, at)) = self.behind.take_if(|(wanted, _)| mine >= *wanted) {
            self.fresh_at = Some(at);
        }
        if mine >= leader {
            (self.fresh_at, self.behind) = (Some(now), None);
        } else if self.behind.is_none() {
            self.behind = Some((leader, now));
        }
    }

    /// How long the leader may be silent before it is taken for lost: by a voter two pulses longer than it was of
    /// late, for voters ask one another before they do anything about it.
    pub(super) fn timeout(&self) -> Duration {
        let patience = if self.votes == Some(false) { self.slowest * 3 } else { self.slowest + PERIOD * 2 };
        patience.clamp(PERIOD * 3, Duration::from_secs(10))
    }

    /// The leader, if it was heard lately. Who slept, with the machine or alone, listens for a moment before it
    /// takes the leader for lost.
    pub(super) fn live_leader(&self, now: Instant) -> Option<Vote> {
        let (vote, at) = self.leader?;
        let lost_at = at + self.timeout();
        let listens =
            |(from, to): (Instant, Option<Instant>)| from < lost_at && to.is_none_or(|to| now < to + PERIOD);
        (now < lost_at || self.nap(now).is_some_and(listens)).then_some(vote)
    }

    /// Notes that this member is awake. It does so every [`PERIOD`] while it is.
    pub(super) fn wake(&mut self, now: Instant) {
        if let Some(from) = self.awake_at.replace(now)
            && now > from + NAP
        {
            self.napped = Some((from, now));
        }
    }

    /// When this member slept last, and until when if that is over.
    fn nap(&self, now: Instant) -> Option<(Instant, Option<Instant>)> {
        let sleeps = self.awake_at.filter(|from| now > *from + NAP).map(|from| (from, None));
        sleeps.or_else(|| self.napped.map(|(from, to)| (from, Some(to))))
    }

    /// Whether this member lets `candidate` go first at `now`, where it would vote for it: it may ask itself.
    pub(super) fn back(&mut self, candidate: Candidate, now: Instant) -> bool {
        let yields = self.asking.is_none_or(|(own, until)| now >= until || candidate > own);
        if yields {
            self.candidate = Some((candidate, now));
        }
        yields
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The patience after each of `gaps`, in milliseconds.
    fn patience(heard: &mut Heard, votes: bool, gaps: &[u64]) -> Vec<u128> {
        let mut now = heard.leader.map_or_else(Instant::now, |(_, at)| at);
        let mut hear = |gap: &u64| {
            now += Duration::from_millis(*gap);
            heard.hear(Vote::new_committed(1, 1), votes, now);
            heard.timeout().as_millis()
        };
        gaps.iter().map(&mut hear).collect()
    }

    #[test]
    fn patience_grows_with_silences_and_an_outage_is_no_measure() {
        let mut heard = Heard::default();
        assert_eq!(patience(&mut heard, true, &[0, 50, 50]), [150, 150, 150]);
        assert_eq!(patience(&mut heard, true, &[200]), [300], "a slow way is learnt as it is");
        assert_eq!(
            patience(&mut heard, true, &[7000; 3]),
            [700, 1500, 3100],
            "an outage is learnt step by step"
        );
        let after: Vec<u64> = vec![50; 100];
        assert_eq!(patience(&mut heard, true, &after).last(), Some(&150), "and forgotten in seconds");
    }

    #[test]
    fn who_slept_listens_for_a_moment_and_learns_nothing_of_it() {
        let (mut heard, begun) = (Heard::default(), Instant::now());
        let at = |ms| begun + Duration::from_millis(ms);
        for ms in [0, 50, 100] {
            heard.wake(at(ms));
            heard.hear(Vote::new_committed(1, 1), true, at(ms));
        }
        heard.wake(at(150));
        heard.wake(at(200));
        assert!(heard.live_leader(at(249)).is_some());
        assert!(heard.live_leader(at(250)).is_none(), "it was awake, and heard nothing");

        let mut sleeper = heard.clone();
        assert!(sleeper.live_leader(at(700)).is_some(), "not yet quite awake");
        sleeper.wake(at(700));
        assert!(sleeper.live_leader(at(749)).is_some(), "it listens");
        assert!(sleeper.live_leader(at(750)).is_none());
        sleeper.hear(Vote::new_committed(1, 1), true, at(720));
        assert_eq!(sleeper.timeout().as_millis(), 150, "it was not the leader that was silent");

        heard.wake(at(250));
        heard.wake(at(700));
        assert!(heard.live_leader(at(701)).is_none(), "it was lost before");
    }

    #[test]
    fn who_becomes_a_voter_forgets_how_seldom_it_was_told() {
        let mut heard = Heard::default();
        assert_eq!(patience(&mut heard, false, &[0, 1000, 800])[2], 2812);
        assert_eq!(patience(&mut heard, true, &[1000, 50]), [150, 150]);
        assert_eq!(patience(&mut heard, false, &[50]), [3000]);
        // Its leader says no word any more.
        let (_, last) = heard.leader.unwrap();
        assert!(heard.turn(true, last + Duration::from_millis(900)));
        assert!(!heard.turn(true, last + Duration::from_millis(950)));
        assert_eq!(heard.timeout().as_millis(), 150);
        assert!(heard.live_leader(last + Duration::from_millis(1000)).is_some());
        assert!(heard.live_leader(last + Duration::from_millis(1050)).is_none());
    }
}
