//! A command in a container, or the container itself, at the other end of a client's streams.

use super::client::{Client, Input, Output};
use super::fd::{Sink, Source};
use super::status::status;
use runtime::pods::{ExecSpec, Execution, InsideError, attach, exec, exec_in_terminal};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::termios::{Winsize, tcsetwinsize};
use serde::Deserialize;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// After the end of the program, what its children still write is waited for so long.
const SILENCE: Duration = Duration::from_secs(1);

/// Which streams a client asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) stdin: bool,
    pub(crate) stdout: bool,
    pub(crate) stderr: bool,
    pub(crate) tty: bool,
}

/// What is at the other end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum What {
    Exec(ExecSpec),
    /// The container of that name.
    Attach(String),
}

/// Where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// Of the pod's supervisor.
    pub(crate) socket: PathBuf,
    pub(crate) what: What,
    pub(crate) wanted: Wanted,
}

/// Blocking work that may take for ever, on a thread that no shutdown waits for.
pub(crate) async fn on_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    std::thread::Builder::new().name("inside".to_owned()).spawn(move || {
        // Whoever waited may have gone.
        let _ = sender.send(work());
    })?;
    receiver.await.map_err(|_| io::Error::other("the thread ended without an answer"))
}

/// What runs, and our ends of its streams.
struct Process {
    execution: Execution,
    input: Option<Sink>,
    stdout: Option<Source>,
    stderr: Option<Source>,
    terminal: Option<OwnedFd>,
}

fn source(fd: OwnedFd) -> Result<Source, InsideError> {
    Source::new(fd).map_err(InsideError::Talk)
}

fn sink(fd: OwnedFd) -> Result<Sink, InsideError> {
    Sink::new(fd).map_err(InsideError::Talk)
}

fn copy(fd: &OwnedFd) -> Result<OwnedFd, InsideError> {
    fd.try_clone().map_err(InsideError::Talk)
}

fn pipe() -> Result<(OwnedFd, OwnedFd), InsideError> {
    pipe_with(PipeFlags::CLOEXEC).map_err(|error| InsideError::Talk(error.into()))
}

/// Ours and theirs of an output, which leads nowhere if nobody wants it.
fn output(wanted: bool) -> Result<(Option<OwnedFd>, OwnedFd), InsideError> {
    if wanted {
        let (ours, theirs) = pipe()?;
        return Ok((Some(ours), theirs));
    }
    let null = File::options().write(true).open("/dev/null").map_err(InsideError::Talk)?;
    Ok((None, null.into()))
}

fn start(target: &Target) -> Result<Process, InsideError> {
    let Target { socket, what, wanted } = target;
    match what {
        What::Exec(spec) if wanted.tty => start_in_terminal(socket, spec, *wanted),
        What::Exec(spec) => start_exec(socket, spec, *wanted),
        What::Attach(container) => start_attached(socket, container, *wanted),
    }
}

fn start_in_terminal(socket: &Path, spec: &ExecSpec, wanted: Wanted) -> Result<Process, InsideError> {
    let (terminal, execution) = exec_in_terminal(socket, spec)?;
    let input = wanted.stdin.then(|| copy(&terminal)).transpose()?;
    Ok(Process {
        execution,
        input: input.map(sink).transpose()?,
        stdout: Some(source(copy(&terminal)?)?),
        stderr: None,
        terminal: Some(terminal),
    })
}

fn start_exec(socket: &Path, spec: &ExecSpec, wanted: Wanted) -> Result<Process, InsideError> {
    let (stdin, input) = if wanted.stdin {
        let (theirs, ours) = pipe()?;
        (theirs, Some(ours))
    } else {
        (File::open("/dev/null").map_err(InsideError::Talk)?.into(), None)
    };
    let ((stdout, out), (stderr, err)) = (output(wanted.stdout)?, output(wanted.stderr)?);
    let execution = exec(socket, spec, [stdin.as_fd(), out.as_fd(), err.as_fd()])?;
    Ok(Process {
        execution,
        input: input.map(sink).transpose()?,
        stdout: stdout.map(source).transpose()?,
        stderr: stderr.map(source).transpose()?,
        terminal: None,
    })
}

fn start_attached(socket: &Path, container: &str, wanted: Wanted) -> Result<Process, InsideError> {
    let ((stdout, out), (stderr, err)) = (output(wanted.stdout)?, output(wanted.stderr)?);
    let attached = attach(socket, container, wanted.stdin, [out.as_fd(), err.as_fd()])?;
    let (input, terminal) = match attached.input {
        Some(terminal) if attached.tty => {
            (wanted.stdin.then(|| copy(&terminal)).transpose()?, Some(terminal))
        }
        input => (input, None),
    };
    Ok(Process {
        execution: attached.execution,
        input: input.map(sink).transpose()?,
        stdout: stdout.map(source).transpose()?,
        stderr: stderr.map(source).transpose()?,
        terminal,
    })
}

