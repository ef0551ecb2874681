//! The log as openraft wants it: the newest entries in memory, all of them on disk.
//!
//! A thread of its own does what waits for the disk, so that peers hear from a member whose
//! disk is slow. It takes everything that waits into one commit. A disk that refuses is asked
//! again until it takes what it was given: the member stands still meanwhile, and says why.

mod checksum;
mod facts;
mod flusher;
mod folder;
mod former;
mod hint;
mod journal;
mod lock;
mod suspicion;

pub(super) use checksum::checksum;
pub(super) use facts::{Facts, Identity};
pub(super) use flusher::Flushing;
pub(super) use folder::Folder;
pub(super) use former::{FORMAT, entries_of, facts_of, format_of, with_database};
pub(super) use hint::Hint;
pub(super) use journal::Journal;

use super::patience::patiently;
use super::raft::{Config, Entry, LogId, StorageError, Vote};
use super::wire::EntryMessage;
use facts::Change;
use flusher::{Done, Flusher};
use openraft::storage::{LogFlushed, LogState, RaftLogStorage};
use openraft::{AnyError, OptionalSend, RaftLogReader, StorageIOError};
use prost::Message as _;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, Range, RangeBounds};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{oneshot, watch};

/// Entries in memory, in bytes, beyond which the oldest are only on disk.
const TAIL_BYTES: usize = 2 << 20;
/// What one message to a peer carries at most, but for a single entry that is longer.
const MESSAGE_BYTES: usize = 1 << 20;

/// The log of one member. Clones are the same log.
#[derive(Debug, Clone)]
pub(super) struct LogStore {
    shared: Arc<Shared>,
    flusher: Arc<Flusher>,
}

#[derive(Debug)]
struct Shared {
    tail: Mutex<Tail>,
    journal: Journal,
    hint: Hint,
}

/// What is known without a look at the disk.
#[derive(Debug)]
struct Tail {
    /// The newest entries, with their sizes in bytes; nothing between them is missing.
    entries: BTreeMap<u64, (Entry, usize)>,
    entries_bytes: usize,
    /// Bytes of all entries that were there at the start, or were added since.
    added_bytes: u64,
    purged: Option<LogId>,
    last: Option<LogId>,
    vote: Option<Vote>,
    committed: Option<LogId>,
}

impl LogStore {
    /// The log in `journal`, which holds `facts` and ends with `entries`, and was committed through
    /// `committed` at least.
    pub(super) fn new(
        journal: Journal,
        facts: Facts,
        entries: Vec<Entry>,
        (hint, committed): (Hint, Option<LogId>),
        is_threaded: bool,
    ) -> io::Result<Self> {
        let last = entries.last().map(|entry| entry.log_id).or(facts.purged);
        let committed = committed.filter(|id| Some(*id) <= last);
        let mut tail = Tail {
            entries: BTreeMap::new(),
            entries_bytes: 0,
            added_bytes: 0,
            purged: facts.purged,
            last,
            // openraft would take a leader that comes back for the leader still, and let it answer
            // reads by what it knows to be committed: the hint, which a power cut makes old. So it
            // has to be elected anew, for which all that is committed is committed again.
            vote: facts.vote.map(|vote| Vote::new(vote.leader_id.term, vote.leader_id.node_id)),
            committed,
        };
        for entry in entries {
            let size = EntryMessage::from(&entry).encoded_len();
            tail.push(entry, size);
        }
        tail.added_bytes = journal.size_bytes();
        let shared = Shared { tail: Mutex::new(tail), journal: journal.clone(), hint };
        let flusher = Flusher::start(journal, is_threaded)?;
        Ok(Self { shared: Arc::new(shared), flusher: Arc::new(flusher) })
    }

    fn tail(&self) -> MutexGuard<'_, Tail> {
        // Changed by whole steps that cannot panic.
        self.shared.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How the disk does.
    pub(super) fn flushing(&self) -> watch::Receiver<Flushing> {
        self.flusher.watch()
    }

    /// A disk that refuses is no longer asked again: the store is closing.
    pub(super) fn give_up(&self) {
        self.flusher.give_up();
    }

    /// Bytes of all entries that were there at the start, or were added since.
    pub(super) fn added_bytes(&self) -> u64 {
        self.tail().added_bytes
    }

    /// The last entry's place, for who asks for a vote.
    pub(super) fn last(&self) -> Option<LogId> {
        self.tail().last
    }

    /// `changes` are on disk after.
    async fn flush(&self, changes: Vec<Change>) -> Result<(), StorageError> {
        let (done, flushed) = oneshot::channel();
        self.flusher.submit(changes, Done::Waiter(done));
        flushed
            .await
            .unwrap_or_else(|_| Err(io::Error::other("the store is closed")))
            .map_err(|e| write_error(&e))
    }

    /// As [`Self::read`]; what the disk refuses is asked for again for a while, for openraft ends
    /// when it cannot read.
    async fn read_patiently(&self, range: Range<u64>) -> Result<Vec<Entry>, StorageError> {
        patiently(|| self.read(range.clone())).await.map_err(|e| read_error(&e))
    }

