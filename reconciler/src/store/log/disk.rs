//! The log's file: one redb database with the entries, the vote, and who this member is.
//!
//! What is written here is what Raft's promises stand on, so each commit is durable when it
//! returns. A commit is one-phase: redb checks the pages of the last commit after a crash, which
//! takes a moment only, for the log is short.

use super::lock::lock;
use super::suspicion::Suspicion;
use crate::store::files::{Files, How, rewrite};
use crate::store::open_error::io_error;
use crate::store::raft::{Entry, LogId, Vote};
use crate::store::wire::{self, EntryMessage, LogIdMessage, VoteMessage};
use crate::store::{OpenError, StorageError};
use bytes::Bytes;
use prost::Message;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use std::fmt;
use std::fs::{DirBuilder, File};
use std::io;
use std::ops::Range;
use std::os::unix::fs::DirBuilderExt as _;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Grows when an older program could no longer read what is written. 1 was a table of objects.
pub(in crate::store) const FORMAT: u64 = 2;

/// What redb asserts does not hold.
const CONTRADICTION: &str = "its pages contradict";

/// Index to a checksum of 8 bytes and the entry.
const ENTRIES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("entries");
const FACTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("facts");
pub(in crate::store) const NUMBERS: TableDefinition<'_, &str, u64> = TableDefinition::new("numbers");

/// Who a member is: given once, when its store is made.
#[derive(Clone, PartialEq, Eq, Message)]
pub(in crate::store) struct Identity {
    #[prost(string, tag = "1")]
    pub(in crate::store) cluster: String,
    #[prost(uint64, tag = "2")]
    pub(in crate::store) node: u64,
}

/// One change of the file. Each can be done again: a commit whose outcome is unknown is
/// repeated.
#[derive(Debug, Clone)]
pub(in crate::store) enum Change {
    /// Adds the entry of an index.
    Append(u64, Vec<u8>),
    /// Removes this entry and all after it.
    Truncate(u64),
    /// Removes this entry and all before it.
    Purge(LogId),
    Vote(Vote),
}

/// What a file holds, but for the entries.
#[derive(Debug, Clone, Default)]
pub(in crate::store) struct Facts {
    pub(in crate::store) identity: Identity,
    pub(in crate::store) vote: Option<Vote>,
    pub(in crate::store) purged: Option<LogId>,
}

/// The open file. Clones share it.
#[derive(Clone)]
pub(in crate::store) struct Disk {
    /// None after a failure, until it is opened again.
    database: Arc<Mutex<Option<Arc<Database>>>>,
    path: PathBuf,
    files: Arc<dyn Files>,
    suspicion: Arc<Suspicion>,
    /// Held for as long as the database is open; declared after it, so freed after it.
    _lock: Arc<File>,
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Disk").field("path", &self.path).finish_non_exhaustive()
    }
}

/// A folder, locked, whose file may still have to be made.
#[derive(Debug)]
pub(in crate::store) struct Folder {
    pub(in crate::store) path: PathBuf,
    pub(in crate::store) files: Arc<dyn Files>,
    suspicion: Suspicion,
    lock: File,
}

impl Folder {
    /// Makes the folder if it is missing, and locks it.
    pub(in crate::store) fn open(dir: &Path, files: Arc<dyn Files>) -> Result<Self, OpenError> {
        files.make_folder(dir).map_err(io_error("make", dir))?;
        // The lock is of processes, and so always of the computer's own files.
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(io_error("make", dir))?;
        let lock = lock(&dir.join("store.lock"))?;
        let suspicion = Suspicion::open(&*files, dir);
        Ok(Self { path: dir.to_owned(), files, suspicion, lock })
    }

    pub(in crate::store) fn file(&self) -> PathBuf {
        self.path.join("store.redb")
    }

