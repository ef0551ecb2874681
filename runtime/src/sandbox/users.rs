//! A pod's own users: ids that mean nobody on the host.

use super::error::{Failure, Step};
use crate::sys::clone::{Cloned, clone3, exit_now};
use crate::sys::mount::set_owner_ids;
use nix::sched::{CloneFlags, setns, unshare};
use rustix::pipe::{PipeFlags, pipe_with};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

/// How many users and groups a pod has.
pub(crate) const IDS: u32 = 65_536;

/// The user namespace of a pod.
#[derive(Debug)]
pub(crate) struct Users {
    namespace: File,
    /// The host's id of the pod's root.
    first: u32,
}

impl Users {
    /// A user namespace in which `count` ids from `first` on are the pod's from 0 on. This process is
    /// in the new `namespaces` (`CLONE_NEW*`), which belong to it, and stays the host's root.
    pub(crate) fn make(first: u32, count: u32, namespaces: CloneFlags) -> io::Result<Self> {
        let (gate_child, gate) = pipe_with(PipeFlags::CLOEXEC)?;
        match clone3(namespaces.bits() | libc::CLONE_NEWUSER, None)? {
            Cloned::Child => {
                drop(gate);
                // Until the other end is closed, or its owner gone.
                let _ = rustix::io::read(&gate_child, &mut [0; 1]);
                exit_now(0)
            }
            Cloned::Parent { pid, pidfd } => {
                drop(gate_child);
                let made = Self::take(pid, &pidfd, (first, count), namespaces);
                drop(gate);
                let _ = nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(pid), None);
                made
            }
        }
    }

    fn take(
        pid: i32,
        pidfd: &OwnedFd,
        (first, count): (u32, u32),
        namespaces: CloneFlags,
    ) -> io::Result<Self> {
        for map in ["uid_map", "gid_map"] {
            fs::write(format!("/proc/{pid}/{map}"), format!("0 {first} {count}"))?;
        }
        setns(pidfd, namespaces)?;
        Ok(Self { namespace: File::open(format!("/proc/{pid}/ns/user"))?, first })
    }

    /// The host's id of this id of the pod's.
    pub(super) fn on_host(&self, id: u32) -> u32 {
        self.first.saturating_add(id)
    }

    /// Who owns what in `tree`, a mount that nobody has seen yet, is said in the pod's ids.
    fn give(&self, tree: &OwnedFd, recursive: bool) -> io::Result<()> {
        set_owner_ids(tree.as_fd(), self.namespace.as_fd(), recursive)
    }

    /// This process has the pod's users, and all that it has mounted is theirs to see, and not to
    /// take away.
    pub(super) fn join(&self) -> Result<(), Failure> {
        setns(&self.namespace, CloneFlags::CLONE_NEWUSER).step(|| "join the pod's users".to_owned())
    }

    /// The mounts of this process, which has joined, are the pod's: locked as they are.
    pub(super) fn lock_mounts() -> Result<(), Failure> {
        unshare(CloneFlags::CLONE_NEWNS).step(|| "lock the mounts".to_owned())
    }
}

/// A tree that is about to be mounted has the owners that it has for the pod's users, if the pod
/// has its own.
pub(super) fn own(users: Option<&Users>, tree: &OwnedFd, recursive: bool) -> io::Result<()> {
    match users.map(|users| users.give(tree, recursive)) {
        Some(Err(error)) if error.raw_os_error() == Some(libc::EINVAL) => Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "its filesystem cannot be mounted for a pod with users of its own (hostUsers: false)",
        )),
        Some(result) => result,
        None => Ok(()),
    }
}
