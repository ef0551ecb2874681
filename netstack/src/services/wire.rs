//! Elements as the kernel's maps have them.

use super::model::{Family, Target, Transport};
use super::table::{Content, Frontend, Slot};
use super::way::{Pool, Way};
use crate::sys::nft::{Data, IPV4, IPV6, Set};
use std::net::IpAddr;

/// Names of maps and sets.
pub(super) const SERVICES: &str = "services";
pub(super) const ENDPOINTS: &str = "endpoints";
pub(super) const MEMBERS: &str = "members";
pub(super) const LOCAL_MEMBERS: &str = "local-members";
pub(super) const LOOPS: &str = "loops";
/// Addresses that load balancers gave.
pub(super) const BALANCED: &str = "balanced";
/// Where not everybody may ask, and by which number it is said who may.
pub(super) const FENCES: &str = "fences";
/// Who may: numbers with ranges of addresses.
pub(super) const SOURCES: &str = "sources";
/// Of ways and their chains.
pub(super) const WAYS: &str = "ways";
/// Filled by packets: who stays with whom.
pub(super) const AFFINITY: &str = "affinity";
/// How many clients can stay with endpoints, in each family.
const MOST_CLIENTS: u32 = 1 << 20;
/// Bytes of a word; a port and a protocol take one each.
const WORD: usize = 4;
/// What data of maps begin with.
const LEAD: [u8; WORD] = [0; WORD];

/// The maps and sets whose elements come from services.
pub(super) const FILLED: [&str; 8] =
    [SERVICES, ENDPOINTS, MEMBERS, LOCAL_MEMBERS, LOOPS, BALANCED, FENCES, SOURCES];

impl Family {
    /// As the kernel counts families.
    pub(crate) const fn number(self) -> u8 {
        match self {
            Self::V4 => IPV4,
            Self::V6 => IPV6,
        }
    }

    /// Length of an address in bytes.
    pub(super) const fn bytes(self) -> usize {
        match self {
            Self::V4 => 4,
            Self::V6 => 16,
        }
    }

    /// Length of an address in words.
    pub(crate) const fn words(self) -> u32 {
        match self {
            Self::V4 => 1,
            Self::V6 => 4,
        }
    }
}

impl Transport {
    /// As IP counts protocols.
    pub(super) const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }

    fn of(number: u8) -> Option<Self> {
        [Self::Tcp, Self::Udp].into_iter().find(|transport| transport.number() == number)
    }
}

/// All maps and sets of a family's table.
pub(super) fn sets(family: Family) -> [Set; 10] {
    // Types as `nft` numbers them, which shows them by these: six bits each.
    const PROTOCOL: u32 = 12;
    const PORT: u32 = 13;
    const NUMBER: u32 = 19;
    let address = if family == Family::V4 { 7 } else { 8 };
    let kind = |parts: &[u32]| parts.iter().fold(0, |kind, part| kind << 6 | part);
    let words = |parts: &[u32]| {
        parts.iter().map(|part| if *part == address { family.words() } else { 1 }).sum::<u32>() * 4
    };
    let typed = |parts: &[u32]| (kind(parts), words(parts));
    let set =
        |name, key: &[u32], data| Set { name, key: typed(key), data, filled_by_packets: None, ranges: None };
    let bytes = |parts: &[u32]| Data::Bytes(kind(parts), words(parts));
    let service = [address, PROTOCOL, PORT];
    let member = [address, PORT, address, PROTOCOL, PORT];
    [
        set(SERVICES, &service, bytes(&[NUMBER; 4])),
        set(ENDPOINTS, &[address, PROTOCOL, PORT, NUMBER], bytes(&[NUMBER, address, PORT])),
        set(MEMBERS, &member, Data::None),
        set(LOCAL_MEMBERS, &member, Data::None),
        set(LOOPS, &[address, address], Data::None),
        set(BALANCED, &[address], Data::None),
        set(FENCES, &service, bytes(&[NUMBER; 2])),
        Set {
            ranges: Some(if family == Family::V4 { &[4, 4] } else { &[4, 16] }),
            ..set(SOURCES, &[NUMBER, address], Data::None)
        },
        set(WAYS, &[NUMBER], Data::Verdict),
        Set {
            filled_by_packets: Some(MOST_CLIENTS),
            ..set(AFFINITY, &[address, address, PROTOCOL, PORT], bytes(&[NUMBER, address, PORT]))
        },
    ]
}

