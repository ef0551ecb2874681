//! Snapshots: every object at one place of the log, in a file of its own.
//!
//! A file is a head, the objects one by one, and a checksum over all of it. It gets its name
//! when it is whole and on disk; a file without a name is of no account.

use super::files::{Cursor, Files, How, OpenFile};
use super::raft::{LogId, StoredMembership};
use super::state::State;
use super::wire::{LogIdMessage, StoredMembershipMessage, WireError};
use bytes::Bytes;
use manifests::{Kind, Object};
use prost::Message;
use sha2::{Digest as _, Sha256};
use std::io::{self, BufReader, BufWriter, Read, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncSeek, AsyncWrite, ReadBuf};

/// Grows when an older program could no longer read what is written.
pub(super) const VERSION: u32 = 1;
const MAGIC: &[u8; 8] = b"KEELSNAP";
/// A message that says to be longer than this is damage.
const LONGEST: usize = 64 << 20;
const BUFFER: usize = 256 << 10;

/// What a snapshot says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) last: Option<LogId>,
    pub(super) membership: StoredMembership,
}

#[derive(Clone, PartialEq, Eq, Message)]
struct HeadMessage {
    #[prost(uint32, tag = "1")]
    version: u32,
    #[prost(message, optional, tag = "2")]
    last: Option<LogIdMessage>,
    #[prost(message, optional, tag = "3")]
    membership: Option<StoredMembershipMessage>,
    #[prost(uint64, tag = "4")]
    revision: u64,
    #[prost(uint64, tag = "5")]
    objects: u64,
}

#[derive(Clone, PartialEq, Eq, Message)]
struct ObjectMessage {
    #[prost(string, tag = "1")]
    kind: String,
    #[prost(bytes = "bytes", tag = "2")]
    json: Bytes,
}

/// A snapshot that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum SnapshotError {
    #[error("cannot {what} {}", .path.display())]
    Io {
        what: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} is damaged: {what}", .path.display())]
    Damaged { path: PathBuf, what: String },
    #[error("{} has format {found}; this version of keel reads up to {VERSION}", .path.display())]
    Newer { path: PathBuf, found: u32 },
}

/// The folder of the snapshots.
#[derive(Debug, Clone)]
pub(super) struct Snapshots {
    files: Arc<dyn Files>,
    folder: PathBuf,
    /// Long work gets a thread of its own; not in a simulation, in which there are none.
    is_threaded: bool,
}

impl Snapshots {
    /// The snapshots in `folder`, which is made; what was not finished is removed.
    pub(super) fn open(
        files: Arc<dyn Files>,
        folder: PathBuf,
        is_threaded: bool,
    ) -> Result<Self, SnapshotError> {
        files.make_folder(&folder).map_err(io_error("make", &folder))?;
        let this = Self { files, folder, is_threaded };
        for path in this.list("part")? {
            this.files.remove(&path).map_err(io_error("remove", &path))?;
        }
        Ok(this)
    }

