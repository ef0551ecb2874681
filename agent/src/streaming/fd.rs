//! Pipes and terminals, read and written without a thread.

use rustix::io::Errno;
use std::io;
use std::os::fd::OwnedFd;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::pipe;

/// What something in a pod writes to.
#[derive(Debug)]
pub(super) struct Source(pipe::Receiver);

/// What something in a pod reads from.
#[derive(Debug)]
pub(super) struct Sink(pipe::Sender);

impl Source {
    /// A pipe, or a terminal. To be called in a runtime.
    pub(super) fn new(fd: OwnedFd) -> io::Result<Self> {
        pipe::Receiver::from_owned_fd_unchecked(nonblocking(fd)?).map(Self)
    }

    /// How many bytes came; 0 at the end.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub(super) async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buffer).await {
            // The program has left its terminal.
            Err(error) if error.raw_os_error() == Some(Errno::IO.raw_os_error()) => Ok(0),
            other => other,
        }
    }
}

impl Sink {
    /// A pipe, or a terminal. To be called in a runtime.
    pub(super) fn new(fd: OwnedFd) -> io::Result<Self> {
        pipe::Sender::from_owned_fd_unchecked(nonblocking(fd)?).map(Self)
    }

    pub(super) async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes).await
    }
}

fn nonblocking(fd: OwnedFd) -> io::Result<OwnedFd> {
    rustix::io::ioctl_fionbio(&fd, true)?;
    Ok(fd)
}
