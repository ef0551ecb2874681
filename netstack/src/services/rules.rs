//! The constant part: chains and rules that do not depend on which services there are.

use super::model::{Family, Transport};
use super::way::{Pick, Pool, Way};
use super::wire::{AFFINITY, BALANCED, ENDPOINTS, FENCES, LOOPS, SERVICES, SOURCES, WAYS, members};
use super::{LOCAL_NUMBER, ServiceNetwork};
use crate::services::table::LOCAL_POOL;
use crate::sys::nft::{
    Expression as Do, Header, Hook, Memory, Meta, Refusal, Register, Route, Verdict, interface,
};
use std::net::IpAddr;
use std::time::Duration;

/// Bit of a packet's mark: its sender gets an address of this node if it leaves it. The one that
/// kube-proxy takes.
const MARK: u32 = 0x4000;
/// What connection tracking says of a connection whose destination was changed.
const REDIRECTED: u32 = 1 << 5;

/// A chain with its rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chain {
    pub(super) name: String,
    pub(super) hook: Option<Hook>,
    pub(super) rules: Vec<Vec<Do>>,
}

/// What rules depend on beside services.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) family: Family,
    pub(super) bridge: &'a str,
    pub(super) networks: &'a [ServiceNetwork],
    /// What goes from port to port of the bridge is seen by netfilter.
    pub(super) sees_bridged: bool,
}

/// The client kinds' places among the ways of a service.
const FROM_POD: u32 = 0;
const FROM_ELSEWHERE: u32 = 1;
const FROM_NODE: u32 = 2;

/// All chains but those of picks, each after those that it leads to.
pub(super) fn chains(place: Place<'_>) -> Vec<Chain> {
    let inner = |name: &str, rules| Chain { name: name.into(), hook: None, rules };
    let outer = |name: &str, hook, priority, rules| {
        let hook = Some(Hook { kind: "nat", hook, priority });
        Chain { name: name.into(), hook, rules }
    };
    let leads_to_bridge = |load| vec![load, Do::Compare(Register(0), true, interface(place.bridge))];
    let by_route = leads_to_bridge(Do::Route(Register(0), Route::OutputName));
    let by_interface = leads_to_bridge(Do::Meta(Register(0), Meta::OutputName));
    let from_bridge = [
        Do::Meta(Register(0), Meta::InputName),
        Do::Compare(Register(0), true, interface(place.bridge)),
        Do::Verdict(Verdict::Goto("from-pod".into())),
    ];
    let code = if place.family == Family::V4 { 3 } else { 4 };
    let to_tcp = [
        Do::Meta(Register(0), Meta::Protocol),
        Do::Compare(Register(0), true, vec![Transport::Tcp.number()]),
        Do::Reject(Refusal::TcpReset),
    ];
    vec![
        inner("refuse", vec![to_tcp.into(), vec![Do::Reject(Refusal::Unreachable(code))]]),
        inner("drop", vec![vec![Do::Verdict(Verdict::Drop)]]),
        inner("from-pod", look_up(place, FROM_POD, &by_route)),
        inner("from-elsewhere", look_up(place, FROM_ELSEWHERE, &by_route)),
        outer(
            "prerouting",
            0,
            -100,
            vec![from_bridge.into(), vec![Do::Verdict(Verdict::Goto("from-elsewhere".into()))]],
        ),
        outer("output", 3, -100, look_up(place, FROM_NODE, &by_interface)),
        outer("postrouting", 4, 100, masquerade(place)),
    ]
}

/// The ways that lead nowhere, which are always there.
pub(super) const DEAD_ENDS: [Way; 2] = [Way::Refuse, Way::Drop];

/// Who may not ask where not everybody may is not answered. Source: kube-proxy does the same.
fn keep_out(family: Family) -> Vec<Do> {
    let found = Register(family.words() + 2);
    // What the map has begins with a word that says nothing.
    let number = found.after(1);
    let mut rule = frontend(family, false, Register(0));
    rule.extend([
        Do::Map(FENCES.into(), Register(0), found),
        source(family, number.after(1)),
        Do::Stranger(SOURCES.into(), number),
        Do::Verdict(Verdict::Goto(Way::Drop.chain())),
    ]);
    rule
}

