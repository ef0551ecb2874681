//! The bridge with the links and addresses of all pods of this node.

mod bandwidth;
mod bridge;
mod error;
mod fast;
mod host_ports;
mod locks;
mod pod;
mod removal;
mod variables;

pub use crate::sys::netns::Namespace;
pub use bandwidth::Rates;
pub use error::{AttachError, NetworkError, Warning};
pub use host_ports::{HostPort, Protocol};
pub(crate) use locks::Locks;

use crate::fast_path::{self, FastPath};
use crate::ipam::Pool;
use crate::names;
use crate::overlay::hide_behind_node;
use crate::subnet::{PodCidrs, Subnet};
use crate::sys::link::{self, Link};
use crate::sys::{netns, socket};
use futures::future::try_join_all;
use host_ports::Published;
use removal::Remover;
use rtnetlink::Handle;
use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The interface of a pod inside of it.
const POD_INTERFACE: &str = "eth0";

/// What a network is made from; everything on the machine derives from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkOptions {
    /// Name of the bridge, at most 15 bytes.
    pub bridge: String,
    /// The pods' networks; their first host addresses are the bridge's.
    pub pod_cidrs: PodCidrs,
    /// Networks that the bridge may have from before: it gives them up when no pod has an address of
    /// one any more. That of anything else is refused.
    pub formers: Vec<Subnet>,
    /// Largest packet of bridge and links in bytes; 0 takes the kernel's.
    pub mtu: u32,
    /// Packets of connections that netfilter knows go past it, where the kernel can do that.
    pub fast_path: bool,
}

/// How a pod is joined to the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// The pod's addresses, the main one first.
    pub addresses: Vec<IpAddr>,
    /// The bridge's address, the pod's default route.
    pub gateway: IpAddr,
    /// Name of the interface in the pod.
    pub interface: String,
    /// Its hardware address.
    pub mac: [u8; 6],
    /// Name of the link's other end, a port of the bridge.
    pub host_interface: String,
}

/// The open network. Methods may be called from any task, at once; calls for one pod
/// wait for one another.
#[derive(Debug)]
pub struct Network {
    options: NetworkOptions,
    bridge: u32,
    handle: Handle,
    own: OwnedFd,
    pool: Arc<Mutex<Pool>>,
    locks: Locks,
    remover: Remover,
    published: Mutex<Published>,
    /// Held while that and the kernel's rules change.
    publishing: tokio::sync::Mutex<()>,
    formers: Vec<Subnet>,
    fast_path: Option<FastPath>,
    warnings: Vec<Warning>,
}

impl Network {
    /// The bridge exists, is up and has the first address of the network; the
    /// addresses of pods that are joined already are known. Repeating is harmless.
    /// Acts in the network namespace of the calling thread, and starts a task on its
    /// tokio runtime. Needs `CAP_NET_ADMIN`.
    ///
    /// # Errors
    /// If the options cannot be right (a bad name, or a name or network that something
    /// else on the machine has), or if the kernel refuses.
    pub async fn open(options: NetworkOptions) -> Result<Self, NetworkError> {
        names::check_bridge(&options.bridge)
            .map_err(|reason| NetworkError::BridgeName { name: options.bridge.clone(), reason })?;
        let own = netns::own().map_err(NetworkError::Socket)?;
        let handle = socket::open().await.map_err(NetworkError::Socket)?;
        let mut warnings = bridge::check_overlap(&handle, &options).await?;
        let bridge = bridge::ensure(&handle, &options).await?;
        warnings.extend(variables::ensure(&handle, &options).await);
        let mut pool = Pool::new(options.pod_cidrs);
        let ports = ports(&handle, &options, bridge).await?;
        let formers = bridge::give_up_formers(&handle, &options, (bridge, &ports)).await?;
        warnings.extend(formers.iter().map(|former| Warning::Former(*former)));
        let (fast_path, slow) = fast::ensure(&handle, &options, bridge).await;
        warnings.extend(slow);
        for port in ports {
            if let Some(fast_path) = &fast_path {
                let _long_way = fast_path.join(&port).await;
            }
            if let Some(address) = names::address_of(&port.mac) {
                pool.adopt(&port.name, address);
            }
            bridge::keep_port(&handle, &options, bridge, &port).await?;
        }
        let pool = Arc::new(Mutex::new(pool));
        let remover = Remover::start(handle.clone(), names::group_of(&options.bridge), pool.clone());
        Ok(Self {
            options,
            bridge,
            handle,
            own,
            pool,
            locks: Locks::default(),
            remover,
            published: Mutex::default(),
            publishing: tokio::sync::Mutex::default(),
            formers,
            fast_path,
            warnings,
        })
    }

