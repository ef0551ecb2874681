//! The recent changes, and those who follow them.
//!
//! Watchers hold no queue: each has a place in the one ring of recent changes,
//! so a slow one costs no memory, and is told when the ring has left it behind.

use super::Shared;
use super::state::is_cold;
use manifests::{Kind, Object, ObjectKey};
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::sync::watch;

/// Changes that are remembered at most.
const MOST: usize = 10_000;
/// Changes that are remembered whatever their size.
const LEAST: usize = 64;
/// JSON text of the remembered changes, in bytes, beyond [`LEAST`].
const BUDGET_BYTES: usize = 2 << 20;
/// What is kept whole in the state counts for so many times less: most of it is there anyway.
const SHARED: usize = 8;
/// The same, of what is kept while nothing happens. Whoever follows has seen the rest.
const RESTING_BYTES: usize = 256 << 10;

/// What happened to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It was not there before.
    Added,
    /// It differs from before.
    Modified,
    /// It is no more; the event carries it as it last was.
    Deleted,
}

/// One change of one object.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// What happened.
    pub change: Change,
    /// The object after it. Its `resourceVersion` is `revision`, also when deleted.
    pub object: Arc<Object>,
    /// The resource version of the change.
    pub revision: u64,
}

impl Event {
    /// The key of what changed.
    #[must_use]
    pub fn key(&self) -> ObjectKey {
        self.object.key()
    }
}

/// The changes after `from` are no longer remembered: list, and watch anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("changes since {from} are gone; the oldest that can be watched from is {oldest}")]
pub struct Expired {
    /// Where the watcher was.
    pub from: u64,
    /// The oldest resource version from which nothing is missing.
    pub oldest: u64,
}

/// The recent changes, oldest first.
#[derive(Debug, Default)]
pub(super) struct Ring {
    events: VecDeque<(Event, usize)>,
    size_bytes: usize,
    floor: u64,
}

impl Ring {
    /// Remembers nothing of what led to `revision`.
    pub(super) fn new(revision: u64) -> Self {
        Self { floor: revision, ..Self::default() }
    }

    /// The oldest revision after which every change is here.
    pub(super) const fn floor(&self) -> u64 {
        self.floor
    }

    pub(super) const fn reaches(&self, from: u64) -> bool {
        from >= self.floor
    }

    /// Adds the newest change, whose JSON takes `size_bytes`.
    pub(super) fn push(&mut self, event: Event, size_bytes: usize) {
        let size_bytes = if is_cold(event.object.kind()) { size_bytes } else { size_bytes / SHARED };
        self.events.push_back((event, size_bytes));
        self.size_bytes += size_bytes;
        self.cut(BUDGET_BYTES);
    }

    /// Only the newest changes are remembered.
    pub(super) fn shrink(&mut self) {
        self.cut(RESTING_BYTES);
        self.events.shrink_to_fit();
    }

    fn cut(&mut self, budget_bytes: usize) {
        while self.events.len() > MOST || (self.size_bytes > budget_bytes && self.events.len() > LEAST) {
            let Some((oldest, size_bytes)) = self.events.pop_front() else { break };
            self.size_bytes -= size_bytes;
            self.floor = oldest.revision;
        }
    }

    /// The first change after `from`, of `kind` if given.
    fn after(&self, from: u64, kind: Option<Kind>) -> Option<&Event> {
        let start = self.events.partition_point(|(event, _)| event.revision <= from);
        self.events
            .range(start..)
            .map(|(event, _)| event)
            .find(|event| kind.is_none_or(|kind| event.object.kind() == kind))
    }
}

/// Follows the changes of a store.
#[derive(Debug)]
pub struct Watch {
    shared: Arc<Shared>,
    changes: watch::Receiver<u64>,
    kind: Option<Kind>,
    from: u64,
}

impl Watch {
    pub(super) const fn new(
        shared: Arc<Shared>,
        changes: watch::Receiver<u64>,
        kind: Option<Kind>,
        from: u64,
    ) -> Self {
        Self { shared, changes, kind, from }
    }

    /// The next change, as soon as there is one.
    ///
    /// # Errors
    /// [`Expired`] if the watcher fell too far behind, or the store was closed.
    ///
    /// # Cancel safety
    /// A cancelled call has taken nothing.
    pub async fn next(&mut self) -> Result<Event, Expired> {
        loop {
            self.changes.borrow_and_update();
            if let Some(event) = self.try_next()? {
                return Ok(event);
            }
            if self.changes.changed().await.is_err() {
                return Err(Expired { from: self.from, oldest: u64::MAX });
            }
        }
    }

    /// The next change if there is one already.
    ///
    /// # Errors
    /// [`Expired`] if the watcher fell too far behind.
    pub fn try_next(&mut self) -> Result<Option<Event>, Expired> {
        let visible = self.shared.read();
        if !visible.ring.reaches(self.from) {
            return Err(Expired { from: self.from, oldest: visible.ring.floor() });
        }
        let event = visible.ring.after(self.from, self.kind).cloned();
        // What is of another kind is behind us, too: it must not count as falling behind.
        self.from = event.as_ref().map_or(visible.state.revision(), |event| event.revision);
        Ok(event)
    }

    /// The resource version up to which everything was seen.
    #[must_use]
    pub const fn revision(&self) -> u64 {
        self.from
    }
}
