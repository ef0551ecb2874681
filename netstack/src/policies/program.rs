//! The effects: one thread owns the socket, and brings the kernel to what the engine says.

use super::engine::Engine;
use super::look::{self, Known};
use super::model::{Direction, News, PolicyPod};
use super::rules;
use super::slot::{Changes, Contents, diff};
use super::wire::{self, Home};
use super::{Applied, Dropped, PoliciesError};
use crate::services::{Family, tag};
use crate::sys::ear::Ear;
use crate::sys::nfnetlink::{Batch, Socket};
use crate::sys::nft::{self, INET, Table, Value};
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;
use tokio::sync::{oneshot, watch};

/// After how long what failed is tried again.
const RETRY: Duration = Duration::from_secs(5);
/// Elements that are told to listeners.
const MANY: usize = 256;

/// What is asked of the thread.
#[derive(Debug)]
pub(super) enum Request {
    Replace {
        all: Vec<News>,
        reply: oneshot::Sender<Result<Applied, PoliciesError>>,
    },
    Change {
        all: Vec<News>,
        reply: oneshot::Sender<Result<Applied, PoliciesError>>,
    },
    Admit {
        uid: String,
        pod: PolicyPod,
        reply: oneshot::Sender<Result<bool, PoliciesError>>,
    },
    Dropped {
        reply: oneshot::Sender<Result<Dropped, PoliciesError>>,
    },
    Remove {
        reply: oneshot::Sender<Result<(), PoliciesError>>,
    },
    /// Others may have changed something.
    Verify,
}

#[derive(Debug)]
pub(super) struct Program {
    socket: Socket,
    table: String,
    engine: Engine,
    known: Known,
    /// Until it is said what is wanted, nothing is touched.
    told: bool,
    repairs: watch::Sender<u64>,
    ear: Arc<Ear>,
    /// Others may have changed something while the ear was closed.
    unheard: bool,
}

impl Program {
    pub(super) fn open(bridge: &str, ear: Arc<Ear>, repairs: watch::Sender<u64>) -> io::Result<Self> {
        let (socket, table) = (Socket::open()?, super::table_name(bridge));
        let (engine, known) = (Engine::default(), Known::Nothing);
        Ok(Self { socket, table, engine, known, told: false, repairs, ear, unheard: false })
    }

    /// The name of its table.
    pub(super) fn table_name(&self) -> String {
        self.table.clone()
    }

    /// The number of its socket.
    pub(super) fn port(&self) -> u32 {
        self.socket.port()
    }

