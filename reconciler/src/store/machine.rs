//! What the log is applied to: the objects, as this member sees them.

use super::apply::{Applied, Context, Decided, View};
use super::command::{Answer, Answers, Command, Decoded};
use super::patience::patiently;
use super::raft::{Config, Entry, LogId, StorageError, StoredMembership};
use super::snapshot::{Head, SnapshotError, SnapshotFile, Snapshots};
use super::watch::{Change, Event, Ring};
use super::wire::WireError;
use super::{Shared, State, Visible, WriteError};
use openraft::storage::{RaftStateMachine, Snapshot, SnapshotMeta};
use openraft::{AnyError, EntryPayload, OptionalSend, RaftSnapshotBuilder, StorageIOError};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Between two tries to write what the disk refuses.
const RETRY: Duration = Duration::from_secs(1);

type Meta = SnapshotMeta<crate::peer::NodeId, crate::peer::Peer>;

/// The state machine of one member.
#[derive(Debug)]
pub(super) struct Machine {
    shared: Arc<Shared>,
    changed: watch::Sender<u64>,
    applied: watch::Sender<Head>,
    snapshots: Snapshots,
    closing: CancellationToken,
}

impl Machine {
    /// A machine whose state is what `shared` shows, after `head`.
    pub(super) fn new(
        shared: Arc<Shared>,
        changed: watch::Sender<u64>,
        head: Head,
        snapshots: Snapshots,
        closing: CancellationToken,
    ) -> Self {
        Self { shared, changed, applied: watch::Sender::new(head), snapshots, closing }
    }

    /// What was applied last.
    pub(super) fn applied(&self) -> watch::Receiver<Head> {
        self.applied.subscribe()
    }

    /// Shows what `entries` come to.
    ///
    /// # Errors
    /// In words, if one cannot be read.
    pub(super) fn replay(&self, entries: Vec<Entry>) -> Result<(), String> {
        let replayed = self.apply_all(entries).map(drop);
        replayed.map_err(|(at, error)| format!("at {at}: {}", crate::chain(&error)))
    }

    /// Decides what `entries` come to, and shows it.
    fn apply_all(&self, entries: Vec<Entry>) -> Result<Vec<Answers>, (LogId, WireError)> {
        let mut head = self.applied.borrow().clone();
        let mut answers = Vec::with_capacity(entries.len());
        let mut changes = Vec::new();
        {
            let visible = self.shared.read();
            let mut view = View::new(&visible.state);
            for entry in entries {
                head.last = Some(entry.log_id);
                answers.push(match entry.payload {
                    EntryPayload::Blank => Answers::default(),
                    EntryPayload::Membership(membership) => {
                        head.membership = StoredMembership::new(Some(entry.log_id), membership);
                        Answers::default()
                    }
                    EntryPayload::Normal(command) => {
                        decide(&mut view, &command, &mut changes).map_err(|error| (entry.log_id, error))?
                    }
                });
            }
        }
        self.publish(changes);
        self.applied.send_replace(head);
        Ok(answers)
    }

    fn publish(&self, changes: Vec<Decided>) {
        let Some(newest) = changes.last().map(|change| change.revision) else { return };
        let mut visible = self.shared.write();
        for Decided { key, change, object, size_bytes, revision } in changes {
            if change == Change::Deleted {
                visible.state.remove(&key, revision);
            } else {
                visible.state.insert(Arc::clone(&object), revision);
            }
            visible.ring.push(Event { change, object, revision }, size_bytes);
        }
        visible.state.tidy();
        drop(visible);
        self.changed.send_replace(newest);
    }

    /// Everything is as in a snapshot. Who follows changes has to list again.
    fn replace(&self, head: Head, state: State) {
        let revision = state.revision();
        *self.shared.write() = Visible { ring: Ring::new(revision), state };
        self.applied.send_replace(head);
        self.changed.send_replace(revision);
    }
}

/// What the batches of `command` come to. One that is refused touches no other.
fn decide(view: &mut View<'_>, command: &Command, changes: &mut Vec<Decided>) -> Result<Answers, WireError> {
    let Decoded { now, mut chance, batches } = command.decode()?;
    let mut context = Context { now, random: &mut chance };
    let mut answer = |(batch, size_bytes): (Result<_, WriteError>, usize)| -> Answer {
        let Applied { answers, changes: more } = view.apply((batch?, size_bytes), &mut context)?;
        changes.extend(more);
        Ok(answers)
    };
    Ok(Answers(batches.into_iter().map(&mut answer).collect()))
}

