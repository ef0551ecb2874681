//! What rules are made of: the kernel's own small steps, with the registers that they work on.

use crate::sys::attributes::Attributes;
use std::time::Duration;

/// Source: `linux/netfilter/nf_tables.h`.
const VERDICT_REGISTER: u32 = 0;
const FIRST_REGISTER: u32 = 8;
const DROP: i32 = 0;
const ACCEPT: i32 = 1;
const JUMP: i32 = -3;
const GOTO: i32 = -4;
const RETURN: i32 = -5;

/// One of sixteen words; what is longer takes the next ones, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Register(pub(crate) u32);

impl Register {
    /// The register `words` further on.
    pub(crate) const fn after(self, words: u32) -> Self {
        Self(self.0 + words)
    }

    const fn number(self) -> u32 {
        FIRST_REGISTER + self.0
    }
}

/// Where a packet goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nowhere.
    Drop,
    /// On its way.
    Accept,
    /// Through that chain, and back.
    Jump(String),
    /// Through that chain.
    Goto(String),
    /// Back to the chain that led here.
    Return,
}

impl Verdict {
    /// As the data of an element or of a register.
    pub(crate) fn put(&self, data: &mut Attributes) {
        let (code, chain) = match self {
            Self::Drop => (DROP, None),
            Self::Accept => (ACCEPT, None),
            Self::Return => (RETURN, None),
            Self::Jump(chain) => (JUMP, Some(chain)),
            Self::Goto(chain) => (GOTO, Some(chain)),
        };
        data.nest(2, |verdict| {
            verdict.number(1, code.cast_unsigned());
            if let Some(chain) = chain {
                verdict.text(2, chain);
            }
        });
    }
}

/// What of a packet's surroundings is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meta {
    Mark = 3,
    InputName = 6,
    OutputName = 7,
    /// The version of IP.
    Family = 15,
    /// Above IP.
    Protocol = 16,
}

/// The header that an offset counts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Header {
    Network = 1,
    Transport = 2,
}

/// What the routes say of where a packet is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Route {
    /// The name of the interface that it leaves by.
    OutputName = 2,
    /// Whether it is for this machine, of many, and so on.
    AddressType = 3,
}

/// How somebody is told that nobody answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    TcpReset,
    /// With the family's number for an unreachable port.
    Unreachable(u8),
}

/// What is done with an element of a set that packets fill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Memory {
    /// It is there, and its time begins anew.
    Renew(Duration),
    /// It is gone.
    Forget,
}

/// One step of a rule. What does not match ends the rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Expression {
    /// Bytes of a header.
    Payload(Register, Header, u32, u32),
    Meta(Register, Meta),
    SetMeta(Meta, Register),
    /// What connection tracking says of the connection.
    Status(Register),
    /// Whether connection tracking knows the connection.
    State(Register),
    Route(Register, Route),
    /// Only if these bytes are in the register (or, if false, are not).
    Compare(Register, bool, Vec<u8>),
    /// Of the register, the bits of the first stay, and those of the second are turned.
    Bits(Register, Vec<u8>, Vec<u8>),
    Immediate(Register, Vec<u8>),
    Verdict(Verdict),
    /// Only if the key is in that set.
    Member(String, Register),
    /// Only if the key is not in that set.
    Stranger(String, Register),
    /// What that map has for the key, into the second register.
    Map(String, Register, Register),
    /// Where that map says for the key.
    Dispatch(String, Register),
    /// A number below that, from that on, by chance.
    Random(Register, u32, u32),
    /// The key from the first register, and the data, if any, from the second.
    Remember(String, Memory, Register, Option<Register>),
    /// To the address and the port in the registers instead, of that family.
    Redirect(u8, Register, Register),
    /// From the address of the interface that it leaves by instead.
    Masquerade,
    Reject(Refusal),
    /// Packets that come here are counted.
    Count,
    /// Only what the first revision of that match of iptables takes, which is told what it asks.
    Match(&'static str, Vec<u8>),
}

impl Expression {
    /// As an element of a rule's list.
    pub(crate) fn put(&self, list: &mut Attributes) {
        list.nest(1, |element| {
            element.text(1, self.name()).nest(2, |data| self.fill(data));
        });
    }

