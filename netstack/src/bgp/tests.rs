//! A session against a scripted router, and what a router would make of the messages.
#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "a router has many kinds of attributes that are not looked at"
)]

use super::message::{AS_TRANS, Fault, Introduction, Message, Open, first, keepalive, notification};
use super::session::{Action, Event, Session};
use super::updates::{Manner, end_of_rib, updates};
use super::{BgpOptions, BgpPeer, BgpState};
use crate::services::Family;
use crate::subnet::Subnet;
use netgauze_bgp_pkt::BgpMessage;
use netgauze_bgp_pkt::path_attribute::{AsPath, MpReach, MpUnreach, PathAttributeValue};
use netgauze_bgp_pkt::update::BgpUpdateMessage;
use netgauze_bgp_pkt::wire::deserializer::BgpParsingContext;
use netgauze_parse_utils::reader::SliceReader;
use netgauze_parse_utils::traits::ParseFromWithOneInput;
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn nets(texts: &[&str]) -> BTreeSet<Subnet> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn options(asn: u32) -> BgpOptions {
    BgpOptions {
        asn,
        router_id: Ipv4Addr::new(192, 0, 2, 1),
        restart_time: Duration::from_secs(120),
        addresses: vec![ip("2001:db8::1")],
        peers: vec![],
    }
}

fn peer(asn: u32) -> BgpPeer {
    BgpPeer {
        address: ip("192.0.2.9"),
        port: 179,
        asn,
        hold_time: Duration::from_secs(90),
        multihop: false,
        password: None,
        source: None,
    }
}

fn router(asn: u32) -> Open {
    Open {
        asn,
        as4: true,
        hold_time: 30,
        router_id: Ipv4Addr::new(192, 0, 2, 9),
        families: Family::ALL.into(),
        restarts: true,
    }
}

/// The networks that a router knows, and which families it knows all of.
#[derive(Debug, Default, PartialEq, Eq)]
struct Known {
    networks: BTreeSet<Subnet>,
    whole: usize,
}

impl Known {
    fn hear(&mut self, bytes: &[u8]) -> BgpUpdateMessage {
        // Numbers of four bytes, or else of two.
        let contexts = [BgpParsingContext::default(), BgpParsingContext::asn2_default()];
        let mut read = contexts
            .into_iter()
            .filter_map(|mut context| BgpMessage::parse(&mut SliceReader::new(bytes), &mut context).ok());
        let Some(BgpMessage::Update(update)) = read.next() else { panic!("{bytes:x?}") };
        let v4 = |network: &netgauze_bgp_pkt::nlri::Ipv4UnicastAddress| {
            let net = network.network().address();
            Subnet::containing(net.addr().into(), net.prefix_len())
        };
        let v6 = |network: &netgauze_bgp_pkt::nlri::Ipv6UnicastAddress| {
            let net = network.network().address();
            Subnet::containing(net.addr().into(), net.prefix_len())
        };
        for gone in update.withdraw_routes().iter().map(v4) {
            assert!(self.networks.remove(&gone), "{gone} was not known");
        }
        self.networks.extend(update.nlri().iter().map(v4));
        for attribute in update.path_attributes() {
            match attribute.value() {
                PathAttributeValue::MpReach(MpReach::Ipv6Unicast { nlri, .. }) => {
                    self.networks.extend(nlri.iter().map(v6));
                }
                PathAttributeValue::MpUnreach(MpUnreach::Ipv6Unicast { nlri }) => {
                    for gone in nlri.iter().map(v6) {
                        assert!(self.networks.remove(&gone), "{gone} was not known");
                    }
                }
                _ => {}
            }
        }
        self.whole += usize::from(update.end_of_rib().is_some());
        update
    }
}

fn manner(asn: u32) -> Manner {
    let v6: Ipv6Addr = "2001:db8::1".parse().unwrap();
    Manner { asn, internal: false, as4: true, v4: Some(Ipv4Addr::new(192, 0, 2, 1)), v6: Some(v6) }
}

