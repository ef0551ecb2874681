//! Clusters of several members in one process, for tests: real stores on disks in memory, on a
//! network, disks and clocks whose faults a seed decides.

mod chance;
mod disk;
mod pause;
mod switch;

mod clocks;
mod disks;
mod faults;
mod formation;
mod history;

pub(super) use disk::{Disk, Faults};
pub(super) use pause::{Hold, held};
pub(super) use switch::Switch;

use super::{Beginning, Leadership, OpenError, Store, StoreOptions, Write};
use crate::peer::{NodeId, Peer};
use jiff::Timestamp;
use manifests::k8s_openapi::api::core::v1::ConfigMap;
use manifests::{Kind, ObjectKey};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use tempfile::TempDir;
use tokio::task::JoinHandle;

/// How long a cluster without faults may take to do what it is asked, by its own clock.
const DEADLINE: Duration = Duration::from_secs(300);

/// What wall clocks say when a world begins, in seconds: entries must be as long in every run.
pub(super) const EPOCH: i64 = 1_900_000_000;

/// A member that may run, or be dead with its disk left.
pub(super) struct Place {
    pub(super) name: String,
    pub(super) disk: Disk,
    pub(super) hold: Hold,
    /// By how many seconds its wall clock is wrong.
    pub(super) clock: Arc<AtomicI64>,
    dir: PathBuf,
    beginning: Beginning,
    pub(super) store: Option<Arc<Store>>,
    task: Option<JoinHandle<()>>,
}

/// The members of one cluster.
pub(super) struct World {
    pub(super) switch: Switch,
    places: RefCell<Vec<Place>>,
    seed: u64,
    root: TempDir,
}

impl World {
    /// A cluster of `count` members, the first of which founded it, on the caller's runtime.
    pub(super) async fn new(count: usize, seed: u64) -> Self {
        let root = TempDir::new().unwrap();
        let world = Self { switch: Switch::new(seed), places: RefCell::default(), seed, root };
        world.add_place(Beginning::Found);
        world.start(0).await;
        for index in 1..count {
            let beginning = world.admit(index).await;
            world.add_place(beginning);
            world.start(index).await;
        }
        world
    }

    async fn admit(&self, index: usize) -> Beginning {
        let founder = self.store(0);
        let founder = founder.cluster();
        founder.leaderships().wait_for(|l| *l == Leadership::Leads).await.unwrap();
        let node = founder.add(self.peer(index)).await.unwrap();
        Beginning::Join { cluster: founder.id().to_owned(), node }
    }

    fn peer(&self, index: usize) -> Peer {
        let name = format!("n{index}");
        Peer { address: name.clone(), name, zone: String::new() }
    }

    fn add_place(&self, beginning: Beginning) {
        let index = self.count();
        let name = format!("n{index}");
        let disk = Disk::new(self.seed.wrapping_mul(31).wrapping_add(index as u64));
        let dir = self.root.path().join(&name);
        let (hold, clock) = (Hold::default(), Arc::default());
        let place = Place { dir, name, disk, hold, clock, beginning, store: None, task: None };
        self.places.borrow_mut().push(place);
    }

    /// What `look` sees of a member.
    pub(super) fn of<T>(&self, index: usize, look: impl FnOnce(&mut Place) -> T) -> T {
        look(&mut self.places.borrow_mut()[index])
    }

    pub(super) fn count(&self) -> usize {
        self.places.borrow().len()
    }

    pub(super) fn name(&self, index: usize) -> String {
        self.of(index, |place| place.name.clone())
    }

    fn options(&self, index: usize) -> StoreOptions {
        let me = self.peer(index);
        self.of(index, |place| {
            let clock = Arc::clone(&place.clock);
            let seconds = move || EPOCH + clock.load(Ordering::Relaxed);
            StoreOptions {
                transport: Some(Arc::new(self.switch.port(&me.name))),
                me,
                beginning: place.beginning.clone(),
                seed: self.seed.wrapping_add(index as u64),
                files: place.disk.mount(),
                clock: Arc::new(move || Timestamp::from_second(seconds()).unwrap()),
                // Small, so that logs are cut and snapshots travel.
                least_log_bytes: 20_000,
                ..StoreOptions::alone(&place.dir)
            }
        })
    }

    /// Starts the member again from its disk.
    pub(super) async fn start(&self, index: usize) {
        self.try_start(index).await.unwrap();
    }

