//! When certificates are renewed; pure.

use super::passport::Passport;
use jiff::{SignedDuration, Timestamp};

/// Of a certificate's life.
const RENEWED_AFTER: f64 = 2.0 / 3.0;
/// That much of it is taken away by chance, so that nodes that joined together renew apart.
const SPREAD: f64 = 0.1;
const SHORTEST_WAIT: SignedDuration = SignedDuration::from_secs(5);
const LONGEST_WAIT: SignedDuration = SignedDuration::from_hours(1);

/// When `passport` is to be renewed: after two thirds of its life, or up to a tenth of it
/// earlier by `chance` (0 to 1).
pub(super) fn renew_at(passport: &Passport, chance: f64) -> Timestamp {
    let life = passport.from.duration_until(passport.until);
    let part = RENEWED_AFTER - SPREAD * chance.clamp(0.0, 1.0);
    let wait = SignedDuration::try_from_secs_f64(life.as_secs_f64() * part).unwrap_or(SignedDuration::ZERO);
    passport.from.checked_add(wait).unwrap_or(passport.from)
}

/// How long after a renewal that failed at `now` the next is tried: the more often, the nearer
/// the end is.
pub(super) fn try_again_after(passport: &Passport, now: Timestamp) -> SignedDuration {
    let left = now.duration_until(passport.until);
    (left / 20).clamp(SHORTEST_WAIT, LONGEST_WAIT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::key_hash::KeyHash;

    fn passport(days: i64) -> Passport {
        let from = Timestamp::UNIX_EPOCH;
        let until = from + SignedDuration::from_hours(24 * days);
        Passport { name: "n1".into(), cluster: "c".into(), key: KeyHash::of(b""), from, until }
    }

    fn hours(at: Timestamp) -> i64 {
        Timestamp::UNIX_EPOCH.duration_until(at).as_hours()
    }

    #[test]
    fn a_certificate_is_renewed_long_before_its_end_and_not_with_all_others() {
        assert_eq!(hours(renew_at(&passport(30), 0.0)), 20 * 24);
        assert_eq!(hours(renew_at(&passport(30), 1.0)), 17 * 24);
        let middle = hours(renew_at(&passport(30), 0.5));
        assert!((17 * 24..20 * 24).contains(&middle), "{middle}");
    }

    #[test]
    fn a_renewal_that_failed_is_tried_again_the_sooner_the_nearer_the_end() {
        let passport = passport(30);
        let after = |day: i64| {
            let now = Timestamp::UNIX_EPOCH + SignedDuration::from_hours(24 * day);
            try_again_after(&passport, now).as_secs()
        };
        assert_eq!(after(20), 3600);
        assert_eq!(after(29), 3600);
        assert_eq!(after(30), 5);
        // Also after its end it can be renewed.
        assert_eq!(after(300), 5);
        let late = passport.until - SignedDuration::from_mins(20);
        assert_eq!(try_again_after(&passport, late).as_secs(), 60);
    }
}
