//! The bridge itself, and its place among the machine's other links.

use super::{NetworkError, NetworkOptions, Warning, variables};
use crate::names;
use crate::services::Family;
use crate::subnet::Subnet;
use crate::sys::address::{self, Assigned};
use crate::sys::link::{self, Link};
use crate::sys::socket;
use nix::errno::Errno;
use rtnetlink::Handle;
use std::net::{IpAddr, Ipv4Addr};

/// No other link has addresses within the pods' networks: the kernel would send what
/// is for pods there. A wider network around the pods' only loses a part.
pub(super) async fn check_overlap(
    handle: &Handle,
    options: &NetworkOptions,
) -> Result<Vec<Warning>, NetworkError> {
    let links = link::list(handle).await.map_err(NetworkError::List)?;
    let assigned = address::list(handle).await.map_err(NetworkError::List)?;
    let own =
        [&options.bridge, &names::tunnel_of(&options.bridge), &names::secret_tunnel_of(&options.bridge)];
    let mut warnings = Vec::new();
    for link in links.iter().filter(|link| !own.contains(&&link.name)) {
        let networks = assigned.iter().filter(|other| other.index == link.index);
        for network in networks.map(|other| Subnet::containing(other.address, other.prefix)) {
            let Some(pods) = options.pod_cidrs.of(network.family()) else { continue };
            let interface = link.name.clone();
            if pods.covers(network) {
                return Err(NetworkError::Overlap { wanted: pods, interface, found: network });
            }
            if network.covers(pods) {
                warnings.push(Warning::Hides { pods, interface, network });
            }
        }
    }
    Ok(warnings)
}

/// The bridge exists, is up and has its addresses. Returns its index.
pub(super) async fn ensure(handle: &Handle, options: &NetworkOptions) -> Result<u32, NetworkError> {
    let name = &options.bridge;
    let failed = |source| NetworkError::SetUpBridge { name: name.clone(), source };
    let bridge = match link::find(handle, name).await.map_err(failed)? {
        Some(bridge) => bridge,
        None => add(handle, options).await?,
    };
    if bridge.kind != "bridge" {
        let kind = if bridge.kind.is_empty() { "a device".into() } else { bridge.kind };
        return Err(NetworkError::NotABridge { name: name.clone(), kind });
    }
    let assigned = address::list(handle).await.map_err(NetworkError::List)?;
    for other in strangers(&assigned, bridge.index, options) {
        let found = Subnet::containing(other.address, other.prefix);
        let former = options.formers.iter().any(|former| former.covers(found));
        if !former || !is_made_here(&bridge, &assigned) {
            let wanted = options.pod_cidrs.subnets()[0];
            return Err(NetworkError::OtherNetwork { name: name.clone(), found, wanted });
        }
    }
    for subnet in options.pod_cidrs.subnets() {
        let wanted = Assigned { index: bridge.index, address: subnet.gateway(), prefix: subnet.prefix() };
        if !assigned.contains(&wanted) {
            address::ensure(handle, wanted).await.map_err(failed)?;
        }
    }
    if !bridge.up {
        link::set_up(handle, bridge.index).await.map_err(failed)?;
    }
    Ok(bridge.index)
}

/// IPv4 addresses of the bridge that are not as is wanted.
fn strangers<'a>(
    assigned: &'a [Assigned],
    bridge: u32,
    options: &NetworkOptions,
) -> impl Iterator<Item = &'a Assigned> {
    let own = options.pod_cidrs.of(Family::V4);
    assigned.iter().filter(move |other| {
        let own = own.is_some_and(|own| (own.gateway(), own.prefix()) == (other.address, other.prefix));
        other.index == bridge && other.address.is_ipv4() && !own
    })
}

/// Whether the bridge's hardware address, or its alias, says that it was made here.
pub(super) fn is_made_here(bridge: &Link, assigned: &[Assigned]) -> bool {
    let says = |assigned: &Assigned| match assigned.address {
        IpAddr::V4(address) => assigned.index == bridge.index && bridge.mac == names::mac_of(address),
        IpAddr::V6(_) => false,
    };
    variables::says_made_here(bridge) || assigned.iter().any(says)
}

/// The bridge has no network of before but those that pods have addresses of, which are returned.
pub(super) async fn give_up_formers(
    handle: &Handle,
    options: &NetworkOptions,
    (bridge, ports): (u32, &[Link]),
) -> Result<Vec<Subnet>, NetworkError> {
    let name = &options.bridge;
    let failed = |source| NetworkError::SetUpBridge { name: name.clone(), source };
    let assigned = address::list(handle).await.map_err(NetworkError::List)?;
    let mut kept = Vec::new();
    for former in strangers(&assigned, bridge, options) {
        let network = Subnet::containing(former.address, former.prefix);
        let pods = ports.iter().filter_map(|port| names::address_of(&port.mac));
        if pods.into_iter().any(|pod: Ipv4Addr| network.contains(pod.into())) {
            kept.push(network);
        } else {
            // The hardware address, which others know, says no more who made the bridge.
            variables::note(handle, name, &[names::MADE_HERE.to_owned()]).await.map_err(failed)?;
            address::remove(handle, *former).await.map_err(failed)?;
        }
    }
    Ok(kept)
}

async fn add(handle: &Handle, options: &NetworkOptions) -> Result<Link, NetworkError> {
    let name = &options.bridge;
    let failed = |source| NetworkError::SetUpBridge { name: name.clone(), source };
    let mac = names::mac_of(options.pod_cidrs.numbers().gateway());
    match link::add_bridge(handle, name, mac, options.mtu).await {
        // Made by another since we looked: whether it will do is judged as for any other.
        Err(error) if socket::is(&error, Errno::EEXIST) => {}
        other => other.map_err(failed)?,
    }
    link::find(handle, name).await.map_err(failed)?.ok_or_else(|| failed(Errno::ENODEV.into()))
}

/// A port that an agent had marked for removal when it died is a port like any
/// other: whether it shall go is decided anew.
pub(super) async fn keep_port(
    handle: &Handle,
    options: &NetworkOptions,
    bridge: u32,
    port: &Link,
) -> Result<(), NetworkError> {
    if port.group == 0 {
        return Ok(());
    }
    let name = options.bridge.clone();
    link::set_port(handle, port.index, bridge)
        .await
        .map_err(|source| NetworkError::SetUpBridge { name, source })
}

/// The bridge is gone, if it was made here.
pub(super) async fn remove(handle: &Handle, options: &NetworkOptions) -> Result<(), NetworkError> {
    let name = &options.bridge;
    let failed = |source| NetworkError::RemoveLink { name: name.clone(), source };
    let ours = names::mac_of(options.pod_cidrs.numbers().gateway());
    let Some(bridge) = link::find(handle, name).await.map_err(failed)? else { return Ok(()) };
    let assigned = address::list(handle).await.map_err(NetworkError::List)?;
    if bridge.kind == "bridge" && (bridge.mac == ours || is_made_here(&bridge, &assigned)) {
        link::remove(handle, name).await.map_err(failed)?;
    }
    Ok(())
}
