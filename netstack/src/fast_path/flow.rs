//! What is remembered of a connection, in one direction.

use crate::sys::bpf::Size;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// The key: addresses of sixteen bytes each, of which IPv4 takes the first four, then ports; all as in packets.
pub(super) const SOURCE: i16 = 0;
pub(super) const DESTINATION: i16 = 16;
pub(super) const PORTS: i16 = 32;
pub(super) const KEY_BYTES: i16 = 36;

/// The value: until when it is true, in nanoseconds since the machine was started; packets that went by it; the link
/// that they leave by; whether that leads to other nodes; the receiver's and the sender's hardware address.
pub(super) const UNTIL: i16 = 0;
pub(super) const PACKETS: i16 = 8;
pub(super) const LINK: i16 = 16;
pub(super) const AWAY: i16 = 20;
pub(super) const MACS: i16 = 24;
pub(super) const VALUE_BYTES: i16 = 40;

/// How many are remembered, some 2 MiB: of more, those that were used least recently take the long way.
const FLOWS: u32 = 16 * 1024;

#[allow(clippy::cast_sign_loss, reason = "sizes")]
pub(super) const SIZE: Size = Size { key: KEY_BYTES as u32, value: VALUE_BYTES as u32, entries: FLOWS };

/// A connection in one direction that takes the fast path, or did when it last sent something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    /// Who sends.
    pub source: SocketAddr,
    /// Who receives.
    pub destination: SocketAddr,
    /// How many packets, before they are cut, took it.
    pub packets: u64,
}

impl Flow {
    /// What an entry says; none if it is of another size.
    pub(super) fn read(key: &[u8], value: &[u8]) -> Option<Self> {
        let (addresses, ports) = key.split_at_checked(32)?;
        let (source, destination) = addresses.split_at_checked(16)?;
        let &[a, b, c, d] = ports else { return None };
        let packets = value.get(8..16)?.try_into().ok().map(u64::from_ne_bytes)?;
        let is_v4 = source[4..].iter().chain(&destination[4..]).all(|byte| *byte == 0);
        let address = |bytes: &[u8]| -> Option<IpAddr> {
            let bytes: [u8; 16] = bytes.try_into().ok()?;
            let [a, b, c, d, ..] = bytes;
            Some(if is_v4 { IpAddr::from([a, b, c, d]) } else { Ipv6Addr::from(bytes).into() })
        };
        Some(Self {
            source: SocketAddr::new(address(source)?, u16::from_be_bytes([a, b])),
            destination: SocketAddr::new(address(destination)?, u16::from_be_bytes([c, d])),
            packets,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_says_who_sends_whom() {
        let mut key = [0; 36];
        key[..4].copy_from_slice(&[10, 0, 0, 1]);
        key[16..20].copy_from_slice(&[10, 0, 0, 2]);
        key[32..].copy_from_slice(&[0x1f, 0x90, 0, 80]);
        let mut value = [0; 40];
        value[8..16].copy_from_slice(&7_u64.to_ne_bytes());
        let flow = Flow::read(&key, &value).unwrap();
        assert_eq!(
            format!("{} {} {}", flow.source, flow.destination, flow.packets),
            "10.0.0.1:8080 10.0.0.2:80 7"
        );
        let v6 = |last: &str| format!("fd00::{last}").parse::<Ipv6Addr>().unwrap().octets();
        key[..16].copy_from_slice(&v6("1"));
        key[16..32].copy_from_slice(&v6("2"));
        let flow = Flow::read(&key, &value).unwrap();
        assert_eq!(format!("{} {}", flow.source, flow.destination), "[fd00::1]:8080 [fd00::2]:80");
        assert_eq!(Flow::read(&key[1..], &value), None);
    }
}
