//! A commit becomes bound Pods: Git, store, controllers and scheduler together.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use git2::{Repository, Signature};
use jiff::Timestamp;
use manifests::config::{GitAuth, GitSource};
use manifests::k8s_openapi::api::core::v1::{Node, Pod};
use manifests::k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use manifests::{Kind, ObjectKey};
use reconciler::driver::Driver;
use reconciler::events::recorder;
use reconciler::store::{State, Store, Write};
use reconciler::sync::duty::Duties;
use reconciler::sync::{SyncHandle, syncer};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// All of a node but the node itself.
struct Site {
    dir: TempDir,
    repository: Repository,
    store: Arc<Store>,
    handle: SyncHandle,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl Site {
    async fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let repository = Repository::init_bare(dir.path().join("repository")).unwrap();
        let (store, handle, stop, tasks) = start(&dir);
        let mut node = Node::default();
        node.metadata.name = Some("n".into());
        let room = [("cpu", "8"), ("memory", "8Gi"), ("pods", "200")];
        let room = room.map(|(resource, amount)| (resource.to_owned(), Quantity(amount.to_owned())));
        node.status.get_or_insert_default().allocatable = Some(room.into());
        store.write(vec![Write::Create(node.into())]).await.unwrap();
        Self { dir, repository, store, handle, stop, tasks }
    }

    async fn restart(self) -> Self {
        let Self { dir, repository, store, stop, mut tasks, .. } = self;
        stop.cancel();
        while let Some(ended) = tasks.join_next().await {
            ended.unwrap();
        }
        drop(store);
        let (store, handle, stop, tasks) = start(&dir);
        Self { dir, repository, store, handle, stop, tasks }
    }

    fn commit(&self, content: &str) {
        let mut tree = self.repository.treebuilder(None).unwrap();
        tree.insert("all.yaml", self.repository.blob(content.as_bytes()).unwrap(), 0o100_644).unwrap();
        let tree = self.repository.find_tree(tree.write().unwrap()).unwrap();
        let tip = self.repository.refname_to_id("refs/heads/main").ok();
        let parent = tip.map(|tip| self.repository.find_commit(tip).unwrap());
        let author = Signature::now("Ada", "ada@example.com").unwrap();
        let parents: Vec<_> = parent.iter().collect();
        let id = self.repository.commit(None, &author, &author, "Change it", &tree, &parents).unwrap();
        self.repository.reference("refs/heads/main", id, true, "").unwrap();
    }

    /// Waits until `is_so` of the state, for a minute at most.
    async fn until(&self, what: &str, is_so: impl Fn(&State) -> bool) {
        let mut changes = self.store.changes();
        while !self.store.read(&is_so) {
            let change = tokio::time::timeout(Duration::from_secs(60), changes.changed()).await;
            change.unwrap_or_else(|_| panic!("never {what}")).unwrap();
        }
    }
}

fn start(dir: &TempDir) -> (Arc<Store>, SyncHandle, CancellationToken, JoinSet<()>) {
    let store = Arc::new(Store::open(&dir.path().join("store")).unwrap());
    let (recorder, writer) = recorder("n");
    let source = GitSource {
        name: "site".into(),
        url: format!("file://{}", dir.path().join("repository").display()),
        branch: Some("main".into()),
        tag: None,
        commit: None,
        paths: Vec::new(),
        interval: "1h".into(),
        allow_empty: false,
        allow_history_rewrite: false,
        auth: GitAuth::default(),
    };
    let duties = Duties::alone(std::iter::once(source.name.clone()));
    let (handle, syncer) = syncer(&store, &recorder, &[source], &dir.path().join("clones"), &duties);
    let stop = CancellationToken::new();
    let mut tasks = JoinSet::new();
    tasks.spawn(Driver::new(Arc::clone(&store), recorder).run(stop.clone()));
    tasks.spawn(writer.run(Arc::clone(&store), stop.clone()));
    tasks.spawn(syncer.run(stop.clone()));
    (store, handle, stop, tasks)
}

fn deployment(replicas: usize, image: &str) -> String {
    format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: web\nspec:\n  replicas: {replicas}\n  \
         selector:\n    matchLabels:\n      app: web\n  template:\n    metadata:\n      labels:\n        app: web\n    \
         spec:\n      containers:\n      - name: c\n        image: {image}\n        command: [sleep, inf]\n"
    )
}

/// The Pods that are to run, each with its node.
fn pods(state: &State) -> Vec<&Pod> {
    let pods = state.list(Kind::Pod, None).map(|object| <&Pod>::try_from(&**object).unwrap());
    pods.filter(|pod| pod.metadata.deletion_timestamp.is_none()).collect()
}

fn bound_with(state: &State, image: &str) -> usize {
    let is_so = |pod: &&&Pod| {
        let spec = pod.spec.as_ref().unwrap();
        spec.node_name.as_deref() == Some("n") && spec.containers[0].image.as_deref() == Some(image)
    };
    pods(state).iter().filter(is_so).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_becomes_a_hundred_bound_pods_which_outlive_a_restart_and_leave_with_git() {
    let site = Site::new().await;
    site.commit(&deployment(100, "registry.example/web:1"));
    let started = Instant::now();
    let reports = site.handle.sync(None).await;
    assert_eq!(reports[0].result, "Synced", "{}", reports[0].message);
    site.until("100 bound pods", |state| bound_with(state, "registry.example/web:1") == 100).await;
    println!("100 pods bound {:?} after the look began", started.elapsed());

    let uids = |site: &Site| {
        site.store.read(|state| pods(state).iter().map(|p| p.metadata.uid.clone()).collect::<Vec<_>>())
    };
    let before = uids(&site);
    let site = site.restart().await;
    site.handle.sync(None).await;
    assert_eq!(uids(&site), before, "a restart makes no pod anew");

    // A broken commit changes nothing.
    site.commit("apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: web\nspec:\n  replicas: many\n");
    assert_eq!(site.handle.sync(None).await[0].result, "Invalid");
    assert_eq!(uids(&site), before);

    // The scale goes down, and what is of no more use is asked to end.
    site.commit(&deployment(3, "registry.example/web:1"));
    site.handle.sync(None).await;
    site.until("3 pods", |state| pods(state).len() == 3).await;

    // A manual deletion of what Git owns is put back, and its pods with it.
    let web = ObjectKey::new(Kind::Deployment, "default", "web");
    let first = site.store.get(&web).unwrap();
    let delete = Write::Delete { key: web.clone(), uid: None, grace_seconds: None };
    site.store.write(vec![delete]).await.unwrap();
    site.until("a new Deployment", |state| state.get(&web).is_some_and(|web| web.uid() != first.uid())).await;
    site.until("3 pods again", |state| bound_with(state, "registry.example/web:1") == 3).await;

    // What leaves Git goes, and its pods with it.
    site.commit("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: left\ndata: {}\n");
    site.handle.sync(None).await;
    site.until("no pod", |state| state.get(&web).is_none() && pods(state).is_empty()).await;
    site.until("an event", |state| {
        state
            .list(Kind::Event, None)
            .any(|event| event.metadata().name.as_ref().is_some_and(|n| n.starts_with("site.")))
    })
    .await;
    println!("the whole story took {:?}, at {}", started.elapsed(), Timestamp::now());
    site.stop.cancel();
}
