//! Work on a thread of its own: whatever takes long on the store's thread does not hold it up.

use std::thread::JoinHandle;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// The thread; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Aside {
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Aside {
    /// Runs `work`. Where there are no threads, as in simulations, or none is to be had, it becomes
    /// one of `tasks`.
    pub(super) fn run(
        is_threaded: bool,
        tasks: &mut JoinSet<()>,
        work: impl Future<Output = ()> + Send + 'static,
    ) -> Option<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let Some(runtime) = runtime.ok().filter(|_| is_threaded) else {
            tasks.spawn(work);
            return None;
        };
        let stop = CancellationToken::new();
        let until = stop.clone();
        let thread = std::thread::Builder::new().name("store-pulse".into());
        let thread = thread.spawn(move || {
            let _ended_or_stopped = runtime.block_on(until.run_until_cancelled_owned(work));
        });
        match thread {
            Ok(thread) => Some(Self { stop, thread: Some(thread) }),
            Err(error) => {
                tracing::error!(%error, "no thread for the pulse: this member will not be heard");
                None
            }
        }
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            // A panic was printed by its thread; there is nobody to tell it again.
            drop(thread.join());
        }
    }
}
