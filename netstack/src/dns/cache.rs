//! What others answered, for as long as they said, and longer where they are silent (RFC 2308, 8767,
//! 9520). Pure: time is an argument.

use super::code::{NAME, SERVER_FAILURE};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a failure is remembered. Source: RFC 9520, 3.2.
const FAILURE_LIFE: Duration = Duration::from_secs(5);
/// How long what is too old is given before it is asked for again. Source: RFC 8767, 5.
const STALE_LIFE: Duration = Duration::from_secs(30);
/// What all answers that are kept may take in memory.
const MOST_BYTES: usize = 16 << 20;

/// A record of somebody else's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    /// In wire form and lower case.
    pub(super) owner: Box<[u8]>,
    pub(super) kind: u16,
    /// Seconds, when it came.
    pub(super) ttl: u32,
    /// Without pointers.
    pub(super) data: Box<[u8]>,
}

/// An answer of somebody else's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) code: u8,
    pub(super) answers: Vec<Record>,
    /// Of negative answers: by whose word.
    pub(super) authority: Vec<Record>,
    /// How long it may be given.
    pub(super) life: Duration,
}

impl Stored {
    /// There was no answer.
    pub(super) const fn failure() -> Self {
        Self { code: SERVER_FAILURE, answers: Vec::new(), authority: Vec::new(), life: FAILURE_LIFE }
    }

    fn bytes(&self) -> usize {
        let records = self.answers.iter().chain(&self.authority);
        records.map(|record| size_of::<Record>() + record.owner.len() + record.data.len()).sum::<usize>()
            + size_of::<Self>()
    }
}

/// What an answer is kept under: name, type, and whether signatures are wanted.
#[derive(Clone, Copy)]
pub(super) struct Key {
    bytes: [u8; NAME + 3],
    length: usize,
}

impl Key {
    pub(super) fn new(name: &[u8], kind: u16, dnssec: bool) -> Self {
        let (mut bytes, length) = ([0; NAME + 3], name.len().min(NAME));
        bytes[..length].copy_from_slice(&name[..length]);
        let [high, low] = kind.to_be_bytes();
        bytes[length..length + 3].copy_from_slice(&[high, low, u8::from(dnssec)]);
        Self { bytes, length: length + 3 }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    /// The name, the type, and whether signatures are wanted.
    pub(super) fn parts(&self) -> (&[u8], u16, bool) {
        let (name, rest) = self.bytes().split_at(self.length - 3);
        (name, u16::from_be_bytes([rest[0], rest[1]]), rest[2] != 0)
    }
}

/// What the cache has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Hit {
    /// It came so long ago.
    Fresh(Arc<Stored>, Duration),
    /// It is too old, and there is no other.
    Stale(Arc<Stored>),
}

#[derive(Debug, Clone)]
struct Entry {
    stored: Arc<Stored>,
    at: Instant,
    /// Given until then, though it is too old.
    revived_until: Option<Instant>,
}

impl Entry {
    fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.at)
    }

    fn may_revive(&self, now: Instant, most: Duration) -> bool {
        self.stored.code != SERVER_FAILURE && self.age(now) < self.stored.life + most
    }
}

/// Answers in two generations: when the young one is full, it is the old one, and what nobody asked
/// for meanwhile is forgotten.
#[derive(Debug)]
pub(super) struct Cache {
    young: HashMap<Box<[u8]>, Entry>,
    old: HashMap<Box<[u8]>, Entry>,
    young_bytes: usize,
    most_entries: usize,
    stale: Duration,
}

