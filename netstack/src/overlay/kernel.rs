//! What the kernel has, and how it is changed.

use super::diff::{Changes, diff};
use super::{Changed, OverlayError, OverlayOptions, State};
use crate::names;
use crate::subnet::{PodCidrs, Subnet};
use crate::sys::address::{self, Assigned};
use crate::sys::link::{self, Vxlan};
use crate::sys::neighbour::{self, Mac};
use crate::sys::route::{self, Way};
use nix::errno::Errno;
use rtnetlink::Handle;
use std::io;
use std::net::IpAddr;

/// The tunnel's device as it should be.
#[derive(Debug)]
pub(super) struct Device<'a> {
    pub(super) name: &'a str,
    pub(super) vxlan: Vxlan,
    pub(super) own: PodCidrs,
    pub(super) mtu: u32,
}

impl Device<'_> {
    /// It is there, up, with the addresses of the bridge: who is asked through it sees one of them.
    /// Returns its number, and whether it had to be made.
    pub(super) async fn ensure(&self, handle: &Handle) -> io::Result<(u32, bool)> {
        let mac = names::tunnel_mac_of(self.own.subnets()[0]);
        let mut rebuilt = false;
        let mut known = link::find(handle, self.name).await?;
        if known.as_ref().is_some_and(|known| known.vxlan != Some(self.vxlan) || known.mac != mac) {
            link::remove(handle, self.name).await?;
            known = None;
        }
        let device = if let Some(known) = known {
            known
        } else {
            link::add_vxlan(handle, (self.name, mac, self.mtu), self.vxlan).await?;
            rebuilt = true;
            link::find(handle, self.name).await?.ok_or(Errno::ENODEV)?
        };
        if self.mtu != 0 && device.mtu != self.mtu {
            link::set_mtu(handle, device.index, self.mtu).await?;
        }
        if !device.up {
            link::set_up(handle, device.index).await?;
        }
        let wanted: Vec<_> =
            self.own.subnets().iter().map(|own| alone(device.index, own.gateway())).collect();
        let assigned = address::list(handle).await?;
        for address in wanted.iter().filter(|address| !assigned.contains(address)) {
            address::ensure(handle, *address).await?;
        }
        for other in assigned.iter().filter(|other| other.index == device.index && !wanted.contains(other)) {
            address::remove(handle, *other).await?;
        }
        Ok((device.index, rebuilt))
    }
}

/// An address that brings no network with it.
const fn alone(index: u32, address: IpAddr) -> Assigned {
    Assigned { index, address, prefix: if address.is_ipv4() { 32 } else { 128 } }
}

/// What the kernel has.
#[derive(Debug)]
pub(super) struct Found {
    routes: Vec<(Subnet, Way)>,
    neighbours: Vec<(IpAddr, Mac)>,
    behind: Vec<(Mac, IpAddr)>,
}

/// What was made for this node's bridge.
pub(super) async fn look(
    handle: &Handle,
    options: &OverlayOptions,
    device: Option<u32>,
) -> io::Result<Found> {
    let gateways = options.own.gateways();
    let mut routes = route::list(handle).await?;
    // Another agent on this machine has another tunnel, and other pods.
    routes.retain(|(_, way)| {
        Some(way.link) == device || way.source.is_some_and(|source| gateways.contains(&source))
    });
    let Some(device) = device else {
        return Ok(Found { routes, neighbours: Vec::new(), behind: Vec::new() });
    };
    let neighbours = neighbour::list(handle, device).await?;
    let behind = neighbour::list_behind(handle, device).await?;
    Ok(Found { routes, neighbours, behind })
}

/// The kernel has what is wanted. A way is ready before the route to it, and gone after it.
pub(super) async fn apply(
    handle: &Handle,
    device: Option<u32>,
    (wanted, found): (&State, &Found),
    changed: &mut Changed,
) -> Result<(), OverlayError> {
    let failed = |to: String| move |source| OverlayError::Change { to, source };
    let routes = diff(&wanted.routes, &found.routes);
    let neighbours = diff(&wanted.neighbours, &found.neighbours);
    let behind = diff(&wanted.behind, &found.behind);
    changed.put += count(&routes).0 + count(&neighbours).0 + count(&behind).0;
    changed.removed += count(&routes).1 + count(&neighbours).1 + count(&behind).1;
    let device = device.unwrap_or_default();
    for (mac, node) in behind.put {
        let put = neighbour::put_behind(handle, device, (mac, node)).await;
        put.map_err(failed(node.to_string()))?;
    }
    for (address, mac) in neighbours.put {
        let put = neighbour::put(handle, device, (address, mac)).await;
        put.map_err(failed(address.to_string()))?;
    }
    for (subnet, way) in routes.put {
        route::put(handle, subnet, way).await.map_err(failed(subnet.to_string()))?;
    }
    for (subnet, way) in routes.gone {
        route::remove(handle, subnet, way).await.map_err(failed(subnet.to_string()))?;
    }
    for (address, _) in neighbours.gone {
        let gone = neighbour::remove(handle, device, address).await;
        gone.map_err(failed(address.to_string()))?;
    }
    for (mac, node) in behind.gone {
        let gone = neighbour::remove_behind(handle, device, (mac, node)).await;
        gone.map_err(failed(node.to_string()))?;
    }
    Ok(())
}

fn count<K, V>(changes: &Changes<K, V>) -> (usize, usize) {
    (changes.put.len(), changes.gone.len())
}
