//! Places of the host that stay tied to it, so that what a container mounts there the host sees.
//!
//! The supervisor's own mounts only follow the host's. Copies that go both ways have to be taken
//! from the host's own mount namespace, the one of whoever started this process.

use super::init::InitError;
use crate::plan::SharedMount;
use nix::sched::{CloneFlags, setns};
use rustix::fs::{CWD, Mode, OFlags, open};
use rustix::mount::{MoveMountFlags, OpenTreeFlags, UnmountFlags, move_mount, open_tree, unmount};
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

/// Each of `mounts` is at its place, and one with the host's.
pub(super) fn tie(mounts: &[SharedMount]) -> Result<(), InitError> {
    if mounts.is_empty() {
        return Ok(());
    }
    let trees =
        in_the_hosts_namespace(|| mounts.iter().map(|mount| (mount, copy(&mount.from))).collect::<Vec<_>>());
    let failed = |mount: &SharedMount, source| InitError::SharedMount { path: mount.from.clone(), source };
    for (mount, tree) in trees.map_err(|source| failed(&mounts[0], source))? {
        tree.and_then(|tree| attach(&tree, &mount.at)).map_err(|source| failed(mount, source))?;
    }
    Ok(())
}

/// None of `mounts` is at its place any more. Who holds one keeps it.
pub(super) fn untie(mounts: &[SharedMount]) {
    for mount in mounts {
        // What is not mounted is not tied.
        let _ = unmount(&mount.at, UnmountFlags::DETACH);
    }
}

fn copy(path: &Path) -> io::Result<OwnedFd> {
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    Ok(open_tree(CWD, path, flags)?)
}

fn attach(tree: &OwnedFd, at: &Path) -> io::Result<()> {
    if fs::metadata(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(tree)))?.is_dir() {
        fs::create_dir_all(at)?;
    } else {
        at.parent().map_or(Ok(()), fs::create_dir_all)?;
        fs::write(at, "")?;
    }
    Ok(move_mount(tree, "", CWD, at, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?)
}

/// Needs a process of one thread, and `CAP_SYS_ADMIN`. Both namespaces have `/` as working folder.
fn in_the_hosts_namespace<T>(work: impl FnOnce() -> T) -> io::Result<T> {
    let parent = rustix::process::getppid().ok_or(io::ErrorKind::NotFound)?;
    let open = |path: &str| open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    let own = open("/proc/self/ns/mnt")?;
    let hosts = open(&format!("/proc/{}/ns/mnt", parent.as_raw_nonzero()))?;
    setns(&hosts, CloneFlags::CLONE_NEWNS)?;
    let result = work();
    setns(&own, CloneFlags::CLONE_NEWNS)?;
    Ok(result)
}
