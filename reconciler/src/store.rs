//! The object store: get, list, watch and compare-and-swap write.
//!
//! Reads are answered from memory. Writes go through one thread that decides
//! each batch, commits all that wait in one durable transaction, and only then
//! makes them visible: what a reader or a watcher sees is on disk.

mod apply;
mod disk;
mod error;
pub mod state;
mod watch;
pub mod write;
mod writer;

pub(crate) use apply::copy_status;
pub use disk::OpenError;
pub use error::{StorageError, WriteError};
pub use state::State;
pub use watch::{Change, Event, Expired, Watch};
pub use write::Write;

use disk::Disk;
use manifests::{Kind, Object, ObjectKey};
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use tokio::sync::{mpsc, oneshot};
use watch::Ring;
use writer::{Request, Writer};

/// How many batches may wait for the writer before `write` itself waits.
const QUEUE: usize = 1024;

/// The store of one node. Dropping it waits for the writes under way and frees
/// the lock on its file.
#[derive(Debug)]
pub struct Store {
    shared: Arc<Shared>,
    changes: tokio::sync::watch::Receiver<u64>,
    requests: Option<mpsc::Sender<Vec<Request>>>,
    writer: Option<std::thread::JoinHandle<()>>,
}

/// What readers see; the writer alone changes it.
#[derive(Debug, Default)]
struct Shared(RwLock<Visible>);

/// The newest state, and how it came to be. Under one lock, so that a list and
/// a watch from its revision leave no gap.
#[derive(Debug, Default)]
struct Visible {
    state: State,
    ring: Ring,
}

impl Shared {
    fn read(&self) -> RwLockReadGuard<'_, Visible> {
        // The writer replaces whole objects only, so a panic cannot leave half of one.
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store {
    /// The store of folder `dir`, which is made if it is missing, with all its objects in memory.
    ///
    /// # Errors
    /// If another process has it open, if a newer version wrote it, if anything
    /// in it is damaged, or if the disk fails. A damaged store is never replaced by an empty one.
    pub fn open(dir: &Path) -> Result<Self, OpenError> {
        let (disk, state) = Disk::open(dir)?;
        Self::on(disk, state)
    }

    /// The store whose objects are `state`, as they are on `disk`.
    fn on(disk: Disk, state: State) -> Result<Self, OpenError> {
        let revision = state.revision();
        let shared = Arc::new(Shared(RwLock::new(Visible { state, ring: Ring::new(revision) })));
        let (changed, changes) = tokio::sync::watch::channel(revision);
        let (requests, queue) = mpsc::channel(QUEUE);
        let writer = Writer::new(disk, Arc::clone(&shared), changed, queue);
        let writer = std::thread::Builder::new()
            .name("store".into())
            .spawn(move || writer.run())
            .map_err(OpenError::Thread)?;
        Ok(Self { shared, changes, requests: Some(requests), writer: Some(writer) })
    }

    /// What `f` makes of the newest state. Writers wait for it: `f` must be quick.
    pub fn read<R>(&self, f: impl FnOnce(&State) -> R) -> R {
        f(&self.shared.read().state)
    }

    /// The object named `key`.
    #[must_use]
    pub fn get(&self, key: &ObjectKey) -> Option<Arc<Object>> {
        self.read(|state| state.get(key).cloned())
    }

    /// The objects of `kind`, of one namespace if given, and the resource version to watch from.
    #[must_use]
    pub fn list(&self, kind: Kind, namespace: Option<&str>) -> (Vec<Arc<Object>>, u64) {
        self.read(|state| (state.list(kind, namespace).cloned().collect(), state.revision()))
    }

    /// All of `batch` is durable and visible, or nothing of it. Answers with the
    /// object that each write left, or for a deletion the last that was.
    ///
    /// # Errors
    /// See [`WriteError`]; the state is as it was.
    ///
    /// # Cancel safety
    /// Once polled, the batch is written even if the caller goes away.
    pub async fn write(&self, batch: Vec<Write>) -> Result<Vec<Arc<Object>>, WriteError> {
        self.write_each(vec![batch]).await.pop().unwrap_or(Err(WriteError::Closed))
    }

    /// Like [`Store::write`] for each of `batches`, in one commit. One that is
    /// refused does not touch the others. As many answers as batches, in their order.
    ///
    /// # Cancel safety
    /// Once polled, the batches are written even if the caller goes away.
    pub async fn write_each(&self, batches: Vec<Vec<Write>>) -> Vec<Result<Vec<Arc<Object>>, WriteError>> {
        let mut answered = Vec::with_capacity(batches.len());
        let mut requests = Vec::with_capacity(batches.len());
        for batch in batches {
            let (answer, answers) = oneshot::channel();
            requests.push(Request { batch, answer });
            answered.push(answers);
        }
        if let Some(writer) = &self.requests {
            // If the writer is gone, the requests are dropped, and each answer is `Closed`.
            drop(writer.send(requests).await);
        } else {
            drop(requests);
        }
        let answers = answered.into_iter().map(|a| async { a.await.unwrap_or(Err(WriteError::Closed)) });
        futures::future::join_all(answers).await
    }

    /// Every change after resource version `from`, first those that were, then those to come.
    ///
    /// # Errors
    /// [`Expired`] if changes after `from` are no longer remembered, or `from`
    /// is yet to come: list, then watch from what the list says.
    pub fn watch(&self, kind: Option<Kind>, from: u64) -> Result<Watch, Expired> {
        let oldest = {
            let visible = self.shared.read();
            if visible.ring.reaches(from) && from <= visible.state.revision() {
                None
            } else {
                Some(visible.ring.floor())
            }
        };
        match oldest {
            Some(oldest) => Err(Expired { from, oldest }),
            None => Ok(Watch::new(Arc::clone(&self.shared), self.changes.clone(), kind, from)),
        }
    }

    /// Of the changes so far only the newest can be watched from: nothing has happened for a while,
    /// and whoever follows has seen the others.
    pub fn forget_changes(&self) {
        self.shared.0.write().unwrap_or_else(PoisonError::into_inner).ring.shrink();
    }

    /// The newest resource version, as a level to wait on.
    #[must_use]
    pub fn changes(&self) -> tokio::sync::watch::Receiver<u64> {
        self.changes.clone()
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.requests = None;
        if let Some(writer) = self.writer.take() {
            // A panic of the writer was printed by its thread; there is nobody to tell it again.
            drop(writer.join());
        }
    }
}

#[cfg(test)]
mod failing_disk_tests;
#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod tests;
