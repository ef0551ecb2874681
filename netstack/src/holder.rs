//! A small process that has a pair of sockets open while no agent runs, so that questions wait instead of
//! being refused.
//!
//! It is the agent's own program, started with [`COMMAND`], and answers nothing. Whoever connects to its
//! socket gets both sockets that it has. It ends when nobody has been connected for a while: what
//! waits longer is of no use to those who asked.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use std::ffi::OsString;
use std::io::{self, IoSlice, IoSliceMut, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::{Duration, Instant};

/// The word that the program is started with to be a holder; then comes the path of its socket.
pub const COMMAND: &str = "hold-sockets";

/// How long it waits for the next agent.
const ORPHAN_TIME: Duration = Duration::from_secs(60);
/// How often one without an agent looks whether its socket is still there.
const LOOK_PERIOD: Duration = Duration::from_secs(1);
/// How long it may take to hand sockets over.
const HAND_TIME: Duration = Duration::from_secs(2);
/// What is sent along with the sockets.
const HERE_THEY_ARE: u8 = b'h';
/// What tells it to end.
const END: u8 = b'e';

/// The agent's side of a holder: while it is there, the holder waits.
#[derive(Debug)]
pub struct Holder {
    connection: UnixStream,
}

/// Why sockets are not held.
#[derive(Debug, thiserror::Error)]
#[error("cannot have sockets held by a process of its own (socket {path})")]
pub struct HolderError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

impl Holder {
    /// What `adopt` makes of the sockets that a holder with its socket at `path` has; nothing if there is
    /// none. One whose sockets it has no use for ends. Blocks for a moment.
    pub(crate) fn find<T>(path: &Path, adopt: impl FnOnce([OwnedFd; 2]) -> Option<T>) -> Option<(Self, T)> {
        let connection = UnixStream::connect(path).ok()?;
        connection.set_read_timeout(Some(HAND_TIME)).ok()?;
        let sockets = receive(&connection).ok()?;
        let own = Self { connection };
        if let Some(adopted) = adopt(sockets) {
            return Some((own, adopted));
        }
        own.end();
        None
    }

    /// What it has is of no use any more. It is gone when this returns. Blocks for a moment.
    pub fn end(mut self) {
        let _gone = self.connection.write_all(&[END]);
        let _end = self.connection.read(&mut [0]);
    }

    /// The holder with its socket at `path` is gone, if there is one. Blocks for a moment.
    pub fn dismiss(path: &Path) {
        let _none = Self::find(path, |_| None::<()>);
    }

    /// A process that `program` starts has `sockets` from here on, and hands them out at `path`. It
    /// outlives this one. Blocks for a moment; needs a tokio runtime, which knows of its end.
    ///
    /// # Errors
    /// If it cannot be started.
    pub(crate) fn start(
        path: &Path,
        program: &[OsString],
        sockets: io::Result<[OwnedFd; 2]>,
    ) -> Result<Self, HolderError> {
        let started = sockets.and_then(|sockets| Self::try_start(path, program, sockets));
        started.map_err(|source| HolderError { path: path.to_owned(), source })
    }

    fn try_start(path: &Path, program: &[OsString], [first, second]: [OwnedFd; 2]) -> io::Result<Self> {
        let [program, arguments @ ..] = program else { return Err(io::ErrorKind::InvalidInput.into()) };
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        // Its three usual descriptors are the sockets: nothing else is inherited, not even by chance.
        tokio::process::Command::new(program)
            .args(arguments)
            .arg(path)
            .stdin(Stdio::from(OwnedFd::from(listener)))
            .stdout(Stdio::from(first))
            .stderr(Stdio::from(second))
            .process_group(0)
            .spawn()?;
        let connection = UnixStream::connect(path)?;
        connection.set_read_timeout(Some(HAND_TIME))?;
        // It is there.
        drop(receive(&connection)?);
        Ok(Self { connection })
    }
}

fn receive(connection: &UnixStream) -> io::Result<[OwnedFd; 2]> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut word = [0];
    let got = recvmsg(connection, &mut [IoSliceMut::new(&mut word)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    if got.bytes == 0 || word[0] != HERE_THEY_ARE {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(all) = message {
            descriptors.extend(all);
        }
    }
    let mut descriptors = descriptors.into_iter();
    match (descriptors.next(), descriptors.next()) {
        (Some(first), Some(second)) => Ok([first, second]),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// The holder's whole life. Its descriptors 0, 1 and 2 are its listener and the sockets that it holds.
#[must_use]
pub fn main(mut arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let Some(path) = arguments.next().map(PathBuf::from) else { return ExitCode::FAILURE };
    match hold(&path) {
        Ok(()) => ExitCode::SUCCESS,
        // There is nobody to tell.
        Err(_) => ExitCode::FAILURE,
    }
}

fn hold(path: &Path) -> io::Result<()> {
    // A terminal that ends is none of its concern.
    let _leads_already = rustix::process::setsid();
    let listener = UnixListener::from(io::stdin().as_fd().try_clone_to_owned()?);
    listener.set_nonblocking(true)?;
    let (first, second) =
        (io::stdout().as_fd().try_clone_to_owned()?, io::stderr().as_fd().try_clone_to_owned()?);
    let own = std::fs::metadata(path)?.ino();
    let mut agents: Vec<UnixStream> = Vec::new();
    let mut alone_since = Instant::now();
    loop {
        let timeout = agents
            .is_empty()
            .then(|| Timespec { tv_sec: i64::try_from(LOOK_PERIOD.as_secs()).unwrap_or(1), tv_nsec: 0 });
        let listening = PollFd::new(&listener, PollFlags::IN);
        let connected = agents.iter().map(|agent| PollFd::new(agent, PollFlags::IN));
        let mut events: Vec<PollFd<'_>> = std::iter::once(listening).chain(connected).collect();
        match poll(&mut events, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let ready: Vec<bool> = events.iter().map(|event| !event.revents().is_empty()).collect();
        let mut is_told_to_end = false;
        let mut ready = ready.into_iter().skip(1);
        agents.retain_mut(|agent| {
            let mut word = [0];
            let is_ready = ready.next().unwrap_or(false);
            let count = if is_ready { agent.read(&mut word).unwrap_or(0) } else { 1 };
            is_told_to_end |= is_ready && count > 0 && word[0] == END;
            if count == 0 {
                alone_since = Instant::now();
            }
            count > 0
        });
        if is_told_to_end {
            let _gone = std::fs::remove_file(path);
            return Ok(());
        }
        while let Ok((agent, _)) = listener.accept() {
            if give(&agent, [first.as_fd(), second.as_fd()]).is_ok() {
                agents.push(agent);
            }
        }
        let is_mine = || std::fs::metadata(path).is_ok_and(|file| file.ino() == own);
        if agents.is_empty() && !is_mine() {
            return Ok(());
        }
        if agents.is_empty() && alone_since.elapsed() >= ORPHAN_TIME {
            let _gone = std::fs::remove_file(path);
            return Ok(());
        }
    }
}

fn give(agent: &UnixStream, descriptors: [BorrowedFd<'_>; 2]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&descriptors));
    sendmsg(agent, &[IoSlice::new(&[HERE_THEY_ARE])], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}