/// What no service has at a load balancer's address is refused: it would be led on to who led it here.
/// An address that is this node's, too, has others who answer.
fn refuse_others(family: Family) -> Vec<Do> {
    vec![
        Do::Route(Register(0), Route::AddressType),
        Do::Compare(Register(0), false, LOCAL_NUMBER.to_ne_bytes().into()),
        destination(family, Register(0)),
        Do::Member(BALANCED.into(), Register(0)),
        Do::Verdict(Verdict::Goto(Way::Refuse.chain())),
    ]
}

/// A known service's way is gone; an unknown one is refused.
fn look_up(place: Place<'_>, client: u32, leads_to_bridge: &[Do]) -> Vec<Vec<Do>> {
    let found = Register(place.family.words() + 2);
    let way = found.after(1 + client);
    let dispatch = [Do::Map(SERVICES.into(), Register(0), found), Do::Dispatch(WAYS.into(), way)];
    let to_address = [frontend(place.family, false, Register(0)), dispatch.to_vec()].concat();
    let to_node = [
        vec![
            Do::Route(Register(0), Route::AddressType),
            Do::Compare(Register(0), true, LOCAL_NUMBER.to_ne_bytes().into()),
        ],
        frontend(place.family, true, Register(0)),
        dispatch.to_vec(),
    ];
    let mut rules = vec![keep_out(place.family), to_address, to_node.concat()];
    for network in place.networks.iter().filter(|network| Family::of(network.address) == place.family) {
        let mut rule = within(network);
        rule.extend_from_slice(leads_to_bridge);
        rule.push(Do::Verdict(Verdict::Goto(Way::Refuse.chain())));
        rules.push(rule);
    }
    rules.push(refuse_others(place.family));
    rules
}

/// Only packets for that network.
fn within(network: &ServiceNetwork) -> Vec<Do> {
    let (offset, bytes) = match network.address {
        IpAddr::V4(address) => (16, address.octets().to_vec()),
        IpAddr::V6(address) => (24, address.octets().to_vec()),
    };
    let length = bytes.len();
    let mask = |at: usize| {
        let bits = usize::from(network.prefix).saturating_sub(at * 8).min(8);
        u8::try_from(0xff00_u32 >> bits & 0xff).unwrap_or(u8::MAX)
    };
    let mask: Vec<u8> = (0..length).map(mask).collect();
    let wanted = bytes.iter().zip(&mask).map(|(byte, mask)| byte & mask).collect();
    let count = u32::try_from(length).unwrap_or(0);
    vec![
        Do::Payload(Register(0), Header::Network, offset, count),
        Do::Bits(Register(0), mask, vec![0; length]),
        Do::Compare(Register(0), true, wanted),
    ]
}

/// Loads address, protocol and port that a packet is for; for a port of the node, no address.
fn frontend(family: Family, at_node: bool, to: Register) -> Vec<Do> {
    let address = if at_node { Do::Immediate(to, vec![0; family.bytes()]) } else { destination(family, to) };
    vec![
        address,
        Do::Meta(to.after(family.words()), Meta::Protocol),
        Do::Payload(to.after(family.words() + 1), Header::Transport, 2, 2),
    ]
}

/// The address that a packet goes to.
pub(crate) fn destination(family: Family, to: Register) -> Do {
    match family {
        Family::V4 => Do::Payload(to, Header::Network, 16, 4),
        Family::V6 => Do::Payload(to, Header::Network, 24, 16),
    }
}

/// The address that a packet comes from.
pub(crate) fn source(family: Family, to: Register) -> Do {
    match family {
        Family::V4 => Do::Payload(to, Header::Network, 12, 4),
        Family::V6 => Do::Payload(to, Header::Network, 8, 16),
    }
}

