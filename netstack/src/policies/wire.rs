//! Elements as the kernel's maps have them.

use super::model::Direction;
use super::slot::Slot;
use crate::network::Protocol;
use crate::services::Family;
use crate::sys::nft::{Data, Set};
use std::net::IpAddr;

/// What data of maps begin with; `services` says why.
const LEAD: [u8; 4] = [0; 4];
/// Bytes of a word; a port and a protocol take one each.
const WORD: usize = 4;

/// A map or a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Home {
    Pods(Direction, Family),
    Itself(Family),
    Peers(Family),
    Blocks(Family),
    Open,
    Ports,
    Spans,
}

impl Home {
    pub(super) const ALL: [Self; 13] = [
        Self::Pods(Direction::Ingress, Family::V4),
        Self::Pods(Direction::Ingress, Family::V6),
        Self::Pods(Direction::Egress, Family::V4),
        Self::Pods(Direction::Egress, Family::V6),
        Self::Itself(Family::V4),
        Self::Itself(Family::V6),
        Self::Peers(Family::V4),
        Self::Peers(Family::V6),
        Self::Blocks(Family::V4),
        Self::Blocks(Family::V6),
        Self::Open,
        Self::Ports,
        Self::Spans,
    ];

    /// As the kernel calls it.
    pub(super) const fn name(self) -> &'static str {
        use {Direction as D, Family as F};
        match self {
            Self::Pods(D::Ingress, F::V4) => "ingress4",
            Self::Pods(D::Ingress, F::V6) => "ingress6",
            Self::Pods(D::Egress, F::V4) => "egress4",
            Self::Pods(D::Egress, F::V6) => "egress6",
            Self::Itself(F::V4) => "itself4",
            Self::Itself(F::V6) => "itself6",
            Self::Peers(F::V4) => "peers4",
            Self::Peers(F::V6) => "peers6",
            Self::Blocks(F::V4) => "blocks4",
            Self::Blocks(F::V6) => "blocks6",
            Self::Open => "open",
            Self::Ports => "ports",
            Self::Spans => "spans",
        }
    }

    /// Where an element of that slot is.
    pub(super) const fn of(slot: Slot) -> Self {
        match slot {
            Slot::Pod(direction, address) => Self::Pods(direction, Family::of(address)),
            Slot::Itself(address) => Self::Itself(Family::of(address)),
            Slot::Peer(address) => Self::Peers(Family::of(address)),
            Slot::Block(_, first, _) => Self::Blocks(Family::of(first)),
            Slot::Open(..) => Self::Open,
            Slot::Port(..) => Self::Ports,
            Slot::Ports(..) => Self::Spans,
        }
    }

    /// Its elements are ranges.
    pub(super) const fn has_spans(self) -> bool {
        matches!(self, Self::Blocks(_) | Self::Spans)
    }

    /// Its elements have numbers.
    const fn is_map(self) -> bool {
        matches!(self, Self::Pods(..) | Self::Peers(_) | Self::Blocks(_))
    }

    const fn family(self) -> Family {
        match self {
            Self::Pods(_, family) | Self::Itself(family) | Self::Peers(family) | Self::Blocks(family) => {
                family
            }
            Self::Open | Self::Ports | Self::Spans => Family::V4,
        }
    }

    /// The set to make.
    pub(super) fn set(self) -> Set {
        // Types as `nft` numbers them, which shows them by these: six bits each.
        const PROTOCOL: u32 = 12;
        const PORT: u32 = 13;
        const NUMBER: u32 = 19;
        let (address, words) = if self.family() == Family::V4 { (7, 1) } else { (8, 4) };
        let (parts, length): (&[u32], u32) = match self {
            Self::Pods(..) | Self::Peers(_) => (&[address], words),
            Self::Itself(_) => (&[address, address], 2 * words),
            Self::Blocks(_) => (&[NUMBER, address], 1 + words),
            Self::Open => (&[NUMBER; 3], 3),
            Self::Ports | Self::Spans => (&[NUMBER, NUMBER, NUMBER, PROTOCOL, PORT], 5),
        };
        let kind = |parts: &[u32]| parts.iter().fold(0, |kind, part| kind << 6 | part);
        let ranges: Option<&'static [u32]> = match self {
            Self::Blocks(Family::V4) => Some(&[4, 4]),
            Self::Blocks(Family::V6) => Some(&[4, 16]),
            Self::Spans => Some(&[4, 4, 4, 1, 2]),
            Self::Pods(..) | Self::Itself(_) | Self::Peers(_) | Self::Open | Self::Ports => None,
        };
        let data = if self.is_map() { Data::Bytes(kind(&[NUMBER; 2]), 8) } else { Data::None };
        Set { name: self.name(), key: (kind(parts), length * 4), data, filled_by_packets: None, ranges }
    }
}

/// As IP counts protocols.
const fn number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
        Protocol::Sctp => 132,
    }
}

