//! The way to pods of other nodes, and what they see of pods that ask outside.
//!
//! `plan` says what the kernel should have (pure), `diff` compares it with what it has (pure),
//! `kernel` looks and changes, `masquerade` has the rules for who is outside, `ear` hears what others
//! change. All of it stays in force while no agent runs.

mod diff;
mod ear;
mod error;
mod kernel;
mod masquerade;
mod plan;
mod secret;

use crate::fast_path::FastPath;
use crate::services::Family;
use crate::subnet::{PodCidrs, Subnet};
use crate::sys::nfnetlink::Socket;
use crate::sys::nft::Table;
use crate::sys::{address, link, route, socket};
use crate::{chain, names};
use ear::Ear;
pub use error::OverlayError;
use nix::errno::Errno;
use plan::{Place, State, plan};
use rtnetlink::Handle;
use std::collections::{BTreeMap, BTreeSet};
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
    /// In secret, by a device of WireGuard.
    Wireguard {
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
            (Self::Wireguard { .. }, Family::V4) => 60,
            (Self::Wireguard { .. }, Family::V6) => 80,
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
    /// Of this node's end of a secret tunnel.
    pub private_key: Option<PrivateKey>,
    /// Of the bridge's pods, if there is one: between nodes it leads, too.
    pub fast_path: Option<FastPath>,
}

/// A key that nobody else knows, and no log shows.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PrivateKey(pub [u8; 32]);

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey")
    }
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
    /// Of its end of a secret tunnel, if it has said one.
    pub public_key: Option<[u8; 32]>,
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
    /// It has not said its key: it has another backend, or its agent has not started since.
    NoKey,
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
            Self::NoKey => f.write_str("the node has said no key for wireguard"),
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
    /// Why the pods' fast path does not lead to other nodes, if it should.
    pub long_way: Option<String>,
}

