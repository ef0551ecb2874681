//! Snapshots: every object at one place of the log, in a file of its own.
//!
//! A file is a head, the objects one by one, and a checksum over all of it. It gets its name
//! when it is whole and on disk; a file without a name is of no account.

use super::raft::{LogId, StoredMembership};
use super::state::State;
use super::wire::{LogIdMessage, StoredMembershipMessage};
use bytes::Bytes;
use manifests::{Kind, Object};
use prost::Message;
use sha2::{Digest as _, Sha256};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncSeek, AsyncWrite, ReadBuf};

/// Grows when an older program could no longer read what is written.
const VERSION: u32 = 1;
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
    folder: PathBuf,
    /// Long work gets a thread of its own; not in a simulation, in which there are none.
    is_threaded: bool,
}

impl Snapshots {
    /// The snapshots in `folder`, which is made; what was not finished is removed.
    pub(super) fn open(folder: PathBuf, is_threaded: bool) -> Result<Self, SnapshotError> {
        fs::create_dir_all(&folder).map_err(io_error("make", &folder))?;
        for path in files(&folder, "part")? {
            fs::remove_file(&path).map_err(io_error("remove", &path))?;
        }
        Ok(Self { folder, is_threaded })
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
        let file = create(&part)?;
        write_all(&file, head, state).map_err(io_error("write", &part))?;
        file.sync_all().map_err(io_error("sync", &part))?;
        self.name(&part, head)
    }

    /// Gives the whole file `part` its name, and removes those of older snapshots.
    fn name(&self, part: &Path, head: &Head) -> Result<PathBuf, SnapshotError> {
        let path = self.folder.join(name_of(head));
        fs::rename(part, &path).map_err(io_error("rename", part))?;
        let folder = File::open(&self.folder).and_then(|folder| folder.sync_all());
        folder.map_err(io_error("sync", &self.folder))?;
        for old in files(&self.folder, "snapshot")?.into_iter().filter(|old| *old != path) {
            // The next snapshot tries again.
            drop(fs::remove_file(old));
        }
        Ok(path)
    }

    /// The newest snapshot, if there is one: its head and all its objects.
    pub(super) fn load(&self) -> Result<Option<(Head, State)>, SnapshotError> {
        self.newest()?.map(|path| read_all(open(&path)?, &path)).transpose()
    }

    /// The newest snapshot's file and head.
    pub(super) fn current(&self) -> Result<Option<(Head, SnapshotFile)>, SnapshotError> {
        let Some(path) = self.newest()? else { return Ok(None) };
        let mut file = open(&path)?;
        let head = Reader::new(&file, &path).head()?;
        file.seek(SeekFrom::Start(0)).map_err(io_error("read", &path))?;
        Ok(Some((head.0, SnapshotFile { file, path })))
    }

    /// The size in bytes of the newest snapshot; 0 if there is none.
    pub(super) fn size_bytes(&self) -> u64 {
        let newest = self.newest().ok().flatten();
        newest.and_then(|path| fs::metadata(path).ok()).map_or(0, |metadata| metadata.len())
    }

    /// A file for a snapshot that a peer sends.
    pub(super) fn receive(&self) -> Result<SnapshotFile, SnapshotError> {
        let path = self.folder.join("received.part");
        Ok(SnapshotFile { file: create(&path)?, path })
    }

    /// Reads a received file whole and gives it its name.
    pub(super) fn install(&self, received: SnapshotFile) -> Result<(Head, State), SnapshotError> {
        let SnapshotFile { mut file, path } = received;
        file.sync_all().map_err(io_error("sync", &path))?;
        file.seek(SeekFrom::Start(0)).map_err(io_error("read", &path))?;
        let (head, state) = read_all(file, &path)?;
        self.name(&path, &head)?;
        Ok((head, state))
    }

    fn newest(&self) -> Result<Option<PathBuf>, SnapshotError> {
        // Names sort by their place in the log.
        Ok(files(&self.folder, "snapshot")?.into_iter().max())
    }
}

