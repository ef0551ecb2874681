//! One container from its OCI specification: namespaces, cgroup, root, mounts, privileges, exec.
//!
//! A launch prepares everything up to the exec and then waits at a gate, so that the mounts
//! are made while the pod's network is. Whatever is mounted lives in the container's own mount namespace
//! and goes with it: a crash leaves nothing on the host.

mod child;
mod credentials;
mod devices;
mod error;
mod exec;
mod filter;
mod foreign;
mod mounts;
mod pause;
mod privileges;
mod program;
mod rootfs;
mod target;
mod terminal;
mod user;
mod users;

pub(crate) use error::StartFailure;
pub(crate) use exec::{Exec, ExecStreams, Executed};
pub(crate) use pause::Pause;
pub(crate) use users::{IDS, Users};

use crate::cgroup::{CgroupError, Cgroups};
use crate::plan::{ContainerPlan, FileVariableError, PodPlan};
use crate::sys::clone::{Cloned, clone3, exit_now};
use rustix::fs::{Gid, Uid};
use rustix::pipe::{PipeFlags, pipe_with};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

/// Written to the gate when the program may run.
const GO: u8 = b'g';

/// Which container of which pod is to be launched, for the how-many-eth time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Launch<'a> {
    pub(crate) pod: &'a PodPlan,
    pub(crate) container: &'a ContainerPlan,
    pub(crate) run: u32,
    /// The PID namespace that the pod's containers share, if they do.
    pub(crate) processes: Option<&'a Pause>,
    /// The users of a pod that has its own.
    pub(crate) users: Option<&'a Users>,
    /// What its program gets as descriptors 3 and up.
    pub(crate) sockets: &'a [OwnedFd],
    /// The first process of the container whose PID namespace it shares, if it is to share one.
    pub(crate) beside: Option<i32>,
}

/// A container's first process, waiting at the gate or past it.
#[derive(Debug)]
pub(crate) struct Launched {
    pub(crate) pid: i32,
    pub(crate) pidfd: OwnedFd,
    /// Closed at the exec; before that a [`StartFailure`] may come out.
    pub(crate) report: OwnedFd,
    /// Of a container whose standard input is open.
    pub(crate) stdin: Option<OwnedFd>,
    pub(crate) output: Output,
    gate: OwnedFd,
}

/// Where a container's output comes from.
#[derive(Debug)]
pub(crate) enum Output {
    /// Standard output and error, a pipe each.
    Pipes([OwnedFd; 2]),
    /// A terminal of the container's own is about to come through this socket.
    Awaited(OwnedFd),
    /// That terminal.
    Terminal(OwnedFd),
}