/// Does what the target says at the other end of the client's streams, to its end.
pub(super) async fn serve(target: Target, client: Client) {
    let Client { stdin, stdout, stderr, resize, status: mut told, gone } = client;
    let is_exec = matches!(target.what, What::Exec(_));
    let handle = tokio::runtime::Handle::current();
    let started = on_thread(move || {
        // Pipes are registered with the runtime.
        let _entered = handle.enter();
        start(&target)
    });
    let result = match started.await.map_err(InsideError::Talk).and_then(|started| started) {
        Ok(process) => {
            let streams = Streams { stdin, stdout, stderr, resize };
            let ended = connect(process, streams, is_exec, &gone).await;
            // Of the container's own end, who looks on is told when he asks.
            if is_exec { ended } else { ended.map(|_| 0) }
        }
        Err(error) => Err(error),
    };
    told.write(status(&result).to_string().as_bytes()).await;
    told.finish().await;
}

struct Streams {
    stdin: Option<Input>,
    stdout: Option<Output>,
    stderr: Option<Output>,
    resize: Option<Input>,
}

/// Carries everything both ways until the process has ended, or the client gone.
async fn connect(
    process: Process,
    streams: Streams,
    is_exec: bool,
    gone: &CancellationToken,
) -> Result<i32, InsideError> {
    let Process { execution, input, stdout, stderr, terminal } = process;
    let killer = execution.killer()?;
    let ended = CancellationToken::new();
    let (mut inputs, mut outputs) = (JoinSet::new(), JoinSet::new());
    if let (Some(from), Some(to)) = (streams.stdin, input) {
        inputs.spawn(carry_in(from, to));
    }
    if let (Some(from), Some(terminal)) = (streams.resize, terminal) {
        inputs.spawn(resize(from, terminal));
    }
    for (from, to) in [(stdout, streams.stdout), (stderr, streams.stderr)] {
        if let (Some(from), Some(to)) = (from, to) {
            outputs.spawn(carry_out(from, to, ended.clone()));
        }
    }
    let waiting = on_thread(move || execution.wait());
    let result = tokio::select! {
        result = waiting => result.map_err(InsideError::Talk).and_then(|result| result),
        () = gone.cancelled() => {
            if is_exec {
                killer.kill();
            }
            killer.hang_up();
            return Err(InsideError::Ended);
        }
    };
    ended.cancel();
    let carried = async { while outputs.join_next().await.is_some() {} };
    tokio::select! {
        () = carried => {}
        () = gone.cancelled() => {}
    }
    result
}

async fn carry_in(mut from: Input, mut to: Sink) {
    while let Some(bytes) = from.read().await {
        if to.write_all(&bytes).await.is_err() {
            break;
        }
    }
    // The program sees the end.
    drop(to);
    while from.read().await.is_some() {}
}

async fn carry_out(mut from: Source, mut to: Output, ended: CancellationToken) {
    let mut buffer = vec![0; 32 * 1024];
    loop {
        let silent = async {
            ended.cancelled().await;
            tokio::time::sleep(SILENCE).await;
        };
        let read = tokio::select! {
            biased;
            read = from.read(&mut buffer) => read,
            () = silent => break,
        };
        match read {
            Ok(0) | Err(_) => break,
            Ok(count) if !to.write(&buffer[..count]).await => return,
            Ok(_) => {}
        }
    }
    to.finish().await;
}

/// Source: `k8s.io/client-go/tools/remotecommand`, `TerminalSize`.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Size {
    width: u16,
    height: u16,
}

/// The window has the size that the client's has. One message may come in parts.
async fn resize(mut from: Input, terminal: OwnedFd) {
    const LONGEST: usize = 1024;
    let mut text = Vec::new();
    while let Some(bytes) = from.read().await {
        text.extend_from_slice(&bytes);
        let mut sizes = serde_json::Deserializer::from_slice(&text).into_iter::<Size>();
        let last = sizes.by_ref().map_while(Result::ok).last();
        let used = sizes.byte_offset();
        text.drain(..used);
        if let Some(Size { width, height }) = last {
            let size = Winsize { ws_row: height, ws_col: width, ws_xpixel: 0, ws_ypixel: 0 };
            let _ = tcsetwinsize(&terminal, size);
        }
        if text.len() > LONGEST {
            return;
        }
    }
}
