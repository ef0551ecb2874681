//! Addresses of links, and routes that belong to them.

use super::socket::{dump, is, to_io};
use nix::errno::Errno;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage, AddressScope};
use rtnetlink::packet_route::route::RouteScope;
use rtnetlink::{Handle, RouteMessageBuilder};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An address of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Assigned {
    /// The link's number.
    pub(crate) index: u32,
    /// The address.
    pub(crate) address: IpAddr,
    /// Length of its network's prefix in bits.
    pub(crate) prefix: u8,
}

/// All addresses of all links but those that mean something on their link only.
///
/// # Errors
/// The kernel's.
pub(crate) async fn list(handle: &Handle) -> io::Result<Vec<Assigned>> {
    let objects = dump(handle, RouteNetlinkMessage::GetAddress(AddressMessage::default())).await?;
    let assigned =
        |object| if let RouteNetlinkMessage::NewAddress(message) = object { read(&message) } else { None };
    Ok(objects.into_iter().filter_map(assigned).collect())
}

fn read(message: &AddressMessage) -> Option<Assigned> {
    if message.header.scope == AddressScope::Link {
        return None;
    }
    let (mut own, mut other) = (None, None);
    for attribute in &message.attributes {
        #[allow(clippy::wildcard_enum_match_arm, reason = "the others are no addresses")]
        match attribute {
            AddressAttribute::Local(address) => own = Some(*address),
            AddressAttribute::Address(address) => other = Some(*address),
            _ => {}
        }
    }
    let (index, prefix) = (message.header.index, message.header.prefix_len);
    Some(Assigned { index, address: own.or(other)?, prefix })
}

/// Gives the link an address, and with it the route to its network. Nobody is asked whether it is
/// free. Repeating is harmless.
///
/// # Errors
/// The kernel's.
pub(crate) async fn ensure(handle: &Handle, wanted: Assigned) -> io::Result<()> {
    let mut add = handle.address().add(wanted.index, wanted.address, wanted.prefix);
    if wanted.address.is_ipv6() {
        add.message_mut().header.flags |= AddressHeaderFlags::Nodad;
    }
    match add.execute().await.map_err(to_io) {
        Err(error) if is(&error, Errno::EEXIST) => Ok(()),
        other => other,
    }
}

/// The link does not have the address. Repeating is harmless.
///
/// # Errors
/// The kernel's.
pub(crate) async fn remove(handle: &Handle, gone: Assigned) -> io::Result<()> {
    let mut message = handle.address().add(gone.index, gone.address, gone.prefix);
    let message = std::mem::take(message.message_mut());
    match handle.address().del(message).execute().await.map_err(to_io) {
        Err(error) if is(&error, Errno::EADDRNOTAVAIL) => Ok(()),
        other => other,
    }
}

/// Makes `gateway` the default route of its family. Repeating is harmless.
///
/// # Errors
/// `ENETUNREACH` if no link reaches the gateway.
pub(crate) async fn ensure_default_route(handle: &Handle, gateway: IpAddr) -> io::Result<()> {
    let route = match gateway {
        IpAddr::V4(gateway) => RouteMessageBuilder::<Ipv4Addr>::new().gateway(gateway).build(),
        IpAddr::V6(gateway) => RouteMessageBuilder::<Ipv6Addr>::new().gateway(gateway).build(),
    };
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
