//! Ports of the node that lead to pods: rules of the kernel, which stay while no agent runs.

use super::{Network, NetworkError};
use crate::sys::nft::{self, Chain, Hook, Step};
use crate::sys::sysctl;
use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;
use std::sync::PoisonError;

const PREROUTING: Chain = Chain { name: "prerouting", hook: Hook { kind: "nat", hook: 0, priority: -100 } };
const OUTPUT: Chain = Chain { name: "output", hook: Hook { kind: "nat", hook: 3, priority: -100 } };
const POSTROUTING: Chain = Chain { name: "postrouting", hook: Hook { kind: "nat", hook: 4, priority: 100 } };
/// Before anything else is looked at.
const GUARD: Chain = Chain { name: "guard", hook: Hook { kind: "filter", hook: 0, priority: -300 } };

/// Offsets in the IPv4 header.
const SOURCE: u32 = 12;
const DESTINATION: u32 = 16;
/// The first byte of the loopback's addresses.
const LOOPBACK: u8 = 127;

/// A protocol that has ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

/// A port of the node that leads to one of a pod's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostPort {
    /// Of both ports.
    pub protocol: Protocol,
    /// Only at this address of the node; at every one if `None`.
    pub host_address: Option<Ipv4Addr>,
    /// The node's.
    pub host_port: u16,
    /// The pod's.
    pub pod_address: Ipv4Addr,
    /// The pod's.
    pub pod_port: u16,
}

/// By the pod's uid.
pub(super) type Published = BTreeMap<String, Vec<HostPort>>;

impl HostPort {
    /// What packets for the node's port go through.
    fn redirection(&self) -> Vec<Step> {
        let number = match self.protocol {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::Sctp => 132,
        };
        let mut steps = vec![Step::ToThisMachine];
        steps.extend(self.host_address.map(|address| Step::Network(DESTINATION, address.octets().to_vec())));
        steps.extend([
            Step::Protocol(number),
            Step::Port(self.host_port),
            Step::Redirect(self.pod_address.octets(), self.pod_port),
        ]);
        steps
    }

    /// A pod that asks for its own port would answer itself by another way.
    fn hairpin(&self) -> Vec<Step> {
        let address = self.pod_address.octets().to_vec();
        vec![Step::Network(SOURCE, address.clone()), Step::Network(DESTINATION, address), Step::Masquerade]
    }
}

/// The rules of all ports.
fn rules(bridge: &str, published: &Published) -> [(Chain, Vec<Vec<Step>>); 4] {
    let ports = || published.values().flatten();
    let redirections = || ports().map(HostPort::redirection).collect::<Vec<_>>();
    let mut postrouting: Vec<_> = ports().map(HostPort::hairpin).collect();
    let mut guard = Vec::new();
    if ports().next().is_some() {
        // The node's loopback, as a sender, means nothing to a pod…
        let from_loopback = Step::Network(SOURCE, vec![LOOPBACK]);
        postrouting.push(vec![Step::To(bridge.to_owned()), from_loopback, Step::Masquerade]);
        // …and pods have no business there, though the kernel would let them now.
        let to_loopback = Step::Network(DESTINATION, vec![LOOPBACK]);
        guard.push(vec![Step::From(bridge.to_owned()), to_loopback, Step::Drop]);
    }
    [(PREROUTING, redirections()), (OUTPUT, redirections()), (POSTROUTING, postrouting), (GUARD, guard)]
}

/// Never is the loopback's way open and unguarded.
fn apply(bridge: &str, ports: &Published) -> io::Result<()> {
    if ports.is_empty() {
        // Without a bridge there is no way.
        let _ = sysctl::route_loopback(bridge, false);
        return nft::replace(bridge, &rules(bridge, ports));
    }
    nft::replace(bridge, &rules(bridge, ports))?;
    sysctl::route_loopback(bridge, true)
}

impl Network {
    /// The ports of the node lead to the pod `uid`, instead of those that did before; without any,
    /// none does.
    ///
    /// # Errors
    /// If the kernel refuses; what was there before stays.
    pub async fn publish(&self, uid: &str, ports: Vec<HostPort>) -> Result<(), NetworkError> {
        let is_there = self.published.lock().unwrap_or_else(PoisonError::into_inner).contains_key(uid);
        if ports.is_empty() && !is_there {
            return Ok(());
        }
        self.change_ports(move |published| {
            if ports.is_empty() {
                published.remove(uid);
            } else {
                published.insert(uid.to_owned(), ports);
            }
        })
        .await
    }

    /// Exactly these ports of the node lead to pods, by their uids: what an agent before this one
    /// has left is replaced.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub async fn publish_all(&self, mut all: BTreeMap<String, Vec<HostPort>>) -> Result<(), NetworkError> {
        all.retain(|_, ports| !ports.is_empty());
        self.change_ports(|published| *published = all).await
    }

    async fn change_ports(&self, change: impl FnOnce(&mut Published)) -> Result<(), NetworkError> {
        let _alone = self.publishing.lock().await;
        let mut next = self.published.lock().unwrap_or_else(PoisonError::into_inner).clone();
        change(&mut next);
        let (bridge, ports) = (self.options.bridge.clone(), next.clone());
        let done = tokio::task::spawn_blocking(move || apply(&bridge, &ports));
        let done = done.await.map_err(io::Error::other).and_then(|done| done);
        done.map_err(|source| NetworkError::HostPorts { source })?;
        *self.published.lock().unwrap_or_else(PoisonError::into_inner) = next;
        Ok(())
    }
}
