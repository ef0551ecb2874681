//! Why the store could not be opened.

use super::StorageError;
use super::log::FORMAT;
use super::snapshot::SnapshotError;
use std::io;
use std::path::{Path, PathBuf};

/// The store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error("the store is in use{}: {} is locked", held_by(.holder), .lock.display())]
    Locked {
        /// The lock's file.
        lock: PathBuf,
        /// The process that holds it, as far as it said.
        holder: String,
    },
    /// A newer program wrote it.
    #[error("{} has format {found}; this version of keel reads up to {FORMAT}", .path.display())]
    Newer {
        /// The store's file.
        path: PathBuf,
        /// The format that it says to have.
        found: u64,
    },
    /// It is not a store, or no longer a whole one.
    #[error("{} is damaged: {what}", .path.display())]
    Damaged {
        /// The store's file.
        path: PathBuf,
        /// What does not fit.
        what: String,
    },
    /// The database refuses.
    #[error("cannot open {}", .path.display())]
    Database {
        /// The store's file.
        path: PathBuf,
        /// Why.
        #[source]
        source: StorageError,
    },
    /// The file system refuses.
    #[error("cannot {what} {}", .path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No thread for the store.
    #[error("cannot start the store's thread")]
    Thread(#[source] io::Error),
    /// The log cannot be taken up.
    #[error("cannot take up the log: {0}")]
    Log(String),
}

fn held_by(holder: &str) -> String {
    if holder.is_empty() { String::new() } else { format!(" by process {holder}") }
}

pub(super) fn io_error<'a>(what: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> OpenError + 'a {
    move |source| OpenError::Io { what, path: path.to_owned(), source }
}

impl From<SnapshotError> for OpenError {
    fn from(error: SnapshotError) -> Self {
        match error {
            SnapshotError::Io { what, path, source } => Self::Io { what, path, source },
            SnapshotError::Damaged { path, what } => Self::Damaged { path, what },
            SnapshotError::Newer { path, found } => Self::Newer { path, found: found.into() },
        }
    }
}
