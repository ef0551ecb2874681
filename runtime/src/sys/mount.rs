//! Mount trees held by descriptor: a safe face for `mount_setattr(2)`.
#![allow(unsafe_code, reason = "neither libc, nix nor rustix has a safe mount_setattr")]

use rustix::mount::MountAttrFlags;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Sets the attributes `set` on the mount `tree`, and if `recursive` on every mount under it.
///
/// `tree` comes from `open_tree(2)` or `fsmount(2)`. Needs `CAP_SYS_ADMIN`; Linux 5.12.
///
/// # Errors
/// The kernel's errno, untouched: `EINVAL` if `tree` is not the root of a mount, `EPERM`
/// without the capability. Source: `mount_setattr(2)`.
pub(crate) fn set_attributes(tree: BorrowedFd<'_>, set: MountAttrFlags, recursive: bool) -> io::Result<()> {
    change(tree, u64::from(set.bits()), 0, recursive)
}

/// Mounts and unmounts go into the mount `tree` and those under it, or also out of it, or neither,
/// as `propagation` says: `MS_PRIVATE`, `MS_SLAVE` or `MS_SHARED`.
///
/// # Errors
/// As [`set_attributes`].
pub(crate) fn set_propagation(tree: BorrowedFd<'_>, propagation: u64) -> io::Result<()> {
    change(tree, 0, propagation, true)
}

/// The owners in the mount `tree` are those of the user namespace `users`, from 0 on.
///
/// `tree` was not mounted anywhere yet. Needs `CAP_SYS_ADMIN` where the filesystem was mounted;
/// Linux 5.12.
///
/// # Errors
/// The kernel's errno: `EINVAL` if the filesystem cannot. Source: `mount_setattr(2)`.
pub(crate) fn set_owner_ids(tree: BorrowedFd<'_>, users: BorrowedFd<'_>, recursive: bool) -> io::Result<()> {
    let userns_fd = u64::from(users.as_raw_fd().cast_unsigned());
    let attr_set = libc::MOUNT_ATTR_IDMAP;
    set(tree, &libc::mount_attr { attr_set, attr_clr: 0, propagation: 0, userns_fd }, recursive)
}

fn change(tree: BorrowedFd<'_>, attr_set: u64, propagation: u64, recursive: bool) -> io::Result<()> {
    set(tree, &libc::mount_attr { attr_set, attr_clr: 0, propagation, userns_fd: 0 }, recursive)
}

fn set(tree: BorrowedFd<'_>, attributes: &libc::mount_attr, recursive: bool) -> io::Result<()> {
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: `tree` is open for the whole call (`BorrowedFd`); the path is a NUL-terminated
    // constant; `attributes` outlives the call, the kernel only reads it, and the size is exact.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            flags,
            std::ptr::from_ref(attributes),
            size_of_val(attributes),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
