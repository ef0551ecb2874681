//! Writes what became of a look to the source's Revision.

use super::SyncReport;
use crate::store::{Store, Write, WriteError};
use jiff::Timestamp;
use manifests::revision::{Revision, RevisionSpec};
use manifests::{Kind, ObjectKey};

/// How often a write is tried against changes by others.
const TRIES: usize = 8;

/// The Revision that `report` is about has `spec`, if there is a new one, and
/// says what became of the look. True if that is news.
pub(super) async fn record(
    store: &Store,
    report: &SyncReport,
    spec: Option<RevisionSpec>,
) -> Result<bool, WriteError> {
    let mut tries = 0;
    loop {
        let batch = batch(store, report, spec.as_ref());
        let before = store.read(crate::store::State::revision);
        match store.write(batch).await {
            Ok(written) => return Ok(written.iter().any(|object| object.resource_version() > before)),
            Err(error) if error.is_conflict() && tries < TRIES => tries += 1,
            Err(error) => return Err(error),
        }
    }
}

fn batch(store: &Store, report: &SyncReport, spec: Option<&RevisionSpec>) -> Vec<Write> {
    let key = ObjectKey::new(Kind::Revision, "", report.source.as_str());
    let stored = store.get(&key);
    let stored: Option<&Revision> = stored.as_deref().and_then(|object| object.try_into().ok());
    let mut next = stored.cloned().unwrap_or_default();
    next.metadata.name = Some(report.source.clone());
    let status = &mut next.status;
    if status.result != report.result {
        status.since = Timestamp::now().to_string();
    }
    status.result.clone_from(&report.result);
    status.attempted_commit.clone_from(&report.commit);
    status.message.clone_from(&report.message);
    if let Some(spec) = spec {
        next.spec = spec.clone();
    }
    if stored.is_none() {
        return vec![Write::Create(next.into())];
    }
    if spec.is_none() {
        return vec![Write::UpdateStatus(next.into())];
    }
    let mut status = next.clone();
    status.spec = RevisionSpec::default();
    // The update before it in the batch guards both, and has moved the version on.
    status.metadata.resource_version = None;
    vec![Write::Update(next.into()), Write::UpdateStatus(status.into())]
}