    fn read(&self, range: Range<u64>) -> Result<Vec<Entry>, super::StorageError> {
        let stored = {
            let tail = self.tail();
            let first = tail.entries.first_key_value().map_or(u64::MAX, |(index, _)| *index);
            if first <= range.start {
                return Ok(tail.within(range));
            }
            range.start..range.end.min(first)
        };
        let next = stored.end;
        let stored = self.shared.journal.entries(stored, MESSAGE_BYTES);
        let (mut entries, is_all) = stored?;
        if is_all && next < range.end {
            entries.extend(self.tail().within(next..range.end));
        }
        Ok(entries)
    }
}

impl Tail {
    fn push(&mut self, entry: Entry, size: usize) {
        self.last = Some(entry.log_id);
        self.entries_bytes += size;
        self.added_bytes += size as u64;
        self.entries.insert(entry.log_id.index, (entry, size));
    }

    /// The oldest entries are forgotten, down to the budget; they are on disk.
    fn trim(&mut self) {
        while self.entries_bytes > TAIL_BYTES
            && self.entries.len() > 1
            && let Some((_, (_, size))) = self.entries.pop_first()
        {
            self.entries_bytes -= size;
        }
    }

    fn within(&self, range: Range<u64>) -> Vec<Entry> {
        if range.is_empty() {
            return Vec::new();
        }
        self.entries.range(range).map(|(_, (entry, _))| entry.clone()).collect()
    }

    fn forget(&mut self, gone: impl Fn(u64) -> bool) {
        let entries_bytes = &mut self.entries_bytes;
        self.entries.retain(|index, (_, size)| {
            let keep = !gone(*index);
            if !keep {
                *entries_bytes -= *size;
            }
            keep
        });
    }
}

/// The indexes of `bounds`, as openraft gives them.
fn indexes(bounds: &impl RangeBounds<u64>) -> Range<u64> {
    let start = match bounds.start_bound() {
        Bound::Included(start) => *start,
        Bound::Excluded(before) => before + 1,
        Bound::Unbounded => 0,
    };
    let end = match bounds.end_bound() {
        Bound::Included(last) => last + 1,
        Bound::Excluded(end) => *end,
        Bound::Unbounded => u64::MAX,
    };
    start..end
}

fn read_error(error: &(impl std::error::Error + 'static)) -> StorageError {
    StorageIOError::read_logs(AnyError::error(crate::chain(error))).into()
}

fn write_error(error: &(impl std::error::Error + 'static)) -> StorageError {
    StorageIOError::write_logs(AnyError::error(crate::chain(error))).into()
}

impl RaftLogReader<Config> for LogStore {
    async fn try_get_log_entries<RB>(&mut self, range: RB) -> Result<Vec<Entry>, StorageError>
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let mut range = indexes(&range);
        let mut entries = Vec::new();
        // The disk gives a part at a time.
        while !range.is_empty() {
            let part = self.read_patiently(range.clone()).await?;
            let Some(last) = part.last() else { break };
            range.start = last.log_id.index + 1;
            entries.extend(part);
        }
        Ok(entries)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, StorageError> {
        let mut entries = self.read_patiently(start..end).await?;
        let mut bytes = 0;
        let fits = entries.iter().take_while(|entry| {
            bytes += EntryMessage::from(*entry).encoded_len();
            bytes <= MESSAGE_BYTES
        });
        let count = fits.count().max(1);
        entries.truncate(count);
        Ok(entries)
    }
}

impl RaftLogStorage<Config> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Config>, StorageError> {
        let tail = self.tail();
        Ok(LogState { last_purged_log_id: tail.purged, last_log_id: tail.last })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), StorageError> {
        self.flush(vec![Change::Vote(*vote)]).await?;
        self.tail().vote = Some(*vote);
        Ok(())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, StorageError> {
        Ok(self.tail().vote)
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), StorageError> {
        if let Some(committed) = committed {
            self.shared.hint.write(committed);
        }
        self.tail().committed = committed;
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, StorageError> {
        Ok(self.tail().committed)
    }

    async fn append<I>(&mut self, entries: I, callback: LogFlushed<Config>) -> Result<(), StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut changes = Vec::new();
        {
            let mut tail = self.tail();
            // What came before is on disk: openraft appends one group after the other.
            tail.trim();
            for entry in entries {
                let bytes = EntryMessage::from(&entry).encode_to_vec();
                let (index, size) = (entry.log_id.index, bytes.len());
                tail.push(entry, size);
                changes.push(Change::Append(index, bytes));
            }
        }
        self.flusher.submit(changes, Done::Append(callback));
        Ok(())
    }

    async fn truncate(&mut self, from: LogId) -> Result<(), StorageError> {
        self.flush(vec![Change::Truncate(from.index)]).await?;
        let before = match from.index.checked_sub(1) {
            Some(before) => self.try_get_log_entries(before..from.index).await?.pop(),
            None => None,
        };
        let mut tail = self.tail();
        tail.forget(|index| index >= from.index);
        tail.last = before.map(|entry| entry.log_id).or(tail.purged);
        Ok(())
    }

    async fn purge(&mut self, through: LogId) -> Result<(), StorageError> {
        self.flush(vec![Change::Purge(through)]).await?;
        let mut tail = self.tail();
        tail.forget(|index| index <= through.index);
        tail.purged = Some(through);
        tail.last = tail.last.max(Some(through));
        Ok(())
    }
}
