//! The bridge itself, and its place among the machine's other links.

use super::{NetworkError, NetworkOptions, Warning};
use crate::cidr::Cidr;
use crate::names;
use crate::sys::address::{self, Assigned};
use crate::sys::link::{self, Link};
use crate::sys::{socket, sysctl};
use nix::errno::Errno;
use rtnetlink::Handle;

/// No other link has addresses within the pods' network: the kernel would send what
/// is for pods there. A wider network around the pods' only loses a part.
pub(super) async fn check_overlap(
    handle: &Handle,
    options: &NetworkOptions,
) -> Result<Vec<Warning>, NetworkError> {
    let links = link::list(handle).await.map_err(NetworkError::List)?;
    let assigned = address::list(handle).await.map_err(NetworkError::List)?;
    let pods = options.pod_cidr;
    let mut warnings = Vec::new();
    for link in links.iter().filter(|link| link.name != options.bridge) {
        let networks = assigned.iter().filter(|other| other.index == link.index);
        for network in networks.map(|other| Cidr::containing(other.address, other.prefix)) {
            let interface = link.name.clone();
            if pods.contains(network.network()) && network.prefix() >= pods.prefix() {
                return Err(NetworkError::Overlap { wanted: pods, interface, found: network });
            }
            if network.contains(pods.network()) {
                warnings.push(Warning::Hides { pods, interface, network });
            }
        }
    }
    Ok(warnings)
}

/// The bridge exists, is up and has its address. Returns its index.
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
    let cidr = options.pod_cidr;
    let wanted = Assigned { index: bridge.index, address: cidr.gateway(), prefix: cidr.prefix() };
    let assigned = address::list(handle).await.map_err(NetworkError::List)?;
    if let Some(other) = assigned.iter().find(|other| other.index == bridge.index && **other != wanted) {
        let found = Cidr::containing(other.address, other.prefix);
        return Err(NetworkError::OtherNetwork { name: name.clone(), found, wanted: cidr });
    }
    address::ensure(handle, wanted).await.map_err(failed)?;
    if !bridge.up {
        link::set_up(handle, bridge.index).await.map_err(failed)?;
    }
    Ok(bridge.index)
}

async fn add(handle: &Handle, options: &NetworkOptions) -> Result<Link, NetworkError> {
    let name = &options.bridge;
    let failed = |source| NetworkError::SetUpBridge { name: name.clone(), source };
    let added = link::add_bridge(handle, name, names::mac_of(options.pod_cidr.gateway()), options.mtu).await;
    match added {
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

/// The bridge is gone, if its hardware address says that it was made here.
pub(super) async fn remove(handle: &Handle, options: &NetworkOptions) -> Result<(), NetworkError> {
    let name = &options.bridge;
    let failed = |source| NetworkError::RemoveLink { name: name.clone(), source };
    let ours = names::mac_of(options.pod_cidr.gateway());
    match link::find(handle, name).await.map_err(failed)? {
        Some(bridge) if bridge.kind == "bridge" && bridge.mac == ours => {
            link::remove(handle, name).await.map_err(failed)
        }
        _ => Ok(()),
    }
}

/// Packets are forwarded between links, or a warning says that they are not.
pub(super) fn ensure_forwarding() -> Option<Warning> {
    match sysctl::ensure_ipv4_forwarding() {
        Ok(false) => None,
        Ok(true) => Some(Warning::ForwardingEnabled),
        Err(error) => Some(Warning::ForwardingOff(error)),
    }
}