    /// True if there is a store, whole or not.
    pub(in crate::store) fn is_filled(&self) -> Result<bool, OpenError> {
        let file = self.file();
        let length = self.files.len(&file).map_err(io_error("look for", &file))?;
        Ok(length.is_some())
    }

    /// Makes a log that holds `facts` under another name, and gives it its own once it is
    /// whole. What had the name before is replaced.
    pub(in crate::store) fn create(&self, facts: &Facts) -> Result<(), OpenError> {
        let fresh = self.path.join("store.redb.new");
        let database = self.files.database(&fresh, How::Fresh).map_err(|error| refused(&fresh, error))?;
        prepare(&database, facts).map_err(|source| OpenError::Database { path: fresh.clone(), source })?;
        drop(database);
        let sync = || self.files.open(&fresh, How::Existing)?.sync();
        sync().map_err(io_error("sync", &fresh))?;
        self.files.rename(&fresh, &self.file()).map_err(io_error("rename", &fresh))?;
        self.files.sync_folder(&self.path).map_err(io_error("sync", &self.path))
    }

    /// Opens the file and reads all of it.
    pub(in crate::store) fn load(self) -> Result<(Disk, Facts, Vec<Entry>), OpenError> {
        let path = self.file();
        // redb asserts what it reads: a damaged page can be a panic instead of an error.
        let opened = std::panic::catch_unwind(AssertUnwindSafe(|| {
            let database =
                self.files.database(&path, How::Existing).map_err(|error| refused(&path, error))?;
            let (facts, entries) = read(&database, &path)?;
            Ok((database, facts, entries))
        }));
        let damaged = || OpenError::Damaged { path: path.clone(), what: CONTRADICTION.into() };
        let (database, facts, entries) = opened.unwrap_or_else(|_| Err(damaged()))?;
        let database = Arc::new(Mutex::new(Some(Arc::new(database))));
        let suspicion = Arc::new(self.suspicion);
        let disk = Disk { database, path, files: self.files, suspicion, _lock: Arc::new(self.lock) };
        Ok((disk, facts, entries))
    }

    /// All that the store's file shows is on disk after: what a killed process wrote may not be
    /// yet, and is shown to peers from here on.
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
            tracing::warn!(path = %path.display(), "the disk failed before; the store's file is written again");
        }
        firm(&*self.files, &path, &self.suspicion).map_err(io_error("sync", &path))
    }
}

/// What `path` shows is on disk after.
fn firm(files: &dyn Files, path: &Path, suspicion: &Suspicion) -> io::Result<()> {
    let file = files.open(path, How::Existing)?;
    if !suspicion.is_held() {
        return file.sync().inspect_err(|_| suspicion.set(true));
    }
    rewrite(&*file)?;
    suspicion.set(false);
    Ok(())
}

impl Disk {
    fn database(&self) -> Option<Arc<Database>> {
        self.database.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How long to wait before a commit.
    pub(super) fn delay(&self) -> Duration {
        self.files.delay()
    }

    /// Makes `changes` durable, all or none.
    ///
    /// # Errors
    /// If the disk fails. Whether the changes are there is then unknown: call again with the
    /// same ones, and all of the file is written again, then opened anew.
    pub(in crate::store) fn commit(&self, changes: &[Change]) -> Result<(), StorageError> {
        let result = std::panic::catch_unwind(AssertUnwindSafe(|| {
            let database = match self.database() {
                Some(database) => database,
                None => self.reopen()?,
            };
            commit(&database, changes)
        }));
        let result = result.unwrap_or_else(|_| Err(redb::Error::Corrupted(CONTRADICTION.into()).into()));
        if result.is_err() {
            self.suspicion.set(true);
            // redb takes no more after a failure of its file.
            *self.database.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
        result
    }

    fn reopen(&self) -> Result<Arc<Database>, StorageError> {
        firm(&*self.files, &self.path, &self.suspicion)?;
        let database = Arc::new(self.files.database(&self.path, How::Existing)?);
        *self.database.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&database));
        Ok(database)
    }