/// The set or map of a slot, and its key there; of a range its first.
pub(super) fn key(slot: &Slot) -> (&'static str, Vec<u8>) {
    let mut bytes = Vec::with_capacity(48);
    let name = match slot {
        Slot::Service(frontend) => {
            put_frontend(&mut bytes, *frontend);
            SERVICES
        }
        Slot::Endpoint(frontend, number) => {
            put_frontend(&mut bytes, *frontend);
            bytes.extend_from_slice(&number.to_ne_bytes());
            ENDPOINTS
        }
        Slot::Member(frontend, pool, target) => {
            put_target(&mut bytes, *target);
            put_frontend(&mut bytes, *frontend);
            members(*pool)
        }
        Slot::Loop(address) => {
            put_address(&mut bytes, *address);
            put_address(&mut bytes, *address);
            LOOPS
        }
        Slot::Balanced(address) => {
            put_address(&mut bytes, *address);
            BALANCED
        }
        Slot::Fence(frontend) => {
            put_frontend(&mut bytes, *frontend);
            FENCES
        }
        Slot::Source(number, first, _) => {
            bytes.extend_from_slice(&number.to_ne_bytes());
            put_address(&mut bytes, *first);
            SOURCES
        }
    };
    (name, bytes)
}

/// The last key of a slot that is a range.
pub(super) fn last_key(slot: &Slot) -> Option<Vec<u8>> {
    match slot {
        Slot::Source(number, _, last) => Some(key(&Slot::Source(*number, *last, *last)).1),
        Slot::Service(_)
        | Slot::Endpoint(..)
        | Slot::Member(..)
        | Slot::Loop(_)
        | Slot::Balanced(_)
        | Slot::Fence(_) => None,
    }
}

/// The set of the pool's members.
pub(super) const fn members(pool: Pool) -> &'static str {
    match pool {
        Pool::Cluster => MEMBERS,
        Pool::Local => LOCAL_MEMBERS,
    }
}

/// What a map has for a key. The first word says nothing: `nft` 1.0 ends itself when it is to show
/// a rule that goes on with a map's data from their start.
pub(super) fn data(content: &Content) -> Vec<u8> {
    let mut bytes = Vec::new();
    match content {
        Content::Ways(ways) => {
            bytes.extend_from_slice(&LEAD);
            ways.iter().for_each(|way| bytes.extend(way.number().to_ne_bytes()));
        }
        Content::Target(target) => {
            bytes.extend_from_slice(&LEAD);
            put_target(&mut bytes, *target);
        }
        Content::Number(number) => {
            bytes.extend_from_slice(&LEAD);
            bytes.extend_from_slice(&number.to_ne_bytes());
        }
        Content::Nothing => {}
    }
    bytes
}

fn put_address(bytes: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(address) => bytes.extend_from_slice(&address.octets()),
        IpAddr::V6(address) => bytes.extend_from_slice(&address.octets()),
    }
}

fn put_port(bytes: &mut Vec<u8>, port: u16) {
    bytes.extend_from_slice(&port.to_be_bytes());
    bytes.extend_from_slice(&[0, 0]);
}

fn put_target(bytes: &mut Vec<u8>, target: Target) {
    put_address(bytes, target.address);
    put_port(bytes, target.port);
}

fn put_frontend(bytes: &mut Vec<u8>, frontend: Frontend) {
    put_address(bytes, frontend.address);
    bytes.extend_from_slice(&[frontend.transport.number(), 0, 0, 0]);
    put_port(bytes, frontend.port);
}

/// Reads a range that the kernel lists; nothing, if it is none of ours.
pub(super) fn read_span(family: Family, first: &[u8], last: &[u8]) -> Option<(Slot, Content)> {
    let mut ends = [Reader { bytes: first, family }, Reader { bytes: last, family }];
    let [number, other] = [ends[0].number()?, ends[1].number()?];
    let [from, to] = [ends[0].address()?, ends[1].address()?];
    let is_whole = number == other && ends.iter().all(|end| end.bytes.is_empty());
    is_whole.then_some((Slot::Source(number, from, to), Content::Nothing))
}

