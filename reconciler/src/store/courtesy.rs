//! Who lets whom go first, of members that ask for votes at once.

use super::raft::{LogId, Vote};
use crate::peer::NodeId;
use tokio::time::Instant;

/// An election has at most so many times two the patience of the first.
const MOST_DOUBLINGS: u32 = 5;

/// Who asks for votes, and what it has. Of two that ask at once the greater one goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Candidate {
    pub(super) last: Option<LogId>,
    pub(super) node: NodeId,
}

/// How a member lets another candidate go first: once, and then it asks itself. So nobody is kept from asking by
/// one that asks over and over and never wins.
#[derive(Debug)]
pub(super) struct Courtesy {
    /// When this member asked last, or heard a leader if that was later.
    pub(super) asked_at: Instant,
    /// Whether it let one go first since, and has not asked for votes.
    pub(super) is_spent: bool,
    /// How often it asked for votes since a leader was heard.
    tries: u32,
    /// Its vote, as it was seen last.
    vote: Vote,
}

impl Courtesy {
    pub(super) const fn new(asked_at: Instant, vote: Vote) -> Self {
        Self { asked_at, is_spent: false, tries: 0, vote }
    }

    /// A leader was heard at that time.
    pub(super) fn renew(&mut self, heard_at: Instant) {
        if heard_at > self.asked_at {
            (self.asked_at, self.is_spent, self.tries) = (heard_at, false, 0);
        }
    }

    /// How many times the usual patience an election has: twice as much each time.
    pub(super) fn next_patience(&mut self) -> u32 {
        let patience = 1 << self.tries.min(MOST_DOUBLINGS);
        self.tries += 1;
        patience
    }

    /// True if `me` voted for another since this was asked last: that one may lead by now.
    pub(super) fn voted_for_another(&mut self, vote: Vote, me: NodeId) -> bool {
        let is_new = std::mem::replace(&mut self.vote, vote) != vote;
        is_new && !vote.committed && vote.leader_id.node_id != me
    }

    /// When `candidate` was told yes, if it is to go first: since `asked_at`, and if this member asks, too, with more
    /// than its `own`.
    pub(super) fn lets_go_first(
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::heard::Heard;
    use std::time::Duration;

    const STEP: Duration = Duration::from_millis(1);

    const fn of(node: NodeId) -> Candidate {
        Candidate { last: None, node }
    }

    #[test]
    fn of_two_that_ask_at_once_one_goes_first() {
        let asked = Instant::now();
        let told = asked + STEP;
        let vote = Vote::new_committed(1, 1);
        let (mut two, mut three) = (Courtesy::new(asked, vote), Courtesy::new(asked, vote));
        assert_eq!(two.lets_go_first(Some((of(3), told)), Some(of(2))), Some(told));
        assert_eq!(three.lets_go_first(Some((of(2), told)), Some(of(3))), None);

        let mut heard = Heard { asking: Some((of(2), told)), ..Heard::default() };
        assert!(!heard.back(of(1), asked), "who asks says yes to nobody who has less");
        assert_eq!(heard.candidate, None);
        assert!(heard.back(of(3), asked), "but to who has more");
        assert!(heard.back(of(1), told), "and waits for an answer for a while only");
        assert_eq!(heard.candidate, Some((of(1), told)));
    }

    #[test]
    fn another_goes_first_once_and_never_for_a_question_of_long_ago() {
        let asked = Instant::now();
        let mut courtesy = Courtesy::new(asked, Vote::new_committed(1, 1));
        assert_eq!(courtesy.lets_go_first(None, None), None);
        assert_eq!(courtesy.lets_go_first(Some((of(1), asked - STEP)), None), None);
        assert_eq!(courtesy.lets_go_first(Some((of(1), asked)), None), Some(asked));
        assert_eq!(courtesy.lets_go_first(Some((of(1), asked + STEP)), None), None, "it asks over and over");
        assert_eq!(courtesy.lets_go_first(Some((of(3), asked + STEP)), Some(of(2))), None);
        assert_eq!([(); 7].map(|()| courtesy.next_patience()), [1, 2, 4, 8, 16, 32, 32]);
        courtesy.renew(asked + STEP);
        assert_eq!(courtesy.next_patience(), 1);
        assert_eq!(courtesy.lets_go_first(Some((of(1), asked)), None), None, "a leader was heard since");
        assert_eq!(courtesy.lets_go_first(Some((of(1), asked + STEP)), None), Some(asked + STEP));
    }

    #[test]
    fn who_voted_for_another_waits_for_it_once() {
        let mut courtesy = Courtesy::new(Instant::now(), Vote::new_committed(1, 1));
        assert!(!courtesy.voted_for_another(Vote::new_committed(1, 1), 2), "the leader of before");
        assert!(courtesy.voted_for_another(Vote::new(2, 3), 2));
        assert!(!courtesy.voted_for_another(Vote::new(2, 3), 2), "it has waited");
        assert!(!courtesy.voted_for_another(Vote::new(3, 2), 2), "its own");
        assert!(!courtesy.voted_for_another(Vote::new_committed(4, 3), 2), "it leads, and will be heard");
    }
}
