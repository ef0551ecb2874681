//! The sockets that are asked.

use super::DnsError;
use crate::holder::{Holder, HolderError};
use rustix::net::sockopt;
use std::ffi::OsString;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::path::Path;

/// What comes while nobody reads is kept in so many bytes.
const BUFFER_BYTES: usize = 4 << 20;

/// Both sockets of an address.
#[derive(Debug)]
pub struct DnsSockets {
    pub(super) udp: UdpSocket,
    pub(super) tcp: TcpListener,
}

impl DnsSockets {
    /// Sockets at `address`, of which packets can be read from here on.
    ///
    /// # Errors
    /// The kernel's: somebody else has the port, or the node does not have the address.
    pub fn bind(address: SocketAddr) -> Result<Self, DnsError> {
        let failed = |source| DnsError::Bind { address, source };
        let udp = UdpSocket::bind(address).map_err(failed)?;
        // A port of the kernel's choice is the same for both.
        let address = udp.local_addr().map_err(failed)?;
        let tcp = TcpListener::bind(address).map_err(failed)?;
        // Without the right to more, as much as anybody may have.
        if sockopt::set_socket_recv_buffer_size_force(&udp, BUFFER_BYTES).is_err() {
            sockopt::set_socket_recv_buffer_size(&udp, BUFFER_BYTES).map_err(|error| failed(error.into()))?;
        }
        Self::of(udp, tcp).map_err(failed)
    }

    /// The sockets at `address` that a holder with its socket at `path` has; nothing if there is none.
    /// One that has others ends. Blocks for a moment.
    #[must_use]
    pub fn find(path: &Path, address: SocketAddr) -> Option<(Holder, Self)> {
        Holder::find(path, |[udp, tcp]| {
            let sockets = Self::adopt(udp, tcp).ok()?;
            sockets.address().is_ok_and(|has| has == address).then_some(sockets)
        })
    }

    /// A process that `program` starts has them too from here on, and hands them out at `path`. Blocks for a
    /// moment; needs a tokio runtime.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn held(&self, path: &Path, program: &[OsString]) -> Result<Holder, HolderError> {
        let both = self.try_clone().map(|own| [OwnedFd::from(own.udp), OwnedFd::from(own.tcp)]);
        Holder::start(path, program, both)
    }

    /// Sockets that somebody else has bound.
    ///
    /// # Errors
    /// The kernel's, if they are none such.
    pub(crate) fn adopt(udp: OwnedFd, tcp: OwnedFd) -> std::io::Result<Self> {
        Self::of(udp.into(), tcp.into())
    }

    fn of(udp: UdpSocket, tcp: TcpListener) -> std::io::Result<Self> {
        udp.set_nonblocking(true)?;
        tcp.set_nonblocking(true)?;
        // Answers would wait for more to send; connections have it from the listener.
        sockopt::set_tcp_nodelay(&tcp, true)?;
        if udp.local_addr()? != tcp.local_addr()? {
            return Err(std::io::ErrorKind::InvalidInput.into());
        }
        Ok(Self { udp, tcp })
    }

    /// Where they are asked.
    ///
    /// # Errors
    /// The kernel's.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.udp.local_addr()
    }

    /// The same sockets once more.
    ///
    /// # Errors
    /// The kernel's: too many are open.
    pub fn try_clone(&self) -> std::io::Result<Self> {
        Ok(Self { udp: self.udp.try_clone()?, tcp: self.tcp.try_clone()? })
    }
}