fn sent(actions: &[Action]) -> Vec<&[u8]> {
    let bytes = |action: &'_ Action| matches!(action, Action::Send(_));
    assert!(actions.iter().all(bytes), "{actions:?}");
    actions.iter().filter_map(|a| if let Action::Send(bytes) = a { Some(&bytes[..]) } else { None }).collect()
}

/// A session that is established, and what the router has heard.
fn established(now: Instant, open: &Open, routes: BTreeSet<Subnet>) -> (Session, Known) {
    let mut session = Session::new(options(65_001), peer(open.asn), now);
    assert!(session.handle(Event::Routes(routes), now).is_empty(), "nobody is there yet");
    assert_eq!(session.handle(Event::Tick, now), [Action::Connect]);
    let hello = session.handle(Event::Connected(vec![ip("192.0.2.1")]), now);
    let (told, _) = first(sent(&hello)[0]).unwrap().unwrap();
    let Message::Open(told) = told else { panic!("{told:?}") };
    assert_eq!((told.asn, told.hold_time, told.families.len(), told.restarts), (65_001, 90, 2, true));
    assert_eq!(session.state(), BgpState::OpenSent);
    let agreed = session.handle(Event::Received(Message::Open(open.clone())), now);
    assert_eq!((agreed, session.state()), (vec![Action::Send(keepalive())], BgpState::OpenConfirm));
    let told = session.handle(Event::Received(Message::Keepalive), now);
    assert_eq!(session.state(), BgpState::Established);
    let mut known = Known::default();
    sent(&told).into_iter().for_each(|bytes| drop(known.hear(bytes)));
    (session, known)
}

#[test]
fn a_router_learns_what_it_is_to_know_and_that_it_is_all() {
    let now = Instant::now();
    let (mut session, mut known) =
        established(now, &router(64_512), nets(&["10.244.1.0/24", "fd44:1::/64", "192.0.2.7/32"]));
    assert_eq!(known.networks, nets(&["10.244.1.0/24", "fd44:1::/64", "192.0.2.7/32"]));
    assert_eq!((known.whole, session.announced()), (2, (2, 1)));
    let changes = session.handle(Event::Routes(nets(&["10.244.1.0/24", "2001:db8:7::7/128"])), now);
    sent(&changes).into_iter().for_each(|bytes| drop(known.hear(bytes)));
    assert_eq!(known.networks, nets(&["10.244.1.0/24", "2001:db8:7::7/128"]));
    assert!(session.handle(Event::Routes(nets(&["10.244.1.0/24", "2001:db8:7::7/128"])), now).is_empty());
    // Asked for once more, of one family.
    let again = session.handle(Event::Received(Message::Refresh(Some(Family::V6))), now);
    let mut of_v6 = Known::default();
    sent(&again).into_iter().for_each(|bytes| drop(of_v6.hear(bytes)));
    assert_eq!(of_v6.networks, nets(&["2001:db8:7::7/128"]));
    assert!(session.handle(Event::Received(Message::Update), now).is_empty(), "nobody believes it");
    let end = session.handle(Event::Shutdown, now);
    assert_eq!(end, [Action::Send(notification(&Fault::SHUTDOWN)), Action::Close]);
    assert_eq!(session.wake_at(), None);
}

#[test]
fn a_router_of_one_family_is_told_that_alone() {
    let old = Open { families: [Family::V4].into(), as4: false, restarts: false, ..router(64_512) };
    let (session, known) = established(Instant::now(), &old, nets(&["10.244.1.0/24", "fd44:1::/64"]));
    assert_eq!((known.networks, known.whole), (nets(&["10.244.1.0/24"]), 0));
    assert_eq!(session.announced(), (1, 0));
}

