//! IPv4 addresses and routes of links.

use super::socket::{dump, is, to_io};
use nix::errno::Errno;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
use rtnetlink::packet_route::route::RouteScope;
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::{Handle, RouteMessageBuilder};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An IPv4 address of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Assigned {
    /// The link's number.
    pub(crate) index: u32,
    /// The address.
    pub(crate) address: Ipv4Addr,
    /// Length of its network's prefix in bits.
    pub(crate) prefix: u8,
}

/// All IPv4 addresses of all links.
///
/// # Errors
/// The kernel's.
pub(crate) async fn list(handle: &Handle) -> io::Result<Vec<Assigned>> {
    let mut request = AddressMessage::default();
    request.header.family = AddressFamily::Inet;
    let objects = dump(handle, RouteNetlinkMessage::GetAddress(request)).await?;
    let assigned =
        |object| if let RouteNetlinkMessage::NewAddress(message) = object { read(&message) } else { None };
    Ok(objects.into_iter().filter_map(assigned).collect())
}

fn read(message: &AddressMessage) -> Option<Assigned> {
    message.attributes.iter().find_map(|attribute| {
        let AddressAttribute::Local(IpAddr::V4(address)) = attribute else { return None };
        Some(Assigned { index: message.header.index, address: *address, prefix: message.header.prefix_len })
    })
}

/// Gives the link an address, and with it the route to its network. Repeating is harmless.
///
/// # Errors
/// The kernel's.
pub(crate) async fn ensure(handle: &Handle, wanted: Assigned) -> io::Result<()> {
    let add = handle.address().add(wanted.index, wanted.address.into(), wanted.prefix);
    match add.execute().await.map_err(to_io) {
        Err(error) if is(&error, Errno::EEXIST) => Ok(()),
        other => other,
    }
}

/// Makes `gateway` the default route. Repeating is harmless.
///
/// # Errors
/// `ENETUNREACH` if no link reaches the gateway.
pub(crate) async fn ensure_default_route(handle: &Handle, gateway: Ipv4Addr) -> io::Result<()> {
    let route = RouteMessageBuilder::<Ipv4Addr>::new().gateway(gateway).build();
    handle.route().add(route).replace().execute().await.map_err(to_io)
}

/// What is for that network goes to the link, from that address if the node itself sends it.
/// Repeating is harmless.
///
/// # Errors
/// The kernel's: `EINVAL` if the address is none of the node's.
pub(crate) async fn ensure_link_route(
    handle: &Handle,
    link: u32,
    (network, prefix): (IpAddr, u8),
    source: Option<IpAddr>,
) -> io::Result<()> {
    let route = match network {
        IpAddr::V4(network) => {
            let route = RouteMessageBuilder::<Ipv4Addr>::new()
                .destination_prefix(network, prefix)
                .output_interface(link)
                .scope(RouteScope::Link);
            let source =
                source.and_then(|source| if let IpAddr::V4(source) = source { Some(source) } else { None });
            if let Some(source) = source { route.pref_source(source).build() } else { route.build() }
        }
        IpAddr::V6(network) => {
            let route = RouteMessageBuilder::<Ipv6Addr>::new()
                .destination_prefix(network, prefix)
                .output_interface(link);
            let source =
                source.and_then(|source| if let IpAddr::V6(source) = source { Some(source) } else { None });
            if let Some(source) = source { route.pref_source(source).build() } else { route.build() }
        }
    };
    handle.route().add(route).replace().execute().await.map_err(to_io)
}