/// The objects of the snapshot that is the file `path`.
pub(super) fn read_file(path: &Path) -> Result<State, SnapshotError> {
    read_all(open(path)?, path).map(|(_, state)| state)
}

fn name_of(head: &Head) -> String {
    let (term, node, index) =
        head.last.map_or((0, 0, 0), |last| (last.leader_id.term, last.leader_id.node_id, last.index));
    format!("{index:020}-{term}-{node}.snapshot")
}

fn io_error<'a>(what: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> SnapshotError + 'a {
    move |source| SnapshotError::Io { what, path: path.to_owned(), source }
}

fn create(path: &Path) -> Result<File, SnapshotError> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(true).mode(0o600);
    options.open(path).map_err(io_error("make", path))
}

fn open(path: &Path) -> Result<File, SnapshotError> {
    File::open(path).map_err(io_error("open", path))
}

fn files(folder: &Path, extension: &str) -> Result<Vec<PathBuf>, SnapshotError> {
    let entries = fs::read_dir(folder).map_err(io_error("list", folder))?;
    let paths = entries.map(|entry| entry.map(|entry| entry.path()).map_err(io_error("list", folder)));
    let mut paths = paths.collect::<Result<Vec<_>, _>>()?;
    paths.retain(|path| path.extension().is_some_and(|found| found == extension));
    Ok(paths)
}

fn write_all(file: &File, head: &Head, state: &State) -> io::Result<()> {
    let mut out = Hashing { inner: BufWriter::with_capacity(BUFFER, file), hash: Sha256::new() };
    out.write_all(MAGIC)?;
    let head = HeadMessage {
        version: VERSION,
        last: head.last.map(Into::into),
        membership: Some((&head.membership).into()),
        revision: state.revision(),
        objects: state.iter().count() as u64,
    };
    out.write_all(&head.encode_length_delimited_to_vec())?;
    for (key, object) in state.iter() {
        let json = object.to_json_bytes()?.into();
        let message = ObjectMessage { kind: key.kind.as_str().into(), json };
        out.write_all(&message.encode_length_delimited_to_vec())?;
    }
    let Hashing { mut inner, hash } = out;
    inner.write_all(&hash.finalize())?;
    inner.flush()
}

fn read_all(file: File, path: &Path) -> Result<(Head, State), SnapshotError> {
    let mut reader = Reader::new(&file, path);
    let (head, message) = reader.head()?;
    let mut state = State::default();
    for _ in 0..message.objects {
        let ObjectMessage { kind: word, json } = reader.message()?;
        let kind = Kind::ALL.into_iter().find(|kind| kind.as_str() == word);
        let kind = kind.ok_or_else(|| reader.damaged(format!("there is no kind {word:?}")))?;
        let object = Object::from_json_bytes(kind, &json);
        let object = object.map_err(|error| reader.damaged(format!("a {kind}: {error}")))?;
        state.insert(Arc::new(object), message.revision);
    }
    state.restart_at(message.revision);
    reader.end()?;
    Ok((head, state))
}

/// Reads a file in order, and knows its checksum so far.
struct Reader<'f> {
    inner: BufReader<&'f File>,
    hash: Sha256,
    path: &'f Path,
}

impl<'f> Reader<'f> {
    fn new(file: &'f File, path: &'f Path) -> Self {
        Self { inner: BufReader::with_capacity(BUFFER, file), hash: Sha256::new(), path }
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
    file: File,
    path: PathBuf,
}

// A part is small (`snapshot_max_chunk_size`) and mostly in the page cache: a thread for each
// would cost more than it saves.
impl AsyncRead for SnapshotFile {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = self.file.read(buffer.initialize_unfilled())?;
        buffer.advance(read);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for SnapshotFile {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(self.file.write(bytes))
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
        self.file.seek(position).map(drop)
    }

    fn poll_complete(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<u64>> {
        Poll::Ready(self.file.stream_position())
    }
}
