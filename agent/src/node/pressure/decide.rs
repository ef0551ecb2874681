//! Under which pressures the node is, and what must be reclaimed, by the kubelet's rules. Pure.

use jiff::Timestamp;
use manifests::config::{Signal, Threshold};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How much there is of something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Observation {
    pub(super) available: u64,
    pub(super) capacity: u64,
}

/// What the machine shows; a signal that it cannot tell is left out.
pub(super) type Observations = BTreeMap<Signal, Observation>;

/// A condition of the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Pressure {
    Memory,
    Disk,
    Pid,
}

impl Pressure {
    pub(super) const fn of(signal: Signal) -> Self {
        match signal {
            Signal::MemoryAvailable => Self::Memory,
            Signal::NodefsAvailable
            | Signal::NodefsInodesFree
            | Signal::ImagefsAvailable
            | Signal::ImagefsInodesFree => Self::Disk,
            Signal::PidAvailable => Self::Pid,
        }
    }
}

/// A threshold that is crossed, for longer than it may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Exceeded {
    pub(super) threshold: Threshold,
    /// How much there has to be.
    pub(super) least: u64,
    /// How much there is.
    pub(super) available: u64,
}

/// What one look came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) pressures: BTreeSet<Pressure>,
    /// What is to be reclaimed first.
    pub(super) exceeded: Option<Exceeded>,
}

/// What earlier looks saw. May be lost.
#[derive(Debug, Default)]
pub(super) struct History {
    /// Since when a threshold is crossed, by its place.
    crossed_since: BTreeMap<usize, Timestamp>,
    /// Thresholds for which something was reclaimed, and not enough yet.
    unresolved: BTreeSet<usize>,
    /// When a pressure was last seen.
    last_seen: BTreeMap<Pressure, Timestamp>,
}

impl History {
    /// Takes in what is seen at `now`. A pressure stays for `transition` after it was last seen.
    pub(super) fn look(
        &mut self,
        thresholds: &[Threshold],
        seen: &Observations,
        transition: Duration,
        now: Timestamp,
    ) -> Verdict {
        let all = || thresholds.iter().enumerate();
        let crossed: BTreeMap<usize, Exceeded> = all()
            .filter_map(|(place, one)| Some((place, crossed(one, seen, self.unresolved.contains(&place))?)))
            .collect();
        self.crossed_since.retain(|place, _| crossed.contains_key(place));
        for (place, exceeded) in &crossed {
            self.crossed_since.entry(*place).or_insert(now);
            self.last_seen.insert(Pressure::of(exceeded.threshold.signal), now);
        }
        self.last_seen.retain(|_, at| age(*at, now) < transition || *at == now);
        let due: BTreeMap<usize, Exceeded> = crossed
            .into_iter()
            .filter(|(place, exceeded)| {
                let since = self.crossed_since.get(place).copied().unwrap_or(now);
                exceeded.threshold.grace.is_none_or(|grace| age(since, now) >= grace)
            })
            .collect();
        self.unresolved = due.keys().copied().collect();
        Verdict { pressures: self.last_seen.keys().copied().collect(), exceeded: due.into_values().next() }
    }
}

fn age(at: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(at)).unwrap_or_default()
}

/// The threshold, if less is there than has to be. While it is being resolved, that is more.
pub(super) fn crossed(threshold: &Threshold, seen: &Observations, unresolved: bool) -> Option<Exceeded> {
    let Observation { available, capacity } = *seen.get(&threshold.signal)?;
    let least = threshold.least.of(capacity);
    let more = if unresolved { threshold.reclaim.map_or(0, |share| share.of(capacity)) } else { 0 };
    (available < least.saturating_add(more)).then_some(Exceeded { threshold: *threshold, least, available })
}

#[cfg(test)]
mod tests {
    use super::*;
    use manifests::config::Share;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn seen(signal: Signal, available: u64) -> Observations {
        Observations::from([(signal, Observation { available, capacity: 1000 })])
    }

    fn threshold(signal: Signal, least: Share, grace: Option<u64>, reclaim: Option<u64>) -> Threshold {
        let grace = grace.map(Duration::from_secs);
        Threshold { signal, least, grace, reclaim: reclaim.map(Share::Amount) }
    }

    const FIVE_MINUTES: Duration = Duration::from_secs(300);
    const MEMORY: Signal = Signal::MemoryAvailable;

    /// Looks at each time in turn: the available amount, whether there is pressure, and whether
    /// something must go.
    fn story(thresholds: &[Threshold], looks: &[(i64, u64, bool, bool)]) {
        let mut history = History::default();
        for &(second, available, pressure, must_go) in looks {
            let verdict = history.look(thresholds, &seen(MEMORY, available), FIVE_MINUTES, at(second));
            assert_eq!(verdict.pressures.contains(&Pressure::Memory), pressure, "at {second}");
            assert_eq!(verdict.exceeded.is_some(), must_go, "at {second}");
        }
    }

    #[test]
    fn a_hard_threshold_acts_at_once_and_its_pressure_stays_a_while() {
        let hard = [threshold(MEMORY, Share::Amount(100), None, None)];
        story(
            &hard,
            &[
                (0, 100, false, false),
                (10, 99, true, true),
                (20, 100, true, false),
                (309, 500, true, false),
                (310, 500, false, false),
            ],
        );
    }

    #[test]
    fn a_soft_threshold_waits_for_its_grace_and_begins_anew() {
        let soft = [threshold(MEMORY, Share::MilliPercent(10_000), Some(60), None)];
        story(
            &soft,
            &[
                (0, 50, true, false),
                (59, 50, true, false),
                (60, 50, true, true),
                (70, 200, true, false),
                (80, 50, true, false),
                (140, 50, true, true),
            ],
        );
    }

    #[test]
    fn more_is_reclaimed_than_the_threshold_asks_for() {
        let hard = [threshold(MEMORY, Share::Amount(100), None, Some(50))];
        story(
            &hard,
            &[(0, 120, false, false), (10, 90, true, true), (20, 149, true, true), (30, 150, true, false)],
        );
    }

    #[test]
    fn memory_comes_before_the_disk_and_a_silent_signal_is_no_pressure() {
        let both = [
            threshold(MEMORY, Share::Amount(100), None, None),
            threshold(Signal::NodefsAvailable, Share::Amount(100), None, None),
        ];
        let mut history = History::default();
        let mut all = seen(MEMORY, 1);
        all.extend(seen(Signal::NodefsAvailable, 1));
        let verdict = history.look(&both, &all, FIVE_MINUTES, at(0));
        assert_eq!(verdict.pressures, BTreeSet::from([Pressure::Memory, Pressure::Disk]));
        assert_eq!(verdict.exceeded.unwrap().threshold.signal, MEMORY);
        let verdict = History::default().look(&both, &Observations::new(), FIVE_MINUTES, at(0));
        assert_eq!((verdict.pressures.len(), verdict.exceeded), (0, None));
    }
}
