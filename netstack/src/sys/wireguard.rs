//! Devices of WireGuard: their keys and peers, over generic netlink.

use super::attributes::{Attributes, find, read, text};
use super::nfnetlink::Socket;
use crate::services::Family;
use crate::subnet::Subnet;
use nix::errno::Errno;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};

/// Source: `linux/genetlink.h`.
const CONTROLLER: u16 = 16;
const GET_FAMILY: u8 = 3;
const FAMILY_ID: u16 = 1;
const FAMILY_NAME: u16 = 2;
/// Source: `linux/wireguard.h`, like all below.
const NAME: &str = "wireguard";
const GET_DEVICE: u8 = 0;
const SET_DEVICE: u8 = 1;
const DEVICE_NAME: u16 = 2;
const DEVICE_PRIVATE_KEY: u16 = 3;
const DEVICE_PORT: u16 = 6;
const DEVICE_PEERS: u16 = 8;
const PEER_KEY: u16 = 1;
const PEER_FLAGS: u16 = 3;
const PEER_ENDPOINT: u16 = 4;
const PEER_ALLOWED: u16 = 9;
const REMOVE: u32 = 1;
const REPLACE_ALLOWED: u32 = 2;
const ALLOWED_FAMILY: u16 = 1;
const ALLOWED_ADDRESS: u16 = 2;
const ALLOWED_PREFIX: u16 = 3;
const INET: u16 = 2;
const INET6: u16 = 10;
/// As many peers as surely fit one message.
const PORTION: usize = 100;

/// A key, private or public.
pub(crate) type Key = [u8; 32];

/// Another end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Peer {
    /// Where it was last found, or should be tried.
    pub(crate) endpoint: Option<SocketAddr>,
    /// The networks behind it.
    pub(crate) allowed: BTreeSet<Subnet>,
}

/// What the kernel has of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Device {
    pub(crate) private: Key,
    pub(crate) port: u16,
    pub(crate) peers: BTreeMap<Key, Peer>,
}

/// The number by which the kernel knows these devices.
///
/// # Errors
/// `EOPNOTSUPP` if it has none.
fn family(socket: &mut Socket) -> io::Result<u16> {
    let families = socket.dump(
        CONTROLLER,
        GET_FAMILY,
        |_| {},
        |found, message| {
            let id = find(message.attributes, FAMILY_ID).and_then(|id| id.try_into().ok());
            let name = find(message.attributes, FAMILY_NAME).map(text);
            found.extend(id.map(u16::from_ne_bytes).filter(|_| name.as_deref() == Some(NAME)));
        },
    )?;
    families.first().copied().ok_or_else(|| Errno::EOPNOTSUPP.into())
}

/// What the kernel has of the device.
///
/// # Errors
/// `ENODEV` if there is none of that name, `EOPNOTSUPP` if it is of another kind.
pub(crate) fn look(socket: &mut Socket, name: &str) -> io::Result<Device> {
    let kind = family(socket)?;
    let parts = socket.dump(
        kind,
        GET_DEVICE,
        |body| {
            body.text(DEVICE_NAME, name);
        },
        |found: &mut Vec<Vec<u8>>, message| found.push(message.attributes.to_vec()),
    )?;
    let mut device = Device { private: [0; 32], port: 0, peers: BTreeMap::new() };
    for part in &parts {
        if let Some(key) = find(part, DEVICE_PRIVATE_KEY).and_then(|key| key.try_into().ok()) {
            device.private = key;
        }
        if let Some(port) = find(part, DEVICE_PORT).and_then(|port| port.try_into().ok()) {
            device.port = u16::from_ne_bytes(port);
        }
        for (_, peer) in find(part, DEVICE_PEERS).into_iter().flat_map(read) {
            let Some(key) = find(peer, PEER_KEY).and_then(|key| key.try_into().ok()) else { continue };
            // One with many networks comes in several parts.
            let known = device.peers.entry(key).or_insert(Peer { endpoint: None, allowed: BTreeSet::new() });
            known.endpoint = known.endpoint.or(find(peer, PEER_ENDPOINT).and_then(read_endpoint));
            let allowed = find(peer, PEER_ALLOWED).into_iter().flat_map(read);
            known.allowed.extend(allowed.filter_map(|(_, network)| read_allowed(network)));
        }
    }
    Ok(device)
}

/// The device has this key and port; peers stay.
///
/// # Errors
/// The kernel's.
pub(crate) fn set_key(socket: &mut Socket, name: &str, (private, port): (&Key, u16)) -> io::Result<()> {
    let kind = family(socket)?;
    socket.request(kind, SET_DEVICE, |body| {
        body.text(DEVICE_NAME, name);
        body.put(DEVICE_PRIVATE_KEY, private).put(DEVICE_PORT, &port.to_ne_bytes());
    })
}

