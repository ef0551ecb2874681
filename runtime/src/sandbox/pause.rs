//! The first process of a PID namespace that a pod's containers share.
//!
//! It holds the namespace and buries orphans; it is a fork of the supervisor without an exec,
//! so that it costs hardly any memory. What the containers see of it must lead nowhere: it has
//! an empty root, no descriptor, no capability, and cannot be traced.

use super::error::{Failure, Step};
use super::rootfs::{self, new_filesystem};
use super::{LaunchError, child};
use crate::cgroup::Cgroups;
use crate::sys::clone::{Cloned, clone3, exit_now};
use crate::sys::{descriptors, signals};
use caps::CapSet;
use nix::sched::{CloneFlags, setns};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::mount::{MountAttrFlags, MountPropagationFlags, MoveMountFlags, mount_change, move_mount};
use rustix::process::{DumpableBehavior, Signal, pidfd_send_signal, set_dumpable_behavior};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// The first process of a pod's own PID namespace.
#[derive(Debug)]
pub(crate) struct Pause {
    pidfd: OwnedFd,
    namespace: File,
}

impl Pause {
    /// The namespace is there, and its process in the pod's `cgroup`. `folder` is any folder.
    pub(crate) fn start(cgroups: &Cgroups, cgroup: &str, folder: &Path) -> Result<Self, LaunchError> {
        let group = cgroups.supervisor_group(cgroup);
        let birthplace = cgroups.birthplace(&group)?;
        let namespaces = libc::CLONE_NEWPID | libc::CLONE_NEWNS;
        let into = birthplace.as_ref().map(AsFd::as_fd);
        match clone3(namespaces, into).map_err(LaunchError::Clone)? {
            Cloned::Parent { pid, pidfd } => {
                let namespace = File::open(format!("/proc/{pid}/ns/pid")).map_err(LaunchError::Clone)?;
                Ok(Self { pidfd, namespace })
            }
            Cloned::Child => {
                drop(birthplace);
                let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                    child::enter(cgroups, &group)?;
                    hold(folder)
                }));
                exit_now(i32::from(!matches!(ended, Ok(Ok(())))))
            }
        }
    }

    /// False when it was killed, and its namespace with it.
    pub(crate) fn lives(&self) -> bool {
        let mut ends = [PollFd::new(&self.pidfd, PollFlags::IN)];
        poll(&mut ends, Some(&Timespec::default())).is_ok_and(|ended| ended == 0)
    }

    /// The namespace.
    pub(super) fn namespace(&self) -> &File {
        &self.namespace
    }

    /// The namespace ends, with every process in it.
    pub(crate) fn end(&self) {
        let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
    }
}

/// Waits for ever, for nothing.
fn hold(folder: &Path) -> Result<(), Failure> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .step(|| "bind the process to its supervisor".to_owned())?;
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    let _unnamed = rustix::thread::set_name(c"pause");
    mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)
        .step(|| "make mounts private".to_owned())?;
    let nothing = new_filesystem("tmpfs", &[("size", "4k")], MountAttrFlags::MOUNT_ATTR_RDONLY)?;
    move_mount(&nothing, "", rustix::fs::CWD, folder, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .step(|| "mount an empty root".to_owned())?;
    rootfs::enter(folder)?;
    signals::reset();
    // The kernel then buries children by itself.
    signals::ignore_children();
    for set in [CapSet::Effective, CapSet::Permitted, CapSet::Inheritable] {
        caps::clear(None, set).map_err(io::Error::other).step(|| "drop the capabilities".to_owned())?;
    }
    descriptors::close_from(0).step(|| "close descriptors".to_owned())?;
    loop {
        nix::unistd::pause();
    }
}

/// Forks into the PID namespace; where the next child is born is our own again after. Until its
/// exec nobody who is in that namespace can trace the child, nor see what it has of ours.
pub(super) fn born_in(there: &File, flags: i32, birthplace: Option<BorrowedFd<'_>>) -> io::Result<Cloned> {
    let own = File::open("/proc/self/ns/pid")?;
    setns(there, CloneFlags::CLONE_NEWPID)?;
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    let cloned = clone3(flags, birthplace);
    if !matches!(cloned, Ok(Cloned::Child)) {
        let _ = set_dumpable_behavior(DumpableBehavior::Dumpable);
        setns(&own, CloneFlags::CLONE_NEWPID)?;
    }
    cloned
}
