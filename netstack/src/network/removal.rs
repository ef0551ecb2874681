//! Removes links, many at once.
//!
//! For each removal the kernel waits until no packet is on its way through the link,
//! about 20 ms in which no other link can be made anywhere on the machine. For a
//! group of links it waits once.

use super::NetworkError;
use crate::ipam::Pool;
use crate::sys::link;
use rtnetlink::Handle;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{OwnedMutexGuard, mpsc, oneshot};

/// How many removals may wait before their callers do.
const QUEUE: usize = 1024;

/// A link to remove. Its pod stays locked until that is done, also if nobody waits for it.
#[derive(Debug)]
struct Removal {
    name: String,
    lock: OwnedMutexGuard<()>,
    done: oneshot::Sender<Result<(), NetworkError>>,
}

/// The way to the task that removes links. The task ends when this is dropped and all is removed.
#[derive(Debug)]
pub(super) struct Remover(mpsc::Sender<Removal>);

impl Remover {
    /// Starts the task. Links to remove are put into `group` first, which must be
    /// used for nothing else.
    pub(super) fn start(handle: Handle, group: u32, pool: Arc<Mutex<Pool>>) -> Self {
        let (sender, mut queue) = mpsc::channel(QUEUE);
        tokio::spawn(async move {
            let mut batch = Vec::new();
            while queue.recv_many(&mut batch, QUEUE).await > 0 {
                remove_batch(&handle, group, &pool, std::mem::take(&mut batch)).await;
            }
        });
        Self(sender)
    }

    /// The link called `name` is gone, and then the address that it held is free.
    ///
    /// # Cancel safety
    /// Goes on when dropped.
    pub(super) async fn remove(&self, name: &str, lock: OwnedMutexGuard<()>) -> Result<(), NetworkError> {
        let (done, finished) = oneshot::channel();
        let stopped =
            || NetworkError::RemoveLink { name: name.into(), source: io::ErrorKind::Interrupted.into() };
        self.0.send(Removal { name: name.into(), lock, done }).await.map_err(|_| stopped())?;
        finished.await.map_err(|_| stopped())?
    }
}

async fn remove_batch(handle: &Handle, group: u32, pool: &Mutex<Pool>, batch: Vec<Removal>) {
    // If it fails, each is tried by itself below, and each gets its own error.
    if batch.len() > 1 {
        drop(remove_together(handle, group, &batch).await);
    }
    for Removal { name, lock, done } in batch {
        let removed = link::remove(handle, &name).await;
        if removed.is_ok() {
            pool.lock().unwrap_or_else(PoisonError::into_inner).release(&name);
        }
        drop(lock);
        // Nobody need wait for it.
        drop(done.send(removed.map_err(|source| NetworkError::RemoveLink { name, source })));
    }
}

async fn remove_together(handle: &Handle, group: u32, batch: &[Removal]) -> io::Result<()> {
    for removal in batch {
        link::set_group(handle, &removal.name, group).await?;
    }
    link::remove_group(handle, group).await
}