/// What becomes of a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    /// It is there, with these networks beside those that it has. Without an endpoint, it keeps its own.
    Put(Peer),
    /// It is there, with exactly these networks. For a moment it has none of them.
    Exactly(Peer),
    /// It is gone.
    Gone,
}

/// These peers are as said; others stay, and so does what was agreed with all that stay.
///
/// # Errors
/// The kernel's.
pub(crate) fn change(socket: &mut Socket, name: &str, changes: &[(Key, Change)]) -> io::Result<()> {
    let kind = family(socket)?;
    for some in changes.chunks(PORTION) {
        socket.request(kind, SET_DEVICE, |body| {
            body.text(DEVICE_NAME, name).nest(DEVICE_PEERS, |list| {
                for (key, change) in some {
                    list.nest(0, |entry| put_change(entry, key, change));
                }
            });
        })?;
    }
    Ok(())
}

fn put_change(entry: &mut Attributes, key: &Key, change: &Change) {
    entry.put(PEER_KEY, key);
    let peer = match change {
        Change::Gone => {
            entry.put(PEER_FLAGS, &REMOVE.to_ne_bytes());
            return;
        }
        Change::Put(peer) => peer,
        Change::Exactly(peer) => {
            entry.put(PEER_FLAGS, &REPLACE_ALLOWED.to_ne_bytes());
            peer
        }
    };
    if let Some(endpoint) = peer.endpoint {
        entry.put(PEER_ENDPOINT, &endpoint_bytes(endpoint));
    }
    entry.nest(PEER_ALLOWED, |list| {
        for network in &peer.allowed {
            list.nest(0, |one| {
                let (family, bytes) = match network.address() {
                    IpAddr::V4(address) => (INET, address.octets().to_vec()),
                    IpAddr::V6(address) => (INET6, address.octets().to_vec()),
                };
                one.put(ALLOWED_FAMILY, &family.to_ne_bytes()).put(ALLOWED_ADDRESS, &bytes);
                one.put(ALLOWED_PREFIX, &[network.prefix()]);
            });
        }
    });
}

/// As `struct sockaddr_in` or `struct sockaddr_in6`.
fn endpoint_bytes(endpoint: SocketAddr) -> Vec<u8> {
    let port = endpoint.port().to_be_bytes();
    match endpoint.ip() {
        IpAddr::V4(address) => [&INET.to_ne_bytes(), &port, &address.octets()[..], &[0; 8]].concat(),
        IpAddr::V6(address) => {
            [&INET6.to_ne_bytes(), &port, &[0; 4][..], &address.octets(), &[0; 4]].concat()
        }
    }
}

fn read_endpoint(bytes: &[u8]) -> Option<SocketAddr> {
    let family = u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?);
    let port = u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?);
    let address: IpAddr = match family {
        INET => <[u8; 4]>::try_from(bytes.get(4..8)?).ok()?.into(),
        INET6 => <[u8; 16]>::try_from(bytes.get(8..24)?).ok()?.into(),
        _ => return None,
    };
    Some(SocketAddr::new(address, port))
}

fn read_allowed(bytes: &[u8]) -> Option<Subnet> {
    let address = find(bytes, ALLOWED_ADDRESS)?;
    let v4 = || <[u8; 4]>::try_from(address).map(IpAddr::from).ok();
    let address = v4().or_else(|| <[u8; 16]>::try_from(address).map(IpAddr::from).ok())?;
    let &[prefix] = find(bytes, ALLOWED_PREFIX)? else { return None };
    let network = Subnet::containing(address, prefix);
    (Family::of(address) == network.family()).then_some(network)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_of_a_peer_is_read() {
        for endpoint in ["192.0.2.7:51820", "[2001:db8::7]:51820"] {
            let endpoint = endpoint.parse().unwrap();
            assert_eq!(read_endpoint(&endpoint_bytes(endpoint)), Some(endpoint));
        }
        assert_eq!(endpoint_bytes("192.0.2.7:1".parse().unwrap()).len(), 16);
        assert_eq!(endpoint_bytes("[::1]:1".parse().unwrap()).len(), 28);
        let allowed: BTreeSet<Subnet> =
            ["10.244.1.0/24", "fd44::/64"].map(|text| text.parse().unwrap()).into();
        let mut bytes = Attributes::default();
        let peer = Peer { endpoint: None, allowed: allowed.clone() };
        put_change(&mut bytes, &[7; 32], &Change::Put(peer));
        assert_eq!(find(bytes.as_slice(), PEER_FLAGS), None, "nothing is taken away first");
        assert_eq!(find(bytes.as_slice(), PEER_KEY), Some([7; 32].as_slice()));
        let list = find(bytes.as_slice(), PEER_ALLOWED).unwrap();
        assert_eq!(read(list).filter_map(|(_, one)| read_allowed(one)).collect::<BTreeSet<_>>(), allowed);
    }
}
