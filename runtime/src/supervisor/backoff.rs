//! Kubernetes' waiting between two runs of a container.

use manifests::habits::Delays;
use std::time::Duration;

const FIRST: Duration = Duration::from_secs(10);
/// In thousandths.
const TWICE: u32 = 2000;
const MOST: Duration = Duration::from_secs(300);
/// A container that ended this long after its last start by us is not in a crash loop.
const FORGET: Duration = Duration::from_secs(600);

/// How long a container that ends has to wait.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Backoff {
    delays: Delays,
    current: Option<Current>,
}

#[derive(Debug, Clone, Copy)]
struct Current {
    delay: Duration,
    /// When the wait before this one was over.
    since: Duration,
}

impl Backoff {
    /// Kubernetes' own, but for what `delays` says.
    pub(crate) fn new(delays: Delays) -> Self {
        Self { delays, current: None }
    }

    /// Returns how long to wait after an end at `now`: nothing the first time, then 10 s,
    /// 20 s… 300 s; from the beginning after ten quiet minutes. A first delay of the user's own
    /// is waited for the first time, too.
    pub(crate) fn after_exit(&mut self, now: Duration) -> Duration {
        let wait = match self.current {
            Some(current) if now.saturating_sub(current.since) <= FORGET => current.delay,
            Some(_) | None => self.delays.first.unwrap_or(Duration::ZERO).min(self.most()),
        };
        let delay = if wait.is_zero() { FIRST.min(self.most()) } else { self.longer(wait) };
        self.current = Some(Current { delay, since: now + wait });
        wait
    }
}

impl Backoff {
    /// A first delay that is longer than the usual most stands.
    fn most(&self) -> Duration {
        self.delays.most.unwrap_or_else(|| self.delays.first.map_or(MOST, |first| first.max(MOST)))
    }

    fn longer(&self, wait: Duration) -> Duration {
        let factor = self.delays.factor.unwrap_or(TWICE);
        wait.checked_mul(factor).map_or(self.most(), |longer| (longer / 1000).min(self.most()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_of_the_users_own_are_kept() {
        let ms = Duration::from_millis;
        let delays = Delays { first: Some(ms(100)), factor: Some(1500), most: Some(ms(200)) };
        let mut backoff = Backoff::new(delays);
        let waits = [0; 4].map(|_| backoff.after_exit(ms(0)));
        assert_eq!(waits, [ms(100), ms(150), ms(200), ms(200)]);
        let mut even = Backoff::new(Delays { first: Some(ms(50)), factor: Some(1000), most: None });
        assert_eq!([0; 3].map(|_| even.after_exit(ms(0))), [ms(50); 3]);
        let mut capped = Backoff::new(Delays { most: Some(ms(30)), ..Delays::default() });
        assert_eq!([0; 3].map(|_| capped.after_exit(ms(0))), [ms(0), ms(30), ms(30)]);
    }

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
