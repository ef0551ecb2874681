//! Who has which image, as far as this node was told; pure. Kept in memory only, and bounded.

use super::wire::Known;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use tokio::time::Instant;

/// Of so many images it is known who has them.
const IMAGES: usize = 4096;
/// So many nodes that have one are remembered, those that said so last.
const HOLDERS: usize = 16;
/// So many nodes that are getting one are remembered, the first of them.
const GETTERS: usize = 16;
/// So many are named to who asks.
const NAMED: usize = 6;
/// Who was getting an image for so long has failed.
const GETTING: Duration = Duration::from_secs(600);

/// What this node was told.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    images: BTreeMap<String, Entry>,
}

#[derive(Debug)]
struct Entry {
    holders: VecDeque<String>,
    getters: Vec<(String, Instant)>,
    /// For whom other holders are named than for the one before.
    turn: usize,
    touched: Instant,
}

impl Ledger {
    fn entry(&mut self, image: &str, now: Instant) -> &mut Entry {
        if !self.images.contains_key(image)
            && self.images.len() >= IMAGES
            && let Some(oldest) = self.images.iter().min_by_key(|(_, entry)| entry.touched)
        {
            let oldest = oldest.0.clone();
            self.images.remove(&oldest);
        }
        let new = || Entry { holders: VecDeque::new(), getters: Vec::new(), turn: 0, touched: now };
        let entry = self.images.entry(image.to_owned()).or_insert_with(new);
        entry.touched = now;
        entry
    }

    /// Who has `image`, other than `who`; who was getting it before `who`. If `is_getting`, others hear
    /// from here on that `who` is.
    pub(super) fn seek(&mut self, image: &str, who: &str, is_getting: bool, now: Instant) -> Known {
        let entry = self.entry(image, now);
        entry.getters.retain(|(_, since)| now < *since + GETTING);
        let before = entry.getters.iter().map(|(name, _)| name).take_while(|name| *name != who);
        let getting: Vec<_> = before.take(NAMED).cloned().collect();
        let known = entry.getters.iter().any(|(name, _)| name == who);
        if is_getting && !known && entry.getters.len() < GETTERS {
            entry.getters.push((who.to_owned(), now));
        }
        let mut have: Vec<_> = entry.holders.iter().filter(|name| *name != who).cloned().collect();
        if let Some(turn) = entry.turn.checked_rem(have.len()) {
            have.rotate_left(turn);
        }
        have.truncate(NAMED);
        entry.turn = entry.turn.wrapping_add(1);
        Known { has: false, have, getting }
    }

    /// `who` has `image`.
    pub(super) fn has(&mut self, image: &str, who: &str, now: Instant) {
        let entry = self.entry(image, now);
        entry.getters.retain(|(name, _)| name != who);
        entry.holders.retain(|name| name != who);
        entry.holders.push_back(who.to_owned());
        if entry.holders.len() > HOLDERS {
            entry.holders.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_of_many_has_nobody_before_it() {
        let (mut ledger, now) = (Ledger::default(), Instant::now());
        assert_eq!(ledger.seek("i", "n1", true, now), Known::default());
        for number in 2..100 {
            let known = ledger.seek("i", &format!("n{number}"), true, now);
            assert_eq!(known.getting[0], "n1");
            assert!(known.getting.len() <= NAMED);
        }
        // Also when it asks again.
        assert_eq!(ledger.seek("i", "n1", true, now), Known::default());
        // Who cannot fetch is nobody to wait for.
        assert_eq!(ledger.seek("other", "n1", false, now), Known::default());
        assert_eq!(ledger.seek("other", "n2", true, now), Known::default());
        // And nobody waits for ever.
        assert_eq!(ledger.seek("i", "n200", true, now + GETTING), Known::default());
    }

    #[test]
    fn holders_take_turns_and_the_oldest_are_forgotten() {
        let (mut ledger, now) = (Ledger::default(), Instant::now());
        for number in 0..HOLDERS + 2 {
            ledger.seek("i", &format!("n{number}"), true, now);
            ledger.has("i", &format!("n{number}"), now);
        }
        let mut named = std::collections::BTreeSet::new();
        for _ in 0..HOLDERS {
            let known = ledger.seek("i", "n17", false, now);
            assert_eq!((known.have.len(), known.getting.len()), (NAMED, 0));
            named.extend(known.have);
        }
        assert_eq!(named.len(), HOLDERS - 1);
        assert!(!named.contains("n17") && !named.contains("n0"));
    }

    #[test]
    fn it_never_grows_beyond_its_bound() {
        let (mut ledger, start) = (Ledger::default(), Instant::now());
        for number in 0..IMAGES as u64 + 10 {
            ledger.has(&format!("i{number}"), "n1", start + Duration::from_millis(number));
        }
        assert_eq!(ledger.images.len(), IMAGES);
        assert!(!ledger.images.contains_key("i0") && ledger.images.contains_key("i10"));
    }
}
