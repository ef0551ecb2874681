//! Decides the next action for every pod of this node from what the store wants
//! and what the runtime shows.
//!
//! Pure: no clock, file, task or log. Level-triggered: each call sees the whole
//! state and keeps nothing, so a lost event costs a delay, never a wrong action.

use jiff::Timestamp;
use runtime::state::Stage;
use std::collections::{BTreeMap, BTreeSet};

/// What the store says of one pod bound to this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Seconds of grace if the pod is being deleted.
    pub(crate) deleting: Option<u32>,
    /// Its phase is `Succeeded` or `Failed`: it will never run again.
    pub(crate) terminal: bool,
    /// `restartPolicy: Never`: a run that was cut short is not repeated.
    pub(crate) never_again: bool,
    /// Seconds of grace if the node ends the pod, which stays there to tell why.
    pub(crate) ending: Option<u32>,
}

/// What is known of one pod on the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    /// How far its supervisor says it is.
    pub(crate) stage: Stage,
    /// The grace that was already asked for, if a stop was.
    pub(crate) stop_asked: Option<u32>,
    /// Its network was given back.
    pub(crate) released: bool,
}

/// Work on a pod that is neither done nor failed, or waits for its next try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Busy {
    /// A task works on it: leave it alone.
    Working,
    /// The last try failed; the next is due then.
    RetryAt(Timestamp),
}

/// One action for the executor; safe to repeat if the agent dies halfway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// Make the sandbox, join it to the network, start its containers.
    Start,
    /// SIGTERM, and SIGKILL after so many seconds.
    Stop { grace_seconds: u32 },
    /// Give its network back; its exit codes stay known.
    Release,
    /// Free everything that the machine holds of it.
    Remove,
    /// Take the pod out of the store: nothing of it is left here.
    Forget,
    /// Its run was cut short and will not be repeated: write that down.
    Fail,
    /// Nothing before this instant.
    WaitUntil(Timestamp),
}

/// Returns at most one action per pod, by uid, and none once the node has converged.
pub(crate) fn reconcile(
    wanted: &BTreeMap<&str, Wanted>,
    seen: &BTreeMap<&str, Seen>,
    busy: &BTreeMap<String, Busy>,
    now: Timestamp,
) -> Vec<(String, Action)> {
    let uids: BTreeSet<_> = wanted.keys().chain(seen.keys()).copied().collect();
    let next = |uid: &str| {
        let action = next_action(wanted.get(uid), seen.get(uid))?;
        match busy.get(uid) {
            Some(Busy::Working) => None,
            // Only starts are worth a delay; whatever ends a pod is tried at once.
            Some(Busy::RetryAt(at))
                if *at > now && matches!(action, Action::Start | Action::Remove | Action::Release) =>
            {
                Some(Action::WaitUntil(*at))
            }
            _ => Some(action),
        }
    };
    uids.into_iter().filter_map(|uid| Some((uid.to_owned(), next(uid)?))).collect()
}

/// The decision table. A new stage does not compile until it has its rows.
fn next_action(want: Option<&Wanted>, have: Option<&Seen>) -> Option<Action> {
    match (want, have) {
        (None, None) => None,
        (None, Some(seen)) => end(seen, 0),
        (Some(Wanted { deleting: Some(_), .. }), None) => Some(Action::Forget),
        (Some(Wanted { deleting: Some(grace), .. }), Some(seen)) => end(seen, *grace),
        // What is ended before it began has its last word in its status.
        (Some(Wanted { terminal: true, .. } | Wanted { ending: Some(_), .. }), None) => None,
        (Some(_), None) => Some(Action::Start),
        (Some(wanted), Some(seen)) => keep(wanted, seen),
    }
}

/// A pod that shall be gone.
fn end(seen: &Seen, grace_seconds: u32) -> Option<Action> {
    match seen.stage {
        Stage::Created | Stage::Started | Stage::Stopping => {
            let known = seen.stop_asked.is_some_and(|asked| asked <= grace_seconds);
            (!known).then_some(Action::Stop { grace_seconds })
        }
        Stage::Finished | Stage::Lost => Some(Action::Remove),
    }
}