#[test]
fn silence_ends_a_session_and_nobody_is_silent_for_long() {
    let now = Instant::now();
    let (mut session, _) = established(now, &router(64_512), nets(&[]));
    // The router minds silence after 30 s.
    assert_eq!(session.wake_at(), Some(now + Duration::from_secs(10)));
    let later = now + Duration::from_secs(10);
    assert_eq!(session.handle(Event::Tick, later), [Action::Send(keepalive())]);
    session.handle(Event::Received(Message::Keepalive), now + Duration::from_secs(15));
    for second in [20, 30, 40] {
        let at = now + Duration::from_secs(second);
        assert_eq!(session.handle(Event::Tick, at), [Action::Send(keepalive())], "{second}");
    }
    let lost = session.handle(Event::Tick, now + Duration::from_secs(45));
    assert_eq!(lost, [Action::Send(notification(&Fault::HOLD_TIME)), Action::Close]);
    assert!(session.last_error().unwrap().contains("hold time"), "{:?}", session.last_error());
    assert_eq!(session.state(), BgpState::Idle);
    // It is agreed that nobody minds.
    let patient = Open { hold_time: 0, ..router(64_512) };
    assert_eq!(established(now, &patient, nets(&[])).0.wake_at(), None);
}

#[test]
fn attempts_are_made_after_longer_and_longer_pauses() {
    let mut now = Instant::now();
    let mut session = Session::new(options(65_001), peer(64_512), now);
    let mut pauses = Vec::new();
    for _ in 0..8 {
        assert_eq!(session.handle(Event::Tick, now), [Action::Connect]);
        session.handle(Event::Lost("nobody is there".into()), now);
        let next = session.wake_at().unwrap();
        pauses.push((next - now).as_secs());
        assert!(session.handle(Event::Tick, now).is_empty(), "not before its time");
        now = next;
    }
    assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
    assert_eq!(session.last_error(), Some("nobody is there"));
    // Who once answered is tried at once.
    let (mut session, _) = established(now, &router(64_512), nets(&[]));
    session.handle(Event::Lost("gone".into()), now);
    assert_eq!(session.wake_at(), Some(now + Duration::from_secs(1)));
}

#[test]
fn whoever_is_not_whom_one_expects_is_told_so() {
    let now = Instant::now();
    let told = |open: Open, asn| {
        let mut session = Session::new(options(65_001), peer(asn), now);
        session.handle(Event::Tick, now);
        session.handle(Event::Connected(vec![ip("192.0.2.1")]), now);
        let actions = session.handle(Event::Received(Message::Open(open)), now);
        (actions, session.last_error().unwrap_or_default().to_owned())
    };
    let ends = |fault: &Fault| vec![Action::Send(notification(fault)), Action::Close];
    let (actions, why) = told(router(64_513), 64_512);
    assert_eq!(actions, ends(&Fault::BAD_AS));
    assert_eq!(why, "the router says that it is 192.0.2.9 of system 64513; 64512 was expected");
    let own = Open { router_id: Ipv4Addr::new(192, 0, 2, 1), ..router(65_001) };
    assert_eq!(told(own, 65_001).0, ends(&Fault::BAD_IDENTIFIER));
    let mut session = established(now, &router(64_512), nets(&[])).0;
    let out_of_place = session.handle(Event::Received(Message::Open(router(64_512))), now);
    assert_eq!(out_of_place, ends(&Fault::UNEXPECTED[2]));
    let mut session = established(now, &router(64_512), nets(&[])).0;
    let said = [&[26][..], b"the rack is moved tonight."].concat();
    let fault = Fault { code: 6, subcode: 2, data: said };
    assert_eq!(session.handle(Event::Received(Message::Notification(fault)), now), [Action::Close]);
    let why = "the router says: administrative shutdown (6/2): the rack is moved tonight.";
    assert_eq!(session.last_error(), Some(why));
}

#[test]
fn only_the_first_session_says_that_the_agent_was_restarted() {
    let now = Instant::now();
    let (mut session, _) = established(now, &router(64_512), nets(&[]));
    session.handle(Event::Lost("gone".into()), now);
    let later = now + Duration::from_secs(1);
    session.handle(Event::Tick, later);
    let actions = session.handle(Event::Connected(vec![ip("192.0.2.1")]), later);
    let own = Introduction {
        asn: 65_001,
        hold_time: 90,
        router_id: Ipv4Addr::new(192, 0, 2, 1),
        families: Family::ALL.into(),
        restart_time: 120,
        restarted: false,
    };
    assert_eq!(sent(&actions), [own.bytes()]);
    assert_ne!(own.bytes(), Introduction { restarted: true, ..own.clone() }.bytes());
    let (message, _) = first(&Introduction { restart_time: 0, ..own }.bytes()).unwrap().unwrap();
    assert!(matches!(message, Message::Open(Open { restarts: false, .. })));
}