    /// What [`Network::open`] noticed that is no error, but that an administrator may want to know.
    #[must_use]
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// The bridge's addresses, IPv4 first: pods' default routes.
    #[must_use]
    pub fn gateways(&self) -> Vec<IpAddr> {
        self.options.pod_cidrs.gateways()
    }

    /// The networks that new pods' addresses are from.
    #[must_use]
    pub fn pod_cidrs(&self) -> PodCidrs {
        self.options.pod_cidrs
    }

    /// Networks of before that pods still have addresses of.
    #[must_use]
    pub fn formers(&self) -> &[Subnet] {
        &self.formers
    }

    /// Past netfilter, if there is such a way.
    #[must_use]
    pub const fn fast_path(&self) -> Option<&FastPath> {
        self.fast_path.as_ref()
    }

    /// The addresses that [`Network::attach`] will give the pod `uid`, held for it from
    /// here on until [`Network::detach`]. Repeating gives the same.
    ///
    /// # Errors
    /// If there is no address left.
    pub fn reserve(&self, uid: &str) -> Result<Vec<IpAddr>, crate::Exhausted> {
        let name = names::link_of(&self.options.bridge, uid);
        let number = self.pool().claim(&name)?;
        Ok(self.options.pod_cidrs.addresses(number).into_iter().map(|(address, _)| address).collect())
    }

    /// The pod `uid` holds those addresses, which it had before the machine was started, as if they were reserved.
    /// Returns whether it does: not if they are of another network, or another pod's.
    pub fn remember(&self, uid: &str, addresses: &[IpAddr]) -> bool {
        let number = self.options.pod_cidrs.number_of(addresses);
        let name = names::link_of(&self.options.bridge, uid);
        number.is_some_and(|number| self.pool().adopt(&name, number))
    }

    /// The pod `uid`, whose network namespace is that of process `pid`, has an address
    /// on the bridge, a default route, and its loopback up. Repeating is harmless and
    /// repairs; a new namespace under the same uid keeps the address.
    ///
    /// # Errors
    /// If there is no address left, no such namespace, or the kernel refuses. The pod
    /// keeps the address until [`Network::detach`], so that the call can be repeated.
    pub async fn attach(&self, uid: &str, pid: i32) -> Result<Attachment, AttachError> {
        self.attach_as(uid, &Namespace::Process(pid), POD_INTERFACE).await
    }

    /// The same with the pod's network namespace wherever it is, and another name of its interface.
    ///
    /// # Errors
    /// As [`Network::attach`].
    pub async fn attach_as(
        &self,
        uid: &str,
        pod: &Namespace,
        interface: &str,
    ) -> Result<Attachment, AttachError> {
        let name = names::link_of(&self.options.bridge, uid);
        let _alone = self.locks.lock(&name).await;
        let lost = |source| AttachError::Namespace { pod: pod.clone(), source };
        let namespace = netns::open(pod).map_err(lost)?;
        if netns::same(&namespace, &self.own).map_err(lost)? {
            return Err(AttachError::HostNamespace { pod: pod.clone() });
        }
        let number = self.pool().claim(&name)?;
        let addresses = self.options.pod_cidrs.addresses(number);
        let pair = link::Pair {
            name: &name,
            mac: names::host_mac_of(number),
            controller: self.bridge,
            peer_name: interface,
            peer_mac: names::mac_of(number),
            mtu: self.options.mtu,
        };
        pod::join(&self.handle, &pair, namespace.as_fd(), pod).await?;
        // The alias is for people and for what `sweep` reports: not worth failing for.
        let alias: String = uid.chars().take(60).collect();
        let (inside, _, ()) = tokio::join!(
            pod::configure(namespace, addresses.clone(), (pod, interface)),
            link::set_up_port(&self.handle, &name, &alias),
            self.take_fast_path(&name)
        );
        inside?;
        Ok(Attachment {
            gateway: addresses.first().map_or(IpAddr::from([0, 0, 0, 0]), |(_, subnet)| subnet.gateway()),
            addresses: addresses.into_iter().map(|(address, _)| address).collect(),
            interface: interface.into(),
            mac: pair.peer_mac,
            host_interface: name,
        })
    }

