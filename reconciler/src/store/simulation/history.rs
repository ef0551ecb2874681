//! Is a history of reads and writes one that a single machine could have had?
//!
//! The search is Wing and Gong's, with Lowe's memory of what was tried: per object, look for an
//! order of the operations that respects their times and in which each read sees the last
//! write. An operation without an answer may have happened at any time after it began, or
//! never.

use std::collections::{BTreeMap, HashSet};

/// What a client asked, and what it was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Operation {
    Write(u64),
    /// The value that was read.
    Read(u64),
}

/// One operation on one object. Times are counts of events: no two are alike.
#[derive(Debug, Clone)]
pub(super) struct Event {
    pub(super) object: usize,
    pub(super) operation: Operation,
    pub(super) began: u64,
    /// None if there was no answer, or none that says whether it happened.
    pub(super) ended: Option<u64>,
}

impl Event {
    const fn seen(&self) -> Option<u64> {
        if let Operation::Read(value) = self.operation { Some(value) } else { None }
    }

    const fn written(&self) -> Option<u64> {
        if let Operation::Write(value) = self.operation { Some(value) } else { None }
    }
}

/// The object whose operations have no order, and these; all objects held 0 at first.
pub(super) fn contradiction(events: &[Event]) -> Option<(usize, Vec<Event>)> {
    let mut objects: BTreeMap<usize, Vec<Event>> = BTreeMap::new();
    for event in events {
        objects.entry(event.object).or_default().push(event.clone());
    }
    objects.into_iter().find(|(_, events)| !has_order(events))
}

/// Tries orders depth first. `done` has a bit for each operation.
fn has_order(events: &[Event]) -> bool {
    let mut events = events.to_vec();
    // What nobody was told, and nobody saw, may as well not have happened.
    let seen: HashSet<_> = events.iter().filter_map(Event::seen).collect();
    events
        .retain(|event| event.ended.is_some() || event.written().is_some_and(|value| seen.contains(&value)));
    events.sort_by_key(|event| event.began);
    let answered = events.iter().filter(|event| event.ended.is_some()).count();
    let mut tried = HashSet::new();
    let mut open = vec![(vec![0_u64; events.len().div_ceil(64)], 0_u64, 0_usize)];
    while let Some((done, value, count)) = open.pop() {
        if count == answered {
            return true;
        }
        let is_done = |index: usize| done[index / 64] >> (index % 64) & 1 == 1;
        // Whatever ended first must come before all that began after its end.
        let left = events.iter().enumerate().filter(|(index, _)| !is_done(*index));
        let first_end = left.clone().filter_map(|(_, event)| event.ended).min().unwrap_or(u64::MAX);
        for (index, event) in left.filter(|(_, event)| event.began < first_end) {
            let next = match event.operation {
                Operation::Write(written) => written,
                Operation::Read(seen) if seen == value => value,
                Operation::Read(_) => continue,
            };
            let mut done = done.clone();
            done[index / 64] |= 1 << (index % 64);
            if tried.insert((done.clone(), next)) {
                open.push((done, next, count + usize::from(event.ended.is_some())));
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(operation: Operation, began: u64, ended: Option<u64>) -> Event {
        Event { object: 0, operation, began, ended }
    }

    #[test]
    fn a_read_sees_the_write_that_ended_before_it() {
        use Operation::{Read, Write};
        let good = [event(Write(1), 1, Some(2)), event(Read(1), 3, Some(4))];
        assert!(contradiction(&good).is_none());
        let stale = [event(Write(1), 1, Some(2)), event(Read(0), 3, Some(4))];
        assert!(contradiction(&stale).is_some());
        let during = [event(Write(1), 1, Some(4)), event(Read(0), 2, Some(3))];
        assert!(contradiction(&during).is_none());
    }

    #[test]
    fn a_write_without_an_answer_may_have_happened_late_or_never_but_not_twice() {
        use Operation::{Read, Write};
        let late = [event(Write(1), 1, None), event(Read(0), 2, Some(3)), event(Read(1), 4, Some(5))];
        assert!(contradiction(&late).is_none());
        let never = [event(Write(1), 1, None), event(Read(0), 2, Some(3))];
        assert!(contradiction(&never).is_none());
        let twice = [
            event(Write(1), 1, None),
            event(Read(1), 2, Some(3)),
            event(Write(2), 4, Some(5)),
            event(Read(1), 6, Some(7)),
        ];
        assert!(contradiction(&twice).is_some());
    }

    #[test]
    fn two_reads_do_not_see_time_run_backwards() {
        use Operation::{Read, Write};
        let events = [event(Write(1), 1, Some(10)), event(Read(1), 2, Some(3)), event(Read(0), 4, Some(5))];
        assert!(contradiction(&events).is_some());
    }
}
