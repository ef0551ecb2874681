//! The store's file: one redb database, locked, with a checksum on every object.

use super::apply::Decided;
use super::{State, StorageError};
use manifests::{Kind, Object, ObjectKey};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use std::collections::HashSet;
use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write as _};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Grows when an older program could no longer read what is written.
const FORMAT: u64 = 1;
/// Pages that redb keeps in memory. Objects are read once, at the start.
const CACHE_BYTES: usize = 2 << 20;

/// `Kind/namespace/name` to a checksum of 8 bytes and the object's JSON.
const OBJECTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("objects");
const NUMBERS: TableDefinition<'_, &str, u64> = TableDefinition::new("numbers");

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
    /// No thread for the writer.
    #[error("cannot start the store's thread")]
    Thread(#[source] io::Error),
}

fn held_by(holder: &str) -> String {
    if holder.is_empty() { String::new() } else { format!(" by process {holder}") }
}

/// The open file.
pub(super) struct Disk {
    /// None after a failure, until it is opened again.
    database: Option<Database>,
    path: PathBuf,
    opener: Opener,
    /// Held for as long as the database is open; declared after it, so freed after it.
    _lock: File,
}

/// Opens the database of a path. A test puts a disk that fails behind it.
pub(super) type Opener = Box<dyn Fn(&Path) -> Result<Database, redb::DatabaseError> + Send>;

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Disk").field("path", &self.path).finish_non_exhaustive()
    }
}

fn open_file(path: &Path) -> Result<Database, redb::DatabaseError> {
    redb::Builder::new().set_cache_size(CACHE_BYTES).open(path)
}

impl Disk {
    /// Opens or makes the store in `dir` and reads all of it.
    pub(super) fn open(dir: &Path) -> Result<(Self, State), OpenError> {
        Self::open_with(dir, Box::new(open_file))
    }

    /// As [`Disk::open`], with another way to open the file.
    pub(super) fn open_with(dir: &Path, opener: Opener) -> Result<(Self, State), OpenError> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(io_error("make", dir))?;
        let lock = lock(&dir.join("store.lock"))?;
        let path = dir.join("store.redb");
        if !path.try_exists().map_err(io_error("look for", &path))? {
            create(dir, &path)?;
        }
        // redb takes an empty file for a new database. Ours never is one: it gets its
        // name only when it is complete.
        let length = fs::metadata(&path).map_err(io_error("look at", &path))?.len();
        if length == 0 {
            return Err(OpenError::Damaged { path, what: "it is empty".into() });
        }
        // redb asserts what it reads: a damaged page can be a panic instead of an error.
        let opened = std::panic::catch_unwind(AssertUnwindSafe(|| {
            let database = opener(&path).map_err(|error| refused(&path, error))?;
            let state = load(&database, &path)?;
            Ok((database, state))
        }));
        let damaged = || OpenError::Damaged { path: path.clone(), what: "its pages contradict".into() };
        let (database, state) = opened.unwrap_or_else(|_| Err(damaged()))?;
        Ok((Self { database: Some(database), path, opener, _lock: lock }, state))
    }

    /// Makes `changes` durable, with `revision` as the newest resource version.
    ///
    /// # Errors
    /// If the disk fails. Whether the changes are there is then to be asked of
    /// [`Disk::recover`], before any further commit.
    pub(super) fn commit(&mut self, changes: &[Decided], revision: u64) -> Result<(), StorageError> {
        let Some(database) = &self.database else { return Err(redb::Error::DatabaseClosed.into()) };
        let result = commit(database, changes, revision);
        if result.is_err() {
            // redb takes no more after a failure of its file.
            self.database = None;
        }
        result
    }

    /// Opens the file again after a failed commit. Answers with the newest
    /// revision in it, which tells whether that commit is there.
    pub(super) fn recover(&mut self) -> Result<u64, StorageError> {
        let database = (self.opener)(&self.path)?;
        let revision =
            database.begin_read()?.open_table(NUMBERS)?.get("revision")?.map(|value| value.value());
        self.database = Some(database);
        Ok(revision.unwrap_or_default())
    }
}

fn commit(database: &Database, changes: &[Decided], revision: u64) -> Result<(), StorageError> {
    let mut transaction = database.begin_write()?;
    // Two-phase, and no scan of the whole file after a crash.
    transaction.set_quick_repair(true);
    {
        let mut objects = transaction.open_table(OBJECTS)?;
        // Of several versions of one object only the last is to stay.
        let mut seen = HashSet::with_capacity(changes.len());
        for change in changes.iter().rev().filter(|change| seen.insert(&change.key)) {
            let key = name_of(&change.key);
            match &change.json {
                Some(json) => drop(objects.insert(key.as_str(), sealed(json).as_slice())?),
                None => drop(objects.remove(key.as_str())?),
            }
        }
        transaction.open_table(NUMBERS)?.insert("revision", revision)?;
    }
    transaction.commit()?;
    Ok(())
}

fn io_error<'a>(what: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> OpenError + 'a {
    move |source| OpenError::Io { what, path: path.to_owned(), source }
}

