//! Which run of a schedule is due.

use jiff::{SignedDuration, Timestamp};
use manifests::cron::Schedule;

/// So many missed runs point to a clock that jumped, or a machine that was off for long.
const TOO_MANY: usize = 100;

/// A run that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) at: Timestamp,
    /// True if more than a hundred were missed before it.
    pub(super) missed_too_many: bool,
}

/// The latest run after `earliest` and not after `now`: of several that were missed only one is made up for.
pub(super) fn latest_due(schedule: &Schedule, earliest: Timestamp, now: Timestamp) -> Option<Due> {
    let due = |after| schedule.next_after(after).filter(|at| *at <= now);
    let mut last = due(earliest)?;
    for _ in 0..TOO_MANY {
        match due(last) {
            Some(at) => last = at,
            None => return Some(Due { at: last, missed_too_many: false }),
        }
    }
    Some(Due { at: latest(schedule, last, now), missed_too_many: true })
}

/// The latest run not after `now`, which is `known` or later: looked for from
/// `now` backwards in windows that double, so that years of minutes cost nothing.
fn latest(schedule: &Schedule, known: Timestamp, now: Timestamp) -> Timestamp {
    let mut window = SignedDuration::from_mins(1);
    loop {
        let from = now.checked_sub(window).unwrap_or(known).max(known);
        let mut found = schedule.next_after(from).filter(|at| *at <= now);
        if let Some(at) = &mut found {
            while let Some(later) = schedule.next_after(*at).filter(|later| *later <= now) {
                *at = later;
            }
        }
        if let Some(at) = found {
            return at;
        }
        if from == known {
            return known;
        }
        window = window.saturating_mul(2);
    }
}
