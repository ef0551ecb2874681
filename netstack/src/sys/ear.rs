//! A socket of nfnetlink that hears what others change.
#![allow(unsafe_code, reason = "tokio has no safe way to wait for a descriptor")]

use super::nfnetlink::new;
use nix::sys::socket::{MsgFlags, NetlinkAddr, SockFlag, bind, getsockname, recv};
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// The group that hears of changes of nftables. Source: `linux/netfilter/nfnetlink.h`.
const NFTABLES_GROUP: u32 = 7;
/// The groups that are heard.
const HEARD: u32 = 1 << (NFTABLES_GROUP - 1);

/// A socket that hears of all changes of nftables in a network namespace.
#[derive(Debug)]
pub(crate) struct Ear {
    fd: AsyncFd<OwnedFd>,
    port: u32,
}

impl Ear {
    /// In the network namespace of the calling thread, on its tokio runtime.
    ///
    /// # Errors
    /// As `socket(2)`.
    pub(crate) fn open() -> io::Result<Self> {
        let fd = new(SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK)?;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, HEARD))?;
        let port = getsockname::<NetlinkAddr>(fd.as_raw_fd())?.pid();
        // SAFETY: an `OwnedFd` is open, and the same, for as long as it is.
        let fd = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }?;
        Ok(Self { fd, port })
    }

    /// Does `work`, of which nothing is heard. The kernel makes words of 8 KiB for each element that
    /// changes while anybody listens, all at once.
    ///
    /// # Errors
    /// As `bind(2)`.
    pub(crate) fn while_closed<T>(&self, work: impl FnOnce() -> T) -> io::Result<T> {
        self.hear_of(0)?;
        let done = work();
        self.hear_of(HEARD)?;
        Ok(done)
    }

    fn hear_of(&self, groups: u32) -> io::Result<()> {
        Ok(bind(self.fd.get_ref().as_raw_fd(), &NetlinkAddr::new(self.port, groups))?)
    }

    /// What is heard next, into `buffer`.
    ///
    /// # Errors
    /// `ENOBUFS` if more was said than could be kept.
    ///
    /// # Cancel safety
    /// Nothing is lost when dropped.
    pub(crate) async fn hear(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let hear = |fd: &OwnedFd| Ok(recv(fd.as_raw_fd(), buffer, MsgFlags::empty())?);
        self.fd.async_io(Interest::READABLE, hear).await
    }
}
