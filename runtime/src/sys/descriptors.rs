//! Descriptors as a whole: what an exec passes on.
#![allow(unsafe_code, reason = "neither nix nor rustix has close_range")]

use std::io;

/// Marks every descriptor from `first` on close-on-exec.
///
/// # Errors
/// The kernel's errno. Source: `close_range(2)`, Linux 5.11.
pub(crate) fn close_on_exec_from(first: u32) -> io::Result<()> {
    // SAFETY: only flags change; no descriptor is closed before an exec.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
