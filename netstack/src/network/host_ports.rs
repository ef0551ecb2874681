//! Ports of the node that lead to pods: rules of the kernel, which stay while no agent runs.

use super::{Network, NetworkError};
use crate::services::Family;
use crate::sys::nft::{self, Chain, Hook, Step, Table};
use crate::sys::sysctl;
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::PoisonError;

const PREROUTING: Chain = Chain { name: "prerouting", hook: Hook { kind: "nat", hook: 0, priority: -100 } };
const OUTPUT: Chain = Chain { name: "output", hook: Hook { kind: "nat", hook: 3, priority: -100 } };
const POSTROUTING: Chain = Chain { name: "postrouting", hook: Hook { kind: "nat", hook: 4, priority: 100 } };
/// Before anything else is looked at.
const GUARD: Chain = Chain { name: "guard", hook: Hook { kind: "filter", hook: 0, priority: -300 } };

/// Offset in the header.
const fn source(family: Family) -> u32 {
    match family {
        Family::V4 => 12,
        Family::V6 => 8,
    }
}

/// Offset in the header.
const fn destination(family: Family) -> u32 {
    match family {
        Family::V4 => 16,
        Family::V6 => 24,
    }
}

/// What the loopback's addresses begin with.
fn loopback(family: Family) -> Vec<u8> {
    match family {
        Family::V4 => vec![127],
        Family::V6 => Ipv6Addr::LOCALHOST.octets().to_vec(),
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

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
    /// Only at this address of the node, of the family of the pod's; at every one if `None`.
    pub host_address: Option<IpAddr>,
    /// The node's.
    pub host_port: u16,
    /// The pod's.
    pub pod_address: IpAddr,
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
        let family = Family::of(self.pod_address);
        let mut steps = vec![Step::ToThisMachine];
        steps.extend(self.host_address.map(|address| Step::Network(destination(family), octets(address))));
        steps.extend([
            Step::Protocol(number),
            Step::Port(self.host_port),
            Step::Redirect(self.pod_address, self.pod_port),
        ]);
        steps
    }

    /// A pod that asks for its own port would answer itself by another way.
    fn hairpin(&self) -> Vec<Step> {
        let (family, address) = (Family::of(self.pod_address), octets(self.pod_address));
        let (from, to) = (source(family), destination(family));
        vec![Step::Network(from, address.clone()), Step::Network(to, address), Step::Masquerade]
    }
}

/// The rules of all ports, for packets of a family.
fn rules(bridge: &str, published: &Published, family: Family) -> Vec<(Chain, Vec<Vec<Step>>)> {
    let ports = || published.values().flatten().filter(|port| Family::of(port.pod_address) == family);
    let redirections = || ports().map(HostPort::redirection).collect::<Vec<_>>();
    let (prerouting, mut output) = (redirections(), redirections());
    let mut postrouting: Vec<_> = ports().map(HostPort::hairpin).collect();
    let mut guard = Vec::new();
    if ports().next().is_some() {
        match family {
            Family::V4 => {
                // The node's loopback, as a sender, means nothing to a pod…
                let from_loopback = Step::Network(source(family), loopback(family));
                postrouting.push(vec![Step::To(bridge.to_owned()), from_loopback, Step::Masquerade]);
            }
            // No route leads away from it, and no variable of the kernel changes that.
            Family::V6 => {
                output.insert(0, vec![Step::Network(destination(family), loopback(family)), Step::Pass]);
            }
        }
        // …and pods have no business there, though the kernel would let them now.
        let to_loopback = Step::Network(destination(family), loopback(family));
        guard.push(vec![Step::From(bridge.to_owned()), to_loopback, Step::Drop]);
    }
    vec![(PREROUTING, prerouting), (OUTPUT, output), (POSTROUTING, postrouting), (GUARD, guard)]
}

/// Never is the loopback's way open and unguarded.
fn apply(bridge: &str, ports: &Published) -> io::Result<()> {
    let has = |family| ports.values().flatten().any(|port| Family::of(port.pod_address) == family);
    let replace = |family: Family| {
        let table = Table { family: family.number(), name: bridge };
        nft::replace(table, &rules(bridge, ports, family))
    };
    if !has(Family::V4) {
        // Without a bridge there is no way.
        let _ = sysctl::route_loopback(bridge, false);
    }
    replace(Family::V4)?;
    match replace(Family::V6) {
        // A kernel without IPv6 has nothing to lose.
        Err(error) if has(Family::V6) => return Err(error),
        Ok(()) | Err(_) => {}
    }
    if has(Family::V4) { sysctl::route_loopback(bridge, true) } else { Ok(()) }
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
