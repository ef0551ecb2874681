//! What this node gives to its peers of what it has.

use super::super::kept::stretch;
use super::super::record::Record;
use super::neighbours::{Meaning, MeaningWanted, PART_BYTES, Part, PartWanted};
use super::{Puller, blocking};
use manifests::image::Reference;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// For so long a peer is kept waiting for a blob that is on its way.
const LONGEST_WAIT: Duration = Duration::from_secs(4);

impl Puller {
    /// A part of a blob, for a peer. What is on its way from a registry is waited for a little.
    pub async fn part(&self, wanted: &PartWanted) -> Part {
        let deadline = Instant::now() + LONGEST_WAIT;
        loop {
            // Looked at before the disk is: what arrives meanwhile is found there.
            let flight = self.flights.watch(&wanted.digest);
            if let Some(part) = self.kept(wanted).await {
                return part;
            }
            let Some(mut flight) = flight.filter(|_| !wanted.whole_only) else { return Part::Nothing };
            let have = *flight.borrow_and_update();
            if have > wanted.offset {
                if let Some(part) = self.arriving(wanted, have).await {
                    return part;
                }
                // It came to its place between the two looks.
                if let Some(part) = self.kept(wanted).await {
                    return part;
                }
            }
            if timeout_at(deadline, flight.changed()).await.is_err() {
                return Part::NotYet;
            }
        }
    }

    async fn kept(&self, wanted: &PartWanted) -> Option<Part> {
        let (store, wanted) = (Arc::clone(&self.store), wanted.clone());
        let most = wanted.most.min(PART_BYTES) as usize;
        let found = blocking(move || Ok(store.kept_part(&wanted.digest, wanted.offset, most))).await;
        let stretch = found.ok()??;
        self.counts.served(stretch.content.len() as u64);
        Some(Part::Content { content: stretch.content.into(), size: stretch.size })
    }

    /// Of the `have` bytes that are on the disk of a blob that is being fetched.
    async fn arriving(&self, wanted: &PartWanted, have: u64) -> Option<Part> {
        let path = super::super::layout::blob_name(&wanted.digest).ok()?;
        let whole = self.store.downloads().join(path);
        let (offset, most) = (wanted.offset, u64::from(wanted.most.min(PART_BYTES)));
        let most = usize::try_from(most.min(have.checked_sub(offset)?)).ok()?;
        let read = move || {
            let part = whole.with_extension("part");
            Ok(stretch(&part, offset, most).or_else(|| stretch(&whole, offset, most)))
        };
        let content = blocking(read).await.ok()??.content;
        self.counts.served(content.len() as u64);
        (!content.is_empty()).then(|| Part::Content { content: content.into(), size: 0 })
    }

    /// True if this node can give the image of the manifest `digest`.
    #[must_use]
    pub fn has_image(&self, digest: &str) -> bool {
        self.store.has_blob(digest)
    }

    /// What this node knows of a reference, for a peer that cannot ask the registry; nothing if the
    /// registry gave it only to others than who is asked for.
    #[must_use]
    pub fn meaning(&self, wanted: &MeaningWanted) -> Option<Meaning> {
        let records = self.store.records().ok()?;
        let records = records.iter().map(|(record, _)| record);
        let mut known = records.filter(|record| means(record, &wanted.reference));
        known.find_map(|record| {
            let shown = |known: &&String| known.is_empty() || wanted.fingerprints.contains(known);
            let fingerprint = record.access.iter().find(shown)?.clone();
            let has = self.store.has_blob(&record.digest);
            has.then(|| Meaning { digest: record.digest.clone(), at: record.resolved_at, fingerprint })
        })
    }

    /// The manifests of all images that this node can give.
    #[must_use]
    pub fn images(&self) -> Vec<String> {
        let records = self.store.records();
        let records = records.iter().flat_map(|records| records.iter());
        let digests = records.map(|(record, _)| record.digest.clone());
        digests.filter(|digest| self.store.has_blob(digest)).collect()
    }
}

/// Whether the record is of `reference`, or of the same repository and the digest that is named.
fn means(record: &Record, reference: &str) -> bool {
    if record.reference == reference {
        return true;
    }
    let registry = |text: &str| match Reference::parse(text) {
        Ok(Reference::Registry(registry)) => Some(registry),
        Ok(_) | Err(_) => None,
    };
    let Some(wanted) = registry(reference).filter(|wanted| wanted.digest.is_some()) else { return false };
    wanted.digest.as_ref() == Some(&record.digest)
        && registry(&record.reference)
            .is_some_and(|known| known.host == wanted.host && known.repository == wanted.repository)
}