    /// Does what is asked until nobody can ask any more.
    pub(super) fn run(mut self, queue: &Receiver<Request>) {
        loop {
            let failed = self.told && self.known == Known::Nothing;
            let request = if failed {
                queue.recv_timeout(RETRY)
            } else {
                queue.recv().map_err(|_| RecvTimeoutError::Disconnected)
            };
            // Nobody need wait for an answer.
            match request {
                Ok(Request::Replace { all, reply }) => {
                    self.told = true;
                    let changes = self.engine.replace(all);
                    drop(reply.send(self.put_into_force(&changes)));
                }
                Ok(Request::Change { all, reply }) => {
                    let changes = self.engine.change(all);
                    drop(reply.send(self.put_into_force(&changes)));
                }
                Ok(Request::Admit { uid, pod, reply }) => drop(reply.send(self.admit(uid, pod))),
                Ok(Request::Dropped { reply }) => drop(reply.send(self.dropped())),
                Ok(Request::Remove { reply }) => {
                    drop(reply.send(self.remove().map_err(PoliciesError::Tables)));
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

    /// Returns whether policies select the pod; it is an error only if they do.
    fn admit(&mut self, uid: String, pod: PolicyPod) -> Result<bool, PoliciesError> {
        let changes = self.engine.change(vec![News::Pod(uid.clone(), Some(pod))]);
        let done = self.put_into_force(&changes);
        let isolated = self.engine.isolates(&uid);
        if isolated { done.map(|_| true) } else { Ok(false) }
    }

    /// If the kernel refuses the changes, somebody else was there: then it is brought to what is
    /// wanted from whatever it has.
    fn put_into_force(&mut self, changes: &Changes) -> Result<Applied, PoliciesError> {
        let mut rebuilt = false;
        let mut done = changes.clone();
        let fits = self.known != Known::Nothing && self.commit(changes).is_ok();
        if !fits {
            (done, rebuilt) = self.mend().map_err(PoliciesError::Tables)?;
        }
        let (removed, added) = (done.removed.len(), done.added.len());
        let (policies, elements) = (self.engine.in_force(), self.engine.contents().len());
        Ok(Applied { removed, added, rebuilt, policies, elements })
    }

    /// What others changed is put back. Who asks gets no answer; it is tried again if it failed.
    fn verify(&mut self) {
        if !self.told {
            return;
        }
        let Ok((changes, rebuilt)) = self.mend() else { return };
        if rebuilt || !changes.is_empty() {
            self.repairs.send_modify(|count| *count += 1);
        }
    }

    /// The kernel has what is wanted, whatever it had. Returns what changed, and whether the table
    /// was made anew.
    fn mend(&mut self) -> io::Result<(Changes, bool)> {
        self.known = Known::Nothing;
        let table = Table { family: INET, name: &self.table };
        let (found, known) = look::look(&mut self.socket, table)?;
        let changes = diff(&found, self.engine.contents());
        self.known = known;
        let rebuilds = known == Known::Nothing;
        if rebuilds {
            self.make(true)?;
        } else if let Err(error) = self.commit(&changes) {
            self.known = Known::Nothing;
            return Err(error);
        }
        Ok((changes, rebuilds))
    }

    /// One transaction, for what changes.
    fn commit(&mut self, changes: &Changes) -> io::Result<()> {
        if changes.is_empty() && (self.known == Known::Sound) != self.engine.contents().is_empty() {
            return Ok(());
        }
        if self.engine.contents().is_empty() {
            return self.remove();
        }
        if self.known == Known::Absent {
            return self.make(false);
        }
        let mut batch = Batch::default();
        self.put(&mut batch, &changes.removed, false);
        self.put(&mut batch, &changes.added, true);
        self.send(batch, changes.removed.len() + changes.added.len())
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
        type Keyed = Vec<(Vec<u8>, Vec<u8>, Vec<u8>)>;
        let mut sorted: BTreeMap<Home, Keyed> = BTreeMap::new();
        for (slot, number) in elements {
            let (first, last) = wire::keys(*slot);
            let data = if adds { wire::data(*slot, *number) } else { Vec::new() };
            sorted.entry(Home::of(*slot)).or_default().push((first, last, data));
        }
        let table = self.table();
        for (home, elements) in sorted {
            let spans = elements.iter().map(|(first, last, data)| (first.as_slice(), last.as_slice(), data));
            match (home.has_spans(), adds) {
                (true, true) => {
                    let spans = spans.map(|(first, last, data)| (first, last, value(data)));
                    table.add_spans(batch, home.name(), spans);
                }
                (true, false) => {
                    table.delete_spans(batch, home.name(), spans.map(|(first, last, _)| (first, last)));
                }
                (false, true) => {
                    table.add_elements(batch, home.name(), spans.map(|(key, _, data)| (key, value(data))));
                }
                (false, false) => table.delete_elements(batch, home.name(), spans.map(|(key, ..)| key)),
            }
        }
    }

    /// One transaction, after which the table is as if nothing had been there; without any elements
    /// there is none.
    fn make(&mut self, anew: bool) -> io::Result<()> {
        let mut batch = Batch::default();
        let table = self.table();
        table.add(&mut batch);
        if anew {
            // It has to be there to be deleted.
            table.delete(&mut batch);
        }
        let contents = self.engine.contents();
        let count = contents.len();
        if count > 0 {
            table.add(&mut batch);
            for (number, home) in (1_u32..).zip(Home::ALL) {
                table.add_set(&mut batch, &home.set(), number);
            }
            for chain in rules::chains() {
                table.add_chain(&mut batch, chain.name, chain.hook);
                for rule in &chain.rules {
                    table.add_rule(&mut batch, chain.name, rule, &tag(rule));
                }
            }
            self.put(&mut batch, contents, true);
        }
        self.send(batch, count)?;
        self.known = if count > 0 { Known::Sound } else { Known::Absent };
        Ok(())
    }

    fn remove(&mut self) -> io::Result<()> {
        let mut batch = Batch::default();
        self.table().add(&mut batch);
        self.table().delete(&mut batch);
        self.socket.commit(batch)?;
        self.known = Known::Absent;
        Ok(())
    }

    fn dropped(&mut self) -> Result<Dropped, PoliciesError> {
        let table = Table { family: INET, name: &self.table };
        let counters = nft::list_counters(&mut self.socket, table).map_err(PoliciesError::Tables)?;
        let of = |direction| {
            let chains = Family::ALL.map(|family| rules::judge_name(direction, family));
            chains.iter().filter_map(|chain| counters.get(*chain)).sum()
        };
        Ok(Dropped { ingress: of(Direction::Ingress), egress: of(Direction::Egress) })
    }

    fn table(&self) -> Table<'_> {
        Table { family: INET, name: &self.table }
    }
}

fn value(data: &[u8]) -> Value<'_> {
    if data.is_empty() { Value::Nothing } else { Value::Bytes(data) }
}
