//! Whom this node gives blobs to now; pure. Others come later, and find those that got them first.

use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;

/// So many peers get blobs at once.
const PLACES: usize = 8;
/// Who asked for nothing for so long has left.
const IDLE: Duration = Duration::from_secs(3);

/// The peers that get blobs, and when each asked last.
#[derive(Debug, Default)]
pub(super) struct Guests(BTreeMap<String, Instant>);

impl Guests {
    /// True if `peer` may have something now.
    pub(super) fn admit(&mut self, peer: &str, now: Instant) -> bool {
        self.0.retain(|_, asked| now < *asked + IDLE);
        let has_place = self.0.contains_key(peer) || self.0.len() < PLACES;
        if has_place {
            self.0.insert(peer.to_owned(), now);
        }
        has_place
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_kept_while_it_is_used_and_free_after() {
        let (mut guests, start) = (Guests::default(), Instant::now());
        let names: Vec<_> = (0..=PLACES).map(|number| format!("n{number}")).collect();
        let (last, first) = names.split_last().expect("some");
        assert!(first.iter().all(|name| guests.admit(name, start)));
        assert!(!guests.admit(last, start));
        let later = start + IDLE;
        assert!(first[1..].iter().all(|name| guests.admit(name, later - Duration::from_millis(1))));
        assert!(guests.admit(last, later), "the first has left");
        assert!(!guests.admit(&first[0], later));
    }
}
