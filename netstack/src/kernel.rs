//! What the kernel has of the pods' network, for people: nothing is changed.

use crate::names;
use crate::subnet::Subnet;
use crate::sys::link::{self, Link};
use crate::sys::nfnetlink::Socket;
use crate::sys::route::{self, Way};
use crate::sys::{neighbour, socket, wireguard};
use rtnetlink::Handle;
use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;

/// The end of a pod's link that is on the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodLink {
    /// Its name.
    pub interface: String,
    /// It carries packets.
    pub up: bool,
    /// It is a port of the bridge.
    pub bridged: bool,
}

/// Where the kernel sends packets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hop {
    /// By this link of the node.
    pub interface: String,
    /// That is up.
    pub up: bool,
    /// The longest packet that it takes, in bytes.
    pub mtu: u32,
    /// To whom on the link, if not to the address itself.
    pub gateway: Option<IpAddr>,
    /// If the link is a tunnel: the node at the other end, if one is known.
    pub tunnel: Option<Option<IpAddr>>,
}

/// The links of a node as they were at one moment, and a way to ask for more.
#[derive(Debug)]
pub struct Kernel {
    handle: Handle,
    links: BTreeMap<u32, Link>,
    bridge_name: String,
}

impl Kernel {
    /// Reads the links of the network namespace of the calling thread; `bridge` is the pods'. Starts a task on its
    /// tokio runtime. Needs no privileges.
    ///
    /// # Errors
    /// If there is no netlink socket, or the kernel's.
    pub async fn read(bridge: &str) -> io::Result<Self> {
        let handle = socket::open().await?;
        let links: BTreeMap<_, _> =
            link::list(&handle).await?.into_iter().map(|link| (link.index, link)).collect();
        Ok(Self { handle, links, bridge_name: bridge.into() })
    }

    /// The bridge's longest packet in bytes, if it is there and up.
    #[must_use]
    pub fn bridge_mtu(&self) -> Option<u32> {
        self.bridge().filter(|bridge| bridge.up).map(|bridge| bridge.mtu)
    }

    fn bridge(&self) -> Option<&Link> {
        self.links.values().find(|link| link.name == self.bridge_name)
    }

    /// The node's end of the link of the pod `uid`.
    #[must_use]
    pub fn pod(&self, uid: &str) -> Option<PodLink> {
        let name = names::link_of(&self.bridge_name, uid);
        let link = self.links.values().find(|link| link.name == name)?;
        let bridged = self.bridge().is_some_and(|bridge| link.controller == Some(bridge.index));
        Some(PodLink { interface: name, up: link.up, bridged })
    }

    /// The networks of other nodes' pods that are led somewhere.
    ///
    /// # Errors
    /// The kernel's.
    pub async fn routes(&self) -> io::Result<Vec<(Subnet, Hop)>> {
        let mut routes = Vec::new();
        for (to, way) in route::list(&self.handle).await? {
            routes.push((to, self.hop(to.address(), way).await?));
        }
        Ok(routes)
    }

    /// Where the kernel would send what is for `to`.
    ///
    /// # Errors
    /// `ENETUNREACH` if it knows no way.
    pub async fn towards(&self, to: IpAddr) -> io::Result<Hop> {
        let way = route::towards(&self.handle, to).await?;
        self.hop(to, way).await
    }

    async fn hop(&self, to: IpAddr, way: Way) -> io::Result<Hop> {
        let link = self.links.get(&way.link);
        let interface = link.map_or_else(|| format!("link {}", way.link), |link| link.name.clone());
        let tunnel = match link {
            Some(link) if link.vxlan.is_some() => Some(self.behind_vxlan(way).await?),
            Some(link) if link.kind == "wireguard" => Some(behind_wireguard(link.name.clone(), to).await?),
            Some(_) | None => None,
        };
        let (up, mtu) = (link.is_some_and(|link| link.up), link.map_or(0, |link| link.mtu));
        Ok(Hop { interface, up, mtu, gateway: way.gateway, tunnel })
    }

    /// By the neighbour's hardware address, and what the tunnel has for that.
    async fn behind_vxlan(&self, way: Way) -> io::Result<Option<IpAddr>> {
        let neighbours = neighbour::list(&self.handle, way.link).await?;
        let mac = neighbours.into_iter().find(|(address, _)| Some(*address) == way.gateway);
        let Some((_, mac)) = mac else { return Ok(None) };
        let behind = neighbour::list_behind(&self.handle, way.link).await?;
        Ok(behind.into_iter().find(|(known, _)| *known == mac).map(|(_, node)| node))
    }
}

/// By what each peer may send.
async fn behind_wireguard(name: String, to: IpAddr) -> io::Result<Option<IpAddr>> {
    let look = move || wireguard::look(&mut Socket::open_generic()?, &name);
    let device = tokio::task::spawn_blocking(look).await.map_err(io::Error::other)??;
    let mut peers = device.peers.into_values();
    let peer = peers.find(|peer| peer.allowed.iter().any(|allowed| allowed.contains(to)));
    Ok(peer.and_then(|peer| peer.endpoint).map(|endpoint| endpoint.ip()))
}
