//! Messages as bytes. What is written here is put together by `netgauze-bgp-pkt`; of what routers say
//! only their OPEN has to be understood, and is read by it, too. Pure.

use crate::services::Family;
use netgauze_bgp_pkt::BgpMessage;
use netgauze_bgp_pkt::capabilities::{
    BgpCapability, FourOctetAsCapability, GracefulRestartAddressFamily, GracefulRestartCapability,
    MultiProtocolExtensionsCapability,
};
use netgauze_bgp_pkt::open::{BgpOpenMessage, BgpOpenMessageParameter};
use netgauze_bgp_pkt::wire::deserializer::BgpParsingContext;
use netgauze_iana::address_family::AddressType;
use netgauze_parse_utils::WritablePdu;
use netgauze_parse_utils::reader::SliceReader;
use netgauze_parse_utils::traits::ParseFromWithOneInput;
use std::collections::{BTreeSet, HashMap};
use std::net::Ipv4Addr;

/// Source: RFC 4271, section 4.1.
const MARKER: [u8; 16] = [0xff; 16];
const HEADER: usize = 19;
const LONGEST: usize = 4096;
const SHORTEST_OPEN: usize = 29;
const SHORTEST_UPDATE: usize = 23;
const SHORTEST_NOTIFICATION: usize = 21;
const REFRESH: usize = 23;
/// Stands for numbers that do not fit into two bytes. Source: RFC 6793, section 9.
pub(super) const AS_TRANS: u16 = 23_456;

/// Why a session ends, as its end is told. Source: RFC 4271, section 4.5, and RFC 4486.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) code: u8,
    pub(super) subcode: u8,
    pub(super) data: Vec<u8>,
}

impl Fault {
    pub(super) const HOLD_TIME: Self = Self::of(4, 0);
    pub(super) const BAD_AS: Self = Self::of(2, 2);
    pub(super) const BAD_IDENTIFIER: Self = Self::of(2, 3);
    pub(super) const BAD_HOLD_TIME: Self = Self::of(2, 6);
    pub(super) const SHUTDOWN: Self = Self::of(6, 2);
    /// Not in `OpenSent`, `OpenConfirm`, `Established`. Source: RFC 6608.
    pub(super) const UNEXPECTED: [Self; 3] = [Self::of(5, 1), Self::of(5, 2), Self::of(5, 3)];

    const fn of(code: u8, subcode: u8) -> Self {
        Self { code, subcode, data: Vec::new() }
    }

    /// For a person.
    pub(super) fn words(&self) -> String {
        let text = match (self.code, self.subcode) {
            (1, 1) => "connection not synchronized",
            (1, 2) => "bad message length",
            (1, 3) => "bad message type",
            (1, _) => "bad message header",
            (2, 1) => "unsupported version of BGP",
            (2, 2) => "the autonomous system is not the expected one",
            (2, 3) => "bad router identifier",
            (2, 6) => "unacceptable hold time",
            (2, 7) => "unsupported capability",
            (2, _) => "bad OPEN message",
            (3, _) => "bad UPDATE message",
            (4, _) => "nothing was heard for the hold time",
            (5, _) => "a message out of place",
            (6, 1) => "too many prefixes",
            (6, 2) => "administrative shutdown",
            (6, 3) => "the peer is not configured any more",
            (6, 4) => "administrative reset",
            (6, 5) => "connection rejected",
            (6, 6) => "the configuration was changed",
            (6, 7) => "another connection took its place",
            (6, 8) => "out of resources",
            (6, _) => "ceased",
            (7, _) => "bad ROUTE-REFRESH message",
            _ => "an unknown reason",
        };
        // Source: RFC 9003: what the administrator had to say.
        let said = match self.data.split_first() {
            Some((length, text)) if self.code == 6 && matches!(self.subcode, 2 | 4) => {
                text.get(..usize::from(*length)).and_then(|text| std::str::from_utf8(text).ok())
            }
            Some(_) | None => None,
        };
        let said = said.filter(|text| !text.is_empty() && !text.chars().any(char::is_control));
        let said = said.map(|text| format!(": {text}")).unwrap_or_default();
        format!("{text} ({}/{}){said}", self.code, self.subcode)
    }
}

/// Who a router says that it is, and what it can do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Open {
    pub(super) asn: u32,
    /// It knows numbers of four bytes.
    pub(super) as4: bool,
    /// In seconds; 0 for never.
    pub(super) hold_time: u16,
    pub(super) router_id: Ipv4Addr,
    pub(super) families: BTreeSet<Family>,
    /// It keeps routes while its peer is restarted.
    pub(super) restarts: bool,
}

/// What a router says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Message {
    Open(Open),
    /// Of routes, which nobody here follows.
    Update,
    Notification(Fault),
    Keepalive,
    /// Wants to be told everything again.
    Refresh(Option<Family>),
}

