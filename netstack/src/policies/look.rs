//! What the kernel has of the table, whether it is as it should be, and what its rules make of it.

use super::meaning::Attempt;
use super::model::Direction;
use super::rules::{self, Chain};
use super::slot::{Contents, EVERYBODY, Slot};
use super::wire::{self, Home};
use crate::services::tag;
use crate::sys::nfnetlink::Socket;
use crate::sys::nft::{self, Data, INET};
use std::io;
use std::net::IpAddr;

/// The kernel's table, as far as we know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    /// It has to be looked at.
    Nothing,
    /// There is none.
    Absent,
    /// It is there, with all that was wanted last.
    Sound,
}

/// What is there.
pub(super) fn look(socket: &mut Socket, table: nft::Table<'_>) -> io::Result<(Contents, Known)> {
    let mut contents = Contents::new();
    if !nft::has_table(socket, table)? {
        return Ok((contents, Known::Absent));
    }
    let listed = nft::list_structure(socket, table)?;
    let mut sound = has_sets(&listed) && has_chains(&listed);
    for home in Home::ALL.into_iter().filter(|home| listed.sets.contains_key(home.name())) {
        let found = if home.has_spans() {
            nft::list_spans(socket, table, home.name())?
        } else {
            let found = nft::list_elements(socket, table, home.name())?;
            found.into_iter().map(|(key, data)| (key.clone(), key, data)).collect()
        };
        for (first, last, data) in found {
            match wire::read(home, &first, &last, &data) {
                Some((slot, number)) => drop(contents.insert(slot, number)),
                None => sound = false,
            }
        }
    }
    Ok((contents, if sound { Known::Sound } else { Known::Nothing }))
}

/// The policies that the kernel keeps at the moment.
#[derive(Debug, Default)]
pub struct InForce {
    contents: Contents,
    sound: bool,
}

impl InForce {
    /// Those about the pods of `bridge`. Waits for the kernel; needs `CAP_NET_ADMIN`.
    ///
    /// # Errors
    /// The kernel's.
    pub fn read(bridge: &str) -> io::Result<Self> {
        let name = super::table_name(bridge);
        let (contents, known) = look(&mut Socket::open()?, nft::Table { family: INET, name: &name })?;
        Ok(Self { contents, sound: known != Known::Nothing })
    }

    /// No rule was changed by others.
    #[must_use]
    pub const fn is_sound(&self) -> bool {
        self.sound
    }

    /// Whether the end which `direction` is about lets the connection through, if it is a pod of this node.
    #[must_use]
    pub fn passes(&self, direction: Direction, attempt: Attempt) -> bool {
        passes(&self.contents, direction, attempt)
    }
}

/// What the rules of the kernel make of the elements.
pub(super) fn passes(contents: &Contents, direction: Direction, attempt: Attempt) -> bool {
    let get = |slot| contents.get(&slot).copied();
    if get(Slot::Itself(attempt.from)).is_some() && attempt.from == attempt.to {
        return true;
    }
    let (own, other): (IpAddr, IpAddr) = match direction {
        Direction::Egress => (attempt.from, attempt.to),
        Direction::Ingress => (attempt.to, attempt.from),
    };
    let Some(group) = get(Slot::Pod(direction, own)) else { return true };
    let block = contents.iter().find_map(|(slot, who)| {
        let Slot::Block(of, first, last) = slot else { return None };
        (*of == group && *first <= other && other <= *last).then_some(*who)
    });
    let span = |who| {
        contents.keys().any(|slot| {
            matches!(slot, Slot::Ports(of, to, protocol, first, last)
                if (*of, *to, *protocol) == (group, who, attempt.protocol)
                    && (*first..=*last).contains(&attempt.port))
        })
    };
    [get(Slot::Peer(other)), block, Some(EVERYBODY)].into_iter().flatten().any(|who| {
        get(Slot::Open(group, who)).is_some()
            || get(Slot::Port(group, who, attempt.protocol, attempt.port)).is_some()
            || span(who)
    })
}

fn has_sets(listed: &nft::Listed) -> bool {
    listed.sets.len() == Home::ALL.len()
        && Home::ALL.iter().map(|home| home.set()).all(|set| {
            listed.sets.get(set.name).is_some_and(|(flags, key, data)| {
                let fits = match set.data {
                    Data::Bytes(_, length) => *data == length,
                    Data::None | Data::Verdict => true,
                };
                *flags == set.flags() && *key == set.key.1 && fits
            })
        })
}

fn has_chains(listed: &nft::Listed) -> bool {
    let wanted = rules::chains();
    let is_sound = |chain: &Chain| {
        listed.chains.get(chain.name).is_some_and(|(hooked, tags)| {
            let wanted: Vec<_> = chain.rules.iter().map(|rule| tag(rule)).collect();
            *hooked == chain.hook.is_some() && *tags == wanted
        })
    };
    listed.chains.len() == wanted.len() && wanted.iter().all(is_sound)
}
