//! From commits in real repositories to Revisions.

use super::*;
use crate::events::recorder;
use crate::store::{State, Write};
use git2::{Oid, Repository, Signature};
use manifests::config::GitAuth;
use manifests::revision::{AUTHOR_ANNOTATION, COMMIT_ANNOTATION, ORIGIN_ANNOTATION, Revision};
use manifests::{Kind, ObjectKey};
use tempfile::TempDir;
use tokio::task::JoinHandle;

const ONE: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: one\ndata:\n  k: \"1\"\n";
const TWO: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: two\ndata:\n  k: \"1\"\n";

/// A repository, a store, and a syncer at work.
struct Site {
    repository: Repository,
    store: Arc<Store>,
    handle: SyncHandle,
    stop: CancellationToken,
    task: JoinHandle<()>,
    dir: TempDir,
}

fn source(dir: &TempDir, change: impl FnOnce(&mut GitSource)) -> GitSource {
    let mut source = GitSource {
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
    change(&mut source);
    source
}

impl Site {
    fn new(change: impl FnOnce(&mut GitSource)) -> Self {
        let dir = TempDir::new().unwrap();
        let repository = Repository::init_bare(dir.path().join("repository")).unwrap();
        let store = Arc::new(Store::open(&dir.path().join("store")).unwrap());
        let source = source(&dir, change);
        Self::start(dir, repository, store, &source)
    }

    fn start(dir: TempDir, repository: Repository, store: Arc<Store>, source: &GitSource) -> Self {
        let (recorder, _writer) = recorder("n");
        let clones = dir.path().join("clones");
        let duties = Duties::alone(std::iter::once(source.name.clone()));
        let (handle, syncer) = syncer(&store, &recorder, std::slice::from_ref(source), &clones, &duties);
        let stop = CancellationToken::new();
        let task = tokio::spawn(syncer.run(stop.clone()));
        Self { repository, store, handle, stop, task, dir }
    }

    /// Stops and starts again with another configuration.
    async fn restart(self, change: impl FnOnce(&mut GitSource)) -> Self {
        let Self { repository, store, stop, task, dir, .. } = self;
        stop.cancel();
        task.await.unwrap();
        let source = source(&dir, change);
        Self::start(dir, repository, store, &source)
    }

    /// Commits exactly `files` to `main`, on top of what is there or of nothing.
    fn commit(&self, files: &[(&str, &str)], on_top: bool) -> String {
        let mut tree = self.repository.treebuilder(None).unwrap();
        for (name, content) in files {
            let blob = self.repository.blob(content.as_bytes()).unwrap();
            tree.insert(name, blob, 0o100_644).unwrap();
        }
        let tree = self.repository.find_tree(tree.write().unwrap()).unwrap();
        let tip = self.repository.refname_to_id("refs/heads/main").ok();
        let parent = tip.filter(|_| on_top).map(|tip| self.repository.find_commit(tip).unwrap());
        let author = Signature::now("Ada", "ada@example.com").unwrap();
        let parents: Vec<_> = parent.iter().collect();
        let id: Oid =
            self.repository.commit(None, &author, &author, "Change it\n\nBecause.", &tree, &parents).unwrap();
        self.repository.reference("refs/heads/main", id, true, "").unwrap();
        id.to_string()
    }

    async fn sync(&self) -> SyncReport {
        let mut reports = self.handle.sync(None).await;
        assert_eq!(reports.len(), 1);
        reports.remove(0)
    }

    fn revision(&self) -> Revision {
        let object = self.store.get(&ObjectKey::new(Kind::Revision, "", "site")).unwrap();
        let revision: &Revision = (&*object).try_into().unwrap();
        revision.clone()
    }

    /// The commit annotation of each object, by name.
    fn commits(&self) -> Vec<(String, String)> {
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        let entry = |manifest: &serde_json::Value| {
            let meta = &manifest["metadata"];
            (text(&meta["name"]), text(&meta["annotations"][COMMIT_ANNOTATION]))
        };
        self.revision().spec.objects.iter().map(entry).collect()
    }

    async fn end(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

#[tokio::test]
async fn a_commit_takes_force_with_where_it_comes_from() {
    let site = Site::new(|_| {});
    let commit = site.commit(&[("one.yaml", ONE)], true);
    let report = site.sync().await;
    assert_eq!((report.result.as_str(), report.message.as_str()), ("Synced", ""));
    assert_eq!(report.commit, commit);
    let revision = site.revision();
    assert_eq!(revision.spec.commit, commit);
    assert_eq!(revision.spec.author, "Ada <ada@example.com>");
    assert_eq!(revision.spec.subject, "Change it");
    assert_eq!(revision.status.result, "Synced");
    let annotations = &revision.spec.objects[0]["metadata"]["annotations"];
    assert_eq!(annotations[AUTHOR_ANNOTATION], "Ada <ada@example.com>");
    assert_eq!(annotations[ORIGIN_ANNOTATION], "one.yaml:1");
    assert!(site.handle.last_attempt("site").is_some());
    site.end().await;
}

#[tokio::test]
async fn an_object_that_did_not_change_keeps_its_commit() {
    let site = Site::new(|_| {});
    let first = site.commit(&[("one.yaml", ONE)], true);
    site.sync().await;
    let hash = site.revision().spec.content_hash;
    let mut reports = site.handle.subscribe();
    let second = site.commit(&[("one.yaml", ONE), ("two.yaml", TWO)], true);
    site.sync().await;
    // The change itself may have woken a look before the request did: the first that saw it counts.
    let mut report = reports.recv().await.unwrap();
    while report.commit != second {
        report = reports.recv().await.unwrap();
    }
    assert_eq!(report.previous_commit, first);
    assert_eq!(site.commits(), [("one".into(), first.clone()), ("two".into(), second)]);
    assert_ne!(site.revision().spec.content_hash, hash);
    let third = site.commit(&[("one.yaml", ONE)], true);
    site.sync().await;
    let revision = site.revision();
    assert_eq!((revision.spec.commit, revision.spec.content_hash), (third, hash));
    assert_eq!(site.commits(), [("one".into(), first)]);
    site.end().await;
}

#[tokio::test]
async fn a_look_that_finds_nothing_new_writes_nothing() {
    let site = Site::new(|_| {});
    site.commit(&[("one.yaml", ONE)], true);
    site.sync().await;
    let revision = site.store.read(State::revision);
    let report = site.sync().await;
    assert_eq!((report.result.as_str(), report.commit), ("Synced", report.previous_commit));
    assert_eq!(site.store.read(State::revision), revision);
    site.end().await;
}

#[tokio::test]
async fn a_broken_commit_is_refused_whole_and_the_last_good_one_stays() {
    let site = Site::new(|_| {});
    let good = site.commit(&[("one.yaml", ONE)], true);
    site.sync().await;
    let bad = site.commit(&[("one.yaml", TWO), ("bad.yaml", "kind: ConfigMap\n- what\n")], true);
    let report = site.sync().await;
    assert_eq!((report.result.as_str(), report.commit.as_str()), ("Invalid", bad.as_str()));
    assert!(report.message.contains("bad.yaml"), "{}", report.message);
    let revision = site.revision();
    assert_eq!(revision.spec.commit, good);
    assert_eq!(revision.status.attempted_commit, bad);
    assert_eq!(revision.status.message, report.message);
    let mended = site.commit(&[("one.yaml", TWO)], true);
    site.sync().await;
    let revision = site.revision();
    assert_eq!((revision.spec.commit, revision.status.result.as_str()), (mended, "Synced"));
    assert_eq!(revision.status.message, "");
    site.end().await;
}

#[tokio::test]
async fn an_object_without_its_namespace_is_refused_with_its_place() {
    let site = Site::new(|_| {});
    let homeless = ONE.replace("  name: one\n", "  name: one\n  namespace: shop\n");
    site.commit(&[("one.yaml", &homeless)], true);
    let report = site.sync().await;
    assert_eq!(report.result, "Invalid");
    assert!(report.message.contains("shop") && report.message.contains("one.yaml:1"), "{}", report.message);
    let namespace = "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: shop\n";
    site.commit(&[("one.yaml", &homeless), ("shop.yaml", namespace)], true);
    assert_eq!(site.sync().await.result, "Synced");
    site.end().await;
}

#[tokio::test]
async fn an_emptied_repository_deletes_nothing_without_consent() {
    let site = Site::new(|_| {});
    site.commit(&[("one.yaml", ONE)], true);
    site.sync().await;
    site.commit(&[("README.md", "nothing")], true);
    let report = site.sync().await;
    assert_eq!(report.result, "Emptied");
    assert_eq!(site.revision().spec.objects.len(), 1);
    let site = site.restart(|source| source.allow_empty = true).await;
    assert_eq!(site.sync().await.result, "Synced");
    assert_eq!(site.revision().spec.objects.len(), 0);
    site.end().await;
}

#[tokio::test]
async fn a_rewritten_history_is_refused_without_consent() {
    let site = Site::new(|_| {});
    let first = site.commit(&[("one.yaml", ONE)], true);
    site.sync().await;
    site.commit(&[("two.yaml", TWO)], false);
    assert_eq!(site.sync().await.result, "HistoryRewritten");
    assert_eq!(site.revision().spec.commit, first);
    let site = site.restart(|source| source.allow_history_rewrite = true).await;
    assert_eq!(site.sync().await.result, "Synced");
    assert_ne!(site.revision().spec.commit, first);
    site.end().await;
}

#[tokio::test]
async fn an_unreachable_repository_leaves_what_is_in_force() {
    let site = Site::new(|_| {});
    let commit = site.commit(&[("one.yaml", ONE)], true);
    site.sync().await;
    let (here, away) = (site.dir.path().join("repository"), site.dir.path().join("away"));
    std::fs::rename(&here, &away).unwrap();
    let report = site.sync().await;
    assert_eq!((report.result.as_str(), report.previous_commit), ("FetchFailed", commit.clone()));
    assert_eq!(site.revision().spec.commit, commit);
    assert_eq!(site.revision().status.result, "FetchFailed");
    std::fs::rename(&away, &here).unwrap();
    assert_eq!(site.sync().await.result, "Synced");
    assert_eq!(site.revision().status.result, "Synced");
    site.end().await;
}

#[tokio::test]
async fn other_paths_in_the_configuration_take_force_without_a_commit() {
    let site = Site::new(|_| {});
    site.commit(&[("one.yaml", ONE), ("two.yaml", TWO)], true);
    site.sync().await;
    let site = site.restart(|source| source.paths = vec!["two.yaml".into()]).await;
    site.sync().await;
    let names: Vec<_> = site.commits().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["two"]);
    site.end().await;
}

#[tokio::test]
async fn a_commit_to_a_repository_on_this_machine_is_seen_by_itself() {
    let site = Site::new(|_| {});
    site.commit(&[("one.yaml", ONE)], true);
    site.sync().await;
    let mut changes = site.store.changes();
    let commit = site.commit(&[("two.yaml", TWO)], true);
    while site.revision().spec.commit != commit {
        tokio::time::timeout(std::time::Duration::from_secs(60), changes.changed()).await.unwrap().unwrap();
    }
    site.end().await;
}

#[tokio::test]
async fn what_another_source_has_is_told_and_left_out_of_the_fight() {
    let site = Site::new(|_| {});
    site.commit(&[("one.yaml", ONE)], true);
    let other = crate::testing::config_map("one", "of another");
    let revision = crate::testing::revision("other", "c", vec![other]);
    let manifest = Revision::clone((&revision).try_into().unwrap()).spec.objects.remove(0);
    let stored = manifests::Object::from_json(Kind::ConfigMap, manifest).unwrap();
    site.store.write(vec![Write::Create(revision), Write::Create(stored)]).await.unwrap();
    let site = site.restart(|_| {}).await;
    let report = site.sync().await;
    assert_eq!(report.result, "Synced");
    assert!(report.message.contains("belongs to source other"), "{}", report.message);
    site.end().await;
}

#[tokio::test]
async fn a_name_that_is_no_source_has_no_report() {
    let site = Site::new(|_| {});
    assert_eq!(site.handle.sync(Some("nobody")).await, []);
    site.end().await;
}
