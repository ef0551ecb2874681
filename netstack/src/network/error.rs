//! What can go wrong, and what is worth knowing.

use crate::ipam::Exhausted;
use crate::subnet::Subnet;
use crate::sys::netns::Namespace;
use std::fmt;
use std::io;

/// Why the network as a whole cannot be, or cannot be removed.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The bridge cannot be called so.
    #[error("bridge name {name:?} {reason}")]
    BridgeName {
        /// As it was given.
        name: String,
        /// The rule that it breaks.
        reason: &'static str,
    },
    /// Something else has the bridge's name.
    #[error("{name} exists and is no bridge but {kind}; choose another name for the bridge")]
    NotABridge {
        /// The name.
        name: String,
        /// What it is.
        kind: String,
    },
    /// The bridge serves another network.
    #[error(
        "bridge {name} has the network {found} instead of {wanted}; choose another name, or remove the bridge"
    )]
    OtherNetwork {
        /// The bridge.
        name: String,
        /// What it has.
        found: Subnet,
        /// What it should have.
        wanted: Subnet,
    },
    /// Another link's network lies within the pods'.
    #[error("the network of the pods, {wanted}, overlaps with {found} on {interface}")]
    Overlap {
        /// The pods' network.
        wanted: Subnet,
        /// The other link.
        interface: String,
        /// Its network.
        found: Subnet,
    },
    /// No netlink socket.
    #[error("cannot talk to the kernel over netlink")]
    Socket(#[source] io::Error),
    /// Links or addresses cannot be listed.
    #[error("cannot list the links and addresses of the machine")]
    List(#[source] io::Error),
    /// What was changed of the kernel's variables cannot be put back.
    #[error("cannot put back the kernel variables of forwarding and connection tracking")]
    PutBack(#[source] io::Error),
    /// The ports of the bridge cannot be listed.
    #[error("cannot list the ports of bridge {bridge}")]
    ListPorts {
        /// The bridge.
        bridge: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The bridge cannot be made or set up.
    #[error("cannot set up bridge {name}")]
    SetUpBridge {
        /// The bridge.
        name: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Ports of the node cannot lead to pods.
    #[error("cannot make ports of the node lead to pods (nftables)")]
    HostPorts {
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A pod cannot be made as fast as it shall be.
    #[error("cannot set how fast the pod of link {name} is (tbf)")]
    Bandwidth {
        /// The link.
        name: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The rules for who is seen as the node cannot be taken away.
    #[error("cannot take away the rules for who is seen as the node (nftables)")]
    Rules(#[source] io::Error),
    /// The fast path cannot be taken away.
    #[error("cannot take the fast path of pods away (BPF)")]
    FastPath(#[source] io::Error),
    /// A link cannot be removed.
    #[error("cannot remove link {name}")]
    RemoveLink {
        /// The link.
        name: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Why a pod cannot be joined to the network.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// No address is free.
    #[error(transparent)]
    Exhausted(#[from] Exhausted),
    /// The process or its namespace is gone.
    #[error("cannot open the network namespace of {pod}")]
    Namespace {
        /// The pod.
        pod: Namespace,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The process has no network namespace of its own.
    #[error("{pod} is in the network namespace of the host")]
    HostNamespace {
        /// The pod.
        pod: Namespace,
    },
    /// The pod has such an interface from elsewhere.
    #[error("the pod of {pod} already has an interface {interface}")]
    InterfaceTaken {
        /// The pod.
        pod: Namespace,
        /// The interface.
        interface: String,
    },
    /// The link between bridge and pod cannot be made.
    #[error("cannot make link {name} to the pod of {pod}")]
    Link {
        /// The host's end.
        name: String,
        /// The pod.
        pod: Namespace,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A step inside the pod's namespace failed.
    #[error("cannot {step} in the pod of {pod}")]
    Inside {
        /// What was tried.
        step: &'static str,
        /// The pod.
        pod: Namespace,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// No error, but worth a line in the log.
#[derive(Debug)]
pub enum Warning {
    /// Forwarding was off and was switched on: by this kernel variable.
    ForwardingEnabled(&'static str),
    /// Forwarding is off and cannot be switched on, by this kernel variable.
    ForwardingOff(&'static str, io::Error),
    /// All packets take the way through netfilter, for the fast path cannot be switched on; or, if it is not
    /// wanted, off.
    FastPath {
        /// Whether it is.
        wanted: bool,
        /// Why.
        error: io::Error,
    },
    /// The node had another network before, and there are still pods with addresses of it.
    Former(Subnet),
    /// The pods' network hides a part of another link's network.
    Hides {
        /// The pods' network.
        pods: Subnet,
        /// The other link.
        interface: String,
        /// Its network.
        network: Subnet,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ForwardingEnabled(variable) => {
                write!(f, "{variable} was 0 and is now 1: this machine forwards packets")
            }
            Self::ForwardingOff(variable, error) => {
                write!(f, "{variable} is 0 and cannot be set ({error}): pods reach only this machine")
            }
            Self::FastPath { wanted: true, error } => {
                write!(f, "no fast path between pods, all packets take the way through netfilter: {error}")
            }
            Self::FastPath { wanted: false, error } => {
                write!(f, "the fast path between pods cannot be switched off: {error}")
            }
            Self::Former(network) => {
                write!(f, "pods of before have addresses of {network}, at which other nodes do not find them")
            }
            Self::Hides { pods, interface, network } => {
                write!(f, "the network of the pods, {pods}, hides a part of {network} on {interface}")
            }
        }
    }
}
