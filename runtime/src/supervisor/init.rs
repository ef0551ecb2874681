//! From a fresh process to a supervisor whose pod has its namespaces.

use super::equipment::{Equipment, EquipmentError};
use super::gate::Gate;
use super::shell::{Ends, Shell};
use super::{READY, image_volume, memory, shared, status};
use crate::cgroup::{CgroupError, Cgroups};
use crate::plan::PodPlan;
use crate::sandbox::{IDS, Users};
use crate::sys::link;
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{Mode, OFlags, open};
use rustix::mount::{MountPropagationFlags, mount_change};
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

/// Why a supervisor could not begin.
#[derive(Debug, thiserror::Error)]
pub(super) enum InitError {
    #[error("cannot read the plan {path}")]
    ReadPlan { path: PathBuf, source: io::Error },
    #[error("cannot understand the plan {path}")]
    ParsePlan { path: PathBuf, source: serde_json::Error },
    #[error("cannot {what}")]
    Process { what: &'static str, source: io::Error },
    #[error("cannot mount the memory volume {path}")]
    MemoryVolume { path: PathBuf, source: io::Error },
    #[error("cannot mount the image volume {path}")]
    ImageVolume { path: PathBuf, source: io::Error },
    #[error("cannot share the mounts below {path}")]
    SharedMount { path: PathBuf, source: io::Error },
    #[error("whoever started this supervisor is gone")]
    Abandoned,
    #[error("cannot listen on {path}")]
    Listen { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Equipment(#[from] EquipmentError),
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
}

/// Names what this process could not do.
fn doing<T>(result: Result<T, impl Into<io::Error>>, what: &'static str) -> Result<T, InitError> {
    result.map_err(|error| InitError::Process { what, source: error.into() })
}

/// Makes the pod's namespaces, cgroups and socket, and tells the starter so.
/// `sealed` is what became of [`super::seal`], which is told where errors go.
pub(super) fn set_up(plan_path: &Path, socket: &Path, sealed: io::Result<bool>) -> Result<Shell, InitError> {
    // Refused if we lead a session already, which is as good.
    let _ = rustix::process::setsid();
    let plan = read_plan(plan_path)?;
    redirect_errors(&plan);
    if let Err(error) = &sealed {
        let _ = writeln!(io::stderr(), "containers can reach this program's file: {error}");
    }
    // Lowering needs CAP_SYS_RESOURCE; without it the kernel still prefers bigger victims.
    let _ = fs::write("/proc/self/oom_score_adj", "-999");
    doing(nix::sys::prctl::set_child_subreaper(true), "adopt orphans")?;
    let signals = block_signals()?;
    let users = make_namespaces(&plan, sealed.unwrap_or(false))?;
    shared::tie(&plan.shared_mounts)?;
    for volume in &plan.memory_volumes {
        memory::mount(volume)
            .map_err(|source| InitError::MemoryVolume { path: volume.path.clone(), source })?;
    }
    for volume in &plan.image_volumes {
        image_volume::mount(volume)
            .map_err(|source| InitError::ImageVolume { path: volume.path.clone(), source })?;
    }
    let gate = doing(Gate::pass(), "learn how to begin")?;
    let equipment = Equipment::open(&plan, gate.sockets)?;
    let cgroups = Cgroups::detect()?;
    if gate.is_placed {
        cgroups.descend(&plan.cgroup)?;
    }
    cgroups.ensure_pod(&plan.cgroup, &plan.resources)?;
    let before = status::read_status(&plan.state_dir);
    if is_abandoned() {
        // The next agent saw no socket, and may have another supervisor for the pod already.
        return Err(InitError::Abandoned);
    }
    let listener = listen(socket).map_err(|source| InitError::Listen { path: socket.to_owned(), source })?;
    let ends = Ends { listener, signals, equipment, users };
    let shell = Shell::new(plan, cgroups, before.as_ref(), ends);
    say(READY);
    close_streams();
    Ok(shell)
}

/// True if nobody will ever read what [`say`] says.
fn is_abandoned() -> bool {
    let stdout = io::stdout();
    let mut ends = [PollFd::new(&stdout, PollFlags::empty())];
    let looked = rustix::event::poll(&mut ends, Some(&Timespec::default()));
    looked.is_ok() && ends[0].revents().contains(PollFlags::ERR)
}

/// One line for whoever started this process.
pub(super) fn say(text: &str) {
    let mut out = io::stdout();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
    if text != READY {
        let _ = writeln!(io::stderr(), "{text}");
    }
}

fn read_plan(path: &Path) -> Result<PodPlan, InitError> {
    let text = fs::read(path).map_err(|source| InitError::ReadPlan { path: path.to_owned(), source })?;
    serde_json::from_slice(&text).map_err(|source| InitError::ParsePlan { path: path.to_owned(), source })
}

/// Our own errors go to the pod's folder.
fn redirect_errors(plan: &PodPlan) {
    let log = plan.state_dir.join("supervisor.log");
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND | OFlags::CLOEXEC;
    if let Ok(log) = open(&log, flags, Mode::from_raw_mode(0o600)) {
        let _ = nix::unistd::dup2_stderr(&log);
    }
}

fn close_streams() {
    if let Ok(null) = open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()) {
        let _ = nix::unistd::dup2_stdin(&null);
        let _ = nix::unistd::dup2_stdout(&null);
    }
}

fn block_signals() -> Result<SignalFd, InitError> {
    let mut set = SigSet::empty();
    let stop = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGURG];
    for signal in stop.into_iter().chain([Signal::SIGCHLD]) {
        set.add(signal);
    }
    doing(set.thread_block(), "block signals")?;
    doing(SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK), "watch signals")
}

fn make_namespaces(plan: &PodPlan, has_mounts: bool) -> Result<Option<Users>, InitError> {
    // A second one would take the first with it, and the name of our program.
    let mounts = if has_mounts { CloneFlags::empty() } else { CloneFlags::CLONE_NEWNS };
    let mut flags = CloneFlags::empty();
    if !plan.host_network {
        flags |= CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWUTS;
    }
    if !plan.host_ipc {
        flags |= CloneFlags::CLONE_NEWIPC;
    }
    let users = match plan.security.first_id {
        Some(first) => {
            doing(unshare(mounts), "make the pod's mount namespace")?;
            Some(doing(
                Users::make(first, plan.security.id_count.unwrap_or(IDS), flags),
                "make the pod's users (hostUsers: false)",
            )?)
        }
        None => {
            doing(unshare(flags | mounts), "make the pod's namespaces")?;
            None
        }
    };
    // What the host unmounts later is unmounted here too; what we mount stays here.
    let propagation = MountPropagationFlags::REC | MountPropagationFlags::DOWNSTREAM;
    doing(mount_change("/", propagation), "separate mounts")?;
    if !plan.host_network {
        doing(rustix::system::sethostname(plan.hostname.as_bytes()), "set the host name")?;
        doing(link::loopback_up(), "bring lo up")?;
    }
    Ok(users)
}

fn listen(path: &Path) -> io::Result<UnixListener> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mask = rustix::process::umask(Mode::from_raw_mode(0o177));
    let listener = UnixListener::bind(path);
    rustix::process::umask(mask);
    let listener = listener?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}
