//! The way to pods of other nodes, and what they see of pods that ask outside.
//!
//! `plan` says what the kernel should have (pure), `diff` compares it with what it has (pure),
//! `kernel` looks and changes, `masquerade` has the rules for who is outside, `ear` hears what others
//! change. All of it stays in force while no agent runs.

mod diff;
mod ear;
mod kernel;
mod masquerade;
mod plan;

use crate::names;
use crate::services::Family;
use crate::subnet::{PodCidrs, Subnet};
use crate::sys::nfnetlink::Socket;
use crate::sys::{address, link, route, socket};
use ear::Ear;
use plan::{Place, State, plan};
use rtnetlink::Handle;
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// How packets get to the pods of other nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// In UDP, by a device of the kernel that learns nothing by itself.
    Vxlan {
        /// The virtual network's number.
        vni: u32,
        /// UDP port of all nodes.
        port: u16,
    },
    /// By routes to the nodes themselves, which have to be on one link.
    HostGateway,
    /// Not by us.
    None,
}

impl Backend {
    /// Bytes that it needs of each packet for itself, between nodes with addresses of that family.
    #[must_use]
    pub const fn overhead(self, family: Family) -> u32 {
        match (self, family) {
            (Self::Vxlan { .. }, Family::V4) => 50,
            (Self::Vxlan { .. }, Family::V6) => 70,
            (Self::HostGateway | Self::None, _) => 0,
        }
    }
}

/// What the way to other nodes is made from; everything on the machine derives from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OverlayOptions {
    /// Name of the pods' bridge, which is there.
    pub bridge: String,
    /// How packets get there.
    pub backend: Backend,
    /// The networks of this node's pods.
    pub own: PodCidrs,
    /// Networks of before that pods here still have addresses of.
    pub formers: Vec<Subnet>,
    /// The networks of all nodes' pods.
    pub cluster: Vec<Subnet>,
    /// This node's addresses towards others, the one that they know it by first.
    pub addresses: Vec<IpAddr>,
    /// Whoever is asked from the pods' networks, and is outside of them, sees the node.
    pub masquerade: bool,
    /// Largest packet in bytes; 0 takes what fits the way.
    pub mtu: u32,
}

/// Another node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its name.
    pub name: String,
    /// Its addresses, the one that others know it by first.
    pub addresses: Vec<IpAddr>,
    /// The networks of its pods.
    pub pods: Vec<Subnet>,
}

/// Why the pods of a node cannot be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unreachable {
    /// It has no address of the family that is needed.
    NoAddress(Family),
    /// Between the nodes is a router, which knows nothing of pods.
    NotOnLink {
        /// The node's.
        address: IpAddr,
        /// The router's.
        gateway: IpAddr,
    },
    /// No route leads to the node.
    NoRoute(IpAddr),
}

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoAddress(Family::V4) => f.write_str("the node has no IPv4 address"),
            Self::NoAddress(Family::V6) => f.write_str("the node has no IPv6 address"),
            Self::NotOnLink { address, gateway } => write!(
                f,
                "{address} is behind the router {gateway}, and host-gw needs all nodes on one link; vxlan does not"
            ),
            Self::NoRoute(address) => write!(f, "no route leads to {address}"),
        }
    }
}

/// What a look came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changed {
    /// Routes and entries that came, or were not as they should be.
    pub put: usize,
    /// Those that went.
    pub removed: usize,
    /// The tunnel's device, or the rules for who is outside, were made anew.
    pub rebuilt: bool,
    /// Nodes whose pods cannot be reached.
    pub unreachable: Vec<(String, Unreachable)>,
}

impl Changed {
    /// Nothing had to be done.
    #[must_use]
    pub const fn is_nothing(&self) -> bool {
        self.put == 0 && self.removed == 0 && !self.rebuilt
    }
}