    /// The addresses that the pod `uid` has on its interface of that name; none if it is not joined to
    /// this bridge. Changes nothing.
    ///
    /// # Errors
    /// If there is no such namespace, or the kernel refuses.
    pub async fn attached_as(
        &self,
        uid: &str,
        pod: &Namespace,
        interface: &str,
    ) -> Result<Vec<IpAddr>, AttachError> {
        let name = names::link_of(&self.options.bridge, uid);
        let failed = |source| AttachError::Link { name: name.clone(), pod: pod.clone(), source };
        let found = link::find(&self.handle, &name).await.map_err(failed)?;
        if found.is_none_or(|link| link.controller != Some(self.bridge)) {
            return Ok(Vec::new());
        }
        let lost = |source| AttachError::Namespace { pod: pod.clone(), source };
        let namespace = netns::open(pod).map_err(lost)?;
        pod::addresses_of(namespace, interface).await.map_err(failed)
    }

    /// No port of the node leads to the pod, its link is gone, and then its address is free. Repeating is harmless.
    /// Takes some 20 ms, and hardly more for many pods at once.
    ///
    /// # Errors
    /// The kernel's; the address is then still held.
    ///
    /// # Cancel safety
    /// Goes on when dropped; a later call for the same pod waits for it.
    pub async fn detach(&self, uid: &str) -> Result<(), NetworkError> {
        self.publish(uid, Vec::new()).await?;
        self.remove_link(&names::link_of(&self.options.bridge, uid)).await
    }

    /// Links and addresses on this bridge of pods that are not in `live` are gone.
    /// Returns the uids of those pods. A pod that is being joined must be in `live`.
    ///
    /// # Errors
    /// The kernel's; what was not removed is found again by the next call.
    pub async fn sweep(&self, live: &BTreeSet<String>) -> Result<Vec<String>, NetworkError> {
        let wanted: BTreeSet<_> = live.iter().map(|uid| names::link_of(&self.options.bridge, uid)).collect();
        let ports = ports(&self.handle, &self.options, self.bridge).await?;
        let held: Vec<String> = self.pool().links().map(String::from).collect();
        let dead: Vec<_> = ports.into_iter().filter(|port| !wanted.contains(&port.name)).collect();
        // What holds an address without being a port was removed by others, or taken out of the bridge.
        let names: BTreeSet<_> = dead
            .iter()
            .map(|port| port.name.clone())
            .chain(held)
            .filter(|name| !wanted.contains(name))
            .collect();
        try_join_all(names.iter().map(|name| self.remove_link(name))).await?;
        Ok(dead.into_iter().map(|port| port.alias.unwrap_or(port.name)).collect())
    }

    /// The links of all pods are gone, the rules for them, and the bridge, unless it was there before any
    /// agent made it. Packets are forwarded between links only if they were before, or there is the bridge of
    /// another agent.
    ///
    /// # Errors
    /// The kernel's; repeat to go on.
    pub async fn remove(&self) -> Result<(), NetworkError> {
        self.sweep(&BTreeSet::new()).await?;
        self.publish_all(Published::new()).await?;
        fast_path::close(&self.handle, &self.options.bridge).await.map_err(NetworkError::FastPath)?;
        let (bridge, cidrs) = (self.options.bridge.clone(), self.options.pod_cidrs);
        let shown = tokio::task::spawn_blocking(move || hide_behind_node(&bridge, cidrs, false));
        shown.await.map_err(io::Error::other).and_then(|done| done).map_err(NetworkError::Rules)?;
        variables::put_back(&self.handle, &self.options).await?;
        bridge::remove(&self.handle, &self.options).await
    }

    async fn remove_link(&self, name: &str) -> Result<(), NetworkError> {
        let lock = self.locks.lock(name).await;
        self.remover.remove(name, lock).await
    }

    fn pool(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The pods' links that are ports of this bridge.
async fn ports(handle: &Handle, options: &NetworkOptions, bridge: u32) -> Result<Vec<Link>, NetworkError> {
    let mut links = link::list(handle)
        .await
        .map_err(|source| NetworkError::ListPorts { bridge: options.bridge.clone(), source })?;
    links.retain(|link| link.controller == Some(bridge) && link.kind == "veth" && names::is_link(&link.name));
    Ok(links)
}