    /// What `work` makes, without holding up other tasks.
    pub(super) async fn long<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, SnapshotError> + Send + 'static,
    ) -> Result<T, SnapshotError> {
        if !self.is_threaded {
            return work(self);
        }
        let (snapshots, folder) = (self.clone(), self.folder.clone());
        let ended = tokio::task::spawn_blocking(move || work(&snapshots)).await;
        // A panic of the work, or the end of the program.
        ended.unwrap_or_else(|error| Err(io_error("finish in", &folder)(io::Error::other(error))))
    }

    /// Writes `state` as it is after `head`; the file is durable under its name after.
    pub(super) fn write(&self, head: &Head, state: &State) -> Result<PathBuf, SnapshotError> {
        let part = self.folder.join("built.part");
        let file = self.files.open(&part, How::Fresh).map_err(io_error("make", &part))?;
        write_all(&*file, head, state).map_err(io_error("write", &part))?;
        file.sync().map_err(io_error("sync", &part))?;
        self.name(&part, head)
    }

    /// Gives the whole file `part` its name, and removes those of older snapshots.
    fn name(&self, part: &Path, head: &Head) -> Result<PathBuf, SnapshotError> {
        let path = self.folder.join(name_of(head));
        self.files.rename(part, &path).map_err(io_error("rename", part))?;
        self.files.sync_folder(&self.folder).map_err(io_error("sync", &self.folder))?;
        for old in self.list("snapshot")?.into_iter().filter(|old| *old != path) {
            // The next snapshot tries again.
            drop(self.files.remove(&old));
        }
        Ok(path)
    }

    /// The newest snapshot, if there is one: its head and all its objects.
    pub(super) fn load(&self) -> Result<Option<(Head, State)>, SnapshotError> {
        self.newest()?.map(|path| read_all(&*self.reopen(&path)?, &path)).transpose()
    }

    /// The newest snapshot's file and head.
    pub(super) fn current(&self) -> Result<Option<(Head, SnapshotFile)>, SnapshotError> {
        let Some(path) = self.newest()? else { return Ok(None) };
        let file = self.reopen(&path)?;
        let (head, _) = Reader::new(&*file, &path).head()?;
        Ok(Some((head, SnapshotFile { files: Arc::clone(&self.files), file: Some(file), path, at: 0 })))
    }

    /// The size in bytes of the newest snapshot; 0 if there is none.
    pub(super) fn size_bytes(&self) -> u64 {
        let newest = self.newest().ok().flatten();
        newest.and_then(|path| self.files.len(&path).ok().flatten()).unwrap_or_default()
    }

    /// A file for a snapshot that a peer sends.
    pub(super) fn receive(&self) -> SnapshotFile {
        let path = self.folder.join("received.part");
        SnapshotFile { files: Arc::clone(&self.files), file: None, path, at: 0 }
    }

    /// All of a received file.
    pub(super) fn read(&self, received: SnapshotFile) -> Result<(SnapshotFile, Head, State), SnapshotError> {
        let file = received.file.as_deref();
        let missing = || self.damaged(&received.path, "nothing of it came");
        let (head, state) = read_all(file.ok_or_else(missing)?, &received.path)?;
        Ok((received, head, state))
    }

    /// Makes a received file durable, and gives it its name.
    pub(super) fn keep(&self, received: SnapshotFile, head: &Head) -> Result<(), SnapshotError> {
        let SnapshotFile { file, path, .. } = received;
        let missing = || self.damaged(&path, "nothing of it came");
        file.ok_or_else(missing)?.sync().map_err(io_error("sync", &path))?;
        self.name(&path, head).map(drop)
    }

    fn damaged(&self, path: &Path, what: &str) -> SnapshotError {
        SnapshotError::Damaged { path: path.to_owned(), what: what.into() }
    }

    fn newest(&self) -> Result<Option<PathBuf>, SnapshotError> {
        // Names sort by their place in the log.
        Ok(self.list("snapshot")?.into_iter().max())
    }

    fn reopen(&self, path: &Path) -> Result<Box<dyn OpenFile>, SnapshotError> {
        self.files.open(path, How::Existing).map_err(io_error("open", path))
    }

    fn list(&self, extension: &str) -> Result<Vec<PathBuf>, SnapshotError> {
        let mut paths = self.files.list(&self.folder).map_err(io_error("list", &self.folder))?;
        paths.retain(|path| path.extension().is_some_and(|found| found == extension));
        Ok(paths)
    }
}

/// The objects of the snapshot that is the file `path`.
pub(super) fn read_file(path: &Path) -> Result<State, SnapshotError> {
    let file = std::fs::File::open(path).map_err(io_error("open", path))?;
    read_all(&file, path).map(|(_, state)| state)
}

/// # Errors
/// If `beginning`, the first bytes of a snapshot, says that the rest is for a newer version.
pub(super) fn readable(beginning: &[u8]) -> Result<(), WireError> {
    let head = beginning.strip_prefix(MAGIC).and_then(|rest| HeadMessage::decode_length_delimited(rest).ok());
    match head {
        Some(head) if head.version > VERSION => {
            Err(WireError::Newer { what: "a snapshot", found: head.version, known: VERSION })
        }
        // What it is otherwise is seen when all of it is there.
        Some(_) | None => Ok(()),
    }
}

fn name_of(head: &Head) -> String {
    let (term, node, index) =
        head.last.map_or((0, 0, 0), |last| (last.leader_id.term, last.leader_id.node_id, last.index));
    format!("{index:020}-{term}-{node}.snapshot")
}

fn io_error<'a>(what: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> SnapshotError + 'a {
    move |source| SnapshotError::Io { what, path: path.to_owned(), source }
}

fn write_all(file: &dyn OpenFile, head: &Head, state: &State) -> io::Result<()> {
    let mut out = Hashing { inner: BufWriter::with_capacity(BUFFER, Cursor::new(file)), hash: Sha256::new() };
    out.write_all(MAGIC)?;
    let head = HeadMessage {
        version: VERSION,
        last: head.last.map(Into::into),
        membership: Some((&head.membership).into()),
        revision: state.revision(),
        objects: state.len() as u64,
    };
    out.write_all(&head.encode_length_delimited_to_vec())?;
    for (key, json) in state.texts() {
        let json = json?.into_owned().into();
        let message = ObjectMessage { kind: key.kind.as_str().into(), json };
        out.write_all(&message.encode_length_delimited_to_vec())?;
    }
    let Hashing { mut inner, hash } = out;
    inner.write_all(&hash.finalize())?;
    inner.flush()
}

fn read_all(file: &dyn OpenFile, path: &Path) -> Result<(Head, State), SnapshotError> {
    let mut reader = Reader::new(file, path);
    let (head, message) = reader.head()?;
    let mut state = State::default();
    for _ in 0..message.objects {
        let ObjectMessage { kind: word, json } = reader.message()?;
        let kind = Kind::ALL.into_iter().find(|kind| kind.as_str() == word);
        let kind = kind.ok_or_else(|| reader.damaged(format!("there is no kind {word:?}")))?;
        let object = Object::from_json_bytes(kind, &json);
        let object = object.map_err(|error| reader.damaged(format!("a {kind}: {error}")))?;
        state.insert_text(object, &json, message.revision);
    }
    state.restart_at(message.revision);
    reader.end()?;
    Ok((head, state))
}

