//! Many datagrams with one call: `recvmmsg(2)` and `sendmmsg(2)`.
#![allow(unsafe_code, reason = "nix's own need allocations for each call, rustix has none")]

use nix::libc;
use std::io;
use std::mem::zeroed;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket};
use std::os::fd::AsRawFd as _;

/// Datagrams of one call, at most.
pub(crate) const BATCH: usize = 32;
/// Bytes of a datagram, at most; what is longer is cut.
const DATAGRAM: usize = 2048;

/// Room for datagrams, and who sent them.
pub(crate) struct Batch {
    packets: Box<[[u8; DATAGRAM]]>,
    lengths: [usize; BATCH],
    senders: Box<[libc::sockaddr_storage]>,
}

impl Batch {
    pub(crate) fn new() -> Self {
        // SAFETY: all bytes of an address may be zero: it is of no family then.
        let none: libc::sockaddr_storage = unsafe { zeroed() };
        Self {
            packets: vec![[0; DATAGRAM]; BATCH].into(),
            lengths: [0; BATCH],
            senders: vec![none; BATCH].into(),
        }
    }

    /// Takes what has come, at least one, and says how many.
    ///
    /// # Errors
    /// As `recvmmsg(2)`; `WouldBlock` if there is none.
    pub(crate) fn receive(&mut self, socket: &UdpSocket) -> io::Result<usize> {
        let mut parts = [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; BATCH];
        // SAFETY: all bytes of a message's header may be zero: it has no parts then.
        let mut headers: [libc::mmsghdr; BATCH] = unsafe { zeroed() };
        for number in 0..BATCH {
            parts[number].iov_base = self.packets[number].as_mut_ptr().cast();
            parts[number].iov_len = DATAGRAM;
            let header = &mut headers[number].msg_hdr;
            header.msg_iov = &raw mut parts[number];
            header.msg_iovlen = 1;
            header.msg_name = (&raw mut self.senders[number]).cast();
            header.msg_namelen = ADDRESS;
        }
        // SAFETY: each header points to one part and one address, each part to a buffer of the length
        // that it says; all of them outlive the call and are used by nobody else meanwhile.
        let count = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr(),
                MOST,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
            )
        };
        let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
        for (length, header) in self.lengths.iter_mut().zip(&headers).take(count) {
            *length = usize::try_from(header.msg_len).unwrap_or(0).min(DATAGRAM);
        }
        Ok(count)
    }

    /// The datagram of that number.
    pub(crate) fn packet(&self, number: usize) -> &[u8] {
        &self.packets[number][..self.lengths[number]]
    }

    /// Who sent the datagram of that number.
    pub(crate) fn from(&self, number: usize) -> Option<SocketAddr> {
        let sender = &raw const self.senders[number];
        match i32::from(self.senders[number].ss_family) {
            libc::AF_INET => {
                // SAFETY: the storage is large enough, aligned for every kind of address, and of this
                // kind.
                let address = unsafe { &*sender.cast::<libc::sockaddr_in>() };
                let ip = Ipv4Addr::from(u32::from_be(address.sin_addr.s_addr));
                Some(SocketAddrV4::new(ip, u16::from_be(address.sin_port)).into())
            }
            libc::AF_INET6 => {
                // SAFETY: as above.
                let address = unsafe { &*sender.cast::<libc::sockaddr_in6>() };
                let ip = Ipv6Addr::from(address.sin6_addr.s6_addr);
                let port = u16::from_be(address.sin6_port);
                Some(SocketAddrV6::new(ip, port, address.sin6_flowinfo, address.sin6_scope_id).into())
            }
            _ => None,
        }
    }

    /// Sends each answer to the sender of the datagram of its number; empty ones are left out. One that
    /// cannot be sent is lost, as datagrams may be.
    pub(crate) fn send(&self, socket: &UdpSocket, answers: &[Vec<u8>]) {
        let mut parts = [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; BATCH];
        // SAFETY: as in `receive`.
        let mut headers: [libc::mmsghdr; BATCH] = unsafe { zeroed() };
        let mut count = 0;
        for (number, answer) in answers.iter().enumerate().take(BATCH) {
            if answer.is_empty() {
                continue;
            }
            // The kernel only reads them.
            parts[count].iov_base = answer.as_ptr().cast_mut().cast();
            parts[count].iov_len = answer.len();
            let header = &mut headers[count].msg_hdr;
            header.msg_iov = &raw mut parts[count];
            header.msg_iovlen = 1;
            header.msg_name = (&raw const self.senders[number]).cast_mut().cast();
            header.msg_namelen = match i32::from(self.senders[number].ss_family) {
                libc::AF_INET => ADDRESS_V4,
                _ => ADDRESS_V6,
            };
            count += 1;
        }
        let mut first = 0;
        while first < count {
            let left = u32::try_from(count - first).unwrap_or(0);
            // SAFETY: the headers from `first` on are within the array, and each points to one part and
            // one address that outlive the call, which the kernel only reads.
            let sent = unsafe {
                libc::sendmmsg(socket.as_raw_fd(), headers[first..].as_mut_ptr(), left, libc::MSG_DONTWAIT)
            };
            // The one that it failed at is left out.
            first += usize::try_from(sent).unwrap_or(0).max(1);
        }
    }
}

/// [`BATCH`], as the kernel counts.
#[allow(clippy::cast_possible_truncation, reason = "32")]
const MOST: u32 = BATCH as u32;
#[allow(clippy::cast_possible_truncation, reason = "128 bytes")]
const ADDRESS: u32 = size_of::<libc::sockaddr_storage>() as u32;
#[allow(clippy::cast_possible_truncation, reason = "16 bytes")]
const ADDRESS_V4: u32 = size_of::<libc::sockaddr_in>() as u32;
#[allow(clippy::cast_possible_truncation, reason = "28 bytes")]
const ADDRESS_V6: u32 = size_of::<libc::sockaddr_in6>() as u32;
