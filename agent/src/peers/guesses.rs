//! Who guesses at tokens has to wait; pure.

use jiff::{SignedDuration, Timestamp};
use std::collections::HashMap;
use std::net::IpAddr;

/// So many wrong tokens of one address in a time, and of all addresses together.
const GUESSES: u32 = 5;
const ALL_GUESSES: u32 = 200;
const WINDOW: SignedDuration = SignedDuration::from_secs(60);

/// Wrong tokens of late.
#[derive(Debug, Default)]
pub(super) struct Guesses {
    by_address: HashMap<IpAddr, u32>,
    all: u32,
    since: Timestamp,
}

impl Guesses {
    /// Whether a token from `address` is looked at, at `now`.
    pub(super) fn may(&mut self, address: IpAddr, now: Timestamp) -> bool {
        // A clock that was set back must not lock everybody out.
        let age = self.since.duration_until(now);
        if age.is_negative() || age >= WINDOW {
            *self = Self { since: now, ..Self::default() };
        }
        self.all < ALL_GUESSES && self.by_address.get(&address).is_none_or(|guesses| *guesses < GUESSES)
    }

    /// A token from `address` was wrong.
    pub(super) fn count(&mut self, address: IpAddr) {
        self.all += 1;
        *self.by_address.entry(address).or_default() += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_guesses_waits_and_others_do_not() {
        let mut guesses = Guesses::default();
        let (bad, good) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        let now = Timestamp::UNIX_EPOCH + WINDOW * 10;
        for _ in 0..GUESSES {
            assert!(guesses.may(bad, now));
            guesses.count(bad);
        }
        assert!(!guesses.may(bad, now));
        assert!(guesses.may(good, now));
        assert!(guesses.may(bad, now + WINDOW));
    }

    #[test]
    fn who_guesses_from_many_addresses_waits_too() {
        let mut guesses = Guesses::default();
        let now = Timestamp::UNIX_EPOCH + WINDOW * 10;
        for n in 0..ALL_GUESSES {
            guesses.may(IpAddr::from(n.to_be_bytes()), now);
            guesses.count(IpAddr::from(n.to_be_bytes()));
        }
        assert!(!guesses.may(IpAddr::from([192, 0, 2, 1]), now));
        assert!(guesses.may(IpAddr::from([192, 0, 2, 1]), now - WINDOW), "the clock was set back");
    }
}
