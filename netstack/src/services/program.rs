//! The effects: one thread owns the socket, and brings the kernel to what the ledger says.

use super::diff::{Changes, diff};
use super::flows::forget;
use super::ledger::Ledger;
use super::look::look_at;
use super::model::{Family, NodeView, ServiceName, ServicePort};
use super::rules::{self, Chain, DEAD_ENDS, Place};
use super::table::{Content, Contents, Frontend};
use super::way::{Pick, Way};
use super::wire;
use super::{Applied, ServicesError, ServicesOptions, Taken};
use crate::sys::ear::Ear;
use crate::sys::nfnetlink::{Batch, Socket};
use crate::sys::nft::{Table, Value, Verdict};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;
use tokio::sync::{oneshot, watch};

/// After how long what failed is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// Elements that are told to listeners.
const MANY: usize = 256;

pub(super) type Reply = oneshot::Sender<Result<Applied, ServicesError>>;

/// What is asked of the thread.
#[derive(Debug)]
pub(super) enum Request {
    Replace {
        node: NodeView,
        all: BTreeMap<ServiceName, Vec<ServicePort>>,
        reply: Reply,
    },
    Change {
        changes: Vec<(ServiceName, Vec<ServicePort>)>,
        reply: Reply,
    },
    Remove {
        reply: Reply,
    },
    /// Others may have changed something.
    Verify,
}

/// What the kernel has, as far as we know.
#[derive(Debug)]
struct Known {
    /// Picks whose chains are there.
    picks: BTreeMap<Family, BTreeSet<Pick>>,
}

/// What is found in the kernel.
#[derive(Debug)]
struct Found {
    contents: Contents,
    /// `None` if rules are not as they should be.
    known: Option<Known>,
}

#[derive(Debug)]
pub(super) struct Program {
    socket: Socket,
    options: ServicesOptions,
    table: String,
    families: Vec<Family>,
    sees_bridged: bool,
    ledger: Option<Ledger>,
    /// `None` if the kernel has to be looked at first.
    known: Option<Known>,
    repairs: watch::Sender<u64>,
    ear: Arc<Ear>,
    /// Others may have changed something while the ear was closed.
    unheard: bool,
}

impl Program {
    pub(super) fn open(
        options: ServicesOptions,
        sees_bridged: bool,
        (ear, repairs): (Arc<Ear>, watch::Sender<u64>),
    ) -> io::Result<Self> {
        let has_v6 = std::path::Path::new("/proc/thread-self/net/if_inet6").exists();
        let families = Family::ALL.into_iter().filter(|family| *family == Family::V4 || has_v6).collect();
        let table = super::table_name(&options.bridge);
        let socket = Socket::open()?;
        let (ledger, known, unheard) = (None, None, false);
        Ok(Self { socket, options, table, families, sees_bridged, ledger, known, repairs, ear, unheard })
    }

    /// The name of its tables.
    pub(super) fn table(&self) -> String {
        self.table.clone()
    }

    /// The number of its socket.
    pub(super) fn port(&self) -> u32 {
        self.socket.port()
    }

