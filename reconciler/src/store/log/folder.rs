//! The folder of a store.

use super::facts::Facts;
use super::former;
use super::journal::Journal;
use super::lock::lock;
use super::suspicion::Suspicion;
use crate::store::OpenError;
use crate::store::files::{Files, How, rewrite};
use crate::store::open_error::io_error;
use crate::store::raft::Entry;
use std::fs::{DirBuilder, File};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The journal's files are about so long, in bytes.
const SEGMENT_BYTES: u64 = 8 << 20;

/// A folder, locked, in which a store may still have to be made.
#[derive(Debug)]
pub(in crate::store) struct Folder {
    pub(in crate::store) path: PathBuf,
    pub(in crate::store) files: Arc<dyn Files>,
    pub(super) suspicion: Suspicion,
    pub(super) segment_bytes: u64,
    pub(super) lock: File,
}

impl Folder {
    /// Makes the folder if it is missing, and locks it.
    pub(in crate::store) fn open(dir: &Path, files: Arc<dyn Files>) -> Result<Self, OpenError> {
        files.make_folder(dir).map_err(io_error("make", dir))?;
        // The lock is of processes, and so always of the computer's own files.
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(io_error("make", dir))?;
        let lock = lock(&dir.join("store.lock"))?;
        let suspicion = Suspicion::open(&*files, dir);
        Ok(Self { path: dir.to_owned(), files, suspicion, segment_bytes: SEGMENT_BYTES, lock })
    }

    /// The same, with a journal in files of about `bytes` bytes.
    pub(in crate::store) fn of_segments(self, bytes: u64) -> Self {
        Self { segment_bytes: bytes.min(SEGMENT_BYTES), ..self }
    }

    pub(in crate::store) fn file(&self) -> PathBuf {
        self.path.join("store.redb")
    }

    pub(super) fn journal(&self) -> PathBuf {
        self.path.join("journal")
    }

    /// True if there is a store, whole or not.
    pub(in crate::store) fn is_filled(&self) -> Result<bool, OpenError> {
        let file = self.file();
        let length = self.files.len(&file).map_err(io_error("look for", &file))?;
        Ok(length.is_some())
    }

    /// Makes a log that holds `facts` and `entries`, then the mark of a store. What had its name
    /// before, a store of an earlier format, is replaced.
    pub(in crate::store) fn create(
        &self,
        facts: &Facts,
        entries: Vec<(u64, Vec<u8>)>,
    ) -> Result<(), OpenError> {
        Journal::create(self, facts, entries)?;
        let fresh = self.path.join("store.redb.new");
        former::mark(&*self.files, &fresh, &facts.identity)?;
        self.files.rename(&fresh, &self.file()).map_err(io_error("rename", &fresh))?;
        self.files.sync_folder(&self.path).map_err(io_error("sync", &self.path))
    }

    /// Opens the log. With it go its newest entries, which are all that it should keep in memory.
    pub(in crate::store) fn load(self) -> Result<(Journal, Facts, Vec<Entry>), OpenError> {
        let path = self.file();
        let marked = former::with_database(&*self.files, &path, |database| {
            former::format_of(database, &path)?;
            former::facts_of(database, &path)
        })?;
        let (journal, facts) = Journal::open(self)?;
        if facts.identity != marked.identity {
            return Err(OpenError::Damaged { path, what: "the journal beside it is another store's".into() });
        }
        let entries =
            journal.newest(super::TAIL_BYTES).map_err(|source| OpenError::Database { path, source })?;
        Ok((journal, facts, entries))
    }

    /// All that the mark's file shows is on disk after, and that it is there: what a killed process
    /// wrote may not be yet, and is shown to peers from here on.
    ///
    /// # Errors
    /// If the disk fails, or the file is empty: redb takes that for a new database. Ours never is
    /// one, for it gets its name only when it is complete.
    pub(in crate::store) fn firm(&self) -> Result<(), OpenError> {
        let path = self.file();
        if self.files.len(&path).map_err(io_error("look at", &path))?.is_none_or(|length| length == 0) {
            return Err(OpenError::Damaged { path, what: "it is empty".into() });
        }
        if self.suspicion.is_held() {
            tracing::warn!(path = %self.path.display(), "the disk failed before; the store's files are written again");
        }
        let firm = || {
            let file = self.files.open(&path, How::Existing)?;
            if self.suspicion.is_held() {
                rewrite(&*file)?
            } else {
                file.sync()?
            }
            self.files.sync_folder(&self.path)
        };
        firm().inspect_err(|_| self.suspicion.set(true)).map_err(io_error("sync", &path))
    }
}