#[test]
fn a_number_of_four_bytes_is_passed_on_by_who_knows_two() {
    let path = |manner: &Manner| {
        let messages = updates(&nets(&[]), &nets(&["10.0.0.0/24"]), manner);
        let mut context = BgpParsingContext::default();
        context.set_asn4(manner.as4);
        let read = BgpMessage::parse(&mut SliceReader::new(&messages[0]), &mut context).unwrap();
        let BgpMessage::Update(update) = read else { panic!("{read:?}") };
        let find = |wanted: fn(&PathAttributeValue) -> Option<Vec<u32>>| {
            update.path_attributes().iter().find_map(|attribute| wanted(attribute.value()))
        };
        let path = find(|value| match value {
            PathAttributeValue::AsPath(AsPath::As2PathSegments(all)) => {
                Some(all.iter().flat_map(|s| s.as_numbers()).map(|n| u32::from(*n)).collect())
            }
            PathAttributeValue::AsPath(AsPath::As4PathSegments(all)) => {
                Some(all.iter().flat_map(|s| s.as_numbers()).copied().collect())
            }
            _ => None,
        });
        let wide = find(|value| match value {
            PathAttributeValue::As4Path(path) => {
                Some(path.segments().iter().flat_map(|s| s.as_numbers()).copied().collect())
            }
            _ => None,
        });
        let preferred = find(|value| match value {
            PathAttributeValue::LocalPreference(preference) => Some(vec![preference.metric()]),
            _ => None,
        });
        (path, wide, preferred)
    };
    let new = manner(4_200_000_001);
    let old = Manner { as4: false, ..new.clone() };
    assert_eq!(path(&new), (Some(vec![4_200_000_001]), None, None));
    assert_eq!(path(&old), (Some(vec![AS_TRANS.into()]), Some(vec![4_200_000_001]), None));
    assert_eq!(path(&Manner { internal: true, ..new }), (Some(vec![]), None, Some(vec![100])));
}

#[test]
fn messages_are_taken_one_by_one_and_bad_ones_are_named() {
    let mut stream = keepalive();
    stream.extend(end_of_rib(Family::V6));
    stream.extend(notification(&Fault::SHUTDOWN));
    assert_eq!(first(&stream), Ok(Some((Message::Keepalive, 19))));
    let (message, length) = first(&stream[19..]).unwrap().unwrap();
    assert_eq!(message, Message::Update);
    let rest = &stream[19 + length..];
    assert_eq!(first(rest), Ok(Some((Message::Notification(Fault::SHUTDOWN), rest.len()))));
    for cut in 0..rest.len() {
        assert_eq!(first(&rest[..cut]), Ok(None), "{cut}");
    }
    let with = |at: usize, byte: u8| {
        let mut bad = keepalive();
        bad[at] = byte;
        first(&bad).unwrap_err()
    };
    assert_eq!((with(3, 0).code, with(3, 0).subcode), (1, 1));
    assert_eq!((with(17, 20).code, with(17, 20).subcode), (1, 2));
    assert_eq!((with(18, 9).code, with(18, 9).subcode), (1, 3));
    let own = Introduction {
        asn: 65_001,
        hold_time: 90,
        router_id: Ipv4Addr::new(192, 0, 2, 1),
        families: Family::ALL.into(),
        restart_time: 120,
        restarted: false,
    };
    let mut open = own.bytes();
    open[19] = 3;
    assert_eq!(first(&open).unwrap_err().words(), "unsupported version of BGP (2/1)");
    open[19] = 4;
    (open[22], open[23]) = (0, 2);
    assert_eq!(first(&open).unwrap_err().words(), "unacceptable hold time (2/6)");
}

