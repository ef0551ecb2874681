//! One pod's link and what is set inside of the pod.

use super::{AttachError, Namespace};
use crate::subnet::Subnet;
use crate::sys::address::{self, Assigned};
use crate::sys::link::{self, Link, Pair};
use crate::sys::{netns, socket};
use nix::errno::Errno;
use rtnetlink::Handle;
use std::io;
use std::net::IpAddr;
use std::os::fd::{BorrowedFd, OwnedFd};

/// Number of the loopback interface in every network namespace.
const LOOPBACK: u32 = 1;

/// The pair exists, from a port of the bridge to the pod's namespace.
///
/// It is made first and looked for after: for a new pod, one message is all.
pub(super) async fn join(
    handle: &Handle,
    pair: &Pair<'_>,
    namespace: BorrowedFd<'_>,
    pod: &Namespace,
) -> Result<(), AttachError> {
    let failed = |source| AttachError::Link { name: pair.name.into(), pod: pod.clone(), source };
    if !taken(link::add_pair(handle, pair, namespace).await).map_err(failed)? {
        return Ok(());
    }
    if let Some(here) = link::find(handle, pair.name).await.map_err(failed)? {
        let there = interface_in(namespace, pair.peer_name).await.map_err(failed)?;
        if there.is_some_and(|there| joined(pair, &here, &there)) {
            return link::set_port(handle, here.index, pair.controller).await.map_err(failed);
        }
        // Left from a namespace that is no more, or about to go.
        link::remove(handle, pair.name).await.map_err(failed)?;
    }
    if taken(link::add_pair(handle, pair, namespace).await).map_err(failed)? {
        return Err(AttachError::InterfaceTaken { pod: pod.clone(), interface: pair.peer_name.into() });
    }
    Ok(())
}

/// Whether the kernel refused because a name is taken.
fn taken(result: io::Result<()>) -> io::Result<bool> {
    match result {
        Err(error) if socket::is(&error, Errno::EEXIST) => Ok(true),
        other => other.map(|()| false),
    }
}

/// Whether the two are the ends of the pair that is wanted.
fn joined(pair: &Pair<'_>, here: &Link, there: &Link) -> bool {
    here.mac == pair.mac
        && there.mac == pair.peer_mac
        && here.peer == Some(there.index)
        && there.peer == Some(here.index)
}

/// The link of that name in the pod.
pub(super) async fn interface_in(namespace: BorrowedFd<'_>, name: &str) -> io::Result<Option<Link>> {
    let name = name.to_owned();
    let look = async move {
        let handle = visitor()?;
        link::find(&handle, &name).await
    };
    netns::visit(namespace.try_clone_to_owned()?, look).await?
}

/// Loopback and the pod's interface of that name are up, with addresses and default routes.
pub(super) async fn configure(
    namespace: OwnedFd,
    addresses: Vec<(IpAddr, Subnet)>,
    (pod, interface): (&Namespace, &str),
) -> Result<(), AttachError> {
    let failed = |step, source| AttachError::Inside { step, pod: pod.clone(), source };
    let name = interface.to_owned();
    let steps = async move {
        let handle = visitor().map_err(|error| ("open a netlink socket", error))?;
        link::set_up(&handle, LOOPBACK).await.map_err(|error| ("set up the loopback interface", error))?;
        let interface = link::find(&handle, &name).await.and_then(|link| link.ok_or(Errno::ENODEV.into()));
        let Link { index, up, .. } = interface.map_err(|error| ("find the interface", error))?;
        if !up {
            link::set_up(&handle, index).await.map_err(|error| ("set up the interface", error))?;
        }
        for (address, subnet) in addresses {
            let wanted = Assigned { index, address, prefix: subnet.prefix() };
            address::ensure(&handle, wanted).await.map_err(|error| ("set the address", error))?;
            let route = address::ensure_default_route(&handle, subnet.gateway()).await;
            route.map_err(|error| ("set the default route", error))?;
        }
        Ok(())
    };
    let visited = netns::visit(namespace, steps)
        .await
        .map_err(|source| failed("enter the network namespace", source))?;
    visited.map_err(|(step, source)| failed(step, source))
}

/// A socket in the namespace of the calling thread, served by the thread's own runtime.
pub(super) fn visitor() -> io::Result<Handle> {
    let (connection, handle, _) = rtnetlink::new_connection()?;
    tokio::spawn(connection);
    Ok(handle)
}

/// The addresses of the pod's interface of that name; none if there is no such interface.
pub(super) async fn addresses_of(namespace: OwnedFd, name: &str) -> io::Result<Vec<IpAddr>> {
    let name = name.to_owned();
    let look = async move {
        let handle = visitor()?;
        let Some(found) = link::find(&handle, &name).await? else { return Ok(Vec::new()) };
        let all = address::list(&handle).await?;
        Ok(all.into_iter().filter(|one| one.index == found.index).map(|one| one.address).collect())
    };
    netns::visit(namespace, look).await?
}
