//! The container's first process, from the fork to the exec.

use super::error::{Failure, Step};
use super::filter::Filter;
use super::{
    ChildEnds, ChildOutput, GO, Launch, Users, credentials, foreign, mounts, privileges, program, rootfs,
    terminal, user,
};
use crate::cgroup::{CgroupError, Cgroups};
use crate::sys::clone::exit_now;
use crate::sys::{descriptors, signals};
use nix::sched::{CloneFlags, unshare};
use rustix::fs::{Mode, OFlags, open};
use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::process::Signal;
use std::convert::Infallible;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

/// Becomes the container's program, or reports why not and ends.
pub(super) fn run(launch: &Launch<'_>, cgroups: &Cgroups, ends: ChildEnds) -> ! {
    if let Some(handler) = &launch.pod.security.handler {
        let report = ends.report.try_clone();
        foreign::run(launch, handler, cgroups, ends, report);
    }
    let ChildEnds { gate, report, stdin, output } = ends;
    // Where the program expects its sockets, others may be.
    let report = if launch.sockets.is_empty() { report } else { descriptors::out_of_the_way(report) };
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        become_container(launch, cgroups, gate.as_fd(), (stdin, output))
    }));
    let (code, message) = match outcome {
        Ok(Err(failure)) => (failure.exit_code(), failure.encode()),
        Err(_) => (128, "128 setup panicked".to_owned()),
        Ok(Ok(never)) => match never {},
    };
    let _ = rustix::io::write(&report, message.as_bytes());
    exit_now(code)
}

fn become_container(
    launch: &Launch<'_>,
    cgroups: &Cgroups,
    gate: std::os::fd::BorrowedFd<'_>,
    (stdin, output): (Option<OwnedFd>, ChildOutput),
) -> Result<Infallible, Failure> {
    let spec = &launch.container.spec;
    let process = spec.process().as_ref().ok_or_else(missing_process)?;
    let filter = Filter::of(launch.container)?;
    // While the host's tree of them is still to be seen.
    enter(cgroups, &launch.group())?;
    set_input(stdin)?;
    rustix::process::umask(Mode::empty());
    let tied = mounts::take_tied(spec)?;
    let private = MountPropagationFlags::REC | MountPropagationFlags::PRIVATE;
    mount_change("/", private).step(|| "make mounts private".to_owned())?;
    rootfs::mount(launch)?;
    mounts::mount_all(launch, &launch.layer().join(rootfs::ROOT), tied)?;
    rootfs::enter(&launch.layer().join(rootfs::ROOT))?;
    // A terminal is one of the container's own /dev/pts.
    let streams = set_outputs(output)?;
    unshare(CloneFlags::CLONE_NEWCGROUP).step(|| "make a cgroup namespace".to_owned())?;
    mounts::mount_late(launch, cgroups)?;
    mounts::protect(spec)?;
    let identity = user::resolve(launch.container, process)?;
    credentials::write(launch, &identity)?;
    mounts::enter_directory(process.cwd())?;
    for stream in &streams {
        // Lets a program that is not root open /dev/stdout by name. Not all may be changed.
        let (uid, gid) = launch.owner(&identity);
        let _ = rustix::fs::fchown(stream, Some(uid), Some(gid));
    }
    let mut program = program::Program::of(process, &identity);
    program.listens_to(&launch.container.habits.wanted.sockets);
    privileges::take_on(process, &identity, launch.users)?;
    if launch.users.is_some() {
        Users::lock_mounts()?;
    }
    rustix::process::umask(Mode::from_raw_mode(process.user().umask().unwrap_or(0o022)));
    // After the change of identity, which would clear it. Should the supervisor have ended
    // before this line, the gate is closed and the next one fails.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .step(|| "bind the container's life to its supervisor".to_owned())?;
    wait_for_go(gate)?;
    signals::reset();
    descriptors::close_on_exec_from(3).step(|| "close descriptors".to_owned())?;
    descriptors::pass_on(launch.sockets).step(|| "pass sockets on".to_owned())?;
    privileges::seal(process, &launch.container.security, filter.as_ref())?;
    Err(program.execute())
}

pub(super) fn missing_process() -> Failure {
    let error: Result<Infallible, _> = Err(io::Error::from(io::ErrorKind::InvalidInput));
    match error.step(|| "read the specification's process".to_owned()) {
        Err(failure) => failure,
        Ok(never) => match never {},
    }
}

/// This process is in the container's cgroup.
pub(super) fn enter(cgroups: &Cgroups, group: &str) -> Result<(), Failure> {
    cgroups.enter(group).map_err(CgroupError::into_io).step(|| format!("enter the cgroup {group}"))
}

pub(super) fn set_input(stdin: Option<OwnedFd>) -> Result<(), Failure> {
    let stdin = match stdin {
        Some(stdin) => stdin,
        None => open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .step(|| "open /dev/null".to_owned())?,
    };
    nix::unistd::dup2_stdin(&stdin).step(|| "set standard input".to_owned())
}

/// Standard output and error are set; with a terminal, standard input too. What they are is
/// returned.
pub(super) fn set_outputs(output: ChildOutput) -> Result<Vec<OwnedFd>, Failure> {
    let (stdout, stderr) = match output {
        ChildOutput::Pipes([stdout, stderr]) => (stdout, stderr),
        ChildOutput::Socket(socket) => {
            let terminal = terminal::take(&socket)?;
            nix::unistd::dup2_stdin(&terminal).step(|| "set standard input".to_owned())?;
            let copy = terminal.try_clone().step(|| "copy a descriptor".to_owned())?;
            (terminal, copy)
        }
    };
    nix::unistd::dup2_stdout(&stdout).step(|| "set standard output".to_owned())?;
    nix::unistd::dup2_stderr(&stderr).step(|| "set standard error".to_owned())?;
    Ok(vec![stdout, stderr])
}

/// Blocks until the supervisor lets this process on.
fn wait_for_go(gate: std::os::fd::BorrowedFd<'_>) -> Result<(), Failure> {
    let mut byte = [0];
    let read = loop {
        match rustix::io::read(gate, &mut byte) {
            Err(rustix::io::Errno::INTR) => {}
            other => break other,
        }
    };
    match read {
        Ok(1) if byte[0] == GO => Ok(()),
        Ok(_) => {
            Err(io::Error::from(io::ErrorKind::UnexpectedEof)).step(|| "wait for the supervisor".to_owned())
        }
        Err(error) => Err(error).step(|| "wait for the supervisor".to_owned()),
    }
}