impl Changed {
    /// Nothing had to be done.
    #[must_use]
    pub const fn is_nothing(&self) -> bool {
        self.put == 0 && self.removed == 0 && !self.rebuilt
    }
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
    generic: Arc<Mutex<Socket>>,
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
        let generic = Socket::open_generic().map_err(OverlayError::Socket)?;
        let (nftables, generic) = (Arc::new(Mutex::new(nftables)), Arc::new(Mutex::new(generic)));
        Ok(Self { options, handle, nftables, generic, ear, peers: Vec::new() })
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
        if let Backend::Wireguard { .. } = self.options.backend {
            let name = names::secret_tunnel_of(&self.options.bridge);
            let ends = secret::ensure_ends(&self.generic, &name, wanted.ends.clone()).await;
            let (put, removed) = ends.map_err(|source| OverlayError::Change { to: name, source })?;
            changed.put += put;
            changed.removed += removed;
        }
        kernel::apply(&self.handle, device, (&wanted, &found), &mut changed).await?;
        changed.rebuilt |= self.ensure_masquerade().await?;
        changed.long_way = self.ensure_fast_path(device, &wanted).await.err().map(|error| error.to_string());
        Ok(changed)
    }

    /// The fast path is on the links that lead to other nodes. What is secret does not take it: such a device has no
    /// hardware addresses to remember.
    async fn ensure_fast_path(&self, device: Option<u32>, wanted: &State) -> io::Result<()> {
        let Some(fast_path) = &self.options.fast_path else { return Ok(()) };
        let links = match self.options.backend {
            Backend::Vxlan { .. } => device.into_iter().collect(),
            Backend::HostGateway => wanted.routes.values().map(|way| way.link).collect(),
            Backend::Wireguard { .. } | Backend::None => BTreeSet::new(),
        };
        fast_path.lead(links).await
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

    /// The device is as it should be; its number, if the backend has one. Those of others are gone.
    async fn ensure_device(&self, changed: &mut Changed) -> Result<Option<u32>, OverlayError> {
        let bridge = &self.options.bridge;
        let (tunnel, secret) = (names::tunnel_of(bridge), names::secret_tunnel_of(bridge));
        let (name, kind, other, other_kind) = match self.options.backend {
            Backend::Wireguard { .. } => (&secret, "wireguard", &tunnel, "vxlan"),
            Backend::Vxlan { .. } | Backend::HostGateway | Backend::None => {
                (&tunnel, "vxlan", &secret, "wireguard")
            }
        };
        changed.rebuilt |= self.without(other, other_kind).await?;
        let local = self.options.addresses.first().copied();
        let (vxlan, key) = match self.options.backend {
            Backend::Vxlan { vni, port } => {
                let local = local.ok_or(OverlayError::NoAddress)?;
                (Some(link::Vxlan { vni, port, local, learns: false }), None)
            }
            Backend::Wireguard { port } => {
                let key = self.options.private_key.ok_or(OverlayError::NoKey)?;
                (None, Some((key.0, port)))
            }
            Backend::HostGateway | Backend::None => {
                changed.rebuilt |= self.without(name, kind).await?;
                return Ok(None);
            }
        };
        let failed = |source: io::Error| match source.raw_os_error() {
            Some(number) if number == Errno::EOPNOTSUPP as i32 => OverlayError::NoSuchKind { kind, source },
            _ => OverlayError::Device { name: name.clone(), source },
        };
        let mtu = match (self.options.mtu, local) {
            (0, Some(local)) => {
                underlay_mtu(&self.handle, self.options.backend, local).await.map_err(failed)?
            }
            (given, _) => given,
        };
        let device = kernel::Device { name, vxlan, own: self.options.own, mtu };
        let (index, rebuilt) = device.ensure(&self.handle).await.map_err(failed)?;
        changed.rebuilt |= rebuilt;
        if let Some(key) = key {
            changed.rebuilt |= secret::ensure_key(&self.generic, name, key).await.map_err(failed)?;
        }
        Ok(Some(index))
    }

    /// There is no device of that name and kind. Returns whether there was.
    async fn without(&self, name: &str, kind: &str) -> Result<bool, OverlayError> {
        let failed = |source| OverlayError::Device { name: name.to_owned(), source };
        let known = link::find(&self.handle, name).await.map_err(failed)?;
        let is_there = known.is_some_and(|link| link.kind == kind);
        if is_there {
            link::remove(&self.handle, name).await.map_err(failed)?;
        }
        Ok(is_there)
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
        let chains =
            Family::ALL.map(|family| (family, masquerade::chain(&self.options, &self.peers, family)));
        let table = format!("{}-cluster", self.options.bridge);
        let socket = Arc::clone(&self.nftables);
        let done = tokio::task::spawn_blocking(move || {
            let mut socket = socket.lock().unwrap_or_else(PoisonError::into_inner);
            let mut rebuilt = false;
            for (family, chain) in chains {
                let table = Table { family: family.number(), name: &table };
                rebuilt |= chain::ensure(&mut socket, table, &chain)?;
            }
            Ok(rebuilt)
        });
        let done = done.await.map_err(io::Error::other).and_then(|done| done);
        done.map_err(OverlayError::Masquerade)
    }
}

/// Whoever is asked from the networks of the bridge, and is outside of them, sees the node; or their own
/// addresses again. For a bridge that has no other nodes. Blocks for as long as the kernel works.
///
/// # Errors
/// The kernel's.
pub(crate) fn hide_behind_node(bridge: &str, own: PodCidrs, hidden: bool) -> io::Result<()> {
    let options = OverlayOptions {
        bridge: bridge.to_owned(),
        backend: Backend::None,
        own,
        formers: Vec::new(),
        cluster: Vec::new(),
        addresses: Vec::new(),
        masquerade: hidden,
        mtu: 0,
        private_key: None,
        fast_path: None,
    };
    let (mut socket, table) = (Socket::open()?, format!("{bridge}-cluster"));
    for family in Family::ALL {
        let chain = masquerade::chain(&options, &[], family);
        if !chain.rules.is_empty() || own.of(family).is_some() {
            chain::ensure(&mut socket, Table { family: family.number(), name: &table }, &chain)?;
        }
    }
    Ok(())
}
