//! What the kernel is told of others on a link, so that it asks nobody: whose hardware address is
//! which, and behind which address a hardware address is.

use super::socket::{dump, is, to_io};
use nix::errno::Errno;
use rtnetlink::Handle;
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use std::io;
use std::net::IpAddr;

/// A hardware address.
pub(crate) type Mac = [u8; 6];

/// All lasting entries of the link: the hardware address of each address.
///
/// # Errors
/// The kernel's.
pub(crate) async fn list(handle: &Handle, link: u32) -> io::Result<Vec<(IpAddr, Mac)>> {
    let mut found = Vec::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let all = lasting(handle, link, family).await?;
        found.extend(all.iter().filter_map(|entry| address(entry).zip(mac(entry))));
    }
    Ok(found)
}

/// All lasting entries of the tunnel: the address behind which each hardware address is.
///
/// # Errors
/// The kernel's.
pub(crate) async fn list_behind(handle: &Handle, tunnel: u32) -> io::Result<Vec<(Mac, IpAddr)>> {
    let all = lasting(handle, tunnel, AddressFamily::Bridge).await?;
    Ok(all.iter().filter_map(|entry| mac(entry).zip(address(entry))).collect())
}

async fn lasting(handle: &Handle, link: u32, family: AddressFamily) -> io::Result<Vec<NeighbourMessage>> {
    let mut request = NeighbourMessage::default();
    request.header.family = family;
    request.header.ifindex = link;
    let objects = dump(handle, RouteNetlinkMessage::GetNeighbour(request)).await?;
    let entry =
        |object| if let RouteNetlinkMessage::NewNeighbour(message) = object { Some(message) } else { None };
    let mut entries: Vec<_> = objects.into_iter().filter_map(entry).collect();
    entries.retain(|entry| entry.header.ifindex == link && entry.header.state == NeighbourState::Permanent);
    Ok(entries)
}

fn address(entry: &NeighbourMessage) -> Option<IpAddr> {
    let to = |attribute: &NeighbourAttribute| {
        if let NeighbourAttribute::Destination(address) = attribute { Some(address.clone()) } else { None }
    };
    #[allow(clippy::wildcard_enum_match_arm, reason = "the others are no addresses")]
    match entry.attributes.iter().find_map(to)? {
        NeighbourAddress::Inet(address) => Some(address.into()),
        NeighbourAddress::Inet6(address) => Some(address.into()),
        // The family of the request is that of bridges, which has no addresses of its own.
        NeighbourAddress::Other(bytes) => bytes_to_address(&bytes),
        _ => None,
    }
}

fn bytes_to_address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = || <[u8; 4]>::try_from(bytes).map(IpAddr::from).ok();
    v4().or_else(|| <[u8; 16]>::try_from(bytes).map(IpAddr::from).ok())
}

fn mac(entry: &NeighbourMessage) -> Option<Mac> {
    let mac = |attribute: &NeighbourAttribute| {
        if let NeighbourAttribute::LinkLayerAddress(mac) = attribute {
            mac.as_slice().try_into().ok()
        } else {
            None
        }
    };
    entry.attributes.iter().find_map(mac)
}

/// That address on the link has that hardware address, whatever it had before.
///
/// # Errors
/// The kernel's.
pub(crate) async fn put(handle: &Handle, link: u32, (address, mac): (IpAddr, Mac)) -> io::Result<()> {
    let add = handle.neighbours().add(link, address).link_layer_address(&mac);
    add.replace().execute().await.map_err(to_io)
}

/// That hardware address is behind that address, whatever it was behind before.
///
/// # Errors
/// The kernel's.
pub(crate) async fn put_behind(
    handle: &Handle,
    tunnel: u32,
    (mac, address): (Mac, IpAddr),
) -> io::Result<()> {
    let add = handle.neighbours().add_bridge(tunnel, &mac).destination(address).flags(NeighbourFlags::Own);
    add.replace().execute().await.map_err(to_io)
}

/// Nothing is known of that address on the link.
///
/// # Errors
/// The kernel's.
pub(crate) async fn remove(handle: &Handle, link: u32, address: IpAddr) -> io::Result<()> {
    let mut add = handle.neighbours().add(link, address);
    delete(handle, std::mem::take(add.message_mut())).await
}

/// Nothing is known of that hardware address behind the tunnel.
///
/// # Errors
/// The kernel's.
pub(crate) async fn remove_behind(
    handle: &Handle,
    tunnel: u32,
    (mac, address): (Mac, IpAddr),
) -> io::Result<()> {
    let add = handle.neighbours().add_bridge(tunnel, &mac).destination(address);
    let mut add = add.flags(NeighbourFlags::Own);
    delete(handle, std::mem::take(add.message_mut())).await
}

async fn delete(handle: &Handle, message: NeighbourMessage) -> io::Result<()> {
    match handle.neighbours().del(message).execute().await.map_err(to_io) {
        Err(error) if is(&error, Errno::ENOENT) => Ok(()),
        other => other,
    }
}