    /// The entries of `range` that are there, in order, of `most_bytes` at most but for the first;
    /// true if these are all.
    ///
    /// # Errors
    /// If the disk fails, or an entry is damaged.
    pub(in crate::store) fn entries(
        &self,
        range: Range<u64>,
        most_bytes: usize,
    ) -> Result<(Vec<Entry>, bool), StorageError> {
        let database = self.database().ok_or(redb::Error::DatabaseClosed)?;
        let table = database.begin_read()?.open_table(ENTRIES)?;
        let (mut entries, mut bytes) = (Vec::new(), 0);
        for entry in table.range(range)? {
            let (index, value) = entry?;
            bytes += value.value().len();
            if bytes > most_bytes && !entries.is_empty() {
                return Ok((entries, false));
            }
            entries.push(unsealed(index.value(), value.value()).map_err(redb::Error::Corrupted)?);
        }
        Ok((entries, true))
    }
}

fn commit(database: &Database, changes: &[Change]) -> Result<(), StorageError> {
    let transaction = database.begin_write()?;
    {
        let mut entries = transaction.open_table(ENTRIES)?;
        let mut facts = transaction.open_table(FACTS)?;
        for change in changes {
            match change {
                Change::Append(index, entry) => drop(entries.insert(*index, sealed(entry).as_slice())?),
                Change::Truncate(from) => entries.retain_in(*from.., |_, _| false)?,
                Change::Purge(through) => {
                    entries.retain_in(..=through.index, |_, _| false)?;
                    facts.insert("purged", LogIdMessage::from(*through).encode_to_vec().as_slice())?;
                }
                Change::Vote(vote) => {
                    facts.insert("vote", VoteMessage::from(*vote).encode_to_vec().as_slice())?;
                }
            }
        }
    }
    transaction.commit()?;
    Ok(())
}

fn prepare(database: &Database, facts: &Facts) -> Result<(), StorageError> {
    let transaction = database.begin_write()?;
    transaction.open_table(ENTRIES)?;
    transaction.open_table(NUMBERS)?.insert("format", FORMAT)?;
    {
        let mut table = transaction.open_table(FACTS)?;
        table.insert("identity", facts.identity.encode_to_vec().as_slice())?;
        if let Some(purged) = facts.purged {
            table.insert("purged", LogIdMessage::from(purged).encode_to_vec().as_slice())?;
        }
        if let Some(vote) = facts.vote {
            table.insert("vote", VoteMessage::from(vote).encode_to_vec().as_slice())?;
        }
    }
    transaction.commit()?;
    Ok(())
}

pub(in crate::store) fn refused(path: &Path, error: redb::DatabaseError) -> OpenError {
    let path = path.to_owned();
    match error {
        redb::DatabaseError::DatabaseAlreadyOpen => OpenError::Locked { lock: path, holder: String::new() },
        redb::DatabaseError::Storage(redb::StorageError::Corrupted(what)) => {
            OpenError::Damaged { path, what }
        }
        error @ (redb::DatabaseError::RepairAborted
        | redb::DatabaseError::UpgradeRequired(_)
        | redb::DatabaseError::TransactionInProgress
        | redb::DatabaseError::Storage(_)
        | _) => OpenError::Database { path, source: error.into() },
    }
}

/// The format of the store in `database`.
pub(in crate::store) fn format_of(database: &Database, path: &Path) -> Result<u64, OpenError> {
    let fail = |source: StorageError| OpenError::Database { path: path.to_owned(), source };
    let transaction = database.begin_read().map_err(|e| fail(e.into()))?;
    let numbers = transaction.open_table(NUMBERS).map_err(|e| fail(e.into()))?;
    let format = numbers.get("format").map_err(|e| fail(e.into()))?.map(|value| value.value());
    let missing = || OpenError::Damaged { path: path.to_owned(), what: "it has no format".into() };
    format.ok_or_else(missing)
}

