//! Kubernetes' waiting between two runs of a container.

use std::time::Duration;

const FIRST: Duration = Duration::from_secs(10);
const MOST: Duration = Duration::from_secs(300);
/// A container that ended this long after its last start by us is not in a crash loop.
const FORGET: Duration = Duration::from_secs(600);

/// How long a container that ends has to wait.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Backoff {
    current: Option<Current>,
}

#[derive(Debug, Clone, Copy)]
struct Current {
    delay: Duration,
    /// When the wait before this one was over.
    since: Duration,
}

impl Backoff {
    /// Returns how long to wait after an end at `now`: nothing the first time, then 10 s,
    /// 20 s… 300 s; from the beginning after ten quiet minutes.
    pub(crate) fn after_exit(&mut self, now: Duration) -> Duration {
        let wait = match self.current {
            Some(current) if now.saturating_sub(current.since) <= FORGET => current.delay,
            Some(_) | None => Duration::ZERO,
        };
        let delay = if wait.is_zero() { FIRST } else { (wait * 2).min(MOST) };
        self.current = Some(Current { delay, since: now + wait });
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_from_ten_seconds_to_five_minutes_after_one_immediate_restart() {
        let mut backoff = Backoff::default();
        let mut now = Duration::from_secs(1000);
        let mut waits = Vec::new();
        for _ in 0..8 {
            let wait = backoff.after_exit(now);
            waits.push(wait.as_secs());
            now += wait + Duration::from_millis(10);
        }
        assert_eq!(waits, [0, 10, 20, 40, 80, 160, 300, 300]);
    }

    #[test]
    fn ten_quiet_minutes_are_a_new_beginning() {
        let mut backoff = Backoff::default();
        let mut now = Duration::ZERO;
        for _ in 0..5 {
            now += backoff.after_exit(now);
        }
        assert_eq!(backoff.after_exit(now + Duration::from_secs(599)).as_secs(), 160);
        let now = now + Duration::from_secs(599 + 160);
        assert_eq!(backoff.after_exit(now + Duration::from_secs(601)), Duration::ZERO);
        assert_eq!(backoff.after_exit(now + Duration::from_secs(602)).as_secs(), 10);
    }
}