impl Cache {
    /// An empty one, for so many answers, which are given for `stale` beyond their time at most.
    pub(super) fn new(most_entries: usize, stale: Duration) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), young_bytes: 0, most_entries, stale }
    }

    /// What there is to give.
    pub(super) fn get(&mut self, key: &[u8], now: Instant) -> Option<Hit> {
        if !self.young.contains_key(key) {
            let (key, entry) = self.old.remove_entry(key)?;
            self.put(key, entry);
        }
        let entry = self.young.get(key)?;
        let age = entry.age(now);
        if age < entry.stored.life {
            return Some(Hit::Fresh(Arc::clone(&entry.stored), age));
        }
        let is_revived = entry.revived_until.is_some_and(|until| now < until);
        (is_revived && entry.may_revive(now, self.stale)).then(|| Hit::Stale(Arc::clone(&entry.stored)))
    }

    /// `stored` has come.
    pub(super) fn insert(&mut self, key: &[u8], stored: Stored, now: Instant) {
        self.old.remove(key);
        self.put(key.into(), Entry { stored: Arc::new(stored), at: now, revived_until: None });
    }

    /// Nothing has come, or not in time: what there was is given again for a while. Returns false if
    /// there was nothing, or nothing but failures.
    pub(super) fn revive(&mut self, key: &[u8], now: Instant) -> bool {
        let stale = self.stale;
        let entry =
            if self.young.contains_key(key) { self.young.get_mut(key) } else { self.old.get_mut(key) };
        match entry.filter(|entry| entry.may_revive(now, stale)) {
            Some(entry) => {
                entry.revived_until = Some(now + STALE_LIFE);
                true
            }
            None => false,
        }
    }

    /// True if something could be revived.
    pub(super) fn has_stale(&self, key: &[u8], now: Instant) -> bool {
        let entry = self.young.get(key).or_else(|| self.old.get(key));
        entry.is_some_and(|entry| entry.may_revive(now, self.stale))
    }

    /// How many answers there are.
    pub(super) fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    fn put(&mut self, key: Box<[u8]>, entry: Entry) {
        let bytes = entry.stored.bytes() + key.len();
        let is_full =
            self.young.len() >= self.most_entries.div_ceil(2) || self.young_bytes + bytes > MOST_BYTES / 2;
        if is_full {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
        self.young_bytes += bytes;
        if let Some(before) = self.young.insert(key, entry) {
            self.young_bytes = self.young_bytes.saturating_sub(before.stored.bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn answer(life: u64) -> Stored {
        Stored {
            code: 0,
            answers: Vec::new(),
            authority: Vec::new(),
            life: SECOND * u32::try_from(life).unwrap(),
        }
    }

    #[test]
    fn answers_last_as_long_as_was_said() {
        let (mut cache, start) = (Cache::new(10, SECOND * 3600), Instant::now());
        cache.insert(b"a", answer(10), start);
        assert!(matches!(cache.get(b"a", start + SECOND * 9), Some(Hit::Fresh(_, age)) if age == SECOND * 9));
        assert_eq!(cache.get(b"a", start + SECOND * 10), None, "it is asked for again");
    }

    #[test]
    fn what_is_too_old_is_given_while_nobody_answers_and_no_longer_than_said() {
        let (mut cache, start) = (Cache::new(10, SECOND * 100), Instant::now());
        cache.insert(b"a", answer(10), start);
        let late = start + SECOND * 50;
        assert!(cache.has_stale(b"a", late) && cache.revive(b"a", late));
        assert!(matches!(cache.get(b"a", late + SECOND * 29), Some(Hit::Stale(_))));
        assert_eq!(cache.get(b"a", late + SECOND * 30), None, "they are asked again");
        assert!(!cache.revive(b"a", start + SECOND * 110), "after all its time");
        cache.insert(b"a", answer(10), late);
        assert!(matches!(cache.get(b"a", late), Some(Hit::Fresh(..))));
        cache.insert(b"b", Stored::failure(), start);
        assert!(!cache.revive(b"b", start) && !cache.revive(b"c", start), "a failure is no answer");
    }

    #[test]
    fn what_is_asked_for_stays_and_the_rest_makes_room() {
        let (mut cache, now) = (Cache::new(100, SECOND), Instant::now());
        cache.insert(b"loved", answer(10), now);
        for number in 0..1000_u32 {
            cache.insert(&number.to_be_bytes(), answer(10), now);
            assert!(cache.get(b"loved", now).is_some(), "{number}");
            assert!(cache.len() <= 100);
        }
        assert!(cache.get(&0_u32.to_be_bytes(), now).is_none());
        let large = Stored {
            answers: vec![Record { owner: Box::default(), kind: 16, ttl: 9, data: vec![0; 60_000].into() }],
            ..answer(10)
        };
        let mut cache = Cache::new(100_000, SECOND);
        for number in 0..2000_u32 {
            cache.insert(&number.to_be_bytes(), large.clone(), now);
        }
        assert!(cache.len() * 60_000 <= MOST_BYTES, "bytes count, too");
    }
}
