//! Rules of policies → which ports of whom are open. Pure.

use super::model::{Direction, IpBlock, Peer, Policy, PolicyName, Ports};
use super::scope::{Named, Party, Scope};
use super::slot::{Group, Ledger, Slot, Who};
use crate::network::Protocol;
use std::collections::{BTreeMap, BTreeSet};

/// A rule, with all that does not depend on the peer found out.
#[derive(Debug, Clone)]
struct Ready {
    everybody: bool,
    parties: BTreeSet<usize>,
    blocks: Vec<IpBlock>,
    /// `None`: all, and protocols without ports.
    ports: Option<Vec<Ports>>,
}

/// What the pods of a group may be asked, or may ask.
#[derive(Debug, Clone, Default)]
pub(super) struct Rights {
    rules: Vec<Ready>,
}

/// Who is at the other end.
#[derive(Debug, Clone, Copy)]
pub(super) enum Other<'a> {
    Anybody,
    /// A pod, by the parties that it is and the names of its ports.
    Pod(&'a BTreeSet<usize>, &'a Named),
    /// An address in these of [`Rights::blocks`].
    Blocks(&'a BTreeSet<usize>),
}

impl Rights {
    /// Of `policies` together. `named` are the ports of the pods that they select.
    pub(super) fn of<'a>(
        policies: impl Iterator<Item = (&'a PolicyName, &'a Policy)>,
        direction: Direction,
        named: &Named,
        scope: &Scope,
    ) -> Self {
        let mut rules = Vec::new();
        for (name, policy) in policies {
            for rule in policy.rules(direction).unwrap_or_default() {
                let peers = rule.peers.iter().filter_map(|peer| Party::of(peer, &name.namespace));
                let mut parties: BTreeSet<_> = peers.filter_map(|party| scope.number(&party)).collect();
                let everybody = rule.peers.is_empty();
                if everybody && direction == Direction::Egress {
                    // Names of ports mean something for pods only.
                    parties.extend(scope.number(&Party::anybody()));
                }
                let block = |peer: &Peer| match peer {
                    Peer::Block(block) => Some(block.clone()),
                    Peer::Pods { .. } => None,
                };
                let resolve = |port: &Ports| match port {
                    Ports::Named(protocol, name) if direction == Direction::Ingress => {
                        let numbers = named.get(&(*protocol, name.clone())).into_iter().flatten();
                        numbers.map(|number| Ports::Range(*protocol, *number, *number)).collect()
                    }
                    Ports::Named(..) | Ports::All(_) | Ports::Range(..) => vec![port.clone()],
                };
                let ports = (!rule.ports.is_empty()).then(|| rule.ports.iter().flat_map(resolve).collect());
                let blocks = rule.peers.iter().filter_map(block).collect();
                rules.push(Ready { everybody, parties, blocks, ports });
            }
        }
        Self { rules }
    }

    /// The parties that rules name.
    pub(super) fn parties(&self) -> BTreeSet<usize> {
        self.rules.iter().flat_map(|rule| rule.parties.iter().copied()).collect()
    }

    /// The blocks that rules name, one after the other.
    pub(super) fn blocks(&self) -> Vec<IpBlock> {
        self.rules.iter().flat_map(|rule| rule.blocks.iter().cloned()).collect()
    }

    /// What is open for `other`, which is called `who`.
    pub(super) fn put(&self, ledger: &mut Ledger, (group, who): (Group, Who), other: Other<'_>) {
        let mut spans: BTreeMap<Protocol, Vec<(u16, u16)>> = BTreeMap::new();
        let nothing = Named::new();
        let mut first_block = 0;
        for rule in &self.rules {
            let own_blocks = first_block..first_block + rule.blocks.len();
            first_block = own_blocks.end;
            let (concerned, named) = match other {
                Other::Anybody => (rule.everybody, &nothing),
                Other::Pod(parties, named) => (!rule.parties.is_disjoint(parties), named),
                Other::Blocks(blocks) => (blocks.range(own_blocks).next().is_some(), &nothing),
            };
            if !concerned {
                continue;
            }
            let Some(ports) = &rule.ports else {
                ledger.put(Slot::Open(group, who), 0);
                return;
            };
            for port in ports {
                match port {
                    Ports::All(protocol) => spans.entry(*protocol).or_default().push((0, u16::MAX)),
                    Ports::Range(protocol, first, last) => {
                        spans.entry(*protocol).or_default().push((*first, *last));
                    }
                    Ports::Named(protocol, name) => {
                        let numbers = named.get(&(*protocol, name.clone())).into_iter().flatten();
                        spans.entry(*protocol).or_default().extend(numbers.map(|number| (*number, *number)));
                    }
                }
            }
        }
        for (protocol, spans) in spans {
            for (first, last) in merged(spans) {
                let slot = if first == last {
                    Slot::Port(group, who, protocol, first)
                } else {
                    Slot::Ports(group, who, protocol, first, last)
                };
                ledger.put(slot, 0);
            }
        }
    }
}

/// The same ports, in as few spans as that takes: the kernel wants none that overlap.
fn merged(mut spans: Vec<(u16, u16)>) -> Vec<(u16, u16)> {
    spans.retain(|(first, last)| first <= last);
    spans.sort_unstable();
    let mut merged: Vec<(u16, u16)> = Vec::new();
    for (first, last) in spans {
        match merged.last_mut() {
            Some((_, end)) if end.checked_add(1).is_none_or(|next| first <= next) => *end = last.max(*end),
            _ => merged.push((first, last)),
        }
    }
    merged
}

/// Nothing is open any more for anybody in the group.
pub(super) fn close_group(ledger: &mut Ledger, group: Group) {
    let (least, most) = (Protocol::Tcp, Protocol::Sctp);
    ledger.remove_range(Slot::Open(group, 0), Slot::Open(group, Who::MAX));
    ledger.remove_range(Slot::Port(group, 0, least, 0), Slot::Port(group, Who::MAX, most, u16::MAX));
    ledger.remove_range(
        Slot::Ports(group, 0, least, 0, 0),
        Slot::Ports(group, Who::MAX, most, u16::MAX, u16::MAX),
    );
    let blocks = ledger.contents().range(
        Slot::Block(group, std::net::Ipv4Addr::UNSPECIFIED.into(), std::net::Ipv4Addr::UNSPECIFIED.into())..,
    );
    let blocks = blocks.map(|(slot, _)| *slot);
    let own: Vec<Slot> =
        blocks.take_while(|slot| matches!(slot, Slot::Block(of, ..) if *of == group)).collect();
    own.into_iter().for_each(|slot| ledger.remove(slot));
}

/// Nothing is open any more for `who` in the group.
pub(super) fn close(ledger: &mut Ledger, group: Group, who: Who) {
    let (least, most) = (Protocol::Tcp, Protocol::Sctp);
    ledger.remove(Slot::Open(group, who));
    ledger.remove_range(Slot::Port(group, who, least, 0), Slot::Port(group, who, most, u16::MAX));
    ledger.remove_range(
        Slot::Ports(group, who, least, 0, 0),
        Slot::Ports(group, who, most, u16::MAX, u16::MAX),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_that_meet_become_one() {
        assert_eq!(merged(vec![(80, 80), (81, 90), (85, 95), (97, 97)]), [(80, 95), (97, 97)]);
        assert_eq!(merged(vec![(0, u16::MAX), (5, 5)]), [(0, u16::MAX)]);
        assert_eq!(merged(vec![(9, 8)]), [], "nothing is in it");
    }
}