/// Takes the lock, and says in its file who has it.
fn lock(path: &Path) -> Result<File, OpenError> {
    let mut options = OpenOptions::new();
    let mut file = options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(io_error("open", path))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            // Only for the message: without it the error is as true.
            drop(file.read_to_string(&mut holder));
            return Err(OpenError::Locked { lock: path.to_owned(), holder: holder.trim().into() });
        }
        Err(TryLockError::Error(source)) => return Err(io_error("lock", path)(source)),
    }
    let write = |file: &mut File| {
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{}", std::process::id())
    };
    write(&mut file).map_err(io_error("write", path))?;
    Ok(file)
}

/// Makes an empty store under another name, and gives it its own once it is whole.
fn create(dir: &Path, path: &Path) -> Result<(), OpenError> {
    let fresh = dir.join("store.redb.new");
    let mut options = OpenOptions::new();
    let file = options
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&fresh)
        .map_err(io_error("make", &fresh))?;
    let database = redb::Builder::new().set_cache_size(CACHE_BYTES).create_file(file);
    let database = database.map_err(|error| refused(&fresh, error))?;
    prepare(&database).map_err(|source| OpenError::Database { path: fresh.clone(), source })?;
    drop(database);
    fs::rename(&fresh, path).map_err(io_error("rename", &fresh))?;
    let sync =
        |path: &Path| File::open(path).and_then(|file| file.sync_all()).map_err(io_error("sync", path));
    sync(path)?;
    sync(dir)
}

fn prepare(database: &Database) -> Result<(), StorageError> {
    let transaction = database.begin_write()?;
    transaction.open_table(OBJECTS)?;
    {
        let mut numbers = transaction.open_table(NUMBERS)?;
        numbers.insert("format", FORMAT)?;
        numbers.insert("revision", 0)?;
    }
    transaction.commit()?;
    Ok(())
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

/// Every object of the file. The format is looked at before anything else.
fn load(database: &Database, path: &Path) -> Result<State, OpenError> {
    let fail = |source: StorageError| OpenError::Database { path: path.to_owned(), source };
    let damaged = |what: String| OpenError::Damaged { path: path.to_owned(), what };
    let transaction = database.begin_read().map_err(|e| fail(e.into()))?;
    let numbers = transaction.open_table(NUMBERS).map_err(|e| fail(e.into()))?;
    let number = |name: &str| {
        let value = numbers.get(name).map_err(|e| fail(e.into()))?;
        value.map(|value| value.value()).ok_or_else(|| damaged(format!("it has no {name}")))
    };
    let found = number("format")?;
    if found > FORMAT {
        return Err(OpenError::Newer { path: path.to_owned(), found });
    }
    let revision = number("revision")?;
    let objects = transaction.open_table(OBJECTS).map_err(|e| fail(e.into()))?;
    let mut state = State::default();
    for entry in objects.iter().map_err(|e| fail(e.into()))? {
        let (name, value) = entry.map_err(|e| fail(e.into()))?;
        let object = unsealed(name.value(), value.value()).map_err(damaged)?;
        state.insert(Arc::new(object), revision);
    }
    state.restart_at(revision);
    Ok(state)
}

fn name_of(key: &ObjectKey) -> String {
    format!("{}/{}/{}", key.kind, key.namespace, key.name)
}

/// `json` behind its checksum. redb's own are looked at only when it repairs.
fn sealed(json: &[u8]) -> Vec<u8> {
    let mut value = Vec::with_capacity(8 + json.len());
    value.extend_from_slice(&checksum(json).to_le_bytes());
    value.extend_from_slice(json);
    value
}

fn unsealed(name: &str, value: &[u8]) -> Result<Object, String> {
    let (sum, json) = value.split_first_chunk().ok_or_else(|| format!("{name} is cut short"))?;
    if u64::from_le_bytes(*sum) != checksum(json) {
        return Err(format!("{name} fails its checksum"));
    }
    let word = name.split('/').next().unwrap_or_default();
    let kind = Kind::ALL.into_iter().find(|kind| kind.as_str() == word);
    let kind = kind.ok_or_else(|| format!("{name} is of no known kind"))?;
    let object = Object::from_json_bytes(kind, json).map_err(|error| format!("{name}: {error}"))?;
    if name_of(&object.key()) != name {
        return Err(format!("{name} holds {}", object.key()));
    }
    Ok(object)
}

/// FNV-1a over words of 8 bytes: finds damage, not malice.
fn checksum(bytes: &[u8]) -> u64 {
    const PRIME: u64 = 0x0100_0000_01b3;
    let step = |hash: u64, word: u64| (hash ^ word).wrapping_mul(PRIME).rotate_left(23);
    let (words, rest) = bytes.as_chunks::<8>();
    let hash = words.iter().fold(0xcbf2_9ce4_8422_2325, |hash, word| step(hash, u64::from_le_bytes(*word)));
    let hash = rest.iter().fold(hash, |hash, byte| step(hash, u64::from(*byte)));
    step(hash, bytes.len() as u64)
}
