//! Gives memory back when there was much to do and then little.

use reconciler::store::Store;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// For so long little happens.
const REST: Duration = Duration::from_secs(2);
/// Changes of the store that are little: now and then an event or a status.
const LITTLE: u64 = 16;

/// Runs until `stop`.
///
/// # Errors
/// If the store ended under it.
pub(crate) async fn run(store: Arc<Store>, stop: CancellationToken) -> anyhow::Result<()> {
    let work = async {
        let mut changes = store.changes();
        loop {
            let before = *changes.borrow_and_update();
            tokio::time::sleep(REST).await;
            let now = *changes.borrow_and_update();
            if now > before + LITTLE {
                continue;
            }
            store.forget_changes();
            tokio::task::spawn_blocking(runtime::memory::give_back).await?;
            changes.wait_for(|&revision| revision > now + LITTLE).await?;
        }
    };
    stop.run_until_cancelled(work).await.unwrap_or(Ok(()))
}
