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
    /// Runs `work`. Where there are no threads, as in simulations, it becomes one of `tasks`.
    pub(super) fn run(
        is_threaded: bool,
        tasks: &mut JoinSet<()>,
        work: impl Future<Output = ()> + Send + 'static,
    ) -> Option<Self> {
        if !is_threaded {
            tasks.spawn(work);
            return None;
        }
        let stop = CancellationToken::new();
        let until = stop.clone();
        let thread = std::thread::Builder::new().name("store-pulse".into());
        let thread = thread.spawn(move || {
            // Made and dropped here: a runtime cannot be dropped by a task of another.
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            match runtime {
                Ok(runtime) => {
                    let _ended_or_stopped = runtime.block_on(until.run_until_cancelled_owned(work));
                }
                Err(error) => tracing::error!(%error, "no thread for the pulse: this member is not heard"),
            }
        });
        match thread {
            Ok(thread) => Some(Self { stop, thread: Some(thread) }),
            Err(error) => {
                tracing::error!(%error, "no thread for the pulse: this member is not heard");
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
