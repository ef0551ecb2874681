//! What the kernel has of a table.

use super::Table;
use crate::sys::attributes::{find, read, text};
use crate::sys::nfnetlink::{NFTABLES, Socket};
use nix::errno::Errno;
use std::collections::BTreeMap;
use std::io;

/// Source: `linux/netfilter/nf_tables.h`.
const GET_TABLE: u16 = 1;
const GET_CHAIN: u16 = 4;
const GET_RULE: u16 = 7;
const GET_SET: u16 = 10;
const GET_ELEMENTS: u16 = 13;

/// A table but for its elements.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Listed {
    /// By the chain's name: whether it hangs on a hook, and the bytes that its rules were tagged with.
    pub(crate) chains: BTreeMap<String, (bool, Vec<Vec<u8>>)>,
    /// By the set's name: flags, length of key and of data.
    pub(crate) sets: BTreeMap<String, (u32, u32, u32)>,
}

/// Key, and data or the chain that it leads to.
pub(crate) type Found = (Vec<u8>, Vec<u8>);

/// First and last key, and data.
pub(crate) type Span = (Vec<u8>, Vec<u8>, Vec<u8>);

/// Whether the table is there.
///
/// # Errors
/// The kernel's.
pub(crate) fn has_table(socket: &mut Socket, table: Table<'_>) -> io::Result<bool> {
    let tables = socket.dump(
        NFTABLES << 8 | GET_TABLE,
        table.family,
        |_| {},
        |found, message| found.push((message.family, find(message.attributes, 1).map(text))),
    )?;
    Ok(tables.iter().any(|(family, name)| *family == table.family && name.as_deref() == Some(table.name)))
}

/// Chains, rules and sets of the table; nothing if there is none.
///
/// # Errors
/// The kernel's.
pub(crate) fn list_structure(socket: &mut Socket, table: Table<'_>) -> io::Result<Listed> {
    let mut listed = Listed::default();
    let chains = ask(socket, GET_CHAIN, table, |found, attributes| {
        found.push((name(attributes, 1), name(attributes, 3), find(attributes, 4).is_some()));
    })?;
    for (_, chain, hooked) in chains.into_iter().filter(|(of, ..)| of == table.name) {
        listed.chains.insert(chain, (hooked, Vec::new()));
    }
    let rules = ask(socket, GET_RULE, table, |found, attributes| {
        let tag = find(attributes, 7).unwrap_or_default().to_vec();
        found.push((name(attributes, 1), name(attributes, 2), tag));
    })?;
    for (_, chain, tag) in rules.into_iter().filter(|(of, ..)| of == table.name) {
        listed.chains.entry(chain).or_default().1.push(tag);
    }
    let sets = ask(socket, GET_SET, table, |found, attributes| {
        let number = |kind| find(attributes, kind).and_then(word).unwrap_or(0);
        found.push((name(attributes, 1), name(attributes, 2), (number(3), number(5), number(7))));
    })?;
    listed.sets =
        sets.into_iter().filter(|(of, ..)| of == table.name).map(|(_, set, form)| (set, form)).collect();
    Ok(listed)
}

fn name(attributes: &[u8], kind: u16) -> String {
    find(attributes, kind).map(text).unwrap_or_default()
}

fn word(data: &[u8]) -> Option<u32> {
    data.try_into().ok().map(u32::from_be_bytes)
}

fn ask<T>(
    socket: &mut Socket,
    kind: u16,
    table: Table<'_>,
    each: impl Fn(&mut Vec<T>, &[u8]),
) -> io::Result<Vec<T>> {
    let found = socket.dump(
        NFTABLES << 8 | kind,
        table.family,
        |body| {
            body.text(1, table.name);
        },
        |found, message| each(found, message.attributes),
    );
    match found {
        Err(error) if error.raw_os_error() == Some(Errno::ENOENT as i32) => Ok(Vec::new()),
        other => other,
    }
}

/// All elements of a set.
///
/// # Errors
/// The kernel's; `ENOENT` if there is no such set.
pub(crate) fn list_elements(socket: &mut Socket, table: Table<'_>, set: &str) -> io::Result<Vec<Found>> {
    socket.dump(
        NFTABLES << 8 | GET_ELEMENTS,
        table.family,
        |body| {
            body.text(1, table.name).text(2, set);
        },
        |found, message| {
            let list = find(message.attributes, 3).unwrap_or_default();
            for (_, element) in read(list) {
                let key = find(element, 1).and_then(|key| find(key, 1)).unwrap_or_default();
                found.push((key.to_vec(), find(element, 2).map(data).unwrap_or_default()));
            }
        },
    )
}

/// All elements of a set of ranges.
///
/// # Errors
/// The kernel's; `ENOENT` if there is no such set.
pub(crate) fn list_spans(socket: &mut Socket, table: Table<'_>, set: &str) -> io::Result<Vec<Span>> {
    socket.dump(
        NFTABLES << 8 | GET_ELEMENTS,
        table.family,
        |body| {
            body.text(1, table.name).text(2, set);
        },
        |found, message| {
            let list = find(message.attributes, 3).unwrap_or_default();
            for (_, element) in read(list) {
                let key = |kind| find(element, kind).and_then(|key| find(key, 1)).unwrap_or_default();
                let first = key(1).to_vec();
                // What is not there is the same as the first.
                let last = find(element, 10).map_or_else(|| first.clone(), |_| key(10).to_vec());
                found.push((first, last, find(element, 2).map(data).unwrap_or_default()));
            }
        },
    )
}

/// By the names of chains, how many packets their rules have counted.
///
/// # Errors
/// The kernel's.
pub(crate) fn list_counters(socket: &mut Socket, table: Table<'_>) -> io::Result<BTreeMap<String, u64>> {
    let counted = |rule: &[u8]| {
        let expressions = find(rule, 4).unwrap_or_default();
        let counters =
            read(expressions).filter(|(_, one)| find(one, 1).map(text).as_deref() == Some("counter"));
        counters.filter_map(|(_, one)| find(find(one, 2)?, 2)?.try_into().ok().map(u64::from_be_bytes)).sum()
    };
    let rules = ask(socket, GET_RULE, table, |found, attributes| {
        found.push((name(attributes, 1), name(attributes, 2), counted(attributes)));
    })?;
    let mut counters = BTreeMap::new();
    for (_, chain, count) in rules.into_iter().filter(|(of, ..): &(String, String, u64)| of == table.name) {
        *counters.entry(chain).or_default() += count;
    }
    Ok(counters)
}

fn data(data: &[u8]) -> Vec<u8> {
    let verdict = || find(data, 2).and_then(|verdict| find(verdict, 2)).map(|chain| text(chain).into_bytes());
    find(data, 1).map(<[u8]>::to_vec).or_else(verdict).unwrap_or_default()
}