/// A pod that shall be there.
fn keep(wanted: &Wanted, seen: &Seen) -> Option<Action> {
    match seen.stage {
        Stage::Created | Stage::Started | Stage::Stopping if wanted.ending.is_some() && !wanted.terminal => {
            wanted.ending.and_then(|grace_seconds| end(seen, grace_seconds))
        }
        Stage::Lost if wanted.ending.is_some() && !wanted.terminal => None,
        Stage::Started | Stage::Stopping => None,
        Stage::Created => Some(Action::Start),
        Stage::Finished => (!seen.released).then_some(Action::Release),
        Stage::Lost if wanted.terminal => (!seen.released).then_some(Action::Release),
        Stage::Lost if wanted.never_again => Some(Action::Fail),
        Stage::Lost => Some(Action::Start),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAGES: [Stage; 5] =
        [Stage::Created, Stage::Started, Stage::Stopping, Stage::Finished, Stage::Lost];

    fn all_wanted() -> Vec<Option<Wanted>> {
        let mut all = vec![None];
        for deleting in [None, Some(0), Some(30)] {
            for terminal in [false, true] {
                for never_again in [false, true] {
                    for ending in [None, Some(1)] {
                        all.push(Some(Wanted { deleting, terminal, never_again, ending }));
                    }
                }
            }
        }
        all
    }

    fn all_seen() -> Vec<Option<Seen>> {
        let mut all = vec![None];
        for stage in STAGES {
            for stop_asked in [None, Some(0), Some(30)] {
                for released in [false, true] {
                    all.push(Some(Seen { stage, stop_asked, released }));
                }
            }
        }
        all
    }

    /// A machine on which every action succeeds.
    fn perform(action: Action, want: &mut Option<Wanted>, have: &mut Option<Seen>) {
        let fresh = |stage| Some(Seen { stage, stop_asked: None, released: false });
        match action {
            Action::Start => *have = fresh(Stage::Started),
            Action::Stop { grace_seconds } => {
                *have =
                    have.map(|seen| Seen { stop_asked: Some(grace_seconds), stage: Stage::Stopping, ..seen });
            }
            Action::Release => *have = have.map(|seen| Seen { released: true, ..seen }),
            Action::Remove => *have = None,
            Action::Forget => *want = None,
            Action::Fail => *want = want.map(|wanted| Wanted { terminal: true, ..wanted }),
            Action::WaitUntil(_) => {}
        }
    }

    #[test]
    fn every_state_converges_and_then_is_silent() {
        for want in all_wanted() {
            for have in all_seen() {
                let (mut want_now, mut have_now) = (want, have);
                let mut steps = 0;
                loop {
                    let Some(action) = next_action(want_now.as_ref(), have_now.as_ref()) else {
                        // A pod that stops, or was told to, finishes by itself.
                        match have_now {
                            Some(seen)
                                if seen.stage == Stage::Stopping
                                    || (seen.stop_asked.is_some()
                                        && !matches!(seen.stage, Stage::Finished | Stage::Lost)) =>
                            {
                                have_now = Some(Seen { stage: Stage::Finished, ..seen });
                                continue;
                            }
                            _ => break,
                        }
                    };
                    perform(action, &mut want_now, &mut have_now);
                    steps += 1;
                    assert!(steps < 6, "{want:?} {have:?} does not converge");
                }
                match want_now {
                    Some(wanted) if wanted.deleting.is_some() => panic!("{want:?} {have:?}: still there"),
                    None => assert_eq!(have_now, None, "{want:?} {have:?}: leaked"),
                    Some(_) => {}
                }
            }
        }
    }

    #[test]
    fn a_shorter_grace_is_passed_on_and_a_longer_is_not() {
        let stopping = Seen { stage: Stage::Stopping, stop_asked: Some(30), released: false };
        assert_eq!(end(&stopping, 5), Some(Action::Stop { grace_seconds: 5 }));
        assert_eq!(end(&stopping, 60), None);
    }

    #[test]
    fn a_pod_that_the_node_ends_is_stopped_and_not_started_again() {
        let ending = Wanted { deleting: None, terminal: false, never_again: false, ending: Some(1) };
        let seen = |stage| Seen { stage, stop_asked: None, released: false };
        for stage in [Stage::Created, Stage::Started, Stage::Stopping] {
            assert_eq!(keep(&ending, &seen(stage)), Some(Action::Stop { grace_seconds: 1 }), "{stage:?}");
        }
        assert_eq!(keep(&ending, &seen(Stage::Lost)), None);
        assert_eq!(next_action(Some(&ending), None), None);
    }

    #[test]
    fn a_failed_start_waits_but_a_deletion_does_not() {
        let now = Timestamp::from_second(100).expect("a time");
        let later = Timestamp::from_second(110).expect("a time");
        let busy = BTreeMap::from([("a".to_owned(), Busy::RetryAt(later))]);
        let wanted = Wanted { deleting: None, terminal: false, never_again: false, ending: None };
        let one = |wanted| BTreeMap::from([("a", wanted)]);
        assert_eq!(
            reconcile(&one(wanted), &BTreeMap::new(), &busy, now),
            [("a".to_owned(), Action::WaitUntil(later))]
        );
        let deleting = Wanted { deleting: Some(30), ..wanted };
        assert_eq!(
            reconcile(&one(deleting), &BTreeMap::new(), &busy, now),
            [("a".to_owned(), Action::Forget)]
        );
    }

    #[test]
    fn a_pod_in_work_is_left_alone() {
        let busy = BTreeMap::from([("a".to_owned(), Busy::Working)]);
        let wanted = BTreeMap::from([(
            "a",
            Wanted { deleting: None, terminal: false, never_again: false, ending: None },
        )]);
        assert_eq!(reconcile(&wanted, &BTreeMap::new(), &busy, Timestamp::UNIX_EPOCH), []);
    }
}
