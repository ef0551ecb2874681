//! nftables: tables with chains, rules, sets and their elements, changed in transactions.

mod expression;
mod listing;
mod step;

pub(crate) use expression::{Expression, Header, Memory, Meta, Refusal, Register, Route, Verdict};
pub(crate) use listing::{Listed, has_table, list_counters, list_elements, list_spans, list_structure};
pub(crate) use step::{LOCAL, Step, interface};

use super::attributes::Attributes;
use super::nfnetlink::{Batch, Socket};
use std::io;

/// Source: `linux/netfilter/nf_tables.h`.
const NEW_TABLE: u16 = 0;
const DELETE_TABLE: u16 = 2;
const NEW_CHAIN: u16 = 3;
const NEW_RULE: u16 = 6;
const NEW_SET: u16 = 9;
const NEW_ELEMENTS: u16 = 12;
const DELETE_ELEMENTS: u16 = 14;

const CREATE: u16 = 0x400;
const APPEND: u16 = 0x800;
/// An attribute's length has sixteen bits, and one of elements holds many.
const LIST_BYTES: usize = 60_000;

/// The kernel's number of what is about both families.
pub(crate) const INET: u8 = 1;
/// The kernel's numbers of the two families.
pub(crate) const IPV4: u8 = 2;
pub(crate) const IPV6: u8 = 10;

/// Where a chain sits; one that others lead to has no such place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hook {
    /// `nat` or `filter`.
    pub(crate) kind: &'static str,
    /// Of netfilter: 0 prerouting, 2 forward, 3 output, 4 postrouting.
    pub(crate) hook: u32,
    pub(crate) priority: i32,
}

/// Chain of a family's table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Chain {
    pub(crate) name: &'static str,
    pub(crate) hook: Hook,
}

/// What a set is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Data {
    /// Keys alone.
    None,
    /// For each key some bytes: their type for people, and how many.
    Bytes(u32, u32),
    /// For each key a verdict.
    Verdict,
}

/// A set or map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Set {
    pub(crate) name: &'static str,
    /// Of the key, for people, and its length in bytes.
    pub(crate) key: (u32, u32),
    pub(crate) data: Data,
    /// Packets fill it, with at most so many elements that go with time.
    pub(crate) filled_by_packets: Option<u32>,
    /// Keys are of several fields, of these lengths in bytes, and each may be a range.
    pub(crate) ranges: Option<&'static [u32]>,
}

impl Set {
    const MAP: u32 = 0x8;
    const TIMEOUT: u32 = 0x10;
    const EVALUATED: u32 = 0x20;
    const INTERVAL: u32 = 0x4;
    const FIELDS: u32 = 0x80;

    /// As the kernel knows it.
    pub(crate) fn flags(&self) -> u32 {
        let map = if self.data == Data::None { 0 } else { Self::MAP };
        let filled = self.filled_by_packets.map_or(0, |_| Self::TIMEOUT | Self::EVALUATED);
        let ranges = self.ranges.map_or(0, |_| Self::INTERVAL | Self::FIELDS);
        map | filled | ranges
    }
}

/// What an element leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    Nothing,
    Bytes(&'a [u8]),
    Verdict(Verdict),
}

/// A table to change, of a family.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Table<'a> {
    pub(crate) family: u8,
    pub(crate) name: &'a str,
}

