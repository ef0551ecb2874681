//! Frames of Ethernet: who asks for an address, and what is said. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A hardware address.
pub(super) type Mac = [u8; 6];

const EVERYBODY: Mac = [0xff; 6];
/// All nodes of the link: their address, and theirs in hardware. Source: RFC 4291, RFC 2464.
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_NODES_MAC: Mac = [0x33, 0x33, 0, 0, 0, 1];
/// Source: RFC 826, RFC 8200.
const ARP: [u8; 2] = [0x08, 0x06];
const IPV6: [u8; 2] = [0x86, 0xdd];
const ETHERNET: usize = 14;
const IPV6_HEADER: usize = 40;
const ICMPV6: u8 = 58;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
/// It was asked for; what others remember is to be replaced. Source: RFC 4861, section 4.4.
const SOLICITED: u8 = 0x40;
const OVERRIDE: u8 = 0x20;

/// Somebody asks for the hardware address of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) wanted: IpAddr,
    /// Whose question it is; unspecified if it has no address yet.
    pub(super) from: IpAddr,
    mac: Mac,
}

/// The question in a frame that came to the link with that hardware address, if there is one.
pub(super) fn question(frame: &[u8], own: Mac) -> Option<Question> {
    let (header, rest) = frame.split_at_checked(ETHERNET)?;
    let to: Mac = header[..6].try_into().ok()?;
    let mac: Mac = header[6..12].try_into().ok()?;
    // Own frames come back where a bridge is wired to itself.
    if mac == own || !(to == own || to[0] & 1 == 1) {
        return None;
    }
    match [header[12], header[13]] {
        ARP => arp_question(rest, mac),
        IPV6 => solicitation(rest, mac),
        _ => None,
    }
}

fn arp_question(packet: &[u8], mac: Mac) -> Option<Question> {
    let packet = packet.get(..28)?;
    // Of Ethernet, for IPv4, a request.
    if packet[..8] != [0, 1, 8, 0, 6, 4, 0, 1] {
        return None;
    }
    let address = |at: usize| <[u8; 4]>::try_from(&packet[at..at + 4]).ok().map(Ipv4Addr::from);
    let (from, wanted) = (address(14)?, address(24)?);
    // Who asks for itself tells that it has the address.
    (from != wanted).then_some(Question { wanted: wanted.into(), from: from.into(), mac })
}

fn solicitation(packet: &[u8], mac: Mac) -> Option<Question> {
    let (header, message) = packet.split_at_checked(IPV6_HEADER)?;
    let message = message.get(..24)?;
    // Nobody from beyond the link can have sent it.
    if header[6] != ICMPV6 || header[7] != 255 || message[0] != SOLICITATION || message[1] != 0 {
        return None;
    }
    let address = |bytes: &[u8]| <[u8; 16]>::try_from(bytes).ok().map(Ipv6Addr::from);
    let (from, wanted) = (address(&header[8..24])?, address(&message[8..24])?);
    (!wanted.is_multicast()).then_some(Question { wanted: wanted.into(), from: from.into(), mac })
}

