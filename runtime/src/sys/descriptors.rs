//! Descriptors: what an exec passes on, and what goes through a socket.
#![allow(unsafe_code, reason = "neither nix nor rustix has close_range")]

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// Marks every descriptor from `first` on close-on-exec.
///
/// # Errors
/// The kernel's errno. Source: `close_range(2)`, Linux 5.11.
pub(crate) fn close_on_exec_from(first: u32) -> io::Result<()> {
    // SAFETY: only flags change; no descriptor is closed before an exec.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Every descriptor from `first` on is closed.
///
/// To be called by a process that uses none of them after, whoever thinks to own them.
///
/// # Errors
/// The kernel's errno. Source: `close_range(2)`, Linux 5.9.
pub(crate) fn close_from(first: u32) -> io::Result<()> {
    // SAFETY: the one caller is a forked process that does nothing but wait from here on.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Where descriptors are moved to that must not be where others are expected.
const HIGH: i32 = 64;

/// The same file, at a number that no program is given anything at.
pub(crate) fn out_of_the_way(descriptor: OwnedFd) -> OwnedFd {
    rustix::io::fcntl_dupfd_cloexec(&descriptor, HIGH).unwrap_or(descriptor)
}

/// The program that this process is about to become has `descriptors` from number 3 on. What
/// was there before is closed.
///
/// # Errors
/// The kernel's errno. Source: `dup2(2)`, sd_listen_fds(3).
pub(crate) fn pass_on(descriptors: &[OwnedFd]) -> io::Result<()> {
    // First all out of the way: one may be where another is to go.
    let high = descriptors.iter().map(|one| rustix::io::fcntl_dupfd_cloexec(one, HIGH));
    let high = high.collect::<Result<Vec<_>, _>>()?;
    for (one, number) in high.iter().zip(3..) {
        // SAFETY: an exec or the process's end comes next: nobody uses, or closes, what had
        // this number.
        let result = unsafe { libc::dup2(one.as_raw_fd(), number) };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Reads what is there, and the descriptors that came with it, close-on-exec. Returns how
/// many bytes; 0 at the end.
///
/// # Errors
/// The kernel's errno. Source: `unix(7)`, `SCM_RIGHTS`.
pub(crate) fn receive(socket: impl AsFd, buffer: &mut [u8], into: &mut Vec<OwnedFd>) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(16))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC;
    let received = recvmsg(socket, &mut [IoSliceMut::new(buffer)], &mut ancillary, flags)?;
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            into.extend(descriptors);
        }
    }
    Ok(received.bytes)
}

/// The bytes and the descriptors, at most three, went through the socket. Returns how many
/// bytes.
///
/// # Errors
/// The kernel's errno. Source: `unix(7)`, `SCM_RIGHTS`.
pub(crate) fn send(socket: impl AsFd, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    Ok(sendmsg(socket, &[IoSlice::new(bytes)], &mut ancillary, SendFlags::NOSIGNAL)?)
}
