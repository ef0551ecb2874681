//! Cuts the log at its start, by a snapshot, when it has grown.

use super::log::LogStore;
use super::raft::Raft;
use super::snapshot::{Head, Snapshots};
use std::time::Duration;
use tokio::sync::watch;

/// Nothing was added for so long: a rest.
const REST: Duration = Duration::from_secs(1);
/// Without a rest, a log is cut when it is so many times as long as what it would be replaced by.
const LONGEST: u64 = 4;

/// Asks for a snapshot at the first rest after more was added to the log than it would be replaced by:
/// what is written for snapshots is at most what was written for the log, and in a rush a quarter of it.
/// A log below `least_bytes` is never cut.
pub(super) async fn run(
    raft: Raft,
    log: LogStore,
    mut applied: watch::Receiver<Head>,
    (snapshots, least_bytes): (Snapshots, u64),
) {
    let mut cut_at = 0;
    while applied.changed().await.is_ok() {
        // Most changes need no look at the folder.
        if log.added_bytes() - cut_at <= least_bytes {
            continue;
        }
        let enough = least_bytes.max(snapshots.size_bytes());
        let added = log.added_bytes() - cut_at;
        if added <= enough || (added <= LONGEST * enough && !rests(&mut applied).await) {
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

/// True once nothing was applied for a while; false if something was, which is then to be seen again.
async fn rests(applied: &mut watch::Receiver<Head>) -> bool {
    applied.borrow_and_update();
    match tokio::time::timeout(REST, applied.changed()).await {
        Ok(Ok(())) => applied.mark_changed(),
        // Who asks next sees that the store is closed.
        Ok(Err(_)) => {}
        Err(_) => return true,
    }
    false
}
