//! How many events may be written about one object: a burst, then one now and then, as Kubernetes'
//! own clients do (`EventSourceObjectSpamFilter` of client-go). So a ReplicaSet that makes a thousand
//! pods does not tell of each.

use manifests::ObjectKey;
use std::collections::HashMap;
use std::time::Duration;
use tokio::time::Instant;

/// Events at once.
const BURST: u32 = 25;
/// One more after each.
const REFILL: Duration = Duration::from_secs(300);
/// Objects that are remembered; those that were told of longest ago are forgotten.
const MOST: usize = 4096;

/// What is left of each object's allowance.
#[derive(Debug, Default)]
pub(super) struct Allowances(HashMap<ObjectKey, Allowance>);

#[derive(Debug)]
struct Allowance {
    left: u32,
    /// Until when it is refilled.
    at: Instant,
}

impl Allowances {
    /// Takes one of `about` if there is one left.
    pub(super) fn take(&mut self, about: &ObjectKey, now: Instant) -> bool {
        if !self.0.contains_key(about) && self.0.len() >= MOST {
            self.forget();
        }
        let allowance = self.0.entry(about.clone()).or_insert(Allowance { left: BURST, at: now });
        while allowance.left < BURST && allowance.at + REFILL <= now {
            allowance.left += 1;
            allowance.at += REFILL;
        }
        if allowance.left == BURST {
            allowance.at = now;
        }
        let is_left = allowance.left > 0;
        allowance.left = allowance.left.saturating_sub(1);
        is_left
    }

    /// Forgets the older half.
    fn forget(&mut self) {
        let mut times: Vec<_> = self.0.values().map(|allowance| allowance.at).collect();
        let middle = times.len() / 2;
        let (_, median, _) = times.select_nth_unstable(middle);
        let median = *median;
        self.0.retain(|_, allowance| allowance.at > median);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use manifests::Kind;

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_let_through_and_then_one_in_five_minutes() {
        let mut all = Allowances::default();
        let (a, b) = (ObjectKey::new(Kind::Pod, "n", "a"), ObjectKey::new(Kind::Pod, "n", "b"));
        let start = Instant::now();
        let taken = |all: &mut Allowances, key, now| (0..100).filter(|_| all.take(key, now)).count();
        assert_eq!(taken(&mut all, &a, start), 25);
        assert_eq!(taken(&mut all, &b, start), 25, "each has its own");
        assert_eq!(taken(&mut all, &a, start + Duration::from_secs(299)), 0);
        assert_eq!(taken(&mut all, &a, start + Duration::from_secs(901)), 3);
        assert_eq!(taken(&mut all, &a, start + Duration::from_secs(100_000)), 25, "never more");
    }

    #[tokio::test(start_paused = true)]
    async fn only_so_many_objects_are_remembered() {
        let mut all = Allowances::default();
        for number in 0..10_000_u32 {
            let now = Instant::now() + Duration::from_millis(number.into());
            assert!(all.take(&ObjectKey::new(Kind::Pod, "n", number.to_string()), now));
        }
        assert!(all.0.len() <= MOST);
        assert!(all.0.contains_key(&ObjectKey::new(Kind::Pod, "n", "9999")));
    }
}