    /// What the kernel calls it.
    const fn name(&self) -> &'static str {
        match self {
            Self::Payload(..) => "payload",
            Self::Meta(..) | Self::SetMeta(..) => "meta",
            Self::Status(_) | Self::State(_) => "ct",
            Self::Route(..) => "fib",
            Self::Compare(..) => "cmp",
            Self::Bits(..) => "bitwise",
            Self::Immediate(..) | Self::Verdict(_) => "immediate",
            Self::Member(..) | Self::Stranger(..) | Self::Map(..) | Self::Dispatch(..) => "lookup",
            Self::Random(..) => "numgen",
            Self::Remember(..) => "dynset",
            Self::Redirect(..) => "nat",
            Self::Masquerade => "masq",
            Self::Reject(_) => "reject",
            Self::Count => "counter",
            Self::Match(..) => "match",
        }
    }

    fn fill(&self, e: &mut Attributes) {
        match self {
            Self::Payload(to, header, offset, length) => {
                e.number(1, to.number()).number(2, *header as u32).number(3, *offset).number(4, *length);
            }
            Self::Meta(to, key) => {
                e.number(2, *key as u32).number(1, to.number());
            }
            Self::SetMeta(key, from) => {
                e.number(2, *key as u32).number(3, from.number());
            }
            // 2: the status.
            Self::Status(to) => {
                e.number(2, 2).number(1, to.number());
            }
            // 0: the state.
            Self::State(to) => {
                e.number(2, 0).number(1, to.number());
            }
            // 2: of the destination.
            Self::Route(to, result) => {
                e.number(1, to.number()).number(3, 2).number(2, *result as u32);
            }
            Self::Compare(register, equal, bytes) => {
                e.number(1, register.number()).number(2, u32::from(!equal));
                value(e, 3, bytes);
            }
            Self::Bits(register, mask, xor) => bits(e, *register, mask, xor),
            Self::Immediate(register, bytes) => {
                e.number(1, register.number());
                value(e, 2, bytes);
            }
            Self::Verdict(verdict) => {
                e.number(1, VERDICT_REGISTER).nest(2, |data| verdict.put(data));
            }
            Self::Member(set, key) => lookup(e, set, *key, None),
            Self::Stranger(set, key) => {
                lookup(e, set, *key, None);
                // 1: inverted.
                e.number(5, 1);
            }
            Self::Map(set, key, to) => lookup(e, set, *key, Some(to.number())),
            Self::Dispatch(set, key) => lookup(e, set, *key, Some(VERDICT_REGISTER)),
            // 1: by chance, not one after the other.
            Self::Random(to, below, from) => {
                e.number(1, to.number()).number(2, *below).number(3, 1).number(4, *from);
            }
            Self::Remember(set, memory, key, data) => remember(e, set, *memory, (*key, *data)),
            // 1: of the destination.
            Self::Redirect(family, address, port) => {
                e.number(1, 1).number(2, u32::from(*family));
                e.number(3, address.number()).number(5, port.number());
            }
            Self::Masquerade | Self::Count => {}
            Self::Reject(refusal) => reject(e, *refusal),
            // Source: `linux/netfilter/nf_tables_compat.h`.
            Self::Match(name, asked) => {
                e.text(1, name).number(2, 0).put(3, asked);
            }
        }
    }
}

fn value(e: &mut Attributes, kind: u16, bytes: &[u8]) {
    e.nest(kind, |data| {
        data.put(1, bytes);
    });
}

fn bits(e: &mut Attributes, register: Register, mask: &[u8], xor: &[u8]) {
    let length = u32::try_from(mask.len()).unwrap_or(0);
    e.number(1, register.number()).number(2, register.number()).number(3, length);
    value(e, 4, mask);
    value(e, 5, xor);
}

fn lookup(e: &mut Attributes, set: &str, key: Register, to: Option<u32>) {
    e.text(1, set).number(2, key.number());
    if let Some(to) = to {
        e.number(3, to);
    }
}

fn remember(e: &mut Attributes, set: &str, memory: Memory, (key, data): (Register, Option<Register>)) {
    e.text(1, set);
    match memory {
        Memory::Renew(time) => {
            let milliseconds = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
            e.number(3, 1).number(4, key.number()).put(6, &milliseconds.to_be_bytes());
        }
        Memory::Forget => {
            e.number(3, 2).number(4, key.number());
        }
    }
    if let Some(data) = data {
        e.number(5, data.number());
    }
}

fn reject(e: &mut Attributes, refusal: Refusal) {
    match refusal {
        Refusal::TcpReset => e.number(1, 1).put(2, &[0]),
        Refusal::Unreachable(code) => e.number(1, 0).put(2, &[code]),
    };
}
