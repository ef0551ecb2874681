//! The loop around the controllers, with the fake clock of tokio.

use super::*;
use crate::events::recorder;
use crate::store::State;
use crate::testing::{config_map, key, node, object, pod, revision};
use manifests::Object;
use manifests::k8s_openapi::api::core::v1::Pod;
use serde_json::json;
use tempfile::TempDir;
use tokio::task::JoinHandle;

/// A driver at work on a store of its own.
struct Running {
    store: Arc<Store>,
    stop: CancellationToken,
    task: JoinHandle<()>,
    _dir: TempDir,
}

impl Running {
    /// The decisions' clock goes with tokio's.
    async fn start(objects: Vec<Object>, controllers: Vec<Controller>) -> Self {
        let dir = TempDir::new().unwrap();
        let store = Arc::new(Store::open(dir.path()).unwrap());
        store.write(objects.into_iter().map(Write::Create).collect()).await.unwrap();
        let (recorder, _writer) = recorder("n");
        let (wall, start) = (Timestamp::now(), Instant::now());
        let driver = Driver::new(Arc::clone(&store), recorder)
            .with_controllers(controllers)
            .with_clock(move || wall + jiff::SignedDuration::try_from(start.elapsed()).unwrap());
        let stop = CancellationToken::new();
        let task = tokio::spawn(driver.run(stop.clone()));
        Self { store, stop, task, _dir: dir }
    }

    /// Waits until `is_so` of the state.
    async fn until(&self, is_so: impl Fn(&State) -> bool) {
        let mut changes = self.store.changes();
        while !self.store.read(&is_so) {
            changes.changed().await.unwrap();
        }
    }

    async fn end(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

fn is_bound(state: &State, name: &str) -> bool {
    let pod = state.get(&key(Kind::Pod, name)).map(|object| &**object);
    let pod: Option<&Pod> = pod.and_then(|object| object.try_into().ok());
    pod.and_then(|pod| pod.spec.as_ref()?.node_name.as_deref()) == Some("n")
}

#[tokio::test(start_paused = true)]
async fn a_revision_becomes_bound_pods() {
    let running = Running::start(vec![node("n")], controllers()).await;
    let pods: Vec<_> = (0..100).map(|i| pod(&format!("p{i}"))).collect();
    running.store.write(vec![Write::Create(revision("a", "c1", pods))]).await.unwrap();
    running.until(|state| (0..100).all(|i| is_bound(state, &format!("p{i}")))).await;
    assert!(running.store.get(&key(Kind::Namespace, "default")).is_some());
    running.end().await;
}

#[tokio::test(start_paused = true)]
async fn what_was_there_before_the_start_is_looked_at() {
    let objects = vec![node("n"), revision("a", "c1", vec![pod("web")])];
    let running = Running::start(objects, controllers()).await;
    running.until(|state| is_bound(state, "web")).await;
    running.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_waits_for_a_node_and_a_manual_deletion_is_put_back() {
    let running =
        Running::start(vec![revision("a", "c1", vec![pod("web"), config_map("c", "1")])], controllers())
            .await;
    running.until(|state| state.get(&key(Kind::Pod, "web")).is_some()).await;
    running.store.write(vec![Write::Create(node("n"))]).await.unwrap();
    running.until(|state| is_bound(state, "web")).await;
    let map = running.store.get(&key(Kind::ConfigMap, "c")).unwrap();
    let delete = Write::Delete { key: map.key(), uid: None, grace_seconds: None };
    running.store.write(vec![delete]).await.unwrap();
    running.until(|state| state.get(&map.key()).is_some_and(|again| again.uid() != map.uid())).await;
    running.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_controller_is_woken_when_it_asked_to_be() {
    let last = Timestamp::now().to_string();
    let event = object(Kind::Event, "e", json!({"involvedObject": {}, "lastTimestamp": last}));
    let key = event.key();
    let started = Instant::now();
    let running = Running::start(vec![event], controllers()).await;
    running.until(|state| state.get(&key).is_none()).await;
    assert!(started.elapsed() >= Duration::from_secs(3590), "{:?}", started.elapsed());
    running.end().await;
}

/// Counts up the ConfigMap `n`, from a look that is always too old the first times.
fn stale(state: &State, key: &ObjectKey, _: &mut Knowledge<'_>) -> Outcome {
    let Some(Object::ConfigMap(map)) = state.get(key).map(|object| &**object) else {
        return Outcome::default();
    };
    let data = map.data.clone().unwrap_or_default();
    if data["k"] == "done" {
        return Outcome::default();
    }
    let is_ready = state.get(&ObjectKey::new(Kind::ConfigMap, "default", "ready")).is_some();
    let mut next = map.clone();
    next.data.get_or_insert_default().insert("k".into(), "done".into());
    if !is_ready {
        next.metadata.resource_version = Some("0".into());
    }
    Outcome { writes: vec![Write::Update((*next).into())], ..Outcome::default() }
}

fn only_n(_: &State, event: &Event) -> Vec<ObjectKey> {
    if event.object.name() == "n" { vec![event.key()] } else { Vec::new() }
}

#[tokio::test(start_paused = true)]
async fn a_refused_write_is_decided_again_though_nothing_tells_of_a_change() {
    let controller = Controller { name: "stale", keys: only_n, reconcile: stale };
    let running = Running::start(vec![config_map("n", "0")], vec![controller]).await;
    // Nothing of this concerns the controller's key: it is the retry that must succeed.
    running.store.write(vec![Write::Create(config_map("ready", "1"))]).await.unwrap();
    running
        .until(|state| state.get(&key(Kind::ConfigMap, "n")).is_some_and(|n| n.resource_version() > 2))
        .await;
    running.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_stopped_driver_lets_go_of_the_store() {
    let dir = TempDir::new().unwrap();
    let store = Arc::new(Store::open(dir.path()).unwrap());
    let (recorder, _writer) = recorder("n");
    let driver = Driver::new(store, recorder);
    let stop = CancellationToken::new();
    let task = tokio::spawn(driver.run(stop.clone()));
    stop.cancel();
    task.await.unwrap();
    Store::open(dir.path()).unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_deleted_namespace_that_git_owns_comes_back_with_what_is_in_it() {
    let inside = || object(Kind::ConfigMap, "one", json!({"metadata": {"namespace": "shop"}}));
    let namespace = || object(Kind::Namespace, "shop", json!({}));
    let running = Running::start(vec![revision("a", "c1", vec![namespace(), inside()])], controllers()).await;
    running.until(|state| state.get(&inside().key()).is_some()).await;
    let first = running.store.get(&inside().key()).unwrap();
    let delete = Write::Delete { key: namespace().key(), uid: None, grace_seconds: None };
    running.store.write(vec![delete]).await.unwrap();
    running.until(|state| state.get(&inside().key()).is_some_and(|again| again.uid() != first.uid())).await;
    assert!(running.store.get(&namespace().key()).is_some());
    running.end().await;
}
