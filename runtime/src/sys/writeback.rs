//! Files on their way to the disk.
#![allow(unsafe_code, reason = "neither nix nor rustix has sync_file_range")]

use std::os::fd::{AsFd, AsRawFd};

/// The kernel begins to write the file's content to the disk; nobody waits for it. Only a hint:
/// whether it is there is for `fsync` to say.
pub(crate) fn begin(file: &impl AsFd) {
    let file = file.as_fd().as_raw_fd();
    // SAFETY: the descriptor is open for the length of this call; no memory is given.
    unsafe { libc::sync_file_range(file, 0, 0, libc::SYNC_FILE_RANGE_WRITE) };
}
