//! Packs objects that few look at, when there is nothing else to do.

use super::Shared;
use crate::sys::heap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Nothing was written for so long: a rest.
const REST: Duration = Duration::from_millis(250);
/// Objects that are packed while readers wait.
const SLICE: usize = 64;
/// Between two slices, for others.
const PAUSE: Duration = Duration::from_millis(1);
/// So many that were packed leave holes that are worth to be given back.
const MANY: usize = 4096;

/// Packs, whenever nothing was written for a while, until the store is closed.
pub(super) async fn run(shared: Arc<Shared>, mut changes: watch::Receiver<u64>) {
    let mut packed = 0;
    loop {
        while shared.read().state.is_loose() {
            match tokio::time::timeout(REST, changes.changed()).await {
                Ok(Ok(())) => continue,
                Ok(Err(_)) => return,
                Err(_) => {}
            }
            packed += rest(&shared, &changes).await;
        }
        if packed > MANY {
            heap::trim();
            packed = 0;
        }
        if changes.changed().await.is_err() {
            return;
        }
    }
}

/// Packs until all is packed, or somebody writes; says how many objects.
async fn rest(shared: &Shared, changes: &watch::Receiver<u64>) -> usize {
    let mut packed = 0;
    while !changes.has_changed().unwrap_or(true) {
        match shared.write().state.pack(SLICE) {
            0 => break,
            more => packed += more,
        }
        tokio::time::sleep(PAUSE).await;
    }
    packed
}