/// Why no process came to be.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub(crate) enum LaunchError {
    #[error("cannot make a pipe")]
    Pipe(#[source] io::Error),
    #[error("cannot make the container's first process")]
    Clone(#[source] io::Error),
    #[error("the container {container:?}, whose processes it shares, does not run")]
    NotBeside { container: String },
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    #[error(transparent)]
    Variable(#[from] FileVariableError),
}

/// The child's ends of the pipes.
struct ChildEnds {
    gate: OwnedFd,
    report: OwnedFd,
    stdin: Option<OwnedFd>,
    output: ChildOutput,
}

/// The child's end of an [`Output`].
enum ChildOutput {
    Pipes([OwnedFd; 2]),
    /// Where its terminal goes.
    Socket(OwnedFd),
}

impl Launch<'_> {
    /// True if the container's end leaves other processes in its PID namespace.
    pub(crate) const fn shares_processes(&self) -> bool {
        self.pod.shares_processes() || self.container.processes_of.is_some()
    }

    /// The PID namespace to be born in, if there is one already.
    fn namespace(&self) -> Result<Option<File>, LaunchError> {
        match (&self.container.processes_of, self.beside, self.processes) {
            (Some(_), Some(pid), _) => {
                File::open(format!("/proc/{pid}/ns/pid")).map(Some).map_err(LaunchError::Clone)
            }
            (Some(container), None, _) => Err(LaunchError::NotBeside { container: container.clone() }),
            (None, _, Some(shared)) => shared.namespace().try_clone().map(Some).map_err(LaunchError::Clone),
            (None, _, None) => Ok(None),
        }
    }

    /// The program's user and group in the host's ids, which files are given to until the
    /// process has joined the pod's users.
    fn owner(&self, identity: &user::Identity) -> (Uid, Gid) {
        let on_host = |id: u32| self.users.map_or(id, |users| users.on_host(id));
        (Uid::from_raw(on_host(identity.uid.as_raw())), Gid::from_raw(on_host(identity.gid.as_raw())))
    }

    /// The container's cgroup.
    pub(crate) fn group(&self) -> String {
        format!("{}/{}", self.pod.cgroup, self.container.name)
    }

    /// The folder of this run's writable layer and mount points.
    pub(crate) fn layer(&self) -> PathBuf {
        self.layers().join(self.run.to_string())
    }

    /// The folder of the layers of all runs.
    pub(crate) fn layers(&self) -> PathBuf {
        self.pod.state_dir.join("layers").join(&self.container.name)
    }

    /// The file that the container sees as `/dev/termination-log`.
    pub(crate) fn termination_log(&self) -> PathBuf {
        self.pod.state_dir.join("termination").join(&self.container.name)
    }

    /// True if the container has a terminal for its standard streams.
    pub(crate) fn has_terminal(&self) -> bool {
        let process = self.container.spec.process().as_ref();
        process.and_then(oci_spec::runtime::Process::terminal).unwrap_or(false)
    }

    /// Our end of its standard input and the child's, if it has one that is open.
    fn stdin(&self) -> Result<(Option<OwnedFd>, Option<OwnedFd>), LaunchError> {
        if self.has_terminal() || !self.container.stdin {
            return Ok((None, None));
        }
        let (child, ours) = pipe_with(PipeFlags::CLOEXEC).map_err(|error| LaunchError::Pipe(error.into()))?;
        Ok((Some(ours), Some(child)))
    }

    /// Our ends of its outputs, and the child's.
    fn output(&self) -> Result<(Output, ChildOutput), LaunchError> {
        if self.has_terminal() {
            let (ours, theirs) = UnixStream::pair().map_err(LaunchError::Pipe)?;
            return Ok((Output::Awaited(ours.into()), ChildOutput::Socket(theirs.into())));
        }
        let pipe = || pipe_with(PipeFlags::CLOEXEC).map_err(|error| LaunchError::Pipe(error.into()));
        let (stdout, stdout_child) = pipe()?;
        let (stderr, stderr_child) = pipe()?;
        Ok((Output::Pipes([stdout, stderr]), ChildOutput::Pipes([stdout_child, stderr_child])))
    }

    /// Starts the container's first process, up to the gate. Its cgroup exists.
    pub(crate) fn start(&self, cgroups: &Cgroups) -> Result<Launched, LaunchError> {
        let pipe = || pipe_with(PipeFlags::CLOEXEC).map_err(|error| LaunchError::Pipe(error.into()));
        let (gate_child, gate) = pipe()?;
        let (report, report_child) = pipe()?;
        let (stdin, stdin_child) = self.stdin()?;
        let (output, output_child) = self.output()?;
        let ends =
            ChildEnds { gate: gate_child, report: report_child, stdin: stdin_child, output: output_child };
        let birthplace = cgroups.birthplace(&self.group())?;
        let mut namespaces = libc::CLONE_NEWNS;
        if !self.shares_processes() && self.pod.security.handler.is_none() {
            namespaces |= libc::CLONE_NEWPID;
        }
        let into = birthplace.as_ref().map(AsFd::as_fd);
        let cloned = match self.namespace()? {
            Some(there) => pause::born_in(&there, namespaces, into),
            None => clone3(namespaces, into),
        };
        match cloned.map_err(LaunchError::Clone)? {
            Cloned::Parent { pid, pidfd } => Ok(Launched { pid, pidfd, report, stdin, output, gate }),
            Cloned::Child => {
                drop((gate, report, stdin, output, birthplace));
                child::run(self, cgroups, ends)
            }
        }
    }
}

impl Launched {
    /// This is the container's first process, which the runtime that this was has created.
    pub(crate) fn adopt(&mut self, pid: i32) -> io::Result<()> {
        let number = rustix::process::Pid::from_raw(pid).ok_or(rustix::io::Errno::SRCH)?;
        self.pidfd = rustix::process::pidfd_open(number, rustix::process::PidfdFlags::empty())?;
        self.pid = pid;
        Ok(())
    }

    /// The program may run.
    pub(crate) fn release(&self) {
        let _ = rustix::io::write(&self.gate, &[GO]);
    }
}

/// Runs `work` in a process of its own that nobody waits for but the reaper of orphans.
pub(crate) fn aside(work: impl FnOnce()) {
    if let Ok(Cloned::Child) = clone3(0, None) {
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        exit_now(0);
    }
}

/// Our own program runs its hidden command `probe` with `words`, in this process's own
/// namespaces. Its output comes through the pipe.
pub(crate) fn helper(words: &[String]) -> io::Result<(Executed, OwnedFd)> {
    let (output, theirs) = pipe_with(PipeFlags::CLOEXEC)?;
    let (report, report_child) = pipe_with(PipeFlags::CLOEXEC)?;
    match clone3(0, None)? {
        Cloned::Parent { pid, pidfd } => Ok((Executed { pid, pidfd, report }, output)),
        Cloned::Child => {
            let failed = program::become_own(words, &theirs);
            let _ = rustix::io::write(&report_child, format!("126 run the prober: {failed}").as_bytes());
            exit_now(126)
        }
    }
}
