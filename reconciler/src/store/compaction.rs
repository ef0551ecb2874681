//! Cuts the log at its start, by a snapshot, when it has grown.

use super::log::LogStore;
use super::raft::Raft;
use super::snapshot::{Head, Snapshots};
use tokio::sync::watch;

/// A log below this size is never cut.
const LEAST_BYTES: u64 = 16 << 20;

/// Asks for a snapshot whenever more was added to the log than it would be replaced by: what
/// is written for snapshots is at most what was written for the log.
pub(super) async fn run(raft: Raft, log: LogStore, mut applied: watch::Receiver<Head>, snapshots: Snapshots) {
    let mut cut_at = 0;
    while applied.changed().await.is_ok() {
        let added = log.added_bytes() - cut_at;
        // Most changes need no look at the folder.
        if added <= LEAST_BYTES || added <= snapshots.size_bytes() {
            continue;
        }
        cut_at = log.added_bytes();
        let before = raft.metrics().borrow().snapshot;
        if raft.trigger().snapshot().await.is_err() {
            return;
        }
        let done = raft.wait(None).metrics(|metrics| metrics.snapshot > before, "a snapshot").await;
        if done.is_err() {
            return;
        }
    }
}