/// The first message in `bytes` and its length; nothing if it is not there as a whole.
///
/// # Errors
/// What is wrong with it: the session is over.
pub(super) fn first(bytes: &[u8]) -> Result<Option<(Message, usize)>, Fault> {
    let known = bytes.len().min(MARKER.len());
    if bytes[..known] != MARKER[..known] {
        return Err(Fault::of(1, 1));
    }
    let Some(header) = bytes.get(..HEADER) else { return Ok(None) };
    let (length_bytes, kind) = ([header[16], header[17]], header[18]);
    let length = usize::from(u16::from_be_bytes(length_bytes));
    let fits = match kind {
        1 => length >= SHORTEST_OPEN,
        2 => length >= SHORTEST_UPDATE,
        3 => length >= SHORTEST_NOTIFICATION,
        4 => length == HEADER,
        5 => length >= REFRESH,
        _ => return Err(Fault { data: vec![kind], ..Fault::of(1, 3) }),
    };
    if !fits || length > LONGEST {
        return Err(Fault { data: length_bytes.to_vec(), ..Fault::of(1, 2) });
    }
    let Some(body) = bytes.get(HEADER..length) else { return Ok(None) };
    let message = match kind {
        1 => Message::Open(open(body)?),
        2 => Message::Update,
        3 => Message::Notification(Fault { code: body[0], subcode: body[1], data: body[2..].to_vec() }),
        4 => Message::Keepalive,
        _ => Message::Refresh(refreshed(body)),
    };
    Ok(Some((message, length)))
}

fn refreshed(body: &[u8]) -> Option<Family> {
    match body.get(..4)? {
        [0, 1, _, 1] => Some(Family::V4),
        [0, 2, _, 1] => Some(Family::V6),
        _ => None,
    }
}

fn open(body: &[u8]) -> Result<Open, Fault> {
    if body[0] != 4 {
        // With the version that is known.
        return Err(Fault { data: vec![0, 4], ..Fault::of(2, 1) });
    }
    if let [0, hold @ (1 | 2)] = body[3..5] {
        return Err(Fault { data: vec![0, hold], ..Fault::BAD_HOLD_TIME });
    }
    // What is not understood of capabilities is passed over.
    let mut context =
        BgpParsingContext::new(true, HashMap::new(), HashMap::new(), false, false, false, false);
    let read = BgpOpenMessage::parse(&mut SliceReader::new(body), &mut context);
    let read = read.map_err(|_| Fault::of(2, 0))?;
    let capabilities = read.capabilities();
    let mut families = BTreeSet::new();
    let (mut as4, mut restarts, mut names_families) = (false, false, false);
    for capability in capabilities {
        #[allow(clippy::wildcard_enum_match_arm, reason = "all others are of no use to who only tells")]
        match capability {
            BgpCapability::MultiProtocolExtensions(extension) => {
                names_families = true;
                families.extend(family(extension.address_type()));
            }
            BgpCapability::FourOctetAs(_) => as4 = true,
            BgpCapability::GracefulRestartCapability(_) => restarts = true,
            _ => {}
        }
    }
    if !names_families {
        families.insert(Family::V4);
    }
    let (asn, hold_time, router_id) = (read.my_asn4(), read.hold_time(), read.bgp_id());
    Ok(Open { asn, as4, hold_time, router_id, families, restarts })
}

fn family(kind: AddressType) -> Option<Family> {
    Family::ALL.into_iter().find(|family| address_type(*family) == kind)
}

pub(super) const fn address_type(family: Family) -> AddressType {
    match family {
        Family::V4 => AddressType::Ipv4Unicast,
        Family::V6 => AddressType::Ipv6Unicast,
    }
}

/// What the node says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Introduction {
    pub(super) asn: u32,
    pub(super) hold_time: u16,
    pub(super) router_id: Ipv4Addr,
    pub(super) families: BTreeSet<Family>,
    /// For how many seconds routes are to be kept if it falls silent; 0 for not at all.
    pub(super) restart_time: u16,
    /// It had told routes before, and they still lead somewhere.
    pub(super) restarted: bool,
}

impl Introduction {
    /// An OPEN.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let kinds = || self.families.iter().map(|family| address_type(*family));
        let mut capabilities: Vec<_> = kinds()
            .map(|kind| BgpCapability::MultiProtocolExtensions(MultiProtocolExtensionsCapability::new(kind)))
            .collect();
        capabilities.push(BgpCapability::RouteRefresh);
        capabilities.push(BgpCapability::FourOctetAs(FourOctetAsCapability::new(self.asn)));
        if self.restart_time > 0 {
            // What was told holds without the agent: the kernel leads on.
            let kept: Vec<_> = kinds().map(|kind| GracefulRestartAddressFamily::new(true, kind)).collect();
            let restart = GracefulRestartCapability::new(self.restarted, false, self.restart_time, kept);
            capabilities.push(BgpCapability::GracefulRestartCapability(restart));
        }
        let asn = u16::try_from(self.asn).unwrap_or(AS_TRANS);
        let parameters = vec![BgpOpenMessageParameter::Capabilities(capabilities.into())];
        let open = BgpOpenMessage::new(asn, self.hold_time, self.router_id, parameters);
        bytes(&BgpMessage::Open(open))
    }
}

/// The bytes of a message. Nothing that is made here is too long.
pub(super) fn bytes(message: &BgpMessage) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(message.len());
    match message.write(&mut bytes) {
        Ok(()) => bytes,
        Err(_) => Vec::new(),
    }
}

pub(super) fn keepalive() -> Vec<u8> {
    bytes(&BgpMessage::KeepAlive)
}

/// A NOTIFICATION.
pub(super) fn notification(fault: &Fault) -> Vec<u8> {
    let length = SHORTEST_NOTIFICATION + fault.data.len();
    let mut bytes = MARKER.to_vec();
    bytes.extend(u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes());
    bytes.extend([3, fault.code, fault.subcode]);
    bytes.extend(&fault.data);
    bytes
}
