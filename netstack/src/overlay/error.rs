//! What can go wrong.

use std::io;

/// Why the way to other nodes cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum OverlayError {
    /// No netlink socket.
    #[error("cannot talk to the kernel about other nodes over netlink")]
    Socket(#[source] io::Error),
    /// The node has no address that others could send to.
    #[error("this node has no address towards others")]
    NoAddress,
    /// The kernel has no devices of that kind.
    #[error("this kernel has no {kind}; load the module, or choose another network.backend on all nodes")]
    NoSuchKind {
        /// The kind.
        kind: &'static str,
        /// What it said.
        #[source]
        source: io::Error,
    },
    /// There is no key for a secret tunnel.
    #[error("this node has no key for wireguard")]
    NoKey,
    /// The device cannot be made.
    #[error("cannot make the device {name}, which leads to other nodes")]
    Device {
        /// The device.
        name: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Routes and entries cannot be read.
    #[error("cannot list the ways to other nodes")]
    List(#[source] io::Error),
    /// A way cannot be changed.
    #[error("cannot change the way to {to}")]
    Change {
        /// Where it leads.
        to: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The rules for who is outside cannot be changed.
    #[error("cannot change whom the world sees when pods ask it (nftables)")]
    Masquerade(#[source] io::Error),
}
