//! `store.redb`: the log of the formats before the journal, and since then the mark of a store.
//!
//! The mark says the format and whose store it is. It is a redb database still, because programs
//! of before look for one: they refuse it by its number instead of beginning a store of their own.

use super::checksum::checksum;
use super::facts::{Facts, Identity};
use crate::store::files::{Files, How};
use crate::store::raft::Entry;
use crate::store::wire::{self, EntryMessage, LogIdMessage, VoteMessage};
use crate::store::{OpenError, StorageError};
use bytes::Bytes;
use prost::Message as _;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use std::panic::AssertUnwindSafe;
use std::path::Path;

/// Grows when an older program could no longer read what is written. 1 was a table of objects, 2
/// a table of the log's entries.
pub(in crate::store) const FORMAT: u64 = 3;

/// Index to a checksum of 8 bytes and the entry.
const ENTRIES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("entries");
const FACTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("facts");
const NUMBERS: TableDefinition<'_, &str, u64> = TableDefinition::new("numbers");

/// What `read` makes of the database at `path`.
///
/// # Errors
/// Those of `read`; and if it is none, or damaged.
pub(in crate::store) fn with_database<T>(
    files: &dyn Files,
    path: &Path,
    read: impl FnOnce(&Database) -> Result<T, OpenError>,
) -> Result<T, OpenError> {
    // redb asserts what it reads: a damaged page can be a panic instead of an error.
    let looked = std::panic::catch_unwind(AssertUnwindSafe(|| {
        let database = files.database(path, How::Existing).map_err(|error| refused(path, error))?;
        read(&database)
    }));
    let what = "its pages contradict".to_owned();
    looked.unwrap_or_else(|_| Err(OpenError::Damaged { path: path.to_owned(), what }))
}

/// `path` is the mark of a store of today's format after, and synced under this name.
pub(super) fn mark(files: &dyn Files, path: &Path, identity: &Identity) -> Result<(), OpenError> {
    let database = files.database(path, How::Fresh).map_err(|error| refused(path, error))?;
    let write = || -> Result<(), StorageError> {
        let transaction = database.begin_write()?;
        transaction.open_table(NUMBERS)?.insert("format", FORMAT)?;
        transaction.open_table(FACTS)?.insert("identity", identity.encode_to_vec().as_slice())?;
        transaction.commit()?;
        Ok(())
    };
    write().map_err(|source| OpenError::Database { path: path.to_owned(), source })?;
    drop(database);
    let sync = || files.open(path, How::Existing)?.sync();
    sync().map_err(crate::store::open_error::io_error("sync", path))
}

fn refused(path: &Path, error: redb::DatabaseError) -> OpenError {
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

/// The format of the store in `database`, which this program can read.
pub(in crate::store) fn format_of(database: &Database, path: &Path) -> Result<u64, OpenError> {
    let fail = |source: StorageError| OpenError::Database { path: path.to_owned(), source };
    let transaction = database.begin_read().map_err(|e| fail(e.into()))?;
    let numbers = transaction.open_table(NUMBERS).map_err(|e| fail(e.into()))?;
    let format = numbers.get("format").map_err(|e| fail(e.into()))?.map(|value| value.value());
    match format {
        None => Err(OpenError::Damaged { path: path.to_owned(), what: "it has no format".into() }),
        Some(found) if found > FORMAT => Err(OpenError::Newer { path: path.to_owned(), found }),
        Some(format) => Ok(format),
    }
}

/// Whose store it is, and what else a log of format 2 says of itself.
pub(in crate::store) fn facts_of(database: &Database, path: &Path) -> Result<Facts, OpenError> {
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
    Ok(Facts {
        identity: wire::decode("the identity", identity).map_err(undecoded)?,
        vote: vote.transpose().map_err(undecoded)?.map(Into::into),
        purged: purged.transpose().map_err(undecoded)?.map(Into::into),
    })
}

/// The entries of a log of format 2: bytes by index, without a gap.
pub(in crate::store) fn entries_of(
    database: &Database,
    path: &Path,
) -> Result<Vec<(u64, Vec<u8>)>, OpenError> {
    let fail = |source: StorageError| OpenError::Database { path: path.to_owned(), source };
    let damaged = |what: String| OpenError::Damaged { path: path.to_owned(), what };
    let transaction = database.begin_read().map_err(|e| fail(e.into()))?;
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
        unsealed(index, value.value()).map_err(damaged)?;
        entries.push((index, value.value()[8..].to_vec()));
    }
    Ok(entries)
}

/// `bytes` behind their checksum.
pub(super) fn sealed(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&checksum(bytes).to_le_bytes());
    out.extend_from_slice(bytes);
}

pub(super) fn unsealed(index: u64, value: &[u8]) -> Result<Entry, String> {
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
