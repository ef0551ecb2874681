//! When a source looks at its repository next. Pure: the time and the chance are given.

use jiff::{SignedDuration, Timestamp};

/// The first wait after a failure; it doubles with each further one.
pub const FIRST_RETRY: SignedDuration = SignedDuration::from_secs(5);
/// Failures wait no longer than this, or than the interval if that is longer.
pub const MAX_RETRY: SignedDuration = SignedDuration::from_mins(5);
/// Whatever is configured, a source never asks more often.
pub const MIN_INTERVAL: SignedDuration = SignedDuration::from_secs(1);

/// When to look next, after an attempt at `last_attempt`.
///
/// Without failures that is `interval` later. After `consecutive_failures` it is 5 s,
/// doubled for each failure but the first, up to 5 minutes or the interval, whichever is
/// longer; a short interval makes the first wait as short. Either way up to a tenth is
/// added, as `random` (any number, uniformly drawn) says, so that a fleet does not ask in
/// step.
#[must_use]
pub fn next_fetch_at(
    interval: SignedDuration,
    last_attempt: Timestamp,
    consecutive_failures: u32,
    random: u64,
) -> Timestamp {
    let wait = delay(interval, consecutive_failures);
    last_attempt.saturating_add(wait + jitter(wait, random)).unwrap_or(Timestamp::MAX)
}

/// A source's `interval` as configured: `30s`, `5m`, `1h30m`.
#[must_use]
pub fn parse_interval(text: &str) -> Option<SignedDuration> {
    text.parse().ok().filter(|interval| *interval >= MIN_INTERVAL && *interval <= MAX_INTERVAL)
}

/// A year; nobody waits longer, and no sum of times overflows.
const MAX_INTERVAL: SignedDuration = SignedDuration::from_hours(366 * 24);

fn delay(interval: SignedDuration, consecutive_failures: u32) -> SignedDuration {
    let interval = interval.clamp(MIN_INTERVAL, MAX_INTERVAL);
    let Some(doublings) = consecutive_failures.checked_sub(1) else { return interval };
    // Past sixteen doublings the cap holds for every interval below a day; the longer ones
    // are reached by the clamp of the shift.
    let factor = 1_i32 << doublings.min(28);
    let first = FIRST_RETRY.min(interval);
    first.saturating_mul(factor).min(MAX_RETRY.max(interval))
}

/// From 0 to a tenth of `wait`, in whole milliseconds.
fn jitter(wait: SignedDuration, random: u64) -> SignedDuration {
    let tenth = u64::try_from(wait.as_millis() / 10).unwrap_or(0);
    let millis = random % (tenth + 1);
    SignedDuration::from_millis(i64::try_from(millis).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn wait(interval: SignedDuration, failures: u32, random: u64) -> SignedDuration {
        next_fetch_at(interval, Timestamp::UNIX_EPOCH, failures, random).duration_since(Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn failures_double_the_wait_up_to_the_cap() {
        let minute = SignedDuration::from_mins(1);
        let waits: Vec<i64> = (0..9).map(|failures| wait(minute, failures, 0).as_secs()).collect();
        assert_eq!(waits, [60, 5, 10, 20, 40, 80, 160, 300, 300]);
        let hour = SignedDuration::from_hours(1);
        assert_eq!(wait(hour, 40, 0), hour);
    }

    #[test]
    fn intervals_are_written_as_in_go() {
        assert_eq!(parse_interval("1h30m"), Some(SignedDuration::from_mins(90)));
        assert_eq!(parse_interval("30s"), Some(SignedDuration::from_secs(30)));
        for bad in ["", "0s", "-1m", "soon", "10", "999999h"] {
            assert_eq!(parse_interval(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn waits_are_bounded_jittered_by_a_tenth_and_never_shrink_with_failures(
            seconds in -10_i64..100_000_000_000,
            failures in 0_u32..,
            random: u64,
            other: u64,
        ) {
            let interval = SignedDuration::from_secs(seconds);
            let (least, drawn) = (wait(interval, failures, 0), wait(interval, failures, random));
            prop_assert!(least >= MIN_INTERVAL);
            prop_assert!(drawn >= least && drawn <= least + least / 10);
            let cap = MAX_RETRY.max(interval.min(MAX_INTERVAL));
            prop_assert!(least <= cap);
            if failures > 0 && failures < u32::MAX {
                prop_assert!(wait(interval, failures + 1, 0) >= least);
            }
            prop_assert_eq!(wait(interval, failures, other), wait(interval, failures, other));
        }

        #[test]
        fn the_end_of_time_does_not_panic(failures: u32, random: u64) {
            let at = next_fetch_at(SignedDuration::MAX, Timestamp::MAX, failures, random);
            prop_assert_eq!(at, Timestamp::MAX);
        }
    }
}
