//! How the agent ends: by a signal, or with the first of its parts.

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// The signals that end the agent.
pub(crate) struct End {
    terminate: Signal,
    interrupt: Signal,
}

impl End {
    pub(crate) fn new() -> anyhow::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for one of them.
    pub(crate) async fn asked(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Where strangers come in: closed before anything else ends, for their requests need the rest.
#[derive(Debug, Clone, Default)]
pub(crate) struct Doors {
    /// Nobody is let in any more.
    pub(crate) close: CancellationToken,
    /// Nobody is inside any more.
    pub(crate) closed: CancellationToken,
}

/// Waits for a signal, or for a task that ended; then closes the doors, and stops the other tasks.
pub(crate) async fn until_the_end(
    mut tasks: JoinSet<anyhow::Result<()>>,
    end: &mut End,
    doors: Option<&Doors>,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let first = tokio::select! {
        () = end.asked() => Ok(()),
        Some(ended) = tasks.join_next() => ended?.context("a part of the agent ended"),
    };
    if let Some(doors) = doors {
        doors.close.cancel();
        doors.closed.cancelled().await;
    }
    stop.cancel();
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    first
}
