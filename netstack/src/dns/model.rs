//! What names are made from: nothing of Kubernetes, nothing of the protocol.

use crate::services::{ServiceName, Transport};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// All that has names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    /// Services.
    pub services: BTreeMap<ServiceName, ServiceNames>,
    /// Pods, by their addresses.
    pub pods: BTreeMap<IpAddr, Vec<PodNames>>,
}

/// The names of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServiceNames {
    /// It has addresses of its own.
    Cluster {
        /// At most one of each family.
        addresses: Vec<IpAddr>,
        /// Those that have names.
        ports: Vec<NamedPort>,
    },
    /// Its endpoints have names.
    Headless(Vec<NamedEndpoint>),
    /// Another name stands for it.
    External(String),
}

/// A port that has a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedPort {
    /// Its name.
    pub name: String,
    /// Its protocol.
    pub transport: Transport,
    /// Its number.
    pub number: u16,
}

/// Somebody who answers for a service, and is ready to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedEndpoint {
    /// Where.
    pub address: IpAddr,
    /// Its name below the service; one is made from the address if it has none.
    pub hostname: Option<String>,
    /// Those that have names.
    pub ports: Vec<NamedPort>,
}

/// A pod, by its address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodNames {
    /// Its namespace.
    pub namespace: String,
    /// Where it looks for short names, in this order; nothing of pods of other nodes.
    pub searches: Vec<String>,
}
