//! A small process that has the sockets open while no agent runs, so that questions wait instead of
//! being refused.
//!
//! It is the agent's own program, started with [`COMMAND`], and answers nothing. Whoever connects to its
//! socket gets both sockets of the name server. It ends when nobody has been connected for a while: what
//! waits longer is of no use to those who asked.

use super::sockets::DnsSockets;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use std::ffi::OsString;
use std::io::{self, IoSlice, IoSliceMut, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::{Duration, Instant};

/// The word that the program is started with to be a holder; then comes the path of its socket.
pub const COMMAND: &str = "hold-dns-sockets";

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
    _connection: UnixStream,
}

/// Why sockets are not held.
#[derive(Debug, thiserror::Error)]
#[error("cannot have the sockets of DNS held by a process of its own (socket {path})")]
pub struct HolderError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

impl Holder {
    /// The sockets at `address` that a holder with its socket at `path` has; nothing if there is none.
    /// One that has others ends. Blocks for a moment.
    #[must_use]
    pub fn find(path: &Path, address: SocketAddr) -> Option<(Self, DnsSockets)> {
        let mut connection = UnixStream::connect(path).ok()?;
        connection.set_read_timeout(Some(HAND_TIME)).ok()?;
        let sockets = receive(&connection).ok()?;
        if sockets.address().is_ok_and(|has| has == address) {
            return Some((Self { _connection: connection }, sockets));
        }
        // What it has is of no use. It is gone when its end of the connection is.
        drop(sockets);
        let _gone = connection.write_all(&[END]);
        let _end = connection.read(&mut [0]);
        None
    }

    /// A process that `program` starts has `sockets` from here on, and hands them out at `path`. It
    /// outlives this one. Blocks for a moment; needs a tokio runtime, which knows of its end.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(path: &Path, program: &[OsString], sockets: &DnsSockets) -> Result<Self, HolderError> {
        Self::try_start(path, program, sockets)
            .map_err(|source| HolderError { path: path.to_owned(), source })
    }

    fn try_start(path: &Path, program: &[OsString], sockets: &DnsSockets) -> io::Result<Self> {
        let [program, arguments @ ..] = program else { return Err(io::ErrorKind::InvalidInput.into()) };
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        let sockets = sockets.try_clone()?;
        // Its three usual descriptors are the sockets: nothing else is inherited, not even by chance.
        tokio::process::Command::new(program)
            .args(arguments)
            .arg(path)
            .stdin(Stdio::from(OwnedFd::from(listener)))
            .stdout(Stdio::from(OwnedFd::from(sockets.udp)))
            .stderr(Stdio::from(OwnedFd::from(sockets.tcp)))
            .process_group(0)
            .spawn()?;
        let connection = UnixStream::connect(path)?;
        connection.set_read_timeout(Some(HAND_TIME))?;
        // It is there.
        drop(receive(&connection)?);
        Ok(Self { _connection: connection })
    }
}

fn receive(connection: &UnixStream) -> io::Result<DnsSockets> {
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
        (Some(udp), Some(tcp)) => DnsSockets::adopt(udp, tcp),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// The holder's whole life. Its descriptors 0, 1 and 2 are its listener and the name server's sockets.
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
    let (udp, tcp) = (io::stdout().as_fd().try_clone_to_owned()?, io::stderr().as_fd().try_clone_to_owned()?);
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
            if give(&agent, [udp.as_fd(), tcp.as_fd()]).is_ok() {
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