fn some_networks() -> impl Strategy<Value = BTreeSet<Subnet>> {
    let v4 = (any::<[u8; 2]>(), 16_u8..=32)
        .prop_map(|([a, b], prefix)| Subnet::containing(Ipv4Addr::new(10, a, b, 7).into(), prefix));
    let v6 = (any::<[u16; 2]>(), 32_u8..=128).prop_map(|([a, b], prefix)| {
        Subnet::containing(Ipv6Addr::new(0x2001, 0xdb8, a, b, 0, 0, 0, 7).into(), prefix)
    });
    proptest::collection::btree_set(prop_oneof![v4, v6], 0..30)
}

fn some_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        Just(Event::Connected(vec![ip("192.0.2.1")])),
        Just(Event::Lost("lost".into())),
        Just(Event::Received(Message::Open(router(64_512)))),
        Just(Event::Received(Message::Open(router(1)))),
        Just(Event::Received(Message::Update)),
        Just(Event::Received(Message::Keepalive)),
        Just(Event::Received(Message::Refresh(None))),
        Just(Event::Received(Message::Notification(Fault::SHUTDOWN))),
        Just(Event::Garbled(Fault::BAD_AS)),
        Just(Event::Tick),
        some_networks().prop_map(Event::Routes),
    ]
}

proptest! {
    #[test]
    fn a_router_knows_what_it_is_to_know_after_any_changes(all in proptest::collection::vec(some_networks(), 1..6)) {
        let (mut known, mut old) = (Known::default(), BTreeSet::new());
        for new in all {
            for bytes in updates(&old, &new, &manner(65_001)) {
                prop_assert!(bytes.len() <= 4096);
                prop_assert_eq!(first(&bytes).unwrap(), Some((Message::Update, bytes.len())));
                known.hear(&bytes);
            }
            prop_assert_eq!(&known.networks, &new);
            old = new;
        }
    }

    #[test]
    fn whatever_a_router_sends_is_read_without_harm(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..120), kind in 0_u8..7, length in 0_u16..140
    ) {
        if bytes.len() >= 19 && kind > 0 {
            bytes[..16].fill(0xff);
            bytes[16..18].copy_from_slice(&length.to_be_bytes());
            bytes[18] = kind;
        }
        if let Ok(Some((_, taken))) = first(&bytes) {
            prop_assert!((19..=bytes.len()).contains(&taken));
        }
    }

    #[test]
    fn an_opening_that_was_damaged_is_read_without_harm(at in 19_usize..60, byte in any::<u8>()) {
        let own = Introduction {
            asn: 4_200_000_001,
            hold_time: 90,
            router_id: Ipv4Addr::new(192, 0, 2, 1),
            families: Family::ALL.into(),
            restart_time: 120,
            restarted: true,
        };
        let mut bytes = own.bytes();
        if let Some(place) = bytes.get_mut(at) {
            *place = byte;
        }
        let _ = first(&bytes);
    }

    #[test]
    fn nothing_is_sent_where_nobody_is(events in proptest::collection::vec((some_event(), 0_u64..40), 0..60)) {
        let mut now = Instant::now();
        let mut session = Session::new(options(65_001), peer(64_512), now);
        let (mut connecting, mut connected) = (false, false);
        for (event, seconds) in events {
            now += Duration::from_secs(seconds);
            match &event {
                // The shell has one connection, and makes it when it is told to.
                Event::Connected(_) if !connecting => continue,
                Event::Received(_) | Event::Garbled(_) if !connected => continue,
                Event::Connected(_) => (connecting, connected) = (false, true),
                Event::Lost(_) if !connecting && !connected => continue,
                Event::Lost(_) => (connecting, connected) = (false, false),
                _ => {}
            }
            for action in session.handle(event, now) {
                match action {
                    Action::Connect => {
                        prop_assert!(!connecting && !connected);
                        connecting = true;
                    }
                    Action::Send(bytes) => {
                        prop_assert!(connected && first(&bytes).is_ok_and(|found| found.is_some()));
                    }
                    Action::Close => (connecting, connected) = (false, false),
                }
            }
            let is_idle = session.state() == BgpState::Idle;
            prop_assert_eq!(is_idle, !connecting && !connected);
            prop_assert!(connecting || session.wake_at().is_some());
        }
    }
}
