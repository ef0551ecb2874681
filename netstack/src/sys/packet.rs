//! Sockets of frames on a link: `packet(7)`.
#![allow(unsafe_code, reason = "nix has no addresses of packet sockets that one can make, and no filters")]

use nix::libc;
use std::io;
use std::mem::zeroed;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// What is heard. Source: `linux/if_ether.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Frames {
    /// All frames of ARP.
    Arp = 0x0806,
    /// Of IPv6, those by which neighbours are asked for.
    Solicitations = 0x86dd,
}

/// A step of a filter. Source: `linux/filter.h`.
const fn step(code: u16, jt: u8, jf: u8, k: u32) -> libc::sock_filter {
    libc::sock_filter { code, jt, jf, k }
}

/// The byte at an offset; on, if it is that one; so many bytes of the frame are kept.
const BYTE: u16 = 0x30;
const EQUAL: u16 = 0x15;
const KEEP: u16 = 0x06;

/// Of frames of IPv6, those of `ICMPv6` (58) with neighbour solicitations (135).
const SOLICITATIONS: [libc::sock_filter; 6] = [
    step(BYTE, 0, 0, 14 + 6),
    step(EQUAL, 0, 3, 58),
    step(BYTE, 0, 0, 14 + 40),
    step(EQUAL, 0, 1, 135),
    step(KEEP, 0, 0, 0xffff),
    step(KEEP, 0, 0, 0),
];

/// A socket of a link's frames.
#[derive(Debug)]
pub(crate) struct Packets(AsyncFd<OwnedFd>);

impl Packets {
    /// On the link of that number, in the network namespace of the calling thread, on its tokio runtime.
    /// Needs `CAP_NET_RAW`.
    ///
    /// # Errors
    /// As `socket(2)`, `setsockopt(2)` and `bind(2)`.
    pub(crate) fn open(link: u32, frames: Frames) -> io::Result<Self> {
        // Of no protocol until it is bound: nothing is heard before the filter is there.
        // SAFETY: a call without pointers.
        let fd = unsafe {
            libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK, 0)
        };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor is new, and nobody else has it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        if frames == Frames::Solicitations {
            filter(&fd, &SOLICITATIONS)?;
        }
        bind(&fd, link, frames)?;
        // SAFETY: an `OwnedFd` is open, and the same, for as long as it is.
        let fd = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }?;
        Ok(Self(fd))
    }

    /// The next frame, into `buffer`; what is longer is cut. Returns its length.
    ///
    /// # Errors
    /// As `recv(2)`: `ENETDOWN` when the link goes down.
    ///
    /// # Cancel safety
    /// Nothing is lost when dropped.
    pub(crate) async fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let receive = |fd: &OwnedFd| {
            Ok(nix::sys::socket::recv(fd.as_raw_fd(), buffer, nix::sys::socket::MsgFlags::empty())?)
        };
        self.0.async_io(Interest::READABLE, receive).await
    }

    /// Sends a frame. One for which there is no room is lost, as frames may be.
    ///
    /// # Errors
    /// As `send(2)`.
    pub(crate) fn send(&self, frame: &[u8]) -> io::Result<()> {
        let sent =
            nix::sys::socket::send(self.0.get_ref().as_raw_fd(), frame, nix::sys::socket::MsgFlags::empty());
        match sent {
            Ok(_) | Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::ENOBUFS) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

fn filter(fd: &OwnedFd, steps: &[libc::sock_filter]) -> io::Result<()> {
    let program = libc::sock_fprog {
        len: u16::try_from(steps.len()).unwrap_or(0),
        // The kernel only reads it.
        filter: steps.as_ptr().cast_mut(),
    };
    // SAFETY: the pointer is to a program of the length that is said, whose steps outlive the call.
    let done = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const program).cast(),
            length_of::<libc::sock_fprog>(),
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn bind(fd: &OwnedFd, link: u32, frames: Frames) -> io::Result<()> {
    // SAFETY: all bytes of an address may be zero.
    let mut address: libc::sockaddr_ll = unsafe { zeroed() };
    address.sll_family = u16::try_from(libc::AF_PACKET).unwrap_or(0);
    address.sll_protocol = u16::to_be(frames as u16);
    address.sll_ifindex = i32::try_from(link).unwrap_or(0);
    // SAFETY: the pointer is to an address of the length that is said, which outlives the call.
    let done =
        unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), length_of::<libc::sockaddr_ll>()) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[allow(clippy::cast_possible_truncation, reason = "some bytes")]
const fn length_of<T>() -> libc::socklen_t {
    size_of::<T>() as libc::socklen_t
}