/// All of the file. The format is looked at before anything else.
fn read(database: &Database, path: &Path) -> Result<(Facts, Vec<Entry>), OpenError> {
    let found = format_of(database, path)?;
    if found > FORMAT {
        return Err(OpenError::Newer { path: path.to_owned(), found });
    }
    let fail = |source: StorageError| OpenError::Database { path: path.to_owned(), source };
    let damaged = |what: String| OpenError::Damaged { path: path.to_owned(), what };
    let transaction = database.begin_read().map_err(|e| fail(e.into()))?;
    let table = transaction.open_table(FACTS).map_err(|e| fail(e.into()))?;
    let fact = |name: &str| {
        let value = table.get(name).map_err(|e| fail(e.into()))?;
        Ok::<_, OpenError>(value.map(|value| Bytes::copy_from_slice(value.value())))
    };
    let undecoded = |error: wire::WireError| damaged(crate::chain(&error));
    let identity = fact("identity")?.ok_or_else(|| damaged("it says not whose it is".into()))?;
    let vote = fact("vote")?.map(|bytes| wire::decode::<VoteMessage>("the vote", bytes));
    let purged = fact("purged")?.map(|bytes| wire::decode::<LogIdMessage>("the log's start", bytes));
    let facts = Facts {
        identity: wire::decode("the identity", identity).map_err(undecoded)?,
        vote: vote.transpose().map_err(undecoded)?.map(Into::into),
        purged: purged.transpose().map_err(undecoded)?.map(Into::into),
    };
    let table = transaction.open_table(ENTRIES).map_err(|e| fail(e.into()))?;
    let mut entries = Vec::new();
    let mut next = None;
    for entry in table.iter().map_err(|e| fail(e.into()))? {
        let (index, value) = entry.map_err(|e| fail(e.into()))?;
        let index = index.value();
        if next.is_some_and(|next| next != index) {
            return Err(damaged(format!("entry {index} follows a gap")));
        }
        next = Some(index + 1);
        entries.push(unsealed(index, value.value()).map_err(damaged)?);
    }
    Ok((facts, entries))
}

/// `bytes` behind their checksum. redb's own are looked at only when it repairs.
fn sealed(bytes: &[u8]) -> Vec<u8> {
    let mut value = Vec::with_capacity(8 + bytes.len());
    value.extend_from_slice(&checksum(bytes).to_le_bytes());
    value.extend_from_slice(bytes);
    value
}

fn unsealed(index: u64, value: &[u8]) -> Result<Entry, String> {
    let (sum, bytes) = value.split_first_chunk().ok_or_else(|| format!("entry {index} is cut short"))?;
    if u64::from_le_bytes(*sum) != checksum(bytes) {
        return Err(format!("entry {index} fails its checksum"));
    }
    let message: EntryMessage =
        wire::decode("an entry", Bytes::copy_from_slice(bytes)).map_err(|error| error.to_string())?;
    let entry = Entry::try_from(message).map_err(|error| error.to_string())?;
    if entry.log_id.index != index {
        return Err(format!("entry {index} says to be {}", entry.log_id.index));
    }
    Ok(entry)
}

/// FNV-1a over words of 8 bytes: finds damage, not malice.
pub(in crate::store) fn checksum(bytes: &[u8]) -> u64 {
    const PRIME: u64 = 0x0100_0000_01b3;
    let step = |hash: u64, word: u64| (hash ^ word).wrapping_mul(PRIME).rotate_left(23);
    let (words, rest) = bytes.as_chunks::<8>();
    let hash = words.iter().fold(0xcbf2_9ce4_8422_2325, |hash, word| step(hash, u64::from_le_bytes(*word)));
    let hash = rest.iter().fold(hash, |hash, byte| step(hash, u64::from(*byte)));
    step(hash, bytes.len() as u64)
}
