//! Processes that clients want run in containers.

use super::sandbox::internal;
use super::{Cri, state, v1};
use crate::streaming::on_thread;
use runtime::pods::{ExecSpec, Execution, InsideError, Killer, exec};
use rustix::pipe::{PipeFlags, pipe_with};
use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::Duration;
use tonic::Status;

/// The most of each output that an answer holds.
const OUTPUT_BYTES: u64 = 16 << 20;

/// After the end of the program, what its children still write is waited for so long.
const DRAIN: Duration = Duration::from_secs(2);

impl Cri {
    /// Runs the command to its end, or until its time is over.
    pub(super) async fn exec_sync(
        &self,
        request: v1::ExecSyncRequest,
    ) -> Result<v1::ExecSyncResponse, Status> {
        let container = self.book.container(&request.container_id)?;
        self.must_run(&request.container_id)?;
        let spec = ExecSpec { container: container.id.clone(), args: request.cmd, ..ExecSpec::default() };
        let socket = self.node.runtime.socket(&container.sandbox);
        let timeout = u64::try_from(request.timeout).ok().filter(|seconds| *seconds > 0);
        let timeout = timeout.map(Duration::from_secs);
        on_thread(move || run(socket, &spec, timeout)).await.map_err(|error| internal(&error))?
    }

    /// # Errors
    /// `NotFound`, or `FailedPrecondition` if the container does not run.
    pub(super) fn must_run(&self, id: &str) -> Result<(), Status> {
        let container = self.book.container(id)?;
        let seen = state::container_state(self.seen(&container.sandbox).as_ref(), &container.id);
        if seen.state == v1::ContainerState::ContainerRunning {
            return Ok(());
        }
        Err(Status::failed_precondition(format!("the container {id:?} does not run")))
    }
}

fn failed(error: &InsideError) -> Status {
    internal(error)
}

/// What a pipe brings, to its end.
fn collect(pipe: OwnedFd, sender: mpsc::Sender<Vec<u8>>) {
    std::thread::spawn(move || {
        let mut text = Vec::new();
        let mut pipe = File::from(pipe);
        // What was read before an error is what there is.
        let _ = pipe.by_ref().take(OUTPUT_BYTES).read_to_end(&mut text);
        let _ = sender.send(text);
        let _ = std::io::copy(&mut pipe, &mut std::io::sink());
    });
}

fn run(socket: PathBuf, spec: &ExecSpec, timeout: Option<Duration>) -> Result<v1::ExecSyncResponse, Status> {
    let pipe = || pipe_with(PipeFlags::CLOEXEC).map_err(|error| internal(&error));
    let null = File::open("/dev/null").map_err(|error| internal(&error))?;
    let ((out, stdout), (err, stderr)) = (pipe()?, pipe()?);
    let execution =
        exec(&socket, spec, [null.as_fd(), stdout.as_fd(), stderr.as_fd()]).map_err(|e| failed(&e))?;
    drop((stdout, stderr));
    let (out_sender, out_text) = mpsc::channel();
    let (err_sender, err_text) = mpsc::channel();
    collect(out, out_sender);
    collect(err, err_sender);
    let exit_code = wait(execution, timeout)?;
    let text = |receiver: mpsc::Receiver<Vec<u8>>| receiver.recv_timeout(DRAIN).unwrap_or_default();
    Ok(v1::ExecSyncResponse { stdout: text(out_text), stderr: text(err_text), exit_code })
}

/// The exit code; the process is killed when its time is over.
fn wait(execution: Execution, timeout: Option<Duration>) -> Result<i32, Status> {
    let killer = execution.killer().map_err(|error| failed(&error))?;
    let (sender, ended) = mpsc::channel();
    let waiter = std::thread::spawn(move || {
        let _ = sender.send(execution.wait());
    });
    let late = |killer: &Killer| {
        killer.kill();
        Status::deadline_exceeded("the command took too long, and was killed")
    };
    let result = match timeout {
        Some(timeout) => ended.recv_timeout(timeout).map_err(|_| late(&killer)),
        None => ended.recv().map_err(|error| internal(&error)),
    };
    if result.is_err() {
        // Killed processes end; if not even that is told, nobody waits for it.
        let _ = ended.recv_timeout(DRAIN);
        killer.hang_up();
    }
    let _ = waiter.join();
    match result? {
        Ok(exit_code) => Ok(exit_code),
        Err(InsideError::NotStarted { message, .. }) => Err(Status::unknown(message)),
        Err(error) => Err(failed(&error)),
    }
}