/// Why the way to other nodes cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum OverlayError {
    /// No netlink socket.
    #[error("cannot talk to the kernel about other nodes over netlink")]
    Socket(#[source] io::Error),
    /// The node has no address that others could send to.
    #[error("this node has no address towards others")]
    NoAddress,
    /// The device cannot be made.
    #[error("cannot make the device {name}, which leads to other nodes; does the kernel have vxlan?")]
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

/// The largest packet that fits the way to other nodes, inside of what the backend puts around it; 0,
/// the kernel's own, if there is no such way. Acts in the network namespace of the calling thread.
///
/// # Errors
/// As `socket(2)`, or the kernel's.
pub async fn path_mtu(backend: Backend, addresses: &[IpAddr]) -> io::Result<u32> {
    let Some(own) = addresses.first().filter(|_| backend != Backend::None) else { return Ok(0) };
    let handle = socket::open().await?;
    underlay_mtu(&handle, backend, *own).await
}

async fn underlay_mtu(handle: &Handle, backend: Backend, own: IpAddr) -> io::Result<u32> {
    let holder = address::list(handle).await?.into_iter().find(|assigned| assigned.address == own);
    let links = link::list(handle).await?;
    let underlay = holder.and_then(|holder| links.into_iter().find(|link| link.index == holder.index));
    // IPv6 needs as much, whatever the link says.
    let room = |link: link::Link| link.mtu.saturating_sub(backend.overhead(Family::of(own))).max(1280);
    Ok(underlay.map_or(0, room))
}

/// The ways to the pods of other nodes.
#[derive(Debug)]
pub struct Overlay {
    options: OverlayOptions,
    handle: Handle,
    nftables: Arc<Mutex<Socket>>,
    ear: Ear,
    peers: Vec<Peer>,
}

impl Overlay {
    /// Ways are made with the first [`Overlay::replace`]; those that an agent before this one left
    /// stay until then. Acts in the network namespace of the calling thread, and starts a task on its
    /// tokio runtime. Needs `CAP_NET_ADMIN`.
    ///
    /// # Errors
    /// As `socket(2)`.
    pub async fn open(options: OverlayOptions) -> Result<Self, OverlayError> {
        let handle = socket::open().await.map_err(OverlayError::Socket)?;
        let nftables = Socket::open().map_err(OverlayError::Socket)?;
        let ear = Ear::open().map_err(OverlayError::Socket)?;
        Ok(Self { options, handle, nftables: Arc::new(Mutex::new(nftables)), ear, peers: Vec::new() })
    }

    /// Exactly these nodes' pods can be reached. What the kernel has already is not touched.
    ///
    /// # Errors
    /// The kernel's. What is wanted is known, so that [`Overlay::verify`] goes on from there.
    pub async fn replace(&mut self, peers: Vec<Peer>) -> Result<Changed, OverlayError> {
        self.peers = peers;
        self.verify().await
    }

    /// What others changed is put back.
    ///
    /// # Errors
    /// The kernel's.
    pub async fn verify(&mut self) -> Result<Changed, OverlayError> {
        let mut changed = Changed::default();
        let device = self.ensure_device(&mut changed).await?;
        let links = self.links_towards_peers().await;
        let place = Place { options: &self.options, device, links: &links };
        let wanted = plan(place, &self.peers, &mut changed.unreachable);
        let found = kernel::look(&self.handle, &self.options, device).await.map_err(OverlayError::List)?;
        self.ear.mind(device, wanted.routes.values().map(|way| way.link));
        kernel::apply(&self.handle, device, (&wanted, &found), &mut changed).await?;
        changed.rebuilt |= self.ensure_masquerade().await?;
        Ok(changed)
    }

    /// Ends when others may have changed something, and not long after they began.
    ///
    /// # Cancel safety
    /// Nothing is lost when dropped.
    pub async fn disturbed(&mut self) {
        self.ear.hear().await;
    }

    /// No way to other nodes is left, and no rule.
    ///
    /// # Errors
    /// The kernel's.
    pub async fn remove(mut self) -> Result<(), OverlayError> {
        self.options.backend = Backend::None;
        self.options.masquerade = false;
        self.replace(Vec::new()).await.map(drop)
    }

    /// The device is as it should be; its number, if the backend has one.
    async fn ensure_device(&self, changed: &mut Changed) -> Result<Option<u32>, OverlayError> {
        let name = names::tunnel_of(&self.options.bridge);
        let failed = |source| OverlayError::Device { name: name.clone(), source };
        let Backend::Vxlan { vni, port } = self.options.backend else {
            let known = link::find(&self.handle, &name).await.map_err(failed)?;
            if known.is_some_and(|link| link.vxlan.is_some()) {
                link::remove(&self.handle, &name).await.map_err(failed)?;
                changed.rebuilt = true;
            }
            return Ok(None);
        };
        let local = *self.options.addresses.first().ok_or(OverlayError::NoAddress)?;
        let mtu = match self.options.mtu {
            0 => underlay_mtu(&self.handle, self.options.backend, local).await.map_err(failed)?,
            given => given,
        };
        let wanted = link::Vxlan { vni, port, local, learns: false };
        let device = kernel::Device { name: &name, vxlan: wanted, own: self.options.own, mtu };
        let (index, rebuilt) = device.ensure(&self.handle).await.map_err(failed)?;
        changed.rebuilt |= rebuilt;
        Ok(Some(index))
    }

    /// By which link each peer is reached, where that matters.
    async fn links_towards_peers(&self) -> BTreeMap<IpAddr, Result<u32, Unreachable>> {
        let mut links = BTreeMap::new();
        if self.options.backend != Backend::HostGateway {
            return links;
        }
        for address in self.peers.iter().flat_map(|peer| &peer.addresses) {
            let way = match route::towards(&self.handle, *address).await {
                Ok(route::Way { gateway: Some(gateway), .. }) => {
                    Err(Unreachable::NotOnLink { address: *address, gateway })
                }
                Ok(way) => Ok(way.link),
                Err(_) => Err(Unreachable::NoRoute(*address)),
            };
            links.insert(*address, way);
        }
        links
    }

    /// Whether rules had to be made.
    async fn ensure_masquerade(&self) -> Result<bool, OverlayError> {
        let rules = Family::ALL.map(|family| (family, masquerade::rules(&self.options, &self.peers, family)));
        let table = format!("{}-cluster", self.options.bridge);
        let socket = Arc::clone(&self.nftables);
        let done = tokio::task::spawn_blocking(move || {
            let mut socket = socket.lock().unwrap_or_else(PoisonError::into_inner);
            let mut rebuilt = false;
            for (family, rules) in rules {
                rebuilt |= masquerade::ensure(&mut socket, (family, &table), &rules)?;
            }
            Ok(rebuilt)
        });
        let done = done.await.map_err(io::Error::other).and_then(|done| done);
        done.map_err(OverlayError::Masquerade)
    }
}
