//! The row of a Revision.

use super::age::{human_duration, seconds_between};
use super::or_none;
use jiff::Timestamp;
use manifests::revision::Revision;

pub(super) const HEADS: (&[&str], &[&str]) =
    (&["NAME", "RESULT", "COMMIT", "AUTHOR", "AGE", "SUBJECT"], &["REFERENCE", "URL", "OBJECTS"]);

/// The first seven digits of a commit id.
pub(crate) fn short_commit(commit: &str) -> &str {
    commit.get(..7).unwrap_or(commit)
}

/// `Ada Lovelace` of `Ada Lovelace <ada@example.org>`.
pub(crate) fn author_name(author: &str) -> &str {
    match author.split_once(" <") {
        Some((name, _)) if !name.is_empty() => name,
        Some(_) | None => author,
    }
}

pub(super) fn row(o: &Revision, wide: bool, now: Timestamp) -> Vec<String> {
    let committed_at: Option<Timestamp> = o.spec.committed_at.parse().ok();
    let mut cells = vec![
        o.metadata.name.clone().unwrap_or_default(),
        or_none(o.status.result.clone()),
        or_none(short_commit(&o.spec.commit).to_owned()),
        or_none(author_name(&o.spec.author).to_owned()),
        committed_at.map_or_else(|| "<unknown>".into(), |at| human_duration(seconds_between(at, now))),
        o.spec.subject.clone(),
    ];
    if wide {
        cells.push(o.spec.reference.clone());
        cells.push(o.spec.url.clone());
        cells.push(o.spec.objects.len().to_string());
    }
    cells
}
