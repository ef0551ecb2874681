//! What is to be looked at, now and later: keyed and deduplicated. Pure: time is an argument.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::hash::Hash;
use std::time::Duration;
use tokio::time::Instant;

/// Refusals by a conflict that are looked at again at once.
const QUICK_RETRIES: u32 = 3;

/// Keys that wait, each at most once.
#[derive(Debug)]
pub(super) struct Queue<K> {
    ready: VecDeque<K>,
    is_ready: HashSet<K>,
    timers: BTreeSet<(Instant, K)>,
    timer_of: HashMap<K, Instant>,
    failures: HashMap<K, u32>,
}

impl<K: Clone + Eq + Hash + Ord> Queue<K> {
    pub(super) fn new() -> Self {
        Self {
            ready: VecDeque::new(),
            is_ready: HashSet::new(),
            timers: BTreeSet::new(),
            timer_of: HashMap::new(),
            failures: HashMap::new(),
        }
    }

    /// `key` is looked at in the next passes.
    pub(super) fn add(&mut self, key: K) {
        if self.is_ready.insert(key.clone()) {
            self.ready.push_back(key);
        }
    }

    /// `key` is looked at by `at`, and no longer at the time set before; `None` clears it.
    pub(super) fn wake_at(&mut self, key: K, at: Option<Instant>) {
        if let Some(before) = self.timer_of.remove(&key) {
            self.timers.remove(&(before, key.clone()));
        }
        if let Some(at) = at {
            self.timer_of.insert(key.clone(), at);
            self.timers.insert((at, key));
        }
    }

    /// The writes of `key` were refused because something changed: it is looked at
    /// again, at once for the first times.
    pub(super) fn conflict(&mut self, key: K, now: Instant) {
        let failures = self.count(&key);
        if failures <= QUICK_RETRIES {
            return self.add(key);
        }
        let delay = back_off(Duration::from_millis(10), failures - QUICK_RETRIES, Duration::from_secs(5));
        self.sooner(key, now + delay);
    }

    /// The writes of `key` failed: it is looked at again after a delay that doubles.
    pub(super) fn fail(&mut self, key: K, now: Instant) {
        let failures = self.count(&key);
        let delay = back_off(Duration::from_secs(1), failures, Duration::from_secs(60));
        self.sooner(key, now + delay);
    }

    /// The writes of `key` are done.
    pub(super) fn succeed(&mut self, key: &K) {
        self.failures.remove(key);
    }

    /// At most `most` keys that are ready at `now`, in the order in which they came.
    pub(super) fn take(&mut self, now: Instant, most: usize) -> Vec<K> {
        while let Some((at, key)) = self.timers.first().cloned() {
            if at > now {
                break;
            }
            self.wake_at(key.clone(), None);
            self.add(key);
        }
        let taken: Vec<K> = self.ready.drain(..most.min(self.ready.len())).collect();
        for key in &taken {
            self.is_ready.remove(key);
        }
        taken
    }

    /// `keys`, which were taken last, come first again, in their order.
    pub(super) fn put_back(&mut self, keys: impl DoubleEndedIterator<Item = K>) {
        for key in keys.rev() {
            if self.is_ready.insert(key.clone()) {
                self.ready.push_front(key);
            }
        }
    }

    /// When the first timer ends.
    pub(super) fn next_at(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| *at)
    }

    fn count(&mut self, key: &K) -> u32 {
        let failures = self.failures.entry(key.clone()).or_default();
        *failures = failures.saturating_add(1);
        *failures
    }

    fn sooner(&mut self, key: K, at: Instant) {
        if self.timer_of.get(&key).is_none_or(|set| at < *set) {
            self.wake_at(key, Some(at));
        }
    }
}

/// `first`, doubled with each further of `times`, up to `most`.
fn back_off(first: Duration, times: u32, most: Duration) -> Duration {
    first.saturating_mul(1 << times.saturating_sub(1).min(20)).min(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_key_waits_once_however_often_it_is_added() {
        let mut queue = Queue::new();
        let now = Instant::now();
        for key in [1, 2, 1, 2, 3] {
            queue.add(key);
        }
        assert_eq!(queue.take(now, 2), [1, 2]);
        queue.add(1);
        assert_eq!(queue.take(now, 9), [3, 1]);
        assert!(queue.take(now, 9).is_empty());
        queue.add(4);
        queue.add(2);
        queue.put_back([1, 2, 3].into_iter());
        assert_eq!(queue.take(now, 9), [1, 3, 4, 2], "what waits already stays where it is");
    }

    #[tokio::test(start_paused = true)]
    async fn the_newest_time_of_a_key_counts() {
        let mut queue = Queue::new();
        let now = Instant::now();
        let later = |seconds| now + Duration::from_secs(seconds);
        queue.wake_at('a', Some(later(5)));
        queue.wake_at('a', Some(later(9)));
        queue.wake_at('b', Some(later(7)));
        assert_eq!(queue.next_at(), Some(later(7)));
        assert!(queue.take(later(6), 9).is_empty());
        assert_eq!(queue.take(later(9), 9), ['b', 'a']);
        queue.wake_at('a', Some(later(20)));
        queue.wake_at('a', None);
        assert_eq!(queue.next_at(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn conflicts_are_retried_at_once_then_later_and_failures_later() {
        let mut queue = Queue::new();
        let now = Instant::now();
        for _ in 0..QUICK_RETRIES {
            queue.conflict('a', now);
            assert_eq!(queue.take(now, 9), ['a']);
        }
        queue.conflict('a', now);
        assert!(queue.take(now, 9).is_empty());
        assert_eq!(queue.next_at(), Some(now + Duration::from_millis(10)));
        assert_eq!(queue.take(now + Duration::from_millis(10), 9), ['a']);
        queue.succeed(&'a');
        queue.conflict('a', now);
        assert_eq!(queue.take(now, 9), ['a']);
        queue.fail('b', now);
        queue.take(now + Duration::from_secs(1), 9);
        queue.fail('b', now);
        assert_eq!(queue.next_at(), Some(now + Duration::from_secs(2)));
    }

    #[test]
    fn back_off_doubles_up_to_its_end() {
        let delays = [1, 2, 3, 40].map(|n| back_off(Duration::from_secs(1), n, Duration::from_secs(60)));
        assert_eq!(delays.map(|d| d.as_secs()), [1, 2, 4, 60]);
    }
}
