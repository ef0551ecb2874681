//! When each node was last heard: the leader's memory, which never enters the log.
//!
//! A leader that has just been elected has heard nobody; its nodes have all their time from its
//! election on. What it forgets with its office costs a delay, never a wrong decision.

use crate::controllers::Heard;
use jiff::Timestamp;
use std::collections::HashMap;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;
use tokio::time::Instant;

/// When nodes were last heard.
#[derive(Debug)]
pub struct Heartbeats {
    memory: RwLock<Memory>,
}

#[derive(Debug)]
struct Memory {
    /// Silence before this is nobody's fault.
    since: Instant,
    beats: HashMap<String, Beat>,
}

#[derive(Debug, Clone, Copy)]
struct Beat {
    at: Instant,
    wall: Timestamp,
}

impl Heartbeats {
    /// Nobody was heard yet; everybody's time begins at `now`.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self { memory: RwLock::new(Memory { since: now, beats: HashMap::new() }) }
    }

    /// This peer leads from `now` on: what came to others while it did not lead is unknown, so
    /// that every node has its full time again.
    pub fn elected(&self, now: Instant) {
        self.write().since = now;
    }

    /// `node` was heard at `now`, which is `wall` on the clock of the wall.
    pub fn hear(&self, node: &str, now: Instant, wall: Timestamp) {
        let beat = Beat { at: now, wall };
        let mut memory = self.write();
        match memory.beats.get_mut(node) {
            Some(known) => *known = beat,
            None => drop(memory.beats.insert(node.to_owned(), beat)),
        }
    }

    /// `node` is no more.
    pub fn forget(&self, node: &str) {
        self.write().beats.remove(node);
    }

    /// For how long `node` has been silent.
    #[must_use]
    pub fn age(&self, node: &str, now: Instant) -> Duration {
        let memory = self.read();
        let heard = memory.beats.get(node).map_or(memory.since, |beat| beat.at.max(memory.since));
        now.saturating_duration_since(heard)
    }

    /// When `node` was last heard, on the clock of the wall; what its Lease says.
    #[must_use]
    pub fn renewed_at(&self, node: &str) -> Option<Timestamp> {
        self.read().beats.get(node).map(|beat| beat.wall)
    }

    // A panic elsewhere leaves plain numbers behind, which are as good as before.
    fn read(&self) -> RwLockReadGuard<'_, Memory> {
        self.memory.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Memory> {
        self.memory.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The heartbeats as they are at one time, for a decision.
#[derive(Debug)]
pub(crate) struct At<'h> {
    pub(crate) heartbeats: &'h Heartbeats,
    pub(crate) now: Instant,
}

impl Heard for At<'_> {
    fn age(&self, node: &str) -> Duration {
        self.heartbeats.age(node, self.now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn silence_is_counted_from_the_last_beat_or_from_the_election() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let wall = Timestamp::UNIX_EPOCH;
        let beats = Heartbeats::new(start);
        assert_eq!(beats.age("a", at(7)), Duration::from_secs(7), "as long as it leads");
        beats.hear("a", at(10), wall);
        assert_eq!(beats.age("a", at(50)), Duration::from_secs(40));
        assert_eq!(beats.renewed_at("a"), Some(wall));
        beats.elected(at(45));
        assert_eq!(beats.age("a", at(50)), Duration::from_secs(5), "a new leader gives time");
        assert_eq!(beats.age("b", at(50)), Duration::from_secs(5));
        beats.hear("a", at(48), wall);
        assert_eq!(beats.age("a", at(50)), Duration::from_secs(2));
        assert_eq!(beats.age("a", at(40)), Duration::ZERO, "no time runs backwards");
        beats.forget("a");
        assert_eq!((beats.age("a", at(50)), beats.renewed_at("a")), (Duration::from_secs(5), None));
    }
}
