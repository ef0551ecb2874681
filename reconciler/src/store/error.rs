//! Why a write was refused.

use manifests::ObjectKey;
use std::sync::Arc;

/// A batch was refused; nothing of it was written, unless the variant says otherwise.
#[derive(Debug, Clone, thiserror::Error)]
pub enum WriteError {
    /// The object changed since the writer looked, or is another one of the same name.
    #[error("{key} is at resource version {found} now")]
    Conflict {
        /// Which.
        key: ObjectKey,
        /// The stored resource version.
        found: u64,
    },
    /// An object of that name is there.
    #[error("{0} exists already")]
    AlreadyExists(ObjectKey),
    /// No object of that name is there.
    #[error("{0} does not exist")]
    NotFound(ObjectKey),
    /// The object has no name.
    #[error("{0} has no name")]
    Unnamed(ObjectKey),
    /// The object has no JSON form.
    #[error("cannot encode {key}")]
    Encode {
        /// Which.
        key: ObjectKey,
        /// Why.
        #[source]
        source: Arc<serde_json::Error>,
    },
    /// The batch is not of the form that this version knows.
    #[error("cannot read the write: {0}")]
    Unreadable(String),
    /// The disk does not take it now. It is tried again until the disk does, so the batch may
    /// still be written, and become visible then.
    #[error("the store's file cannot be written")]
    Storage(#[source] StorageError),
    /// The same, of the leader's disk, in its words.
    #[error("the leader: {0}")]
    LeaderStorage(String),
    /// There is no leader, or it has no quorum: nothing was written.
    #[error("the cluster has no leader that a majority follows; nothing was written")]
    NoLeader,
    /// It was decided while this member led, in a term that is over: others may have decided otherwise since.
    /// Nothing was written.
    #[error("this member no longer leads as it did when that was decided; nothing was written")]
    Deposed,
    /// The leader was lost on the way: the batch may have been written.
    #[error("the leader was lost before it answered; the write may have been done")]
    Undecided,
    /// The store is closing.
    #[error("the store is closed")]
    Closed,
}

impl WriteError {
    /// True if looking again and deciding anew may help at once.
    #[must_use]
    pub const fn is_conflict(&self) -> bool {
        matches!(self, Self::Conflict { .. } | Self::AlreadyExists(_) | Self::NotFound(_))
    }
}

/// What the disk says went wrong, shared by all batches of one commit.
#[derive(Debug, Clone, thiserror::Error)]
#[error(transparent)]
pub struct StorageError(Arc<Cause>);

#[derive(Debug, thiserror::Error)]
enum Cause {
    #[error(transparent)]
    Database(redb::Error),
    #[error("the journal is damaged: {0}")]
    Damaged(String),
}

impl StorageError {
    pub(super) fn damaged(what: String) -> Self {
        Self(Arc::new(Cause::Damaged(what)))
    }
}

impl<E: Into<redb::Error>> From<E> for StorageError {
    fn from(error: E) -> Self {
        Self(Arc::new(Cause::Database(error.into())))
    }
}
