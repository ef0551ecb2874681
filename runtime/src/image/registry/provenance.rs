//! Where the parts of an image came from.

use super::neighbours::{Counts, Source};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// Where what was fetched of an image came from; empty if all of it was there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Provenance {
    /// By the peers' names.
    pub peers: BTreeMap<String, Share>,
    /// By the registry's or mirror's host.
    pub registries: BTreeMap<String, Share>,
    /// The peer that said what the reference means, as its registry did not answer.
    pub word_of: Option<String>,
}

/// What one of them gave.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Share {
    /// Blobs that were whole with what it gave.
    pub blobs: u64,
    /// Bytes.
    pub bytes: u64,
}

/// `3 blobs from n2, 1 blob from r.example.com`.
impl fmt::Display for Provenance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let peers = self.peers.iter().map(|(name, share)| ("peer ", name, share));
        let registries = self.registries.iter().map(|(host, share)| ("", host, share));
        for (number, (kind, name, share)) in peers.chain(registries).enumerate() {
            let comma = if number == 0 { "" } else { ", " };
            let Share { blobs, bytes } = share;
            let s = if *blobs == 1 { "" } else { "s" };
            write!(f, "{comma}{blobs} blob{s} ({bytes} bytes) from {kind}{name}")?;
        }
        if let Some(peer) = &self.word_of {
            let comma = if self.peers.is_empty() && self.registries.is_empty() { "" } else { "; " };
            write!(f, "{comma}the registry did not answer, the reference is as peer {peer} knows it")?;
        }
        Ok(())
    }
}

impl Provenance {
    /// True if nothing was fetched.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A provenance that grows.
#[derive(Debug)]
pub(super) struct Tally {
    known: Mutex<Provenance>,
    counts: Arc<dyn Counts>,
}

impl Tally {
    pub(super) fn new(word_of: Option<String>, counts: Arc<dyn Counts>) -> Self {
        Self { known: Mutex::new(Provenance { word_of, ..Provenance::default() }), counts }
    }

    pub(super) fn peer(&self, name: &str, blobs: u64, bytes: u64) {
        self.counts.fetched(Source::Peer, blobs, bytes);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        add(&mut known.peers, name, Share { blobs, bytes });
    }

    pub(super) fn registry(&self, host: &str, blobs: u64, bytes: u64) {
        self.counts.fetched(Source::Registry, blobs, bytes);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        add(&mut known.registries, host, Share { blobs, bytes });
    }

    pub(super) fn provenance(&self) -> Provenance {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn add(shares: &mut BTreeMap<String, Share>, name: &str, more: Share) {
    let share = shares.entry(name.to_owned()).or_default();
    share.blobs += more.blobs;
    share.bytes += more.bytes;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_in_a_sentence() {
        let tally = Tally::new(None, Arc::new(()));
        assert!(tally.provenance().is_empty());
        tally.peer("n2", 0, 5);
        tally.peer("n2", 2, 5);
        tally.registry("r.example.com", 1, 7);
        let told = tally.provenance().to_string();
        assert_eq!(told, "2 blobs (10 bytes) from peer n2, 1 blob (7 bytes) from r.example.com");
        let told = Tally::new(Some("n3".into()), Arc::new(())).provenance().to_string();
        assert_eq!(told, "the registry did not answer, the reference is as peer n3 knows it");
    }
}
