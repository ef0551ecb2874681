//! What a router was told, what it is to know → messages. Pure.

use super::message::{AS_TRANS, bytes};
use crate::services::Family;
use crate::subnet::Subnet;
use ipnet::{Ipv4Net, Ipv6Net};
use netgauze_bgp_pkt::BgpMessage;
use netgauze_bgp_pkt::nlri::{Ipv4Unicast, Ipv4UnicastAddress, Ipv6Unicast, Ipv6UnicastAddress};
use netgauze_bgp_pkt::path_attribute::{
    As2PathSegment, As4Path, As4PathSegment, AsPath, AsPathSegmentType, LocalPreference, MpReach, MpUnreach,
    NextHop, Origin, PathAttribute, PathAttributeValue,
};
use netgauze_bgp_pkt::update::BgpUpdateMessage;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Networks in one message: with attributes, well below 4096 bytes.
const AT_ONCE: usize = 200;
/// Among routers of one system; the usual one.
const PREFERENCE: u32 = 100;

/// How a router is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Manner {
    pub(super) asn: u32,
    /// It is of the same system.
    pub(super) internal: bool,
    /// It knows numbers of four bytes.
    pub(super) as4: bool,
    /// Where packets are to be sent; what has none of its family is not told.
    pub(super) v4: Option<Ipv4Addr>,
    pub(super) v6: Option<Ipv6Addr>,
}

impl Manner {
    /// Whether it can be told of that network.
    pub(super) fn has(&self, network: Subnet) -> bool {
        match network.family() {
            Family::V4 => self.v4.is_some(),
            Family::V6 => self.v6.is_some(),
        }
    }

    pub(super) fn families(&self) -> impl Iterator<Item = Family> {
        let (v4, v6) = (self.v4.map(|_| Family::V4), self.v6.map(|_| Family::V6));
        v4.into_iter().chain(v6)
    }
}

/// Messages after which a router that was told `old` knows `new`.
pub(super) fn updates(old: &BTreeSet<Subnet>, new: &BTreeSet<Subnet>, manner: &Manner) -> Vec<Vec<u8>> {
    let gone: Vec<Subnet> = old.difference(new).copied().collect();
    let come: Vec<Subnet> = new.difference(old).copied().filter(|network| manner.has(*network)).collect();
    let (gone_v4, gone_v6) = (v4(&gone), v6(&gone));
    let (come_v4, come_v6) = (v4(&come), v6(&come));
    let mut messages = Vec::new();
    for some in gone_v4.chunks(AT_ONCE) {
        messages.push(BgpUpdateMessage::new(some, [], []));
    }
    for some in gone_v6.chunks(AT_ONCE) {
        messages.push(unreachable(some));
    }
    if let Some(next_hop) = manner.v4 {
        for some in come_v4.chunks(AT_ONCE) {
            let mut attributes = attributes(manner);
            attributes.insert(2, well_known(PathAttributeValue::NextHop(NextHop::new(next_hop))));
            messages.push(BgpUpdateMessage::new([], whole(attributes), some));
        }
    }
    if let Some(next_hop_global) = manner.v6 {
        for some in come_v6.chunks(AT_ONCE) {
            let reach = MpReach::Ipv6Unicast { next_hop_global, next_hop_local: None, nlri: some.into() };
            let mut attributes = attributes(manner);
            attributes.push(optional(false, PathAttributeValue::MpReach(reach)));
            messages.push(BgpUpdateMessage::new([], whole(attributes), []));
        }
    }
    messages.into_iter().map(|message| bytes(&BgpMessage::Update(message))).collect()
}

/// Says that a router was told everything of that family. Source: RFC 4724, section 2.
pub(super) fn end_of_rib(family: Family) -> Vec<u8> {
    let message = match family {
        Family::V4 => BgpUpdateMessage::new([], [], []),
        Family::V6 => unreachable(&[]),
    };
    bytes(&BgpMessage::Update(message))
}

fn unreachable(networks: &[Ipv6UnicastAddress]) -> BgpUpdateMessage {
    let gone = PathAttributeValue::MpUnreach(MpUnreach::Ipv6Unicast { nlri: networks.into() });
    BgpUpdateMessage::new([], whole(vec![optional(false, gone)]), [])
}

/// Those that every route has, but for where to send packets, in the order of their numbers.
fn attributes(manner: &Manner) -> Vec<Option<PathAttribute>> {
    let mut list = vec![
        well_known(PathAttributeValue::Origin(Origin::IGP)),
        well_known(PathAttributeValue::AsPath(path(manner))),
    ];
    if manner.internal {
        list.push(well_known(PathAttributeValue::LocalPreference(LocalPreference::new(PREFERENCE))));
    }
    // Source: RFC 6793, section 4.2.2: who knows numbers of two bytes only passes the others on.
    if !manner.internal && !manner.as4 && manner.asn > u32::from(u16::MAX) {
        let segment = As4PathSegment::new(AsPathSegmentType::AsSequence, vec![manner.asn]);
        list.push(optional(true, PathAttributeValue::As4Path(As4Path::new(vec![segment]))));
    }
    list
}

fn path(manner: &Manner) -> AsPath {
    match (manner.internal, manner.as4) {
        (true, true) => AsPath::as4_path_segments([]),
        (true, false) => AsPath::as2_path_segments([]),
        (false, true) => {
            AsPath::as4_path_segments([As4PathSegment::new(AsPathSegmentType::AsSequence, vec![manner.asn])])
        }
        (false, false) => {
            let asn = u16::try_from(manner.asn).unwrap_or(AS_TRANS);
            AsPath::as2_path_segments([As2PathSegment::new(AsPathSegmentType::AsSequence, vec![asn])])
        }
    }
}

fn well_known(value: PathAttributeValue) -> Option<PathAttribute> {
    PathAttribute::from(false, true, false, false, value).ok()
}

fn optional(transitive: bool, value: PathAttributeValue) -> Option<PathAttribute> {
    // Its length may need two bytes.
    PathAttribute::from(true, transitive, false, true, value).ok()
}

fn whole(attributes: Vec<Option<PathAttribute>>) -> Vec<PathAttribute> {
    attributes.into_iter().flatten().collect()
}

fn v4(networks: &[Subnet]) -> Vec<Ipv4UnicastAddress> {
    let one = |network: &Subnet| {
        let IpAddr::V4(address) = network.address() else { return None };
        let network = Ipv4Unicast::from_net(Ipv4Net::new(address, network.prefix()).ok()?).ok()?;
        Some(Ipv4UnicastAddress::new_no_path_id(network))
    };
    networks.iter().filter_map(one).collect()
}

fn v6(networks: &[Subnet]) -> Vec<Ipv6UnicastAddress> {
    let one = |network: &Subnet| {
        let IpAddr::V6(address) = network.address() else { return None };
        let network = Ipv6Unicast::from_net(Ipv6Net::new(address, network.prefix()).ok()?).ok()?;
        Some(Ipv6UnicastAddress::new(None, network))
    };
    networks.iter().filter_map(one).collect()
}
