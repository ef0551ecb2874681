//! The object store: get, list, watch and compare-and-swap write.
//!
//! Reads are answered from memory. Writes become entries of a log that the members of the
//! cluster agree on: each is durable on a majority before it is applied, and only then visible
//! or acknowledged. A node alone is a cluster of one.

mod apply;
mod aside;
mod cluster;
mod command;
mod compaction;
mod courtesy;
mod election;
mod error;
mod files;
mod forward;
mod heard;
mod log;
mod machine;
mod migrate;
mod network;
mod open_error;
mod packing;
mod patience;
mod proposer;
mod pulse;
mod raft;
mod replica;
pub mod rescue;
mod snapshot;
pub mod state;
mod version;
mod voters;
mod watch;
mod wire;
pub mod write;

pub(crate) use apply::copy_status;
pub use cluster::{Cluster, ClusterError, Leadership, Member, Term};
pub use error::{StorageError, WriteError};
pub use open_error::OpenError;
pub use replica::{Beginning, StoreOptions};
pub use state::State;
pub use watch::{Change, Event, Expired, Watch};
pub use write::Write;

use manifests::{Kind, Object, ObjectKey};
use proposer::Request;
use replica::Replica;
use state::Handle;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use watch::Ring;

/// How many batches may wait for the writer before `write` itself waits.
const QUEUE: usize = 1024;

/// The store of one node. Dropping it waits for the writes under way and frees
/// the lock on its file.
#[derive(Debug)]
pub struct Store {
    shared: Arc<Shared>,
    changes: tokio::sync::watch::Receiver<u64>,
    requests: Option<mpsc::Sender<Vec<Request>>>,
    cluster: Cluster,
    closing: CancellationToken,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// What readers see; what is applied changes it.
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
        // Whole objects are replaced only, so a panic cannot leave half of one.
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Visible> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store {
    /// The store of folder `dir`, which is made if it is missing, with all its objects in memory.
    /// It runs in a thread of its own. A new store is a cluster of one.
    ///
    /// # Errors
    /// If another process has it open, if a newer version wrote it, if anything
    /// in it is damaged, or if the disk fails. A damaged store is never replaced by an empty one.
    pub fn open(dir: &Path) -> Result<Self, OpenError> {
        Self::open_with(StoreOptions::alone(dir))
    }

    /// As [`Store::open`], with peers.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_with(options: StoreOptions) -> Result<Self, OpenError> {
        let (opened, result) = std::sync::mpsc::sync_channel(1);
        let thread = std::thread::Builder::new()
            .name("store".into())
            .spawn(move || replica::run(options, &opened))
            .map_err(OpenError::Thread)?;
        let gone = || OpenError::Log("its thread is gone".into());
        let mut store = result.recv().unwrap_or_else(|_| Err(gone()))?;
        store.thread = Some(thread);
        Ok(store)
    }

    /// As [`Store::open_with`], but on the tasks of the caller's runtime, and with the disk
    /// written by these: for simulations. The second value ends once the store is closed.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub async fn start(options: StoreOptions) -> Result<(Self, impl Future<Output = ()>), OpenError> {
        let (store, replica) = Self::on(options, false).await?;
        Ok((store, replica.run()))
    }

    async fn on(options: StoreOptions, is_threaded: bool) -> Result<(Self, Replica), OpenError> {
        let (requests, queue) = mpsc::channel(QUEUE);
        let closing = CancellationToken::new();
        let replica = Replica::open(options, is_threaded, queue, closing.clone()).await?;
        let store = Self {
            shared: Arc::clone(&replica.shared),
            changes: replica.changes.clone(),
            requests: Some(requests.clone()),
            cluster: replica.cluster(requests.downgrade()),
            closing,
            thread: None,
        };
        Ok((store, replica))
    }

    /// The members of the cluster, and what they ask of this one.
    #[must_use]
    pub const fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// What `f` makes of the newest state. Writers wait for it: `f` must be quick.
    pub fn read<R>(&self, f: impl FnOnce(&State) -> R) -> R {
        let (result, is_crowded) = {
            let state = &self.shared.read().state;
            (f(state), state.is_crowded())
        };
        // Whoever comes next tidies up, if somebody else is at it.
        if is_crowded && let Ok(mut visible) = self.shared.0.try_write() {
            visible.state.tidy();
        }
        result
    }

    /// The object named `key`.
    #[must_use]
    pub fn get(&self, key: &ObjectKey) -> Option<Arc<Object>> {
        self.read(|state| state.get(key).cloned())
    }

    /// The objects of `kind`, of one namespace if given, and the resource version to watch from.
    #[must_use]
    pub fn list(&self, kind: Kind, namespace: Option<&str>) -> (Vec<Arc<Object>>, u64) {
        let (handles, revision) =
            self.read(|state| (state.handles(kind, namespace).collect::<Vec<_>>(), state.revision()));
        // Writers need not wait for what has to be unpacked.
        (handles.into_iter().map(Handle::look).collect(), revision)
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
        self.write_if(None, batches).await
    }

    /// Like [`Store::write_each`] for what was decided while this member led in `term`: it is refused as
    /// [`WriteError::Deposed`] if that is over, and never brought to another leader, who may have decided
    /// otherwise.
    ///
    /// # Cancel safety
    /// As [`Store::write_each`].
    pub async fn write_each_in(
        &self,
        term: Term,
        batches: Vec<Vec<Write>>,
    ) -> Vec<Result<Vec<Arc<Object>>, WriteError>> {
        self.write_if(Some(term), batches).await
    }

    async fn write_if(
        &self,
        term: Option<Term>,
        batches: Vec<Vec<Write>>,
    ) -> Vec<Result<Vec<Arc<Object>>, WriteError>> {
        let mut answered = Vec::with_capacity(batches.len());
        let mut requests = Vec::with_capacity(batches.len());
        for batch in batches {
            let (answer, answers) = oneshot::channel();
            match command::encode_batch(&batch) {
                Ok(batch) => requests.push(Request { batch, term, answer }),
                Err(error) => drop(answer.send(Err(error))),
            }
            answered.push(answers);
        }
        if let Some(writer) = &self.requests {
            // If the store is closed, the requests are dropped, and each answer is `Closed`.
            drop(writer.send(requests).await);
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

    /// What `f` makes of the newest state, and every change of `kind` after it.
    pub fn read_and_watch<R>(&self, kind: Option<Kind>, f: impl FnOnce(&State) -> R) -> (R, Watch) {
        let (result, revision) = self.read(|state| (f(state), state.revision()));
        (result, Watch::new(Arc::clone(&self.shared), self.changes.clone(), kind, revision))
    }

    /// Of the changes so far only the newest can be watched from: nothing has happened for a while,
    /// and whoever follows has seen the others.
    pub fn forget_changes(&self) {
        self.shared.write().ring.shrink();
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
        self.closing.cancel();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was printed by it; there is nobody to tell it again.
            drop(thread.join());
        }
    }
}

#[cfg(test)]
mod failing_disk_tests;
#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod suite_tests;
#[cfg(test)]
mod tests;
