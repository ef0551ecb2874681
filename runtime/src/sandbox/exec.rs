//! One more process in a container that runs: its namespaces, cgroup, root and privileges.
//!
//! The process is born in the container's PID namespace, not dumpable until its exec: what
//! runs there can neither trace it nor look at the descriptors that it has of ours.

use super::error::{Failure, Step};
use super::filter::Filter;
use super::{Launch, LaunchError, child, foreign, mounts, pause, privileges, program, terminal, user};
use crate::cgroup::Cgroups;
use crate::sys::clone::{Cloned, clone3, exit_now};
use crate::sys::{descriptors, signals};
use nix::sched::{CloneFlags, setns};
use oci_spec::runtime::Process;
use rustix::fs::Mode;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open};
use std::convert::Infallible;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

/// What is to be run in which container.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Exec<'a> {
    pub(crate) launch: Launch<'a>,
    /// The container's first process.
    pub(crate) target: i32,
    pub(crate) args: &'a [String],
    /// `NAME=value`, beside the container's own.
    pub(crate) env: &'a [String],
    /// Else the container's own.
    pub(crate) cwd: Option<&'a str>,
    /// `user[:group]`, else the container's own.
    pub(crate) user: Option<&'a str>,
}

/// Where the new process reads and writes.
#[derive(Debug)]
pub(crate) enum ExecStreams {
    /// Standard input, output and error.
    Three([OwnedFd; 3]),
    /// A terminal of the container's own, whose other side is sent through this socket.
    Terminal(OwnedFd),
}

/// A process on its way.
#[derive(Debug)]
pub(crate) struct Executed {
    pub(crate) pid: i32,
    pub(crate) pidfd: OwnedFd,
    /// Closed at the exec; before that a [`super::StartFailure`] may come out.
    pub(crate) report: OwnedFd,
}

impl Exec<'_> {
    /// Starts the process. Its end is the supervisor's to reap.
    pub(crate) fn start(&self, cgroups: &Cgroups, streams: ExecStreams) -> Result<Executed, LaunchError> {
        let pipe = || pipe_with(PipeFlags::CLOEXEC).map_err(|error| LaunchError::Pipe(error.into()));
        let (report, report_child) = pipe()?;
        let group = self.launch.group();
        let birthplace = cgroups.birthplace(&group)?;
        // Inside of the container's PID namespace its number would mean somebody else.
        let target = self.target().map_err(LaunchError::Clone)?;
        let cloned = match self.launch.pod.security.handler {
            Some(_) => clone3(0, birthplace.as_ref().map(AsFd::as_fd)),
            None => self.clone_there(birthplace.as_ref()),
        };
        let cloned = cloned.map_err(LaunchError::Clone)?;
        match cloned {
            Cloned::Parent { pid, pidfd } => Ok(Executed { pid, pidfd, report }),
            Cloned::Child => {
                drop((report, birthplace));
                self.run(&target, cgroups, &report_child, streams)
            }
        }
    }

    fn target(&self) -> io::Result<OwnedFd> {
        let pid = Pid::from_raw(self.target).ok_or(rustix::io::Errno::SRCH)?;
        Ok(pidfd_open(pid, PidfdFlags::empty())?)
    }

    /// Forks into the container's PID namespace.
    fn clone_there(&self, birthplace: Option<&OwnedFd>) -> io::Result<Cloned> {
        let there = std::fs::File::open(format!("/proc/{}/ns/pid", self.target))?;
        pause::born_in(&there, 0, birthplace.map(AsFd::as_fd))
    }

    fn run(&self, target: &OwnedFd, cgroups: &Cgroups, report: &OwnedFd, streams: ExecStreams) -> ! {
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            child::enter(cgroups, &self.launch.group())?;
            match &self.launch.pod.security.handler {
                Some(handler) => foreign::exec(self, handler, streams),
                None => self.join(target, streams),
            }
        }));
        let (code, message) = match outcome {
            Ok(Err(failure)) => (failure.exit_code(), failure.encode()),
            Err(_) => (128, "128 setup panicked".to_owned()),
            Ok(Ok(never)) => match never {},
        };
        let _ = rustix::io::write(report, message.as_bytes());
        exit_now(code)
    }

    fn join(&self, target: &OwnedFd, streams: ExecStreams) -> Result<Infallible, Failure> {
        let spec = &self.launch.container.spec;
        let process = spec.process().as_ref().ok_or_else(child::missing_process)?;
        let process = self.process(process);
        let filter = Filter::of(self.launch.container)?;
        let namespaces = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWCGROUP;
        setns(target, namespaces).step(|| "join the container's namespaces".to_owned())?;
        match streams {
            ExecStreams::Three(streams) => set_streams(&streams)?,
            ExecStreams::Terminal(socket) => {
                let terminal = terminal::take(&socket)?;
                let slave = || terminal.try_clone().step(|| "copy a descriptor".to_owned());
                set_streams(&[slave()?, slave()?, slave()?])?;
            }
        }
        let identity = user::resolve_as(self.launch.container, &process, self.user)?;
        mounts::enter_directory(process.cwd())?;
        let program = program::Program::of(&process, &identity);
        privileges::take_on(&process, &identity, self.launch.users)?;
        rustix::process::umask(Mode::from_raw_mode(process.user().umask().unwrap_or(0o022)));
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
            .step(|| "bind the process's life to its supervisor".to_owned())?;
        signals::reset();
        descriptors::close_on_exec_from(3).step(|| "close descriptors".to_owned())?;
        privileges::seal(&process, &self.launch.container.security, filter.as_ref())?;
        Err(program.execute())
    }

    pub(super) fn process(&self, own: &Process) -> Process {
        let mut process = own.clone();
        process.set_args(Some(self.args.to_vec()));
        let mut env = own.env().clone().unwrap_or_default();
        env.extend(self.env.iter().cloned());
        process.set_env(Some(env));
        if let Some(cwd) = self.cwd.filter(|cwd| !cwd.is_empty()) {
            process.set_cwd(cwd.into());
        }
        process
    }
}

pub(super) fn set_streams(streams: &[OwnedFd; 3]) -> Result<(), Failure> {
    nix::unistd::dup2_stdin(&streams[0]).step(|| "set standard input".to_owned())?;
    nix::unistd::dup2_stdout(&streams[1]).step(|| "set standard output".to_owned())?;
    nix::unistd::dup2_stderr(&streams[2]).step(|| "set standard error".to_owned())
}
