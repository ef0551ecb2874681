//! The peers that may have one image, during its pull.

use super::hunt::{Heard, Hunt, Next};
use super::neighbours::{Counts, Failure, Neighbours, PART_BYTES, Part, PartWanted};
use super::provenance::Tally;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Between two rounds of questions.
const ROUND: Duration = Duration::from_millis(300);
/// Who gave what it should not have is not asked for so long.
const SHUNNED: Duration = Duration::from_secs(600);
/// So many calls may fail, then a peer is passed over until the pull ends.
const FAILURES: u32 = 2;

/// Peers that gave what was not what they were asked for.
#[derive(Debug, Default)]
pub(super) struct Shunned(Mutex<BTreeMap<String, Instant>>);

impl Shunned {
    fn add(&self, peer: &str, now: Instant) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, at| now < *at + SHUNNED);
        all.insert(peer.to_owned(), now);
    }

    fn has(&self, peer: &str, now: Instant) -> bool {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(peer).is_some_and(|at| now < *at + SHUNNED)
    }
}

/// What a puller knows its peers by.
#[derive(Debug, Clone)]
pub(super) struct Acquaintance {
    pub(super) neighbours: Arc<dyn Neighbours>,
    pub(super) shunned: Arc<Shunned>,
    pub(super) counts: Arc<dyn Counts>,
}

/// The peers that may have one image.
#[derive(Debug)]
pub(super) struct Swarm {
    known: Acquaintance,
    image: String,
    can_fetch: bool,
    /// Others wait for what this node fetches.
    pub(super) first: bool,
    peers: Mutex<Vec<String>>,
    failures: Mutex<BTreeMap<String, u32>>,
}

/// What a peer gave.
pub(super) struct Gift {
    pub(super) peer: String,
    pub(super) content: Bytes,
    /// Of the whole blob; 0 if that is not known.
    pub(super) size: u64,
}

impl Swarm {
    /// Those who may have `image`, the digest of a manifest. `can_fetch` says that this node can
    /// ask the registry.
    pub(super) async fn seek(known: Acquaintance, image: &str, can_fetch: bool) -> Self {
        let sought = known.neighbours.seek(image.to_owned(), can_fetch).await;
        tracing::debug!(image, first = sought.first, peers = ?sought.peers, "peers that may have the image");
        Self {
            known,
            image: image.to_owned(),
            can_fetch,
            first: sought.first && can_fetch,
            peers: Mutex::new(sought.peers),
            failures: Mutex::default(),
        }
    }

    /// With peers that are asked before all others.
    pub(super) fn with(self, mut peers: Vec<String>) -> Self {
        {
            let mut known = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
            known.retain(|peer| !peers.contains(peer));
            peers.append(&mut known);
            *known = peers;
        }
        self
    }

    fn usable(&self, now: Instant) -> Vec<String> {
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let usable = |peer: &&String| {
            failures.get(*peer).is_none_or(|count| *count < FAILURES) && !self.known.shunned.has(peer, now)
        };
        let peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        peers.iter().filter(usable).cloned().collect()
    }

    /// Who may have the image by now is known.
    async fn look_again(&self) {
        let sought = self.known.neighbours.seek(self.image.clone(), self.can_fetch).await;
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        for peer in sought.peers {
            if !peers.contains(&peer) {
                peers.push(peer);
            }
        }
    }

    /// The next bytes of the blob, from whoever gives some; `None` if nobody does.
    pub(super) async fn next(&self, hunt: &mut Hunt, digest: &str, offset: u64, most: u64) -> Option<Gift> {
        loop {
            let now = Instant::now();
            let peer = match hunt.next(&self.usable(now), now) {
                Next::Ask(peer) => peer,
                Next::GiveUp => return None,
                Next::Wait => {
                    sleep(ROUND).await;
                    self.look_again().await;
                    continue;
                }
            };
            let wanted = PartWanted {
                digest: digest.to_owned(),
                offset,
                most: u32::try_from(most).map_or(PART_BYTES, |most| most.min(PART_BYTES)),
                // Two that wait for each other get nowhere.
                whole_only: self.first,
            };
            let answer = self.known.neighbours.read(peer.clone(), wanted).await;
            let (heard, gift) = match answer {
                Ok(Part::Content { content, size }) if is_proper(&content, most) => {
                    (Heard::Bytes(content.len() as u64), Some((content, size)))
                }
                Ok(Part::NotYet | Part::Busy) => (Heard::NotNow, None),
                Ok(Part::Content { .. } | Part::Nothing) => (Heard::Nothing, None),
                Err(error) => {
                    tracing::debug!(peer, digest, error, "a peer gave nothing of a blob");
                    self.failed(&peer);
                    (Heard::Nothing, None)
                }
            };
            hunt.heard(&peer, heard, Instant::now());
            if let Some((content, size)) = gift {
                return Some(Gift { peer, content, size });
            }
        }
    }

    fn failed(&self, peer: &str) {
        self.known.counts.failed(Failure::Gone);
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        *failures.entry(peer.to_owned()).or_default() += 1;
    }

    /// These gave together what is not the blob: they are asked for nothing for a while.
    pub(super) fn shun(&self, peers: &BTreeSet<String>, digest: &str) {
        for peer in peers {
            tracing::warn!(peer, digest, "what a peer gave of an image is not what its digest says");
            self.known.counts.failed(Failure::Corrupt);
            self.known.shunned.add(peer, Instant::now());
        }
    }

    /// A small blob, checked; `None` if nobody gives it.
    pub(super) async fn small(&self, digest: &str, limit: u64, tally: &Tally) -> Option<Vec<u8>> {
        loop {
            let mut hunt = Hunt::new(digest, Instant::now());
            let (mut content, mut givers) = (Vec::new(), BTreeSet::new());
            let mut size = 0;
            while size == 0 || (content.len() as u64) < size {
                let have = content.len() as u64;
                let gift = self.next(&mut hunt, digest, have, limit.saturating_sub(have)).await?;
                (content, size) = (extended(content, &gift.content), gift.size);
                givers.insert(gift.peer);
            }
            if super::super::digest::digest_of(&content) == digest {
                if let Some(peer) = givers.first() {
                    tally.peer(peer, 1, content.len() as u64);
                }
                return Some(content);
            }
            self.shun(&givers, digest);
        }
    }

    /// Others hear that this node has the image.
    pub(super) async fn announce(&self) {
        self.known.neighbours.announce(self.image.clone()).await;
    }
}

/// Something, and not more than was asked for.
fn is_proper(content: &Bytes, most: u64) -> bool {
    !content.is_empty() && content.len() as u64 <= most
}

fn extended(mut content: Vec<u8>, more: &Bytes) -> Vec<u8> {
    content.extend_from_slice(more);
    content
}