/// `own` is where what was asked for is.
pub(super) fn answer(question: &Question, own: Mac) -> Option<Vec<u8>> {
    match (question.wanted, question.from) {
        (IpAddr::V4(wanted), IpAddr::V4(from)) => {
            Some(arp(2, (own, wanted), (question.mac, from), question.mac))
        }
        (IpAddr::V6(wanted), IpAddr::V6(from)) if from.is_unspecified() => {
            Some(advertisement(own, wanted, (ALL_NODES_MAC, ALL_NODES), OVERRIDE))
        }
        (IpAddr::V6(wanted), IpAddr::V6(from)) => {
            Some(advertisement(own, wanted, (question.mac, from), SOLICITED | OVERRIDE))
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => None,
    }
}

/// What all neighbours are told when `own` is where `address` is from now on. Some listen to questions
/// alone, and some to answers alone. Source: RFC 5227, section 3; RFC 4861, section 7.2.6.
pub(super) fn news(address: IpAddr, own: Mac) -> Vec<Vec<u8>> {
    match address {
        IpAddr::V4(address) => vec![
            arp(1, (own, address), ([0; 6], address), EVERYBODY),
            arp(2, (own, address), (EVERYBODY, address), EVERYBODY),
        ],
        IpAddr::V6(address) => {
            vec![advertisement(own, address, (ALL_NODES_MAC, ALL_NODES), OVERRIDE)]
        }
    }
}

fn arp(operation: u8, from: (Mac, Ipv4Addr), about: (Mac, Ipv4Addr), to: Mac) -> Vec<u8> {
    let mut frame = [to, from.0].concat();
    frame.extend(ARP);
    frame.extend([0, 1, 8, 0, 6, 4, 0, operation]);
    for (mac, address) in [from, about] {
        frame.extend(mac);
        frame.extend(address.octets());
    }
    frame
}

/// From the address itself, which is the node's as far as neighbours see.
fn advertisement(own: Mac, address: Ipv6Addr, to: (Mac, Ipv6Addr), flags: u8) -> Vec<u8> {
    let mut message = vec![ADVERTISEMENT, 0, 0, 0, flags, 0, 0, 0];
    message.extend(address.octets());
    // Where it is: an option of eight bytes.
    message.extend([2, 1]);
    message.extend(own);
    let sum = checksum(address, to.1, &message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let mut frame = [to.0, own].concat();
    frame.extend(IPV6);
    frame.extend([0x60, 0, 0, 0, 0, 32, ICMPV6, 255]);
    frame.extend(address.octets());
    frame.extend(to.1.octets());
    frame.extend(message);
    frame
}

/// Source: RFC 8200, section 8.1.
fn checksum(from: Ipv6Addr, to: Ipv6Addr, message: &[u8]) -> u16 {
    let length = u32::try_from(message.len()).unwrap_or(0).to_be_bytes();
    let parts = [&from.octets()[..], &to.octets(), &length, &[0, 0, 0, ICMPV6], message];
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let mut sum: u32 = words.map(|w| u32::from(w[0]) << 8 | u32::from(w.get(1).copied().unwrap_or(0))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const OWN: Mac = [2, 0, 0, 0, 0, 1];
    const OTHER: Mac = [2, 0, 0, 0, 0, 2];

    fn v4(last: u8) -> Ipv4Addr {
        Ipv4Addr::new(192, 0, 2, last)
    }

    /// As `ip6` of the kernel sends one.
    fn asked_v6(from: Ipv6Addr, hops: u8) -> Vec<u8> {
        let target: Ipv6Addr = "2001:db8::7".parse().unwrap();
        let mut frame = [[0x33, 0x33, 0xff, 0, 0, 7], OTHER].concat();
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 32, 58, hops]);
        frame.extend(from.octets());
        frame.extend("ff02::1:ff00:7".parse::<Ipv6Addr>().unwrap().octets());
        frame.extend([135, 0, 0, 0, 0, 0, 0, 0]);
        frame.extend(target.octets());
        frame.extend([1, 1]);
        frame.extend(OTHER);
        frame
    }

    #[test]
    fn who_asks_for_an_address_gets_an_answer_for_itself() {
        let asked = arp(1, (OTHER, v4(2)), ([0; 6], v4(7)), EVERYBODY);
        let found = question(&asked, OWN).unwrap();
        assert_eq!((found.wanted, found.from), (v4(7).into(), v4(2).into()));
        assert_eq!(answer(&found, OWN), Some(arp(2, (OWN, v4(7)), (OTHER, v4(2)), OTHER)));
        assert_eq!(question(&asked, OTHER), None, "one's own question");
        let told = news(v4(7).into(), OTHER);
        assert!(told.iter().all(|frame| question(frame, OWN).is_none()), "whoever tells does not ask");
        let elsewhere = arp(1, (OTHER, v4(2)), ([0; 6], v4(7)), [2, 0, 0, 0, 0, 3]);
        assert_eq!(question(&elsewhere, OWN), None, "for somebody else");
    }

    #[test]
    fn neighbours_are_discovered_by_whoever_is_on_the_link() {
        let from = "2001:db8::2".parse().unwrap();
        let found = question(&asked_v6(from, 255), OWN).unwrap();
        assert_eq!(found.wanted, "2001:db8::7".parse::<IpAddr>().unwrap());
        let told = answer(&found, OWN).unwrap();
        assert_eq!((&told[..6], told[54], told[58]), (&OTHER[..], 136, 0x60));
        assert_eq!(question(&asked_v6(from, 64), OWN), None, "from beyond the link");
        let nobody = question(&asked_v6(Ipv6Addr::UNSPECIFIED, 255), OWN).unwrap();
        let told = answer(&nobody, OWN).unwrap();
        assert_eq!((&told[..6], told[58]), (&ALL_NODES_MAC[..], 0x20));
    }

    #[test]
    fn a_checksum_makes_the_sum_of_all_nothing() {
        let address: Ipv6Addr = "2001:db8::7".parse().unwrap();
        let frame = &news(address.into(), OWN)[0];
        assert_eq!(checksum(address, ALL_NODES, &frame[54..]), 0);
    }

    proptest! {
        #[test]
        fn whatever_comes_is_read_without_harm(mut frame in proptest::collection::vec(any::<u8>(), 0..120), kind in 0..3) {
            if frame.len() > 14 && kind > 0 {
                frame[12..14].copy_from_slice(if kind == 1 { &ARP } else { &IPV6 });
            }
            if let Some(question) = question(&frame, OWN) {
                prop_assert!(answer(&question, OWN).is_some());
            }
        }
    }
}
