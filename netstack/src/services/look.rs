//! What the kernel has of a family's table, and whether it is as it should be.

use super::model::Family;
use super::rules::{self, Chain, DEAD_ENDS};
use super::table::Contents;
use super::way::{Pick, Way};
use super::wire;
use crate::sys::nfnetlink::Socket;
use crate::sys::nft::{self, Data, Table};
use std::collections::{BTreeMap, BTreeSet};
use std::io;

/// The elements of the table go to `contents`. Returns the picks whose chains are there, or nothing
/// if rules or sets are not as `chains` says.
///
/// # Errors
/// The kernel's.
pub(super) fn look_at(
    socket: &mut Socket,
    (family, table): (Family, Table<'_>),
    chains: &[Chain],
    contents: &mut Contents,
) -> io::Result<Option<BTreeSet<Pick>>> {
    if !nft::has_table(socket, table)? {
        return Ok(None);
    }
    let listed = nft::list_structure(socket, table)?;
    let all_known = fill(socket, (family, table), &listed.sets, contents)?;
    if !all_known || !has_sets(&listed, family) {
        return Ok(None);
    }
    let ways = nft::list_elements(socket, table, wire::WAYS)?;
    Ok(known_picks(&listed, &ways, chains, family))
}

/// The elements of those sets of the table that come from services go to `contents`. Returns whether all were
/// understood.
///
/// # Errors
/// The kernel's.
pub(super) fn fill<T>(
    socket: &mut Socket,
    (family, table): (Family, Table<'_>),
    sets: &BTreeMap<String, T>,
    contents: &mut Contents,
) -> io::Result<bool> {
    let mut sound = true;
    for set in wire::FILLED.into_iter().filter(|set| sets.contains_key(*set)) {
        if set == wire::SOURCES {
            for (first, last, _) in nft::list_spans(socket, table, set)? {
                match wire::read_span(family, &first, &last) {
                    Some((slot, content)) => drop(contents.insert(slot, content)),
                    None => sound = false,
                }
            }
            continue;
        }
        for (key, data) in nft::list_elements(socket, table, set)? {
            match wire::read(family, set, &key, &data) {
                Some((slot, content)) => drop(contents.insert(slot, content)),
                None => sound = false,
            }
        }
    }
    Ok(sound)
}

fn has_sets(listed: &nft::Listed, family: Family) -> bool {
    let wanted = wire::sets(family);
    listed.sets.len() == wanted.len()
        && wanted.iter().all(|set| {
            listed.sets.get(set.name).is_some_and(|(flags, key, data)| {
                let fits = match set.data {
                    Data::Bytes(_, length) => *data == length,
                    Data::None | Data::Verdict => true,
                };
                *flags == set.flags() && *key == set.key.1 && fits
            })
        })
}

/// The picks whose chains are there, if those and all other chains are as they should be.
fn known_picks(
    listed: &nft::Listed,
    ways: &[(Vec<u8>, Vec<u8>)],
    chains: &[Chain],
    family: Family,
) -> Option<BTreeSet<Pick>> {
    let is_sound = |chain: &Chain| {
        listed.chains.get(&chain.name).is_some_and(|(hooked, tags)| {
            let wanted: Vec<_> = chain.rules.iter().map(|rule| rules::tag(rule)).collect();
            *hooked == chain.hook.is_some() && *tags == wanted
        })
    };
    let mut picks = BTreeSet::new();
    for (number, chain) in ways {
        let way = Way::of(u32::from_ne_bytes(number.as_slice().try_into().ok()?))?;
        if chain.as_slice() != way.chain().as_bytes() {
            return None;
        }
        if let Way::Pick(pick) = way {
            if !is_sound(&rules::pick(family, pick)) {
                return None;
            }
            picks.insert(pick);
        }
    }
    let all_known = listed.chains.len() == chains.len() + picks.len();
    let dead_ends = ways.len() == picks.len() + DEAD_ENDS.len();
    (all_known && dead_ends && chains.iter().all(is_sound)).then_some(picks)
}
