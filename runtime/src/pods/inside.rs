//! Into a pod from outside: processes in its containers, connections to its ports.
//!
//! Whoever asks speaks to the pod's supervisor itself, and hands over its own descriptors:
//! nothing is copied on the way, and no agent is needed.

use super::error::InsideError;
use crate::supervisor::protocol::{OLDEST_ATTACH, OLDEST_INSIDE, Reply, Request};
use crate::sys::descriptors;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// How long a supervisor may take to answer what needs no waiting.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is to be run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExecSpec {
    /// The container's name.
    pub container: String,
    /// The program and its arguments.
    pub args: Vec<String>,
    /// `NAME=value`, beside the container's own.
    pub env: Vec<String>,
    /// Else the container's own.
    pub cwd: Option<String>,
    /// `user[:group]`, by name or number; else the container's own.
    pub user: Option<String>,
}

impl ExecSpec {
    fn request(&self, tty: bool) -> Request {
        let Self { container, args, env, cwd, user } = self.clone();
        Request::Exec { container, args, env, cwd, user, tty }
    }
}

/// A process in a container, until it ends.
#[derive(Debug)]
pub struct Execution {
    supervisor: Supervisor,
}

/// A connection to a pod's supervisor.
#[derive(Debug)]
struct Supervisor {
    lines: BufReader<UnixStream>,
}

/// The process runs, with these for its standard input, output and error.
///
/// # Errors
/// [`InsideError`]; that the program cannot be started is told by [`Execution::wait`].
pub fn exec(socket: &Path, spec: &ExecSpec, streams: [BorrowedFd<'_>; 3]) -> Result<Execution, InsideError> {
    let mut supervisor = Supervisor::connect(socket)?;
    supervisor.ask(&spec.request(false), &streams)?;
    Ok(Execution { supervisor })
}

/// The process runs in a terminal of the container's own, whose other side is returned.
///
/// # Errors
/// [`InsideError`], also if the program could not be started.
pub fn exec_in_terminal(socket: &Path, spec: &ExecSpec) -> Result<(OwnedFd, Execution), InsideError> {
    let (ours, theirs) = UnixStream::pair().map_err(InsideError::Talk)?;
    let mut supervisor = Supervisor::connect(socket)?;
    supervisor.ask(&spec.request(true), &[theirs.as_fd()])?;
    drop(theirs);
    // Its other end is in the new process alone: if that fails, this comes to an end.
    let mut received = Vec::new();
    let count = descriptors::receive(&ours, &mut [0; 8], &mut received).map_err(InsideError::Talk)?;
    let execution = Execution { supervisor };
    match received.pop() {
        Some(terminal) if count > 0 => Ok((terminal, execution)),
        _ => Err(execution.wait().err().unwrap_or(InsideError::NoTerminal)),
    }
}

/// A connection to `port` of the pod's own loopback.
///
/// # Errors
/// [`InsideError::Refused`] if nobody listens there.
pub fn dial(socket: &Path, port: u16) -> Result<TcpStream, InsideError> {
    connected(handed(socket, &Request::Dial { port })?, port)
}

/// The socket that a supervisor holds for one of its containers.
///
/// # Errors
/// [`InsideError::Refused`] if it has none there.
pub(super) fn socket(socket: &Path, udp: bool, port: u16) -> Result<OwnedFd, InsideError> {
    handed(socket, &Request::Socket { udp, port })
}

/// What comes with the answer.
fn handed(socket: &Path, request: &Request) -> Result<OwnedFd, InsideError> {
    let mut supervisor = Supervisor::connect(socket)?;
    supervisor.ask(request, &[])?;
    let mut received = Vec::new();
    let mut line = [0; 4096];
    let stream = supervisor.lines.get_ref();
    let count = descriptors::receive(stream, &mut line, &mut received).map_err(InsideError::Talk)?;
    match serde_json::from_slice(&line[..count]) {
        Ok(Reply::Done) => {}
        Ok(Reply::Error { message }) => return Err(InsideError::Refused { message }),
        Ok(other) => return Err(InsideError::unexpected(&other)),
        Err(error) => return Err(InsideError::Talk(error.into())),
    }
    received.pop().ok_or(InsideError::NoConnection)
}

/// The socket may still be connecting when it comes.
fn connected(connection: OwnedFd, port: u16) -> Result<TcpStream, InsideError> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut polls = [PollFd::new(&connection, PollFlags::OUT)];
    let patience = Timespec::try_from(PATIENCE).ok();
    poll(&mut polls, patience.as_ref()).map_err(|error| InsideError::Talk(error.into()))?;
    let refused = |error: std::io::Error| InsideError::Refused {
        message: format!("cannot connect to port {port}: {error}"),
    };
    rustix::net::sockopt::socket_error(&connection)
        .and_then(|result| result)
        .map_err(|error| refused(error.into()))?;
    let stream = TcpStream::from(connection);
    stream.set_nonblocking(false).map_err(refused)?;
    Ok(stream)
}

