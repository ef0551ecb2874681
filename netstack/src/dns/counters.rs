//! What was asked and answered, counted.

use super::code::{A, AAAA, CNAME, NS, PTR, SOA, SRV, TXT};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// How a question came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Channel {
    Udp = 0,
    Tcp = 1,
}

/// The types that are counted apart; all others are counted together, at the end.
const KINDS: [(u16, &str); 10] = [
    (A, "A"),
    (AAAA, "AAAA"),
    (SRV, "SRV"),
    (PTR, "PTR"),
    (TXT, "TXT"),
    (CNAME, "CNAME"),
    (NS, "NS"),
    (SOA, "SOA"),
    (15, "MX"),
    (65, "HTTPS"),
];
/// The answers' codes. Source: IANA, DNS RCODEs.
const CODES: [(u8, &str); 7] = [
    (0, "NOERROR"),
    (1, "FORMERR"),
    (2, "SERVFAIL"),
    (3, "NXDOMAIN"),
    (4, "NOTIMP"),
    (5, "REFUSED"),
    (16, "BADVERS"),
];
/// Upper ends of the histogram's buckets, microseconds: from 16 µs, times two.
const BUCKETS: usize = 20;

/// Counts since the agent started.
#[derive(Debug, Default)]
pub struct Counters {
    requests: [[[AtomicU64; KINDS.len() + 1]; 2]; 2],
    responses: [AtomicU64; CODES.len()],
    buckets: [AtomicU64; BUCKETS + 1],
    nanoseconds: AtomicU64,
    hits: [AtomicU64; 2],
    misses: AtomicU64,
    stale: AtomicU64,
    autopaths: AtomicU64,
    forwarded: AtomicU64,
    failures: AtomicU64,
    dropped: AtomicU64,
    entries: AtomicU64,
}

/// A count of questions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub struct RequestCount {
    pub protocol: &'static str,
    /// 1 of IPv4, 2 of IPv6.
    pub family: &'static str,
    pub kind: &'static str,
    pub count: u64,
}

impl Counters {
    pub(super) fn count_request(&self, channel: Channel, from: IpAddr, kind: u16) {
        let kind = KINDS.iter().position(|(known, _)| *known == kind).unwrap_or(KINDS.len());
        self.requests[channel as usize][usize::from(from.is_ipv6())][kind].fetch_add(1, Relaxed);
    }

    pub(super) fn count_response(&self, code: u8) {
        if let Some(place) = CODES.iter().position(|(known, _)| *known == code) {
            self.responses[place].fetch_add(1, Relaxed);
        }
    }

    /// `count` questions were answered after so long.
    pub(super) fn count_time(&self, took: Duration, count: u64) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = (0..BUCKETS).find(|bucket| micros <= 16 << bucket).unwrap_or(BUCKETS);
        self.buckets[bucket].fetch_add(count, Relaxed);
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.nanoseconds.fetch_add(nanoseconds.saturating_mul(count), Relaxed);
    }

    pub(super) fn count_hit(&self, is_denial: bool) {
        self.hits[usize::from(is_denial)].fetch_add(1, Relaxed);
    }

    pub(super) fn count_miss(&self) {
        self.misses.fetch_add(1, Relaxed);
    }

    pub(super) fn count_stale(&self) {
        self.stale.fetch_add(1, Relaxed);
    }

    pub(super) fn count_autopath(&self) {
        self.autopaths.fetch_add(1, Relaxed);
    }

    pub(super) fn count_forwarded(&self, is_answered: bool) {
        self.forwarded.fetch_add(1, Relaxed);
        if !is_answered {
            self.failures.fetch_add(1, Relaxed);
        }
    }

    pub(super) fn count_dropped(&self) {
        self.dropped.fetch_add(1, Relaxed);
    }

    pub(super) fn set_entries(&self, entries: usize) {
        self.entries.store(u64::try_from(entries).unwrap_or(u64::MAX), Relaxed);
    }

    /// Questions by protocol, family and type; those that came.
    #[must_use]
    pub fn requests(&self) -> Vec<RequestCount> {
        let mut all = Vec::new();
        for (protocol, families) in ["udp", "tcp"].into_iter().zip(&self.requests) {
            for (family, kinds) in ["1", "2"].into_iter().zip(families) {
                let names = KINDS.iter().map(|(_, name)| *name).chain(["other"]);
                for (kind, count) in names.zip(kinds) {
                    let count = count.load(Relaxed);
                    if count > 0 {
                        all.push(RequestCount { protocol, family, kind, count });
                    }
                }
            }
        }
        all
    }

    /// Answers by their code; those that were given.
    #[must_use]
    pub fn responses(&self) -> Vec<(&'static str, u64)> {
        let counts = CODES.iter().zip(&self.responses).map(|((_, name), count)| (*name, count.load(Relaxed)));
        counts.filter(|(_, count)| *count > 0).collect()
    }

    /// How long answers took: upper ends of buckets in seconds with how many took no longer, how many
    /// there were in all, and the sum in seconds.
    #[must_use]
    pub fn durations(&self) -> (Vec<(f64, u64)>, u64, f64) {
        let mut sum = 0;
        let mut micros = 16.0;
        let mut buckets = Vec::with_capacity(BUCKETS);
        for count in &self.buckets[..BUCKETS] {
            sum += count.load(Relaxed);
            buckets.push((micros / 1e6, sum));
            micros *= 2.0;
        }
        let total = sum + self.buckets[BUCKETS].load(Relaxed);
        (buckets, total, Duration::from_nanos(self.nanoseconds.load(Relaxed)).as_secs_f64())
    }

    /// Answers out of the cache: those that were, and those that said that there is none.
    #[must_use]
    pub fn hits(&self) -> (u64, u64) {
        (self.hits[0].load(Relaxed), self.hits[1].load(Relaxed))
    }

    /// Questions that others had to be asked.
    #[must_use]
    pub fn misses(&self) -> u64 {
        self.misses.load(Relaxed)
    }

    /// Answers that were too old.
    #[must_use]
    pub fn stale(&self) -> u64 {
        self.stale.load(Relaxed)
    }

    /// Search paths that were followed to an answer.
    #[must_use]
    pub fn autopaths(&self) -> u64 {
        self.autopaths.load(Relaxed)
    }

    /// Questions that were passed on, and how many of them nobody answered.
    #[must_use]
    pub fn forwarded(&self) -> (u64, u64) {
        (self.forwarded.load(Relaxed), self.failures.load(Relaxed))
    }

    /// Questions for which there were too many others.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }

    /// Answers of others that are kept.
    #[must_use]
    pub fn entries(&self) -> u64 {
        self.entries.load(Relaxed)
    }
}