fn masquerade(place: Place<'_>) -> Vec<Vec<Do>> {
    let (family, at) = (place.family, Register(0));
    let leaves_by =
        |name: &str, is| vec![Do::Meta(at, Meta::OutputName), Do::Compare(at, is, interface(name))];
    // Who asks a service and gets itself would answer itself by another way.
    let itself = vec![
        source(family, at),
        destination(family, at.after(family.words())),
        Do::Member(LOOPS.into(), at),
        Do::Masquerade,
    ];
    // Who is asked on another node would answer past this one. On this node it cannot.
    let marked = [
        Do::Meta(at, Meta::Mark),
        Do::Bits(at, MARK.to_ne_bytes().into(), vec![0; 4]),
        Do::Compare(at, true, MARK.to_ne_bytes().into()),
    ];
    let elsewhere =
        [marked.to_vec(), leaves_by(place.bridge, false), leaves_by("lo", false), vec![Do::Masquerade]];
    let mut rules = vec![itself, elsewhere.concat()];
    if !place.sees_bridged {
        // Who is asked on the same bridge would answer past the node's netfilter.
        let redirected = [
            Do::Status(at),
            Do::Bits(at, REDIRECTED.to_ne_bytes().into(), vec![0; 4]),
            Do::Compare(at, false, vec![0; 4]),
        ];
        let from_bridge = [Do::Meta(at, Meta::InputName), Do::Compare(at, true, interface(place.bridge))];
        let parts = [from_bridge.to_vec(), leaves_by(place.bridge, true), redirected.to_vec()];
        rules.push([parts.concat(), vec![Do::Masquerade]].concat());
    }
    rules
}

/// The chain of a pick.
pub(super) fn pick(family: Family, pick: Pick) -> Chain {
    let mut rules = Vec::new();
    if pick.masquerade {
        rules.push(vec![
            Do::Meta(Register(0), Meta::Mark),
            Do::Bits(Register(0), (!MARK).to_ne_bytes().into(), MARK.to_ne_bytes().into()),
            Do::SetMeta(Meta::Mark, Register(0)),
        ]);
    }
    if pick.sticky > 0 {
        rules.extend(stick(family, pick));
    }
    rules.push([any(family, pick), redirect(family)].concat());
    Chain { name: Way::Pick(pick).chain(), hook: None, rules }
}

// Where things are while an endpoint is picked: what a map has, which begins with a word that says
// nothing, then keys.
const FOUND: Register = Register(0);
const TARGET: Register = Register(1);

const fn keys(family: Family) -> Register {
    TARGET.after(family.words() + 1)
}

/// Finds any of the endpoints.
fn any(family: Family, pick: Pick) -> Vec<Do> {
    let first = if pick.pool == Pool::Local { LOCAL_POOL } else { 0 };
    let key = keys(family);
    let mut steps = frontend(family, pick.at_node, key);
    steps.push(Do::Random(key.after(family.words() + 2), u32::from(pick.count), first));
    steps.push(Do::Map(ENDPOINTS.into(), key, FOUND));
    steps
}

fn redirect(family: Family) -> Vec<Do> {
    vec![Do::Redirect(family.number(), TARGET, TARGET.after(family.words()))]
}

/// First whom the client was with, if it is still there; else anyone, who is remembered.
fn stick(family: Family, pick: Pick) -> [Vec<Do>; 2] {
    let key = keys(family);
    let client = || {
        let mut load = vec![source(family, key)];
        load.extend(frontend(family, pick.at_node, key.after(family.words())));
        load
    };
    let time = Memory::Renew(Duration::from_secs(u64::from(pick.sticky)));
    let remember = |memory| Do::Remember(AFFINITY.into(), memory, key, Some(FOUND));
    // It is that already; for the sake of `nft`, as said in `wire`.
    let lead = Do::Immediate(FOUND, vec![0; 4]);
    let mut known = client();
    known.push(Do::Map(AFFINITY.into(), key, FOUND));
    known.extend(frontend(family, pick.at_node, key));
    known.push(Do::Member(members(pick.pool).into(), TARGET));
    known.extend(client());
    known.extend([lead.clone(), remember(time)]);
    known.extend(redirect(family));
    let mut new = any(family, pick);
    new.extend(client());
    // What is there would be kept, and is about somebody who is no more.
    new.extend([lead, remember(Memory::Forget), remember(time)]);
    new.extend(redirect(family));
    [known, new]
}

/// What a rule is tagged with: a comment for people, which changes with the rule.
pub(crate) fn tag(rule: &[Do]) -> Vec<u8> {
    let mut bytes = crate::sys::attributes::Attributes::default();
    rule.iter().for_each(|step| step.put(&mut bytes));
    let text = format!("keel {:016x}\0", crate::names::digest(bytes.as_slice()));
    // As `nft` writes comments: kind, length, text.
    let length = u8::try_from(text.len()).unwrap_or(0);
    [[0, length].as_slice(), text.as_bytes()].concat()
}