    /// The same on a disk that may fail.
    pub(super) async fn try_start(&self, index: usize) -> Result<(), OpenError> {
        let options = self.options(index);
        // A process of its own: what is left of the one before is not held with it.
        let hold = Hold::default();
        let name = self.of(index, |place| {
            place.hold = hold.clone();
            place.name.clone()
        });
        let began = tokio::time::Instant::now();
        let (store, running) = loop {
            assert!(began.elapsed() < DEADLINE, "seed {}: {name} never frees its lock", self.seed);
            match hold.over(Store::start(options.clone())).await {
                // Clients may still wait for answers of the one that died: its lock is free when they go.
                Err(OpenError::Locked { .. }) => tokio::time::sleep(Duration::from_millis(10)).await,
                started => break started?,
            }
        };
        self.switch.plug(&name, store.cluster().clone(), hold.clone());
        self.of(index, |place| {
            place.task = Some(tokio::spawn(hold.over(running)));
            place.store = Some(Arc::new(store));
        });
        Ok(())
    }

    /// Ends the member at once, as SIGKILL does: nobody is told.
    pub(super) async fn kill(&self, index: usize) {
        let (store, task) = self.of(index, |place| {
            self.switch.unplug(&place.name);
            place.disk.end_processes();
            // The dead are not held, so that their tasks end.
            place.hold.go_on();
            (place.store.take(), place.task.take())
        });
        if let Some(store) = store {
            store.cluster().kill().await;
        }
        if let Some(task) = task {
            task.abort();
            // Ended by force.
            drop(task.await);
        }
    }

    /// The member that leads, once there is one that a majority follows.
    pub(super) async fn leader(&self) -> usize {
        loop {
            let leads = |place: &Place| {
                place.store.as_ref().is_some_and(|s| s.cluster().leadership() == Leadership::Leads)
            };
            if let Some(index) = self.places.borrow().iter().position(leads) {
                return index;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub(super) fn store(&self, index: usize) -> Arc<Store> {
        self.of(index, |place| Arc::clone(place.store.as_ref().unwrap()))
    }

    /// Waits until as many members vote.
    pub(super) async fn voters(&self, count: usize) {
        loop {
            let leader = self.leader().await;
            let members = self.store(leader).cluster().members();
            if members.iter().filter(|member| member.is_voter).count() == count {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Writes through members that may fail until one takes it.
    pub(super) async fn write_somewhere(&self, name: &str) {
        for index in (0..self.count()).cycle() {
            let store = self.store(index);
            let write = tokio::time::timeout(Duration::from_secs(20), store.write(create(name, "1")));
            match write.await {
                Ok(Ok(_) | Err(crate::store::WriteError::AlreadyExists(_))) => return,
                Ok(Err(_)) | Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    /// Waits until every member that runs holds the same objects, and gives them.
    pub(super) async fn agreement(&self) -> BTreeMap<String, String> {
        let looks = async {
            loop {
                let all = self.states();
                if all.iter().all(|one| *one == all[0]) {
                    return all[0].1.clone();
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let agreed = tokio::time::timeout(DEADLINE, looks).await;
        agreed.unwrap_or_else(|_| panic!("seed {}: no agreement: {:#?}", self.seed, self.states()))
    }

    /// The revision and the objects of each member that runs.
    fn states(&self) -> Vec<(u64, BTreeMap<String, String>)> {
        let places = self.places.borrow();
        let running = places.iter().filter_map(|place| place.store.as_deref());
        running.map(|store| store.read(|s| (s.revision(), values(store)))).collect()
    }

    pub(super) fn numbers(&self) -> Vec<NodeId> {
        let places = self.places.borrow();
        places.iter().filter_map(|p| p.store.as_ref()).map(|s| s.cluster().node()).collect()
    }
}

/// A ConfigMap `name` that holds `value`.
pub(super) fn object(name: &str, value: &str) -> ConfigMap {
    let mut map = ConfigMap::default();
    map.metadata.namespace = Some("default".into());
    map.metadata.name = Some(name.into());
    map.data = Some([("v".to_owned(), value.to_owned())].into());
    map
}

pub(super) fn create(name: &str, value: &str) -> Vec<Write> {
    vec![Write::Create(object(name, value).into())]
}

pub(super) fn key(name: &str) -> ObjectKey {
    ObjectKey::new(Kind::ConfigMap, "default", name)
}

/// The value of each object.
pub(super) fn values(store: &Store) -> BTreeMap<String, String> {
    let (objects, _) = store.list(Kind::ConfigMap, None);
    let value = |object: &Arc<manifests::Object>| {
        let map: &ConfigMap = (&**object).try_into().unwrap();
        (object.name().to_owned(), map.data.as_ref().unwrap()["v"].clone())
    };
    objects.iter().map(value).collect()
}

/// Runs `test` on a runtime whose time goes on only when nothing else is to be done.
pub(super) fn simulate<F: Future<Output = ()>>(test: F) {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_time().start_paused(true).build().unwrap().block_on(test);
}
