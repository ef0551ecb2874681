//! Routes to other nodes' networks, and the way that the kernel would take to an address.

use super::socket::{dump, is, to_io};
use crate::services::Family;
use crate::subnet::Subnet;
use futures::TryStreamExt;
use nix::errno::Errno;
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteProtocol,
};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::{Handle, RouteMessageBuilder};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Who made a route: a number that no other program is known to take. Source: `rt_protos` of iproute2.
const MADE_HERE: u8 = 107;

/// The way to a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Way {
    /// The link's number.
    pub(crate) link: u32,
    /// Who on the link takes packets on.
    pub(crate) gateway: Option<IpAddr>,
    /// The address that the node itself sends from.
    pub(crate) source: Option<IpAddr>,
    /// Nothing but this says that the gateway is on the link.
    pub(crate) onlink: bool,
}

/// All routes that were made here, in the main table.
///
/// # Errors
/// The kernel's.
pub(crate) async fn list(handle: &Handle) -> io::Result<Vec<(Subnet, Way)>> {
    let mut found = Vec::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut request = RouteMessage::default();
        request.header.address_family = family;
        let objects = dump(handle, RouteNetlinkMessage::GetRoute(request)).await?;
        found.extend(objects.into_iter().filter_map(|object| {
            let RouteNetlinkMessage::NewRoute(message) = object else { return None };
            if is_ours(&message) { read(&message) } else { None }
        }));
    }
    Ok(found)
}

/// Whether the message is about a route that was made here.
pub(crate) fn is_ours(message: &RouteMessage) -> bool {
    let header = &message.header;
    header.protocol == RouteProtocol::from(MADE_HERE) && header.table == RouteHeader::RT_TABLE_MAIN
}

const fn address(address: &RouteAddress) -> Option<IpAddr> {
    #[allow(clippy::wildcard_enum_match_arm, reason = "the others are no addresses")]
    match address {
        RouteAddress::Inet(address) => Some(IpAddr::V4(*address)),
        RouteAddress::Inet6(address) => Some(IpAddr::V6(*address)),
        _ => None,
    }
}

fn read(message: &RouteMessage) -> Option<(Subnet, Way)> {
    let onlink = message.header.flags.contains(RouteFlags::Onlink);
    let mut way = Way { link: 0, gateway: None, source: None, onlink };
    let mut to = None;
    for attribute in &message.attributes {
        #[allow(clippy::wildcard_enum_match_arm, reason = "the others are left to the kernel")]
        match attribute {
            RouteAttribute::Destination(network) => to = address(network),
            RouteAttribute::Gateway(gateway) => way.gateway = address(gateway),
            RouteAttribute::PrefSource(source) => way.source = address(source),
            RouteAttribute::Oif(link) => way.link = *link,
            _ => {}
        }
    }
    Some((Subnet::containing(to?, message.header.destination_prefix_length), way))
}

/// What is for `to` goes that way, whatever way it went before.
///
/// # Errors
/// The kernel's: `ENETUNREACH` if the gateway is not on the link, `EINVAL` if the source is none of
/// the node's addresses.
pub(crate) async fn put(handle: &Handle, to: Subnet, way: Way) -> io::Result<()> {
    let request = handle.route().add(message(to, Some(way)));
    request.replace().execute().await.map_err(to_io)
}

/// The way to `to` is gone. Repeating is harmless.
///
/// # Errors
/// The kernel's.
pub(crate) async fn remove(handle: &Handle, to: Subnet, way: Way) -> io::Result<()> {
    match handle.route().del(message(to, Some(way))).execute().await.map_err(to_io) {
        Err(error) if is(&error, Errno::ESRCH) => Ok(()),
        other => other,
    }
}

fn message(to: Subnet, way: Option<Way>) -> RouteMessage {
    let protocol = RouteProtocol::from(MADE_HERE);
    let mut message = match to.address() {
        IpAddr::V4(network) => RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(network, to.prefix())
            .protocol(protocol)
            .build(),
        IpAddr::V6(network) => RouteMessageBuilder::<Ipv6Addr>::new()
            .destination_prefix(network, to.prefix())
            .protocol(protocol)
            .build(),
    };
    let Some(way) = way else { return message };
    if way.onlink {
        message.header.flags.insert(RouteFlags::Onlink);
    }
    message.attributes.push(RouteAttribute::Oif(way.link));
    message.attributes.extend(way.gateway.map(|address| RouteAttribute::Gateway(address.into())));
    message.attributes.extend(way.source.map(|address| RouteAttribute::PrefSource(address.into())));
    message
}

/// The way that the kernel would take to an address: the link, and who takes packets on.
///
/// # Errors
/// `ENETUNREACH` if there is none.
pub(crate) async fn towards(handle: &Handle, to: IpAddr) -> io::Result<Way> {
    let bits = if Family::of(to) == Family::V4 { 32 } else { 128 };
    let mut request = message(Subnet::containing(to, bits), None);
    request.header = RouteHeader {
        address_family: request.header.address_family,
        destination_prefix_length: bits,
        ..RouteHeader::default()
    };
    let answer = handle.route().get(request).execute().try_next().await.map_err(to_io)?;
    let way = answer.as_ref().and_then(read).map(|(_, way)| way);
    way.ok_or_else(|| Errno::ENETUNREACH.into())
}
