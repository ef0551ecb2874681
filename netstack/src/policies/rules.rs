//! The constant part: chains and rules that do not depend on which policies there are.

use super::model::Direction;
use super::slot::EVERYBODY;
use super::wire::Home;
use crate::services::{Family, destination, source};
use crate::sys::nft::{Expression as Do, Header, Hook, Meta, Register, Verdict};

/// A chain with its rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chain {
    pub(super) name: &'static str,
    pub(super) hook: Option<Hook>,
    pub(super) rules: Vec<Vec<Do>>,
}

/// What connection tracking says of packets of a connection that was allowed when it was opened, of
/// errors about it, and of the neighbours' talk about their addresses, which it does not track.
const SETTLED: u32 = 1 << 1 | 1 << 2 | 1 << 6;

/// What is passed on, from any interface to any other, and from port to port of the bridge.
const FORWARD: Hook = Hook { kind: "filter", hook: 2, priority: 0 };

// Where things are. What a map has begins with a word that says nothing.
const LEAD: Register = Register(0);
const GROUP: Register = Register(1);
/// A word that says nothing, then who it is; or, before that, an address.
const OTHER: Register = Register(2);
const PROTOCOL: Register = Register(4);
const PORT: Register = Register(5);
/// Addresses.
const KEY: Register = Register(8);

/// All chains, each after those that it leads to.
pub(super) fn chains() -> Vec<Chain> {
    let mut chains = Vec::new();
    for family in Family::ALL {
        for direction in Direction::BOTH {
            let rules = judge(family, direction);
            chains.push(Chain { name: judge_name(direction, family), hook: None, rules });
        }
        let name = pass_name(family);
        chains.push(Chain { name, hook: None, rules: pass(family) });
    }
    let settled = vec![
        Do::State(LEAD),
        Do::Bits(LEAD, SETTLED.to_ne_bytes().into(), vec![0; 4]),
        Do::Compare(LEAD, false, vec![0; 4]),
        Do::Verdict(Verdict::Accept),
    ];
    let lead = |family: Family| {
        vec![
            Do::Meta(LEAD, Meta::Family),
            Do::Compare(LEAD, true, vec![family.number()]),
            Do::Verdict(Verdict::Goto(pass_name(family).into())),
        ]
    };
    let rules = vec![settled, lead(Family::V4), lead(Family::V6)];
    chains.push(Chain { name: "forward", hook: Some(FORWARD), rules });
    chains
}

const fn pass_name(family: Family) -> &'static str {
    match family {
        Family::V4 => "new4",
        Family::V6 => "new6",
    }
}

/// The chain that ends packets in a direction.
pub(super) const fn judge_name(direction: Direction, family: Family) -> &'static str {
    match (direction, family) {
        (Direction::Ingress, Family::V4) => "to-pod4",
        (Direction::Ingress, Family::V6) => "to-pod6",
        (Direction::Egress, Family::V4) => "from-pod4",
        (Direction::Egress, Family::V6) => "from-pod6",
    }
}

/// A new connection: both ends have their say, if they have any.
fn pass(family: Family) -> Vec<Vec<Do>> {
    let itself = vec![
        source(family, KEY),
        destination(family, KEY.after(family.words())),
        Do::Member(Home::Itself(family).name().into(), KEY),
        Do::Verdict(Verdict::Accept),
    ];
    let ask = |direction| {
        let mut steps = group(family, direction);
        steps.push(Do::Verdict(Verdict::Jump(judge_name(direction, family).into())));
        steps
    };
    vec![itself, ask(Direction::Egress), ask(Direction::Ingress)]
}

/// Back to where it came from if anything allows it; nowhere else.
fn judge(family: Family, direction: Direction) -> Vec<Vec<Do>> {
    let then = |more: Vec<Do>| [group(family, direction), more].concat();
    let everybody = then(vec![Do::Immediate(OTHER, [0, EVERYBODY].map(u32::to_ne_bytes).concat())]);
    let pods =
        then(vec![other(family, direction, KEY), Do::Map(Home::Peers(family).name().into(), KEY, OTHER)]);
    let blocks = then(vec![
        other(family, direction, OTHER),
        Do::Map(Home::Blocks(family).name().into(), GROUP, OTHER),
    ]);
    let port = vec![Do::Meta(PROTOCOL, Meta::Protocol), Do::Payload(PORT, Header::Transport, 2, 2)];
    let allowed = |home: Home| vec![Do::Member(home.name().into(), GROUP), Do::Verdict(Verdict::Return)];
    let mut rules = Vec::new();
    for who in [&pods, &everybody, &blocks] {
        rules.push([who.clone(), allowed(Home::Open)].concat());
        rules.push([who.clone(), port.clone(), allowed(Home::Ports)].concat());
    }
    for who in [&pods, &everybody, &blocks] {
        rules.push([who.clone(), port.clone(), allowed(Home::Spans)].concat());
    }
    rules.push(vec![Do::Count, Do::Verdict(Verdict::Drop)]);
    rules
}

/// Loads the group of the pod in question, if it has one.
fn group(family: Family, direction: Direction) -> Vec<Do> {
    vec![own(family, direction, KEY), Do::Map(Home::Pods(direction, family).name().into(), KEY, LEAD)]
}

/// The address of the pod in question.
fn own(family: Family, direction: Direction, to: Register) -> Do {
    match direction {
        Direction::Ingress => destination(family, to),
        Direction::Egress => source(family, to),
    }
}

/// The address at the other end.
fn other(family: Family, direction: Direction, to: Register) -> Do {
    match direction {
        Direction::Ingress => source(family, to),
        Direction::Egress => destination(family, to),
    }
}