fn snapshot_error(error: &SnapshotError) -> StorageError {
    StorageIOError::read_snapshot(None, AnyError::error(crate::chain(error))).into()
}

fn meta(head: &Head) -> Meta {
    let id = head.last.map_or_else(|| "empty".to_owned(), |last| last.to_string());
    SnapshotMeta { last_log_id: head.last, last_membership: head.membership.clone(), snapshot_id: id }
}

impl RaftStateMachine<Config> for Machine {
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), StorageError> {
        let head = self.applied.borrow().clone();
        Ok((head.last, head.membership))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Answers>, StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let applied = self.apply_all(entries.into_iter().collect());
        // To pass over an entry that this version cannot read would be to differ from the others.
        applied.map_err(|(log_id, error)| {
            StorageIOError::apply(log_id, AnyError::error(crate::chain(&error))).into()
        })
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        // Objects are shared, not copied: the state is that of now whatever is applied after.
        let state = self.shared.read().state.clone();
        let (snapshots, closing) = (self.snapshots.clone(), self.closing.clone());
        Builder { head: self.applied.borrow().clone(), state, snapshots, closing }
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<SnapshotFile>, StorageError> {
        Ok(Box::new(self.snapshots.receive()))
    }

    async fn install_snapshot(&mut self, _: &Meta, snapshot: Box<SnapshotFile>) -> Result<(), StorageError> {
        let read = self.snapshots.long(|snapshots| snapshots.read(*snapshot)).await;
        let (received, head, state) = read.map_err(|error| snapshot_error(&error))?;
        let again = Builder {
            head: head.clone(),
            state: state.clone(),
            snapshots: self.snapshots.clone(),
            closing: self.closing.clone(),
        };
        let named = head.clone();
        if let Err(error) = self.snapshots.long(move |snapshots| snapshots.keep(received, &named)).await {
            again.write_after(error).await?;
        }
        tracing::info!(head = ?head.last, objects = state.len(), "took over a snapshot");
        self.replace(head, state);
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<Config>>, StorageError> {
        let current = patiently(|| self.snapshots.current()).await.map_err(|error| snapshot_error(&error))?;
        Ok(current.map(|(head, file)| Snapshot { meta: meta(&head), snapshot: Box::new(file) }))
    }
}

/// Writes one snapshot.
#[derive(Debug)]
pub(super) struct Builder {
    head: Head,
    state: State,
    snapshots: Snapshots,
    closing: CancellationToken,
}

impl Builder {
    /// The snapshot is on disk after: openraft ends if it is told of a failure, and a disk may
    /// have room again.
    async fn write(&self) -> Result<(), StorageError> {
        let (head, state) = (self.head.clone(), self.state.clone());
        match self.snapshots.long(move |snapshots| snapshots.write(&head, &state)).await {
            Ok(_) => Ok(()),
            Err(error) => self.write_after(error).await,
        }
    }

    /// The same, when `error` was what became of the first try.
    async fn write_after(&self, mut error: SnapshotError) -> Result<(), StorageError> {
        tracing::error!(error = crate::chain(&error), "cannot write a snapshot; trying on");
        while self.closing.run_until_cancelled(tokio::time::sleep(RETRY)).await.is_some() {
            let (head, state) = (self.head.clone(), self.state.clone());
            match self.snapshots.long(move |snapshots| snapshots.write(&head, &state)).await {
                Ok(_) => {
                    tracing::info!("a snapshot can be written again");
                    return Ok(());
                }
                Err(again) => error = again,
            }
        }
        Err(snapshot_error(&error))
    }
}

impl RaftSnapshotBuilder<Config> for Builder {
    async fn build_snapshot(&mut self) -> Result<Snapshot<Config>, StorageError> {
        self.write().await?;
        let current = patiently(|| self.snapshots.current()).await.map_err(|error| snapshot_error(&error))?;
        let (head, file) = current
            .ok_or_else(|| StorageIOError::read_snapshot(None, AnyError::error("the snapshot is gone")))?;
        Ok(Snapshot { meta: meta(&head), snapshot: Box::new(file) })
    }
}