    /// Does what is asked until nobody can ask any more.
    pub(super) fn run(mut self, queue: &Receiver<Request>) {
        loop {
            let failed = self.ledger.is_some() && self.known.is_none();
            let request = if failed {
                queue.recv_timeout(RETRY)
            } else {
                queue.recv().map_err(|_| RecvTimeoutError::Disconnected)
            };
            match request {
                Ok(Request::Replace { node, all, reply }) => drop(reply.send(self.replace(node, &all))),
                Ok(Request::Change { changes, reply }) => drop(reply.send(self.change(&changes))),
                Ok(Request::Remove { reply }) => {
                    let removed = self.remove().map(|()| Applied::default());
                    drop(reply.send(removed.map_err(ServicesError::Tables)));
                    return;
                }
                Ok(Request::Verify) | Err(RecvTimeoutError::Timeout) => self.verify(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if std::mem::take(&mut self.unheard) {
                self.verify();
            }
        }
    }

    fn replace(
        &mut self,
        node: NodeView,
        all: &BTreeMap<ServiceName, Vec<ServicePort>>,
    ) -> Result<Applied, ServicesError> {
        if self.ledger.is_none() {
            let found = self.look().map_err(ServicesError::Tables)?;
            self.ledger = Some(Ledger::new(found.contents));
            self.known = found.known;
        }
        let Some(ledger) = &mut self.ledger else { return Err(ServicesError::Ended) };
        ledger.replace(node, all);
        let changes = ledger.take_changes();
        let frontends: BTreeSet<_> = all.keys().flat_map(|name| ledger.frontends_of(name)).collect();
        let without = taken(ledger, frontends);
        self.put_into_force(changes).map(|applied| Applied { without, ..applied })
    }

    fn change(&mut self, changes: &[(ServiceName, Vec<ServicePort>)]) -> Result<Applied, ServicesError> {
        let ledger = self.ledger.get_or_insert_default();
        for (name, ports) in changes {
            ledger.set(name, ports);
        }
        let frontends: BTreeSet<_> = changes.iter().flat_map(|(name, _)| ledger.frontends_of(name)).collect();
        let without = taken(ledger, frontends);
        let changes = ledger.take_changes();
        self.put_into_force(changes).map(|applied| Applied { without, ..applied })
    }

    /// If the kernel refuses the changes, somebody else was there: then it is brought to what is
    /// wanted from whatever it has.
    fn put_into_force(&mut self, changes: Changes) -> Result<Applied, ServicesError> {
        let applied = match self.known.take() {
            Some(mut known) => match self.commit(&mut known, &changes) {
                Ok(()) => {
                    self.known = Some(known);
                    (changes, false)
                }
                Err(_) => self.mend(Some(changes)).map_err(ServicesError::Tables)?,
            },
            None => self.mend(Some(changes)).map_err(ServicesError::Tables)?,
        };
        let (changes, rebuilt) = applied;
        let forgotten = self.forget(&changes).map_err(ServicesError::Forget)?;
        let (removed, added) = (changes.removed.len(), changes.added.len());
        Ok(Applied { removed, added, rebuilt, forgotten, without: Vec::new() })
    }

    /// What others changed is put back. Who asks gets no answer; it is tried again if it failed.
    fn verify(&mut self) {
        if self.ledger.is_none() {
            return;
        }
        self.known = None;
        let Ok((changes, rebuilt)) = self.mend(None) else { return };
        if rebuilt || !changes.is_empty() {
            self.repairs.send_modify(|count| *count += 1);
            // There was no flow to them while nothing led there.
            let _ = self.forget(&changes);
        }
    }

    /// The kernel has what is wanted, whatever it had. Returns what changed, with `intended`, and
    /// whether the tables were made anew.
    fn mend(&mut self, intended: Option<Changes>) -> io::Result<(Changes, bool)> {
        let found = self.look()?;
        let ledger = self.ledger.get_or_insert_default();
        let mut changes = diff(&found.contents, ledger.contents());
        let rebuilt = found.known.is_none();
        let known = match found.known {
            Some(mut known) => {
                self.commit(&mut known, &changes)?;
                known
            }
            None => self.rebuild()?,
        };
        self.known = Some(known);
        // Flows to what went while the kernel could not be told are to be forgotten, too.
        changes.removed.extend(intended.into_iter().flat_map(|intended| intended.removed));
        Ok((changes, rebuilt))
    }

    /// One transaction, for what changes of elements alone.
    fn commit(&mut self, known: &mut Known, changes: &Changes) -> io::Result<()> {
        let mut batch = Batch::default();
        let mut new = Vec::new();
        for (family, pick) in picks(changes.added.iter().map(|(slot, content)| (slot.family(), content))) {
            if !known.picks.get(&family).is_some_and(|picks| picks.contains(&pick)) {
                add_pick(&mut batch, family, &self.table, pick);
                new.push((family, pick));
            }
        }
        self.put(&mut batch, &changes.removed, false);
        self.put(&mut batch, &changes.added, true);
        self.send(batch, changes.removed.len() + changes.added.len())?;
        for (family, pick) in new {
            known.picks.entry(family).or_default().insert(pick);
        }
        Ok(())
    }

    /// Many changes are made while nobody listens.
    fn send(&mut self, batch: Batch, elements: usize) -> io::Result<()> {
        if elements <= MANY {
            return self.socket.commit(batch);
        }
        self.unheard = true;
        let Self { ear, socket, .. } = self;
        ear.while_closed(|| socket.commit(batch))?
    }

    fn put(&self, batch: &mut Batch, elements: &Contents, adds: bool) {
        type Keyed = Vec<(Vec<u8>, Vec<u8>)>;
        let mut sorted: BTreeMap<(Family, &'static str), Keyed> = BTreeMap::new();
        let mut spans: BTreeMap<Family, Keyed> = BTreeMap::new();
        for (slot, content) in elements {
            let family = slot.family();
            if !self.families.contains(&family) {
                continue;
            }
            let (set, key) = wire::key(slot);
            if let Some(last) = wire::last_key(slot) {
                spans.entry(family).or_default().push((key, last));
                continue;
            }
            let data = if adds { wire::data(content) } else { Vec::new() };
            sorted.entry((family, set)).or_default().push((key, data));
        }
        for ((family, set), elements) in sorted {
            let table = Table { family: family.number(), name: &self.table };
            if adds {
                let elements = elements.iter().map(|(key, data)| (key.as_slice(), value(data)));
                table.add_elements(batch, set, elements);
            } else {
                table.delete_elements(batch, set, elements.iter().map(|(key, _)| key.as_slice()));
            }
        }
        for (family, spans) in spans {
            let table = Table { family: family.number(), name: &self.table };
            let spans = spans.iter().map(|(first, last)| (first.as_slice(), last.as_slice()));
            if adds {
                let spans = spans.map(|(first, last)| (first, last, Value::Nothing));
                table.add_spans(batch, wire::SOURCES, spans);
            } else {
                table.delete_spans(batch, wire::SOURCES, spans);
            }
        }
    }

    /// One transaction, after which the tables are as if nothing had been there.
    fn rebuild(&mut self) -> io::Result<Known> {
        let mut batch = Batch::default();
        let mut known = Known { picks: BTreeMap::new() };
        let ledger = self.ledger.take().unwrap_or_default();
        let wanted = picks(ledger.contents().iter().map(|(slot, content)| (slot.family(), content)));
        for family in self.families.clone() {
            let table = Table { family: family.number(), name: &self.table };
            // It has to be there to be deleted.
            table.add(&mut batch);
            table.delete(&mut batch);
            table.add(&mut batch);
            for (number, set) in (1_u32..).zip(wire::sets(family)) {
                table.add_set(&mut batch, &set, number);
            }
            for chain in rules::chains(self.place(family)) {
                add_chain(&mut batch, table, &chain);
            }
            for way in DEAD_ENDS {
                add_way(&mut batch, table, way);
            }
            known.picks.insert(family, BTreeSet::new());
        }
        for (family, pick) in wanted.into_iter().filter(|(family, _)| self.families.contains(family)) {
            add_pick(&mut batch, family, &self.table, pick);
            known.picks.entry(family).or_default().insert(pick);
        }
        self.put(&mut batch, ledger.contents(), true);
        let count = ledger.contents().len();
        self.ledger = Some(ledger);
        self.send(batch, count)?;
        Ok(known)
    }

    /// Flows to endpoints that are gone end.
    fn forget(&mut self, changes: &Changes) -> io::Result<usize> {
        let Some(ledger) = &self.ledger else { return Ok(0) };
        forget(&mut self.socket, &self.families, &changes.forsaken(ledger.contents()))
    }

    fn remove(&mut self) -> io::Result<()> {
        let mut batch = Batch::default();
        for family in &self.families {
            let table = Table { family: family.number(), name: &self.table };
            table.add(&mut batch);
            table.delete(&mut batch);
        }
        self.ledger = None;
        self.socket.commit(batch)
    }

    fn place(&self, family: Family) -> Place<'_> {
        Place {
            family,
            bridge: &self.options.bridge,
            networks: &self.options.networks,
            sees_bridged: self.sees_bridged,
        }
    }

    /// What is there.
    fn look(&mut self) -> io::Result<Found> {
        let mut found = Found { contents: Contents::new(), known: Some(Known { picks: BTreeMap::new() }) };
        for family in self.families.clone() {
            let place = rules::chains(self.place(family));
            let table = Table { family: family.number(), name: &self.table };
            let picks = look_at(&mut self.socket, (family, table), &place, &mut found.contents)?;
            found.known = match (found.known, picks) {
                (Some(mut known), Some(picks)) => {
                    known.picks.insert(family, picks);
                    Some(known)
                }
                _ => None,
            };
        }
        Ok(found)
    }
}

fn value(data: &[u8]) -> Value<'_> {
    if data.is_empty() { Value::Nothing } else { Value::Bytes(data) }
}

fn taken(ledger: &Ledger, frontends: BTreeSet<Frontend>) -> Vec<Taken> {
    let losers = ledger.losers(frontends.into_iter());
    let taken = losers.into_iter().map(|(frontend, service)| Taken {
        service,
        address: frontend.address,
        transport: frontend.transport,
        port: frontend.port,
    });
    taken.collect()
}

/// All picks that lead on from elements.
fn picks<'a>(elements: impl Iterator<Item = (Family, &'a Content)>) -> BTreeSet<(Family, Pick)> {
    let mut picks = BTreeSet::new();
    for (family, content) in elements {
        if let Content::Ways(ways) = content {
            picks.extend(ways.iter().filter_map(|way| match way {
                Way::Pick(pick) => Some((family, *pick)),
                Way::Refuse | Way::Drop => None,
            }));
        }
    }
    picks
}

fn add_chain(batch: &mut Batch, table: Table<'_>, chain: &Chain) {
    table.add_chain(batch, &chain.name, chain.hook);
    for rule in &chain.rules {
        table.add_rule(batch, &chain.name, rule, &rules::tag(rule));
    }
}

fn add_way(batch: &mut Batch, table: Table<'_>, way: Way) {
    let number = way.number().to_ne_bytes();
    let element = (number.as_slice(), Value::Verdict(Verdict::Goto(way.chain())));
    table.add_elements(batch, wire::WAYS, std::iter::once(element));
}

fn add_pick(batch: &mut Batch, family: Family, table: &str, pick: Pick) {
    let table = Table { family: family.number(), name: table };
    add_chain(batch, table, &rules::pick(family, pick));
    add_way(batch, table, Way::Pick(pick));
}