/// Reads what the kernel lists; nothing, if it is none of ours.
pub(super) fn read(family: Family, set: &str, key: &[u8], data: &[u8]) -> Option<(Slot, Content)> {
    let mut key = Reader { bytes: key, family };
    let mut data = Reader { bytes: data, family };
    let element = match set {
        SERVICES => {
            data.lead()?;
            let ways = [data.way()?, data.way()?, data.way()?];
            (Slot::Service(key.frontend()?), Content::Ways(ways))
        }
        ENDPOINTS => {
            data.lead()?;
            (Slot::Endpoint(key.frontend()?, key.number()?), Content::Target(data.target()?))
        }
        MEMBERS => (key.member(Pool::Cluster)?, Content::Nothing),
        LOCAL_MEMBERS => (key.member(Pool::Local)?, Content::Nothing),
        LOOPS => {
            let (one, other) = (key.address()?, key.address()?);
            (one == other).then_some((Slot::Loop(one), Content::Nothing))?
        }
        BALANCED => (Slot::Balanced(key.address()?), Content::Nothing),
        FENCES => {
            data.lead()?;
            (Slot::Fence(key.frontend()?), Content::Number(data.number()?))
        }
        _ => return None,
    };
    (key.bytes.is_empty() && data.bytes.is_empty()).then_some(element)
}

struct Reader<'a> {
    bytes: &'a [u8],
    family: Family,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.bytes.split_at_checked(count)?;
        self.bytes = rest;
        Some(taken)
    }

    fn address(&mut self) -> Option<IpAddr> {
        let bytes = self.take(self.family.bytes())?;
        let short = || <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from);
        short().or_else(|| <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from))
    }

    fn word(&mut self) -> Option<[u8; WORD]> {
        self.take(WORD)?.try_into().ok()
    }

    fn port(&mut self) -> Option<u16> {
        let [a, b, 0, 0] = self.word()? else { return None };
        Some(u16::from_be_bytes([a, b]))
    }

    fn number(&mut self) -> Option<u32> {
        self.word().map(u32::from_ne_bytes)
    }

    fn way(&mut self) -> Option<Way> {
        Way::of(self.number()?)
    }

    fn lead(&mut self) -> Option<()> {
        (self.word()? == LEAD).then_some(())
    }

    fn member(&mut self, pool: Pool) -> Option<Slot> {
        let target = self.target()?;
        Some(Slot::Member(self.frontend()?, pool, target))
    }

    fn target(&mut self) -> Option<Target> {
        Some(Target { address: self.address()?, port: self.port()? })
    }

    fn frontend(&mut self) -> Option<Frontend> {
        let address = self.address()?;
        let [protocol, 0, 0, 0] = self.word()? else { return None };
        Some(Frontend { address, transport: Transport::of(protocol)?, port: self.port()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::services::testing::contents;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(contents in contents()) {
            for (slot, content) in &contents {
                let ((set, key), data) = (key(slot), data(content));
                if let Some(last) = last_key(slot) {
                    prop_assert_eq!(read_span(slot.family(), &key, &last), Some((*slot, *content)));
                    continue;
                }
                prop_assert_eq!(read(slot.family(), set, &key, &data), Some((*slot, *content)));
                prop_assert_eq!(read(Family::V6, set, &key, &data), None, "of the wrong family");
                let form = sets(Family::V4).into_iter().find(|form| form.name == set).unwrap();
                prop_assert_eq!(form.key.1, u32::try_from(key.len()).unwrap());
            }
        }

        #[test]
        fn nothing_that_the_kernel_may_have_is_misread(
            key in proptest::collection::vec(any::<u8>(), 0..50),
            data in proptest::collection::vec(any::<u8>(), 0..24),
        ) {
            for (family, set) in Family::ALL.into_iter().flat_map(|f| FILLED.map(|set| (f, set))) {
                if let Some((slot, content)) = read(family, set, &key, &data) {
                    prop_assert_eq!((set, key.clone()), super::key(&slot));
                    prop_assert_eq!(data.clone(), super::data(&content));
                }
            }
        }
    }
}