/// Reads a file in order, and knows its checksum so far.
struct Reader<'f> {
    inner: BufReader<Cursor<'f>>,
    hash: Sha256,
    path: &'f Path,
}

impl<'f> Reader<'f> {
    fn new(file: &'f dyn OpenFile, path: &'f Path) -> Self {
        Self { inner: BufReader::with_capacity(BUFFER, Cursor::new(file)), hash: Sha256::new(), path }
    }

    fn damaged(&self, what: impl Into<String>) -> SnapshotError {
        SnapshotError::Damaged { path: self.path.to_owned(), what: what.into() }
    }

    fn take(&mut self, buffer: &mut [u8]) -> Result<(), SnapshotError> {
        self.inner.read_exact(buffer).map_err(|error| {
            if error.kind() == io::ErrorKind::UnexpectedEof {
                return self.damaged("it is cut short");
            }
            io_error("read", self.path)(error)
        })?;
        self.hash.update(&*buffer);
        Ok(())
    }

    fn head(&mut self) -> Result<(Head, HeadMessage), SnapshotError> {
        let mut magic = [0; MAGIC.len()];
        self.take(&mut magic)?;
        if magic != *MAGIC {
            return Err(self.damaged("it is no snapshot"));
        }
        let message: HeadMessage = self.message()?;
        if message.version > VERSION {
            return Err(SnapshotError::Newer { path: self.path.to_owned(), found: message.version });
        }
        let membership = message.membership.clone().unwrap_or_default().into();
        Ok((Head { last: message.last.map(Into::into), membership }, message))
    }

    fn message<M: Message + Default>(&mut self) -> Result<M, SnapshotError> {
        let (mut length, mut shift) = (0_usize, 0);
        loop {
            let mut byte = [0];
            self.take(&mut byte)?;
            length |= usize::from(byte[0] & 0x7f) << shift;
            shift += 7;
            if byte[0] & 0x80 == 0 {
                break;
            }
            if shift > 28 {
                return Err(self.damaged("a length makes no sense"));
            }
        }
        if length > LONGEST {
            return Err(self.damaged("a length makes no sense"));
        }
        let mut bytes = vec![0; length];
        self.take(&mut bytes)?;
        M::decode(Bytes::from(bytes)).map_err(|error| self.damaged(error.to_string()))
    }

    /// The checksum is right, and nothing follows.
    fn end(mut self) -> Result<(), SnapshotError> {
        let expected = self.hash.clone().finalize();
        let mut found = [0; 32];
        self.take(&mut found)?;
        if expected[..] != found {
            return Err(self.damaged("its checksum is wrong"));
        }
        match self.inner.read(&mut [0]) {
            Ok(0) => Ok(()),
            Ok(_) => Err(self.damaged("something follows its end")),
            Err(error) => Err(io_error("read", self.path)(error)),
        }
    }
}

struct Hashing<W> {
    inner: W,
    hash: Sha256,
}

impl<W: io::Write> io::Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hash.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// A snapshot's file, read and written a part at a time.
#[derive(Debug)]
pub(super) struct SnapshotFile {
    files: Arc<dyn Files>,
    /// None before the first part is written.
    file: Option<Box<dyn OpenFile>>,
    path: PathBuf,
    at: u64,
}

impl SnapshotFile {
    fn read_part(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let Some(file) = &self.file else { return Ok(0) };
        let count = file.read_at(self.at, out)?;
        self.at += count as u64;
        Ok(count)
    }

    fn write_part(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let file = match &self.file {
            Some(file) => file,
            // Made now, for a failure here is the sender's to hear.
            None => self.file.insert(self.files.open(&self.path, How::Fresh)?),
        };
        file.write_at(self.at, bytes)?;
        self.at += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn seek(&mut self, position: SeekFrom) -> io::Result<()> {
        let length = self.file.as_ref().map_or(Ok(0), |file| file.len())?;
        let (base, offset) = match position {
            SeekFrom::Start(at) => (at, 0),
            SeekFrom::Current(offset) => (self.at, offset),
            SeekFrom::End(offset) => (length, offset),
        };
        self.at = base.checked_add_signed(offset).ok_or(io::ErrorKind::InvalidInput)?;
        Ok(())
    }
}

// A part is small (`snapshot_max_chunk_size`) and mostly in the page cache: a thread for each
// would cost more than it saves.
impl AsyncRead for SnapshotFile {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = self.read_part(buffer.initialize_unfilled())?;
        buffer.advance(read);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for SnapshotFile {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(self.write_part(bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl AsyncSeek for SnapshotFile {
    fn start_seek(mut self: Pin<&mut Self>, position: SeekFrom) -> io::Result<()> {
        self.seek(position)
    }

    fn poll_complete(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<u64>> {
        Poll::Ready(Ok(self.at))
    }
}
