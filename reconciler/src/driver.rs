//! Runs the controllers: turns changes of the store into keys to look at, lets
//! the controllers decide, and writes what they want. Only the leader's does anything.
//!
//! Level-triggered: a change carries nothing but "look again", and everything
//! is looked at once in a while, so that a lost change costs a delay only.

mod queue;
mod table;

pub use table::{Controller, controllers};

use crate::controllers::garbage::DEFAULT_NAMESPACE;
use crate::controllers::node::NodeRules;
use crate::controllers::nodeipam::PodNetworkRules;
use crate::controllers::service::ServiceRules;
use crate::controllers::{Heard, Knowledge, NobodyListens, Note, Outcome};
use crate::events::Recorder;
use crate::heartbeats::{At, Heartbeats};
use crate::random::OsRandom;
use crate::scheduler::Ledger;
use crate::store::{Change, Event, Leadership, State, Store, Watch, Write, WriteError};
use jiff::Timestamp;
use manifests::{Kind, ObjectKey};
use queue::Queue;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Everything is looked at again this often.
const RESYNC: Duration = Duration::from_secs(300);
/// Objects that are looked at while writers wait.
const LOOK: usize = 1024;
/// Keys that one pass decides before it writes.
const PASS: usize = 512;
/// Writes after which it decides no more: far fewer than changes are remembered, lest the driver itself
/// falls behind them.
const PASS_WRITES: usize = 2000;
/// A controller is not woken sooner than this after it asked to be.
const SHORTEST_WAIT: Duration = Duration::from_millis(10);

/// A controller, by its place in the table, and what it shall look at.
type Item = (usize, ObjectKey);

/// The loop around the controllers of one store.
pub struct Driver {
    store: Arc<Store>,
    recorder: Recorder,
    controllers: Vec<Controller>,
    observer: Box<dyn Fn(&'static str, Duration) + Send>,
    clock: Box<dyn Fn() -> Timestamp + Send>,
    random: OsRandom,
    queue: Queue<Item>,
    ledger: Ledger,
    heartbeats: Option<Arc<Heartbeats>>,
    rules: NodeRules,
    services: ServiceRules,
    pods: PodNetworkRules,
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver").field("controllers", &self.controllers).finish_non_exhaustive()
    }
}

/// What one look came to, before it is written.
struct Decision {
    item: Item,
    writes: Vec<Write>,
    notes: Vec<Note>,
}

impl Driver {
    /// A driver of all controllers over `store`, which records its notes with `recorder`.
    #[must_use]
    pub fn new(store: Arc<Store>, recorder: Recorder) -> Self {
        Self {
            store,
            recorder,
            controllers: controllers(),
            observer: Box::new(|_, _| {}),
            clock: Box::new(Timestamp::now),
            random: OsRandom::new(),
            queue: Queue::new(),
            ledger: Ledger::default(),
            heartbeats: None,
            rules: NodeRules::default(),
            services: ServiceRules::default(),
            pods: PodNetworkRules::default(),
        }
    }

