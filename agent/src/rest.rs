//! Gives memory back when there was something to do and then nothing for a while.

use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// So long nothing changes in the store.
const REST: Duration = Duration::from_secs(2);

/// Runs until `stop`. `changes` are the store's.
///
/// # Errors
/// If the store ended under it.
pub(crate) async fn run<T>(mut changes: watch::Receiver<T>, stop: CancellationToken) -> anyhow::Result<()> {
    loop {
        // Every arm is cancel-safe.
        let is_at_rest = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            changed = changes.changed() => changed.map(|()| false)?,
            () = tokio::time::sleep(REST) => true,
        };
        if is_at_rest {
            tokio::task::spawn_blocking(runtime::memory::give_back).await?;
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                changed = changes.changed() => changed?,
            }
        }
    }
}