/// First and last key of a slot; they differ in ranges only.
pub(super) fn keys(slot: Slot) -> (Vec<u8>, Vec<u8>) {
    let both = |key: Vec<u8>| (key.clone(), key);
    // What the map of peers has begins with that word, and comes next to the group.
    let numbers = |group: u32, who: u32| [group.to_ne_bytes(), LEAD, who.to_ne_bytes()].concat();
    let place = |group, who, protocol, port: u16| {
        let [a, b] = port.to_be_bytes();
        [numbers(group, who), vec![number(protocol), 0, 0, 0, a, b, 0, 0]].concat()
    };
    match slot {
        Slot::Pod(_, address) | Slot::Peer(address) => both(bytes(address)),
        Slot::Itself(address) => both([bytes(address), bytes(address)].concat()),
        Slot::Block(group, first, last) => {
            let key = |address| [group.to_ne_bytes().to_vec(), bytes(address)].concat();
            (key(first), key(last))
        }
        Slot::Open(group, who) => both(numbers(group, who)),
        Slot::Port(group, who, protocol, port) => both(place(group, who, protocol, port)),
        Slot::Ports(group, who, protocol, first, last) => {
            (place(group, who, protocol, first), place(group, who, protocol, last))
        }
    }
}

/// What the map has for a slot with that number; nothing in sets.
pub(super) fn data(slot: Slot, number: u32) -> Vec<u8> {
    if Home::of(slot).is_map() { [LEAD, number.to_ne_bytes()].concat() } else { Vec::new() }
}

fn bytes(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// Reads what the kernel lists; nothing, if it is none of ours.
pub(super) fn read(home: Home, first: &[u8], last: &[u8], data: &[u8]) -> Option<(Slot, u32)> {
    let number = match data {
        [0, 0, 0, 0, rest @ ..] if home.is_map() => u32::from_ne_bytes(rest.try_into().ok()?),
        [] if !home.is_map() => 0,
        _ => return None,
    };
    let (mut key, mut end) = (Reader(first), Reader(last));
    let family = home.family();
    let slot = match home {
        Home::Pods(direction, _) => Slot::Pod(direction, key.address(family)?),
        Home::Itself(_) => Slot::Itself(key.address(family)?),
        Home::Peers(_) => Slot::Peer(key.address(family)?),
        Home::Blocks(_) => {
            let (group, _) = (key.number()?, end.number()?);
            Slot::Block(group, key.address(family)?, end.address(family)?)
        }
        Home::Open => Slot::Open(key.number()?, key.who()?),
        Home::Ports => Slot::Port(key.number()?, key.who()?, key.protocol()?, key.port()?),
        Home::Spans => {
            let (group, who, protocol) = (key.number()?, key.who()?, key.protocol()?);
            let _same = (end.number()?, end.who()?, end.protocol()?);
            Slot::Ports(group, who, protocol, key.port()?, end.port()?)
        }
    };
    // Whatever was not read has to be what is written for that slot.
    let (own_first, own_last) = keys(slot);
    (own_first == first && own_last == last).then_some((slot, number))
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<u32> {
        self.take(WORD)?.try_into().ok().map(u32::from_ne_bytes)
    }

    /// After the word that says nothing.
    fn who(&mut self) -> Option<u32> {
        self.number()?;
        self.number()
    }

    fn protocol(&mut self) -> Option<Protocol> {
        let [found, ..] = self.take(WORD)? else { return None };
        [Protocol::Tcp, Protocol::Udp, Protocol::Sctp].into_iter().find(|one| number(*one) == *found)
    }

    fn port(&mut self) -> Option<u16> {
        let [a, b, ..] = self.take(WORD)? else { return None };
        Some(u16::from_be_bytes([*a, *b]))
    }

    fn address(&mut self, family: Family) -> Option<IpAddr> {
        match family {
            Family::V4 => <[u8; 4]>::try_from(self.take(4)?).ok().map(IpAddr::from),
            Family::V6 => <[u8; 16]>::try_from(self.take(16)?).ok().map(IpAddr::from),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn slots() -> impl Strategy<Value = Slot> {
        let address =
            prop_oneof![any::<[u8; 4]>().prop_map(IpAddr::from), any::<[u8; 16]>().prop_map(IpAddr::from),];
        let protocol = prop_oneof![Just(Protocol::Tcp), Just(Protocol::Udp), Just(Protocol::Sctp)];
        (0_u8..8, address, any::<[u32; 2]>(), protocol, any::<[u16; 2]>()).prop_map(
            |(kind, address, [group, who], protocol, [first, last])| match kind {
                0 => Slot::Pod(Direction::Ingress, address),
                1 => Slot::Pod(Direction::Egress, address),
                2 => Slot::Itself(address),
                3 => Slot::Peer(address),
                4 => Slot::Block(group, address, address),
                5 => Slot::Open(group, who),
                6 => Slot::Port(group, who, protocol, first),
                _ => Slot::Ports(group, who, protocol, first, last),
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(slot in slots(), number in any::<u32>()) {
            let home = Home::of(slot);
            let (first, last) = keys(slot);
            let number = if home.is_map() { number } else { 0 };
            prop_assert_eq!(read(home, &first, &last, &data(slot, number)), Some((slot, number)));
            prop_assert_eq!(home.set().key.1, u32::try_from(first.len()).unwrap());
            let fields = home.set().ranges.map(|fields| fields.iter().map(|length| length.next_multiple_of(4)).sum());
            prop_assert_eq!(fields.unwrap_or(home.set().key.1), home.set().key.1);
        }

        #[test]
        fn nothing_that_the_kernel_may_have_is_misread(
            key in proptest::collection::vec(any::<u8>(), 0..36),
            bytes in proptest::collection::vec(any::<u8>(), 0..10),
        ) {
            for home in Home::ALL {
                if let Some((slot, number)) = read(home, &key, &key, &bytes) {
                    prop_assert_eq!((Home::of(slot), keys(slot).0), (home, key.clone()));
                    prop_assert_eq!(data(slot, number), bytes.clone());
                }
            }
        }
    }
}