/// A container's streams, until it ends.
#[derive(Debug)]
pub struct Attached {
    /// It has a terminal: `input` is that, and what is read there is taken from everybody.
    pub tty: bool,
    /// To write to: standard input, if it was asked for and is open, or the terminal.
    pub input: Option<OwnedFd>,
    /// Waits for the container's end.
    pub execution: Execution,
}

/// What the container writes goes to these from now on, standard output and error; with a
/// terminal, all to the first.
///
/// # Errors
/// [`InsideError`] if the container does not run.
pub fn attach(
    socket: &Path,
    container: &str,
    stdin: bool,
    outputs: [BorrowedFd<'_>; 2],
) -> Result<Attached, InsideError> {
    let mut supervisor = Supervisor::connect_to(socket, OLDEST_ATTACH)?;
    supervisor.ask(&Request::Attach { container: container.to_owned(), stdin }, &outputs)?;
    let mut received = Vec::new();
    let mut line = [0; 4096];
    let stream = supervisor.lines.get_ref();
    let count = descriptors::receive(stream, &mut line, &mut received).map_err(InsideError::Talk)?;
    match serde_json::from_slice(&line[..count]) {
        Ok(Reply::Attached { tty, input }) => {
            let input = if input { received.pop() } else { None };
            Ok(Attached { tty, input, execution: Execution { supervisor } })
        }
        Ok(Reply::Error { message }) => Err(InsideError::Refused { message }),
        Ok(other) => Err(InsideError::unexpected(&other)),
        Err(_) if count == 0 => Err(InsideError::Ended),
        Err(error) => Err(InsideError::Talk(error.into())),
    }
}

/// Ends a process that somebody else waits for.
#[derive(Debug)]
pub struct Killer(UnixStream);

impl Killer {
    /// SIGKILL was sent, or the process has ended.
    pub fn kill(&self) {
        let mut line = serde_json::to_vec(&Request::KillExec).unwrap_or_default();
        line.push(b'\n');
        // Who does not take it has ended.
        let _ = (&self.0).write_all(&line);
    }

    /// Whoever waits sees the end, though the process may go on.
    pub fn hang_up(&self) {
        let _ = self.0.shutdown(std::net::Shutdown::Both);
    }
}

impl Execution {
    /// A way to end it while somebody waits.
    ///
    /// # Errors
    /// If there is no descriptor left.
    pub fn killer(&self) -> Result<Killer, InsideError> {
        self.supervisor.lines.get_ref().try_clone().map(Killer).map_err(InsideError::Talk)
    }

    /// Waits for the end of the process. Returns its exit code, 128 + signal if a signal
    /// ended it.
    ///
    /// # Errors
    /// [`InsideError::NotStarted`] with the code that a shell would give, or if the pod ended.
    pub fn wait(mut self) -> Result<i32, InsideError> {
        match self.supervisor.reply()? {
            Reply::Exited { exit_code, message } if message.is_empty() => Ok(exit_code),
            Reply::Exited { exit_code, message } => Err(InsideError::NotStarted { exit_code, message }),
            Reply::Error { message } => Err(InsideError::Refused { message }),
            other @ (Reply::Hello { .. } | Reply::Done | Reply::Attached { .. } | Reply::State(_)) => {
                Err(InsideError::unexpected(&other))
            }
        }
    }
}

impl Supervisor {
    fn connect(socket: &Path) -> Result<Self, InsideError> {
        Self::connect_to(socket, OLDEST_INSIDE)
    }

    fn connect_to(socket: &Path, oldest: u32) -> Result<Self, InsideError> {
        let stream = UnixStream::connect(socket)
            .map_err(|source| InsideError::NotRunning { socket: socket.to_owned(), source })?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(InsideError::Talk)?;
        let mut supervisor = Self { lines: BufReader::with_capacity(1024, stream) };
        match supervisor.reply()? {
            Reply::Hello { version } if version >= oldest => {}
            Reply::Hello { .. } => return Err(InsideError::TooOld),
            other @ (Reply::Done
            | Reply::Attached { .. }
            | Reply::Exited { .. }
            | Reply::State(_)
            | Reply::Error { .. }) => {
                return Err(InsideError::unexpected(&other));
            }
        }
        supervisor.lines.get_ref().set_read_timeout(None).map_err(InsideError::Talk)?;
        Ok(supervisor)
    }

    fn ask(&mut self, request: &Request, descriptors: &[BorrowedFd<'_>]) -> Result<(), InsideError> {
        let mut line = serde_json::to_vec(request).map_err(|error| InsideError::Talk(error.into()))?;
        line.push(b'\n');
        let mut stream = self.lines.get_ref();
        let sent = if descriptors.is_empty() {
            0
        } else {
            descriptors::send(stream, &line, descriptors).map_err(InsideError::Talk)?
        };
        stream.write_all(&line[sent..]).map_err(InsideError::lost)
    }

    fn reply(&mut self) -> Result<Reply, InsideError> {
        let mut line = String::new();
        let count = self.lines.read_line(&mut line).map_err(InsideError::lost)?;
        if count == 0 {
            return Err(InsideError::Ended);
        }
        serde_json::from_str(&line).map_err(|error| InsideError::Talk(error.into()))
    }
}
