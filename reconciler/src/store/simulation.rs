//! Clusters of several members in one process, for tests: real stores, real files, and a
//! network whose faults a seed decides.

mod switch;

mod faults;
mod formation;
mod history;

pub(super) use switch::Switch;

use super::{Beginning, Leadership, Store, StoreOptions, Write};
use crate::peer::{NodeId, Peer};
use manifests::k8s_openapi::api::core::v1::ConfigMap;
use manifests::{Kind, ObjectKey};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::task::JoinHandle;

/// A member that may run, or be dead with its files left.
pub(super) struct Place {
    pub(super) name: String,
    dir: PathBuf,
    beginning: Beginning,
    pub(super) store: Option<Arc<Store>>,
    task: Option<JoinHandle<()>>,
}

/// The members of one cluster.
pub(super) struct World {
    pub(super) switch: Switch,
    pub(super) places: Vec<Place>,
    seed: u64,
    root: TempDir,
}

impl World {
    /// A cluster of `count` members, the first of which founded it, on the caller's runtime.
    pub(super) async fn new(count: usize, seed: u64) -> Self {
        let root = TempDir::new().unwrap();
        let mut world = Self { switch: Switch::new(seed), places: Vec::new(), seed, root };
        world.places.push(world.place(0, Beginning::Found));
        world.start(0).await;
        for index in 1..count {
            let beginning = world.admit(index).await;
            world.places.push(world.place(index, beginning));
            world.start(index).await;
        }
        world
    }

    async fn admit(&self, index: usize) -> Beginning {
        let founder = self.places[0].store.as_ref().unwrap().cluster();
        founder.leaderships().wait_for(|l| *l == Leadership::Leads).await.unwrap();
        let node = founder.add(self.peer(index)).await.unwrap();
        Beginning::Join { cluster: founder.id().to_owned(), node }
    }

    fn peer(&self, index: usize) -> Peer {
        let name = format!("n{index}");
        Peer { address: name.clone(), name, zone: String::new() }
    }

    fn place(&self, index: usize, beginning: Beginning) -> Place {
        let name = format!("n{index}");
        Place { dir: self.root.path().join(&name), name, beginning, store: None, task: None }
    }

    fn options(&self, index: usize) -> StoreOptions {
        let me = self.peer(index);
        let place = &self.places[index];
        StoreOptions {
            transport: Some(Arc::new(self.switch.port(&me.name))),
            me,
            beginning: place.beginning.clone(),
            seed: self.seed.wrapping_add(index as u64),
            ..StoreOptions::alone(&place.dir)
        }
    }

    /// Starts the member again from its files.
    pub(super) async fn start(&mut self, index: usize) {
        let (store, running) = Store::start(self.options(index)).await.unwrap();
        let place = &mut self.places[index];
        self.switch.plug(&place.name, store.cluster().clone());
        place.task = Some(tokio::spawn(running));
        place.store = Some(Arc::new(store));
    }

    /// Ends the member at once, as SIGKILL does: nobody is told.
    pub(super) async fn kill(&mut self, index: usize) {
        let place = &mut self.places[index];
        self.switch.unplug(&place.name);
        end(place.store.take(), place.task.take()).await;
    }

    /// The member that leads, once there is one that a majority follows.
    pub(super) async fn leader(&self) -> usize {
        loop {
            let leads = |place: &Place| {
                place.store.as_ref().is_some_and(|s| s.cluster().leadership() == Leadership::Leads)
            };
            if let Some(index) = self.places.iter().position(leads) {
                return index;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub(super) fn store(&self, index: usize) -> Arc<Store> {
        Arc::clone(self.places[index].store.as_ref().unwrap())
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

    /// Waits until every member that runs holds the same objects, and gives them.
    pub(super) async fn agreement(&self) -> BTreeMap<String, String> {
        loop {
            let running = self.places.iter().filter_map(|place| place.store.as_deref());
            let all: Vec<_> = running.map(|store| store.read(|s| (s.revision(), values(store)))).collect();
            if all.iter().all(|one| *one == all[0]) {
                return all[0].1.clone();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(super) fn numbers(&self) -> Vec<NodeId> {
        self.places.iter().filter_map(|p| p.store.as_ref()).map(|s| s.cluster().node()).collect()
    }
}

/// Ends what a member consists of.
async fn end(store: Option<Arc<Store>>, task: Option<JoinHandle<()>>) {
    if let Some(store) = store {
        store.cluster().kill().await;
    }
    if let Some(task) = task {
        task.abort();
        // Ended by force.
        drop(task.await);
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
