//! Follows the Git sources: looks at each when it is due, when its repository on
//! this machine changes, or when told, and agrees on what it finds.
//!
//! What is found takes force as one write of the source's `Revision`, or not at
//! all: whatever is wrong is told in the Revision's status, and what was agreed
//! before stays.

mod accept;
pub mod duty;
mod follower;
mod record;

use crate::events::Recorder;
use crate::store::Store;
use duty::Duties;
use follower::{Follower, Request};
use jiff::Timestamp;
use manifests::config::GitSource;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Reports that a slow subscriber may fall behind.
const REPORTS: usize = 64;

/// The end of one look at one source.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SyncReport {
    /// The source's name.
    pub source: String,
    /// As in `RevisionStatus::result`.
    pub result: String,
    /// The commit that was looked at; empty if none was reached.
    pub commit: String,
    /// The commit that was in force before; empty if none was.
    pub previous_commit: String,
    /// What was wrong; empty if nothing was.
    pub message: String,
    /// How long the look took.
    pub duration_millis: u64,
}

/// Wakes the sources and hears of their looks; cheap to clone.
#[derive(Debug, Clone)]
pub struct SyncHandle {
    sources: Arc<Vec<Wakeable>>,
    reports: broadcast::Sender<SyncReport>,
}

#[derive(Debug)]
struct Wakeable {
    name: String,
    requests: mpsc::Sender<Request>,
    last_attempt: watch::Receiver<Option<Timestamp>>,
    reached: watch::Receiver<bool>,
}

impl SyncHandle {
    /// Looks at `source`, or at all, and waits: each report is of a look that
    /// began after this call. In the order of the configuration; none for a
    /// name that is no source, nor for a source that is stopping.
    pub async fn sync(&self, source: Option<&str>) -> Vec<SyncReport> {
        let chosen = self.sources.iter().filter(|known| source.is_none_or(|name| name == known.name));
        let looks = chosen.map(|known| async {
            let (report, reported) = oneshot::channel();
            known.requests.send(report).await.ok()?;
            reported.await.ok()
        });
        futures::future::join_all(looks).await.into_iter().flatten().collect()
    }

    /// When the newest look at `source` ended; `None` before the first.
    #[must_use]
    pub fn last_attempt(&self, source: &str) -> Option<Timestamp> {
        let known = self.sources.iter().find(|known| known.name == source)?;
        *known.last_attempt.borrow()
    }

    /// Of each source, false if this node looks at it and did not reach it the last time.
    #[must_use]
    pub fn reached(&self) -> BTreeMap<String, bool> {
        self.sources.iter().map(|known| (known.name.clone(), *known.reached.borrow())).collect()
    }

    /// Every report from here on.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<SyncReport> {
        self.reports.subscribe()
    }
}

/// The loops of all sources, to be run.
#[derive(Debug)]
pub struct Syncer {
    followers: Vec<Follower>,
}

/// The loops over `sources`, and the handle to them. Clones are kept below `dir`,
/// one folder for each source. A source is looked at only while it is this node's duty.
#[must_use]
pub fn syncer(
    store: &Arc<Store>,
    recorder: &Recorder,
    sources: &[GitSource],
    dir: &Path,
    duties: &Duties,
) -> (SyncHandle, Syncer) {
    let (reports, _) = broadcast::channel(REPORTS);
    let mut wakeable = Vec::new();
    let mut followers = Vec::new();
    for source in sources {
        let (requests, inbox) = mpsc::channel(16);
        let (attempted, last_attempt) = watch::channel(None);
        let (reaches, reached) = watch::channel(true);
        wakeable.push(Wakeable { name: source.name.clone(), requests, last_attempt, reached });
        followers.push(Follower {
            source: source.clone(),
            dir: dir.join(&source.name),
            store: Arc::clone(store),
            recorder: recorder.clone(),
            inbox,
            attempted,
            reaches,
            duties: duties.clone(),
            reports: reports.clone(),
        });
    }
    (SyncHandle { sources: Arc::new(wakeable), reports }, Syncer { followers })
}

impl Syncer {
    /// Follows until `stop` is cancelled. A look under way is waited for.
    pub async fn run(self, stop: CancellationToken) {
        let mut tasks = JoinSet::new();
        let mut names = HashMap::new();
        for follower in self.followers {
            let name = follower.source.name.clone();
            names.insert(tasks.spawn(follower.run(stop.clone())).id(), name);
        }
        while let Some(ended) = tasks.join_next().await {
            if let Err(error) = ended {
                let source = names.get(&error.id()).map(String::as_str).unwrap_or_default();
                tracing::error!(source, %error, "a source is followed no longer");
            }
        }
        // Without any source there is nothing to do, which is no reason to end.
        stop.cancelled().await;
    }
}

#[cfg(test)]
mod tests;