impl Table<'_> {
    /// It is there; what was in it stays.
    pub(crate) fn add(self, batch: &mut Batch) {
        batch.add(NEW_TABLE, CREATE, self.family, |body| {
            body.text(1, self.name);
        });
    }

    /// It is gone with all that was in it. It has to be there.
    pub(crate) fn delete(self, batch: &mut Batch) {
        batch.add(DELETE_TABLE, 0, self.family, |body| {
            body.text(1, self.name);
        });
    }

    pub(crate) fn add_chain(self, batch: &mut Batch, name: &str, hook: Option<Hook>) {
        batch.add(NEW_CHAIN, CREATE, self.family, |body| {
            body.text(1, self.name).text(3, name);
            if let Some(hook) = hook {
                body.nest(4, |place| {
                    place.number(1, hook.hook).number(2, hook.priority.cast_unsigned());
                });
                body.text(7, hook.kind);
            }
        });
    }

    /// At the end of the chain, with some bytes that are given back when it is listed.
    pub(crate) fn add_rule(self, batch: &mut Batch, chain: &str, steps: &[Expression], tag: &[u8]) {
        batch.add(NEW_RULE, CREATE | APPEND, self.family, |body| {
            body.text(1, self.name).text(2, chain).nest(4, |list| {
                steps.iter().for_each(|step| step.put(list));
            });
            if !tag.is_empty() {
                body.put(7, tag);
            }
        });
    }

    /// `number` tells it from others in the same transaction.
    pub(crate) fn add_set(self, batch: &mut Batch, set: &Set, number: u32) {
        const VERDICT_TYPE: u32 = 0xffff_ff00;
        batch.add(NEW_SET, CREATE, self.family, |body| {
            body.text(1, self.name).text(2, set.name).number(3, set.flags());
            body.number(4, set.key.0).number(5, set.key.1);
            match set.data {
                Data::None => {}
                Data::Bytes(kind, length) => {
                    body.number(6, kind).number(7, length);
                }
                Data::Verdict => {
                    // For `nft`: the key is a number of this machine's order of bytes.
                    body.number(6, VERDICT_TYPE).number(7, 0).put(13, &[[0, 4], [1, 0], [0, 0]].concat());
                }
            }
            if let Some(most) = set.filled_by_packets {
                body.nest(9, |description| {
                    description.number(1, most);
                });
            }
            if let Some(fields) = set.ranges {
                body.nest(9, |description| {
                    description.nest(2, |list| {
                        for length in fields {
                            list.nest(1, |field| {
                                field.number(1, *length);
                            });
                        }
                    });
                });
            }
            body.number(10, number);
        });
    }

    /// What is there already must be the same.
    pub(crate) fn add_elements<'a>(
        self,
        batch: &mut Batch,
        set: &str,
        elements: impl Iterator<Item = (&'a [u8], Value<'a>)>,
    ) {
        let elements = elements.map(|(key, value)| (key, None, value));
        self.elements(batch, (NEW_ELEMENTS, CREATE), set, elements);
    }

    /// From one key to another, field by field. What is there must not overlap.
    pub(crate) fn add_spans<'a>(
        self,
        batch: &mut Batch,
        set: &str,
        spans: impl Iterator<Item = (&'a [u8], &'a [u8], Value<'a>)>,
    ) {
        let spans = spans.map(|(first, last, value)| (first, Some(last), value));
        self.elements(batch, (NEW_ELEMENTS, CREATE), set, spans);
    }

    /// They have to be there.
    pub(crate) fn delete_spans<'a>(
        self,
        batch: &mut Batch,
        set: &str,
        spans: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    ) {
        let spans = spans.map(|(first, last)| (first, Some(last), Value::Nothing));
        self.elements(batch, (DELETE_ELEMENTS, 0), set, spans);
    }

    /// They have to be there.
    pub(crate) fn delete_elements<'a>(
        self,
        batch: &mut Batch,
        set: &str,
        keys: impl Iterator<Item = &'a [u8]>,
    ) {
        self.elements(batch, (DELETE_ELEMENTS, 0), set, keys.map(|key| (key, None, Value::Nothing)));
    }

    fn elements<'a>(
        self,
        batch: &mut Batch,
        (kind, flags): (u16, u16),
        set: &str,
        elements: impl Iterator<Item = (&'a [u8], Option<&'a [u8]>, Value<'a>)>,
    ) {
        let mut elements = elements.peekable();
        while elements.peek().is_some() {
            batch.add(kind, flags, self.family, |body| {
                body.text(1, self.name).text(2, set).nest(3, |list| {
                    let start = list.len();
                    while list.len() - start < LIST_BYTES {
                        let Some((key, end, value)) = elements.next() else { break };
                        put_element(list, (key, end), &value);
                    }
                });
            });
        }
    }
}

fn put_element(list: &mut Attributes, (key, end): (&[u8], Option<&[u8]>), value: &Value<'_>) {
    list.nest(1, |element| {
        element.nest(1, |data| {
            data.put(1, key);
        });
        match value {
            Value::Nothing => {}
            Value::Bytes(bytes) => {
                element.nest(2, |data| {
                    data.put(1, bytes);
                });
            }
            Value::Verdict(verdict) => {
                element.nest(2, |data| verdict.put(data));
            }
        }
        if let Some(end) = end {
            element.nest(10, |data| {
                data.put(1, end);
            });
        }
    });
}

/// Has the kernel load the module that lets netfilter see what crosses bridges. It does so for a rule with
/// the match `physdev` of iptables; since Linux 5.1 only then. The rule stays, in the network namespace of
/// the calling thread: take one that goes.
///
/// # Errors
/// The kernel's. That there is no such module is none.
pub(crate) fn load_bridge_filter() -> io::Result<()> {
    // `struct xt_physdev_info`: four names, and what is asked; 4: whether a packet crosses a bridge.
    // Source: `linux/netfilter/xt_physdev.h`.
    let mut asked = vec![0; 72];
    asked[65] = 4;
    let (table, mut batch) = (Table { family: IPV4, name: "bridged" }, Batch::default());
    table.add(&mut batch);
    table.add_chain(&mut batch, "bridged", None);
    table.add_rule(&mut batch, "bridged", &[Expression::Match("physdev", asked)], &[]);
    Socket::open()?.commit(batch)
}

/// The table is there with exactly these rules; without any, it is gone.
///
/// # Errors
/// The kernel's: `EOPNOTSUPP` or `ENOENT` if it lacks what a rule needs. Nothing has changed then.
pub(crate) fn replace(table: Table<'_>, chains: &[(Chain, Vec<Vec<Step>>)]) -> io::Result<()> {
    let mut batch = Batch::default();
    // It has to be there to be deleted.
    table.add(&mut batch);
    table.delete(&mut batch);
    if chains.iter().any(|(_, rules)| !rules.is_empty()) {
        table.add(&mut batch);
        for (chain, rules) in chains {
            table.add_chain(&mut batch, chain.name, Some(chain.hook));
            for rule in rules {
                let steps: Vec<_> = rule.iter().flat_map(Step::expressions).collect();
                table.add_rule(&mut batch, chain.name, &steps, &[]);
            }
        }
    }
    Socket::open()?.commit(batch)
}
