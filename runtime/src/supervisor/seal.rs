//! The program that a supervisor is, out of its containers' reach.
//!
//! An image whose command is a link to `/proc/self/exe` executes this very file, with libraries
//! of its own, and so has a descriptor of the host's file: as root it could change its mode, and
//! with a little luck its content. Here it lies on a read-only mount.

use rustix::fs::{CWD, StatVfsMountFlags};
use rustix::mount::{
    MountAttrFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, mount_change, move_mount, open_tree,
};
use std::convert::Infallible;
use std::ffi::{CString, OsString};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

const PROGRAM: &str = "/proc/self/exe";
/// In the environment of a supervisor that was executed again.
const MARK: &str = "KEEL_SEALED";
/// What the kernel appends to the name of a file that an upgrade has replaced.
const DELETED: &[u8] = b" (deleted)";

/// This process executes a file that is read-only for whoever opens it through this process:
/// at once, or by executing itself again. True if it did that, and has a mount namespace of its
/// own now.
///
/// # Errors
/// If it stays as it is. That is no reason not to run a pod.
pub(super) fn seal() -> io::Result<bool> {
    let again = std::env::var_os(MARK).is_some();
    if again || is_read_only()? {
        return Ok(again);
    }
    match execute_sealed() {
        Err(error) => Err(error),
        Ok(never) => match never {},
    }
}

fn is_read_only() -> io::Result<bool> {
    Ok(rustix::fs::statvfs(PROGRAM)?.f_flag.contains(StatVfsMountFlags::RDONLY))
}

fn execute_sealed() -> io::Result<Infallible> {
    // Before there is another namespace: the link leads into this one.
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let program = open_tree(CWD, PROGRAM, flags)?;
    crate::sys::mount::set_attributes(program.as_fd(), MountAttrFlags::MOUNT_ATTR_RDONLY, false)?;
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS)?;
    mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::DOWNSTREAM)?;
    // In its own place, so that it is still called by its name.
    let path = own_path()?;
    move_mount(&program, "", CWD, &path, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    let arguments: Vec<CString> = std::env::args_os().map(c_string).collect();
    Ok(nix::unistd::execve(
        &c_string(path.into_os_string()),
        &arguments,
        &[c_string(format!("{MARK}=1").into())],
    )?)
}

fn own_path() -> io::Result<PathBuf> {
    let path = std::fs::read_link(PROGRAM)?.into_os_string().into_vec();
    let path = path.strip_suffix(DELETED).unwrap_or(&path);
    Ok(PathBuf::from(OsString::from_vec(path.to_vec())))
}

fn c_string(text: OsString) -> CString {
    // What came from an exec has no NUL in it.
    CString::new(text.as_bytes()).unwrap_or_default()
}