    /// Calls `observer` with each decision's controller and the time that it took.
    #[must_use]
    pub fn observed_by(mut self, observer: impl Fn(&'static str, Duration) + Send + 'static) -> Self {
        self.observer = Box::new(observer);
        self
    }

    /// Takes the time of decisions from `clock` instead of the machine's.
    #[must_use]
    pub fn with_clock(mut self, clock: impl Fn() -> Timestamp + Send + 'static) -> Self {
        self.clock = Box::new(clock);
        self
    }

    /// Takes nodes that are silent for too long by `rules` for lost, as `heartbeats` has it. Without,
    /// no node is ever taken for lost.
    #[must_use]
    pub fn listening_to(mut self, heartbeats: Arc<Heartbeats>, rules: NodeRules) -> Self {
        self.heartbeats = Some(heartbeats);
        self.rules = rules;
        self
    }

    /// Gives services their addresses as `services` says. Without, none gets any.
    #[must_use]
    pub fn with_services(mut self, services: ServiceRules) -> Self {
        self.services = services;
        self
    }

    /// Gives nodes blocks of the pods' networks as `pods` says. Without, none gets any.
    #[must_use]
    pub fn with_pod_networks(mut self, pods: PodNetworkRules) -> Self {
        self.pods = pods;
        self
    }

    /// Runs `controllers` instead of all.
    #[must_use]
    pub fn with_controllers(mut self, controllers: Vec<Controller>) -> Self {
        self.controllers = controllers;
        self
    }

    /// Runs until `stop` is cancelled or the store is closed.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut changes = self.store.changes();
        let mut watch = self.resync();
        let mut resync_at = Instant::now() + RESYNC;
        let mut leaderships = self.store.cluster().leaderships();
        while !stop.is_cancelled() {
            if *leaderships.borrow_and_update() != Leadership::Leads {
                if !elected(&mut leaderships, &stop).await {
                    return;
                }
                if let Some(heartbeats) = &self.heartbeats {
                    heartbeats.elected(Instant::now());
                }
                watch = self.resync();
                resync_at = Instant::now() + RESYNC;
            }
            changes.borrow_and_update();
            self.follow(&mut watch);
            if self.pass().await {
                continue;
            }
            let wake_at = self.queue.next_at().map_or(resync_at, |at| at.min(resync_at));
            // Every arm is cancel-safe, and leads to the same full look.
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                changed = changes.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
                () = tokio::time::sleep_until(wake_at) => {}
            }
            if Instant::now() >= resync_at {
                watch = self.resync();
                resync_at = Instant::now() + RESYNC;
            }
        }
    }

    /// Everything is to be looked at, and what changes from here on.
    fn resync(&mut self) -> Watch {
        loop {
            let Self { store, controllers, queue, ledger, .. } = self;
            let revision = store.read(|state| {
                *ledger = Ledger::of(state);
                state.revision()
            });
            // Some at a time: writers wait, and what changes in between is watched from here on.
            let mut last: Option<ObjectKey> = None;
            while let Some(key) = store.read(|state| {
                let mut seen = None;
                for (key, object) in state.after(last.as_ref()).take(LOOK) {
                    let event = Event { change: Change::Added, object, revision };
                    enqueue(controllers, queue, state, &event);
                    seen = Some(key.clone());
                }
                seen
            }) {
                last = Some(key);
            }
            // Nothing speaks of what was never there.
            let default = ObjectKey::new(Kind::Namespace, "", DEFAULT_NAMESPACE);
            for index in 0..controllers.len() {
                queue.add((index, default.clone()));
            }
            if let Ok(watch) = store.watch(None, revision) {
                return watch;
            }
        }
    }

    /// Takes in what has changed.
    fn follow(&mut self, watch: &mut Watch) {
        loop {
            match watch.try_next() {
                Ok(Some(event)) => {
                    let Self { store, controllers, queue, ledger, .. } = self;
                    ledger.follow(&event);
                    store.read(|state| enqueue(controllers, queue, state, &event));
                }
                Ok(None) => return,
                Err(expired) => {
                    tracing::debug!(%expired, "the controllers look at everything again");
                    *watch = self.resync();
                }
            }
        }
    }

    /// Decides and writes for the keys that are ready; false if none was.
    async fn pass(&mut self) -> bool {
        // What is decided now must not be written after somebody else has led.
        let Some(term) = self.store.cluster().leading_term() else { return false };
        let Some(decisions) = self.decisions() else { return false };
        if decisions.is_empty() {
            return true;
        }
        let mut batches = Vec::with_capacity(decisions.len());
        let mut rest = Vec::with_capacity(decisions.len());
        for Decision { item, writes, notes } in decisions {
            batches.push(writes);
            rest.push((item, notes));
        }
        let results = self.store.write_each_in(term, batches).await;
        for ((item, notes), result) in rest.into_iter().zip(results) {
            self.settle(item, notes, result.err());
        }
        true
    }

    /// What the keys that are ready come to, up to the limits of a pass; none if no key is ready.
    fn decisions(&mut self) -> Option<Vec<Decision>> {
        let mut items = self.queue.take(Instant::now(), PASS).into_iter();
        if items.as_slice().is_empty() {
            return None;
        }
        let (mut decisions, mut writes) = (Vec::new(), 0);
        while writes < PASS_WRITES
            && let Some(item) = items.next()
        {
            if let Some(decision) = self.decide(item) {
                writes += decision.writes.len();
                decisions.push(decision);
            }
        }
        self.queue.put_back(items);
        Some(decisions)
    }

    /// Lets a controller look; nothing to write is settled here.
    fn decide(&mut self, item: Item) -> Option<Decision> {
        let controller = self.controllers[item.0];
        let Self { store, clock, random, ledger, heartbeats, rules, services, pods, .. } = self;
        let at = heartbeats.as_deref().map(|heartbeats| At { heartbeats, now: Instant::now() });
        let heard: &dyn Heard = at.as_ref().map_or(&NobodyListens, |at| at);
        let mut context =
            Knowledge { now: clock(), random, ledger, heard, rules: *rules, services, pods: *pods };
        let started = Instant::now();
        let outcome = store.read(|state| (controller.reconcile)(state, &item.1, &mut context));
        let now = context.now;
        (self.observer)(controller.name, started.elapsed());
        let Outcome { writes, wake_at, notes, look } = outcome;
        look.into_iter().for_each(|key| self.queue.add((item.0, key)));
        self.queue.wake_at(item.clone(), wake_at.map(|at| Instant::now() + until(at, now)));
        if writes.is_empty() {
            self.settle(item, notes, None);
            return None;
        }
        Some(Decision { item, writes, notes })
    }

    fn settle(&mut self, item: Item, notes: Vec<Note>, error: Option<WriteError>) {
        let controller = self.controllers[item.0].name;
        if error.is_some() {
            // What was assumed of it is not so.
            let Self { store, ledger, .. } = self;
            store.read(|state| ledger.reread(state, &item.1));
        }
        match error {
            None => {
                self.queue.succeed(&item);
                for note in notes {
                    self.recorder.record(note);
                }
            }
            Some(error) if error.is_conflict() => {
                tracing::debug!(controller, key = %item.1, %error, "looks again");
                self.queue.conflict(item, Instant::now());
            }
            Some(error) => {
                let error = crate::chain(&error);
                tracing::warn!(controller, key = %item.1, error, "cannot write");
                self.queue.fail(item, Instant::now());
            }
        }
    }
}

/// Waits until this member leads; false if `stop` was cancelled or the store closed before.
async fn elected(leaderships: &mut watch::Receiver<Leadership>, stop: &CancellationToken) -> bool {
    tokio::select! {
        biased;
        () = stop.cancelled() => false,
        leads = leaderships.wait_for(|leadership| *leadership == Leadership::Leads) => leads.is_ok(),
    }
}

fn enqueue(controllers: &[Controller], queue: &mut Queue<Item>, state: &State, event: &Event) {
    for (index, controller) in controllers.iter().enumerate() {
        for key in (controller.keys)(state, event) {
            queue.add((index, key));
        }
    }
}

/// From `now` until `at`.
fn until(at: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(at.duration_since(now)).unwrap_or_default().max(SHORTEST_WAIT)
}

#[cfg(test)]
mod tests;
