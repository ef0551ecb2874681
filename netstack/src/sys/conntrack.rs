//! Connections that the kernel keeps track of: listed, and forgotten.

use super::attributes::{Attributes, find};
use super::nfnetlink::{CONNTRACK, Socket};
use nix::errno::Errno;
use std::io;
use std::net::IpAddr;

/// Source: `linux/netfilter/nfnetlink_conntrack.h`.
const GET: u16 = 1;
const DELETE: u16 = 2;
const ORIGINAL: u16 = 1;
const REPLY: u16 = 2;
const ADDRESSES: u16 = 1;
const PROTOCOL: u16 = 2;

/// A flow, as it was asked for, and who answers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Flow {
    /// Where it was sent to.
    pub(crate) destination: (IpAddr, u16),
    /// Who answers.
    pub(crate) answerer: (IpAddr, u16),
    family: u8,
    /// The kernel's words for it.
    original: Vec<u8>,
    zone: Option<Vec<u8>>,
}

/// All flows of one family and protocol whose answerer is `wanted`.
///
/// # Errors
/// The kernel's; `EOPNOTSUPP` or `EINVAL` if it keeps track of none.
pub(crate) fn list(
    socket: &mut Socket,
    family: u8,
    protocol: u8,
    wanted: impl Fn(&Flow) -> bool,
) -> io::Result<Vec<Flow>> {
    socket.dump(
        CONNTRACK << 8 | GET,
        family,
        |_| {},
        |found, message| {
            found.extend(read(message.attributes, family, protocol).filter(&wanted));
        },
    )
}

/// It is no longer known; if it was not, nothing is wrong.
///
/// # Errors
/// The kernel's.
pub(crate) fn forget(socket: &mut Socket, flow: &Flow) -> io::Result<()> {
    const ZONE: u16 = 18;
    let put = |body: &mut Attributes| {
        body.nest(ORIGINAL, |tuple| tuple.0.extend_from_slice(&flow.original));
        if let Some(zone) = &flow.zone {
            body.put(ZONE, zone);
        }
    };
    match socket.request(CONNTRACK << 8 | DELETE, flow.family, put) {
        Err(error) if error.raw_os_error() == Some(Errno::ENOENT as i32) => Ok(()),
        other => other,
    }
}

fn read(attributes: &[u8], family: u8, protocol: u8) -> Option<Flow> {
    let (original, reply) = (find(attributes, ORIGINAL)?, find(attributes, REPLY)?);
    if find(find(original, PROTOCOL)?, 1)? != [protocol] {
        return None;
    }
    // Of the original where it goes to; of the reply where it comes from.
    let destination = (address(find(original, ADDRESSES)?, false)?, port(original, 3)?);
    let answerer = (address(find(reply, ADDRESSES)?, true)?, port(reply, 2)?);
    let zone = find(attributes, 18).map(<[u8]>::to_vec);
    Some(Flow { destination, answerer, family, original: original.to_vec(), zone })
}

fn address(addresses: &[u8], source: bool) -> Option<IpAddr> {
    let (v4, v6) = if source { (1, 3) } else { (2, 4) };
    let short = || <[u8; 4]>::try_from(find(addresses, v4)?).ok().map(IpAddr::from);
    let long = || <[u8; 16]>::try_from(find(addresses, v6)?).ok().map(IpAddr::from);
    short().or_else(long)
}

fn port(tuple: &[u8], kind: u16) -> Option<u16> {
    find(find(tuple, PROTOCOL)?, kind)?.try_into().ok().map(u16::from_be_bytes)
}
