//! Services as the network sees them: nothing of Kubernetes, nothing of the kernel.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// A version of the Internet Protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Family {
    V4,
    V6,
}

impl Family {
    /// Both.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// That of an address.
    #[must_use]
    pub const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    /// The address that stands for every address of the node.
    #[must_use]
    pub const fn any(self) -> IpAddr {
        match self {
            Self::V4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            Self::V6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        }
    }
}

/// A protocol that services can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Transport {
    Tcp,
    Udp,
}

/// Names a service.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceName {
    /// Its namespace.
    pub namespace: String,
    /// Its name in there.
    pub name: String,
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Which endpoints may be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Policy {
    /// All of them.
    #[default]
    Cluster,
    /// Only those of the node that the client came to.
    Local,
}

/// One port of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePort {
    /// Of this and of the endpoints.
    pub transport: Transport,
    /// At the service's addresses.
    pub port: u16,
    /// The service's own addresses, at most one of each family.
    pub cluster_addresses: Vec<IpAddr>,
    /// Addresses that lead here from outside, which the service names itself.
    pub external_addresses: Vec<IpAddr>,
    /// Those that a load balancer gave it.
    pub balancer: Balancer,
    /// At every address of the node, of the families that the service has.
    pub node_port: Option<u16>,
    /// How long a client stays with one endpoint after it last connected.
    pub affinity: Option<Duration>,
    /// For clients of the service's own addresses.
    pub internal: Policy,
    /// For clients that come from outside.
    pub external: Policy,
    /// Who answers.
    pub endpoints: Vec<Endpoint>,
}

/// The addresses of a service that a load balancer gave it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Balancer {
    /// They lead to the service from outside. What no service has there is refused.
    pub addresses: Vec<IpAddr>,
    /// Networks of the clients who may ask at them, of whatever family; everybody if empty.
    pub sources: Vec<(IpAddr, u8)>,
}

/// Somebody who answers for a service's port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Where.
    pub target: Target,
    /// The node that it is on, if it is on one.
    pub node: Option<String>,
    /// May be asked.
    pub ready: bool,
    /// Would answer, though it may be about to end.
    pub serving: bool,
    /// Is about to end.
    pub terminating: bool,
    /// For clients of which zones; for all if empty.
    pub zones: Vec<String>,
    /// For clients of which nodes; for all if empty.
    pub nodes: Vec<String>,
}

/// An address and a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Target {
    pub address: IpAddr,
    pub port: u16,
}

/// What of this node matters to services.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NodeView {
    /// Its name.
    pub name: String,
    /// Its zone, if it knows one.
    pub zone: Option<String>,
}
