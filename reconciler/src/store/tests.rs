//! What the store promises, one sentence per test.

use super::*;
use manifests::k8s_openapi::api::core::v1::{ConfigMap, Pod, PodSpec, PodStatus};
use std::collections::BTreeMap;
use tempfile::TempDir;

fn config(name: &str, value: &str) -> Object {
    let mut map = ConfigMap::default();
    map.metadata.namespace = Some("default".into());
    map.metadata.name = Some(name.into());
    map.data = Some(BTreeMap::from([("k".into(), value.into())]));
    map.into()
}

fn bound_pod(name: &str, phase: &str) -> Object {
    let mut pod = Pod::default();
    pod.metadata.namespace = Some("default".into());
    pod.metadata.name = Some(name.into());
    pod.spec = Some(PodSpec { node_name: Some("n".into()), ..PodSpec::default() });
    pod.status = Some(PodStatus { phase: Some(phase.into()), ..PodStatus::default() });
    pod.into()
}

fn key(name: &str) -> ObjectKey {
    ObjectKey::new(Kind::ConfigMap, "default", name)
}

fn fresh() -> (TempDir, Store) {
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path()).unwrap();
    (dir, store)
}

async fn write_one(store: &Store, write: Write) -> Result<Arc<Object>, WriteError> {
    store.write(vec![write]).await.map(|mut answers| answers.remove(0))
}

#[tokio::test]
async fn what_was_decided_in_another_term_is_not_written() {
    let (_dir, store) = fresh();
    let term = store.cluster().leading_term().expect("it leads alone");
    let create = |name: &str| vec![vec![Write::Create(config(name, "1"))]];
    let refused = store.write_each_in(Term(term.0 + 1), create("late")).await.remove(0);
    assert!(matches!(refused, Err(WriteError::Deposed)), "{refused:?}");
    assert!(store.get(&key("late")).is_none());
    let mixed =
        tokio::join!(store.write_each_in(Term(0), create("late")), store.write_each_in(term, create("new")));
    assert!(mixed.0[0].is_err() && mixed.1[0].is_ok());
    assert!(store.get(&key("new")).is_some() && store.get(&key("late")).is_none());
}

#[tokio::test]
async fn a_created_object_gets_uid_time_generation_and_revision() {
    let (_dir, store) = fresh();
    let made = write_one(&store, Write::Create(config("a", "1"))).await.unwrap();
    let uid = made.uid();
    assert_eq!((uid.len(), &uid[14..15]), (36, "4"), "{uid}");
    assert!(made.metadata().creation_timestamp.is_some());
    assert_eq!(made.metadata().generation, Some(1));
    assert_eq!(made.resource_version(), 1);
    assert_eq!(store.get(&key("a")), Some(made));
    let again = write_one(&store, Write::Create(config("a", "1"))).await;
    assert!(matches!(again, Err(WriteError::AlreadyExists(_))), "{again:?}");
}

#[tokio::test]
async fn an_update_from_an_old_look_is_a_conflict_and_the_whole_batch_is_nothing() {
    let (_dir, store) = fresh();
    let old = write_one(&store, Write::Create(config("a", "1"))).await.unwrap();
    write_one(&store, Write::Update(config("a", "2"))).await.unwrap();
    let mut stale = config("a", "3");
    stale.metadata_mut().resource_version = old.metadata().resource_version.clone();
    let batch = vec![Write::Create(config("b", "1")), Write::Update(stale)];
    let error = store.write(batch).await.unwrap_err();
    assert!(matches!(error, WriteError::Conflict { found: 2, .. }), "{error:?}");
    assert_eq!(store.get(&key("b")), None);
    assert_eq!(store.read(State::revision), 2);
}

#[tokio::test]
async fn an_update_that_changes_nothing_writes_nothing() {
    let (_dir, store) = fresh();
    let made = write_one(&store, Write::Create(config("a", "1"))).await.unwrap();
    let same = write_one(&store, Write::Update(config("a", "1"))).await.unwrap();
    assert_eq!(made, same);
    assert_eq!(store.read(State::revision), 1);
}

#[tokio::test]
async fn a_status_that_differs_by_less_than_a_second_writes_nothing() {
    let (_dir, store) = fresh();
    let mut pod = bound_pod("p", "Running");
    let start = |pod: &mut Object, nanos| {
        let Object::Pod(pod) = pod else { panic!("a pod") };
        let at = jiff::Timestamp::new(1_700_000_000, nanos).unwrap();
        pod.status.as_mut().unwrap().start_time = Some(at.into());
    };
    start(&mut pod, 5);
    write_one(&store, Write::Create(pod.clone())).await.unwrap();
    start(&mut pod, 700);
    write_one(&store, Write::UpdateStatus(pod)).await.unwrap();
    assert_eq!(store.read(State::revision), 1);
}

#[tokio::test]
async fn generation_grows_with_content_and_not_with_metadata_or_status() {
    let (_dir, store) = fresh();
    write_one(&store, Write::Create(bound_pod("p", "Pending"))).await.unwrap();
    let mut labelled = bound_pod("p", "Pending");
    labelled.metadata_mut().labels = Some(BTreeMap::from([("a".into(), "b".into())]));
    let now = write_one(&store, Write::Update(labelled.clone())).await.unwrap();
    assert_eq!(now.metadata().generation, Some(1));
    let now = write_one(&store, Write::UpdateStatus(bound_pod("p", "Running"))).await.unwrap();
    assert_eq!(now.metadata().generation, Some(1));
    assert_eq!(now.metadata().labels, labelled.metadata().labels, "a status write leaves the rest");
    let Object::Pod(pod) = &mut labelled else { panic!("a pod") };
    pod.spec.as_mut().unwrap().host_network = Some(true);
    let now = write_one(&store, Write::Update(labelled)).await.unwrap();
    assert_eq!(now.metadata().generation, Some(2));
    let Object::Pod(pod) = &*now else { panic!("a pod") };
    assert_eq!(pod.status.as_ref().unwrap().phase.as_deref(), Some("Running"), "an update leaves the status");
}

#[tokio::test]
async fn a_running_pod_waits_for_its_node_and_a_shorter_grace_takes_force() {
    let (_dir, store) = fresh();
    let made = write_one(&store, Write::Create(bound_pod("p", "Running"))).await.unwrap();
    let key = made.key();
    let delete = |grace_seconds| Write::Delete { key: key.clone(), uid: None, grace_seconds };
    let first = write_one(&store, delete(None)).await.unwrap();
    assert_eq!(first.metadata().deletion_grace_period_seconds, Some(30));
    assert!(first.metadata().deletion_timestamp.is_some());
    let longer = write_one(&store, delete(Some(1000))).await.unwrap();
    assert_eq!(longer, first);
    let shorter = write_one(&store, delete(Some(0))).await.unwrap();
    assert_eq!(shorter.metadata().deletion_grace_period_seconds, Some(0));
    let other = Write::Remove { key: key.clone(), uid: Some("another".into()) };
    assert!(matches!(write_one(&store, other).await, Err(WriteError::Conflict { .. })));
    write_one(&store, Write::Remove { key: key.clone(), uid: Some(made.uid().into()) }).await.unwrap();
    assert_eq!(store.get(&key), None);
}

#[tokio::test]
async fn a_finished_or_unbound_pod_and_anything_else_is_deleted_at_once() {
    let (_dir, store) = fresh();
    let mut unbound = bound_pod("u", "Pending");
    let Object::Pod(pod) = &mut unbound else { panic!("a pod") };
    pod.spec.as_mut().unwrap().node_name = None;
    for object in [bound_pod("done", "Succeeded"), unbound, config("c", "1")] {
        let key = object.key();
        write_one(&store, Write::Create(object)).await.unwrap();
        let delete = Write::Delete { key: key.clone(), uid: None, grace_seconds: None };
        write_one(&store, delete.clone()).await.unwrap();
        assert_eq!(store.get(&key), None);
        assert!(matches!(write_one(&store, delete).await, Err(WriteError::NotFound(_))));
    }
}

#[tokio::test]
async fn a_batch_may_build_on_itself() {
    let (_dir, store) = fresh();
    let batch = vec![
        Write::Create(bound_pod("p", "Pending")),
        Write::Update({
            let mut pod = bound_pod("p", "x");
            pod.metadata_mut().annotations = Some(BTreeMap::from([("a".into(), "b".into())]));
            pod
        }),
        Write::UpdateStatus(bound_pod("p", "Running")),
    ];
    let answers = store.write(batch).await.unwrap();
    let versions: Vec<_> = answers.iter().map(|o| o.resource_version()).collect();
    assert_eq!(versions, [1, 2, 3]);
    assert_eq!(answers[2].annotation("a"), Some("b"));
}

#[tokio::test]
async fn a_watch_replays_from_where_it_is_asked_then_follows() {
    let (_dir, store) = fresh();
    write_one(&store, Write::Create(config("a", "1"))).await.unwrap();
    let (_, from) = store.list(Kind::ConfigMap, None);
    write_one(&store, Write::Create(bound_pod("p", "Running"))).await.unwrap();
    write_one(&store, Write::Update(config("a", "2"))).await.unwrap();
    let mut watch = store.watch(Some(Kind::ConfigMap), from).unwrap();
    let event = watch.next().await.unwrap();
    assert_eq!((event.change, event.revision), (Change::Modified, 3));
    let delete = Write::Delete { key: key("a"), uid: None, grace_seconds: None };
    let (event, deleted) = tokio::join!(watch.next(), write_one(&store, delete));
    deleted.unwrap();
    let event = event.unwrap();
    assert_eq!((event.change, event.revision, event.object.resource_version()), (Change::Deleted, 4, 4));
    assert_eq!(watch.try_next(), Ok(None));
    assert!(store.watch(None, 5).is_err(), "what is yet to come cannot be watched from");
}

#[tokio::test]
async fn a_watcher_that_falls_behind_is_told() {
    let (_dir, store) = fresh();
    let mut slow = store.watch(None, 0).unwrap();
    let mut of_other_kind = store.watch(Some(Kind::Pod), 0).unwrap();
    let big = "x".repeat(64 << 10);
    for i in 0..100 {
        write_one(&store, Write::Create(config(&format!("c{i}"), &big))).await.unwrap();
        assert_eq!(of_other_kind.try_next(), Ok(None));
    }
    let expired = slow.next().await.unwrap_err();
    assert!(expired.from == 0 && expired.oldest > 0, "{expired:?}");
    let mut again = store.watch(None, expired.oldest).unwrap();
    assert_eq!(again.next().await.unwrap().revision, expired.oldest + 1);
    assert_eq!(of_other_kind.try_next(), Ok(None), "what it has seen cannot expire");
}

#[tokio::test]
async fn at_rest_only_the_newest_changes_can_be_watched_from() {
    let (_dir, store) = fresh();
    let mut follower = store.watch(None, 0).unwrap();
    for i in 0..100 {
        write_one(&store, Write::Create(config(&format!("c{i}"), &"x".repeat(8 << 10)))).await.unwrap();
        assert_eq!(follower.next().await.unwrap().revision, i + 1);
    }
    assert!(store.watch(None, 0).is_ok());
    store.forget_changes();
    assert!(store.watch(None, 0).is_err());
    assert!(store.watch(None, 99).is_ok());
    write_one(&store, Write::Create(config("last", ""))).await.unwrap();
    assert_eq!(follower.next().await.unwrap().revision, 101, "what it has seen cannot expire");
}

#[tokio::test]
async fn a_watch_ends_when_the_store_is_closed() {
    let (_dir, store) = fresh();
    let mut watch = store.watch(None, 0).unwrap();
    drop(store);
    assert!(watch.next().await.is_err());
}

#[tokio::test]
async fn many_writers_all_get_their_answer_and_revisions_are_unique() {
    let (_dir, store) = fresh();
    let writes = (0..200).map(|i| {
        let batch = vec![Write::Create(config(&format!("c{i}"), "1"))];
        store.write(batch)
    });
    let answers = futures::future::try_join_all(writes).await.unwrap();
    let mut versions: Vec<_> = answers.iter().map(|a| a[0].resource_version()).collect();
    versions.sort_unstable();
    assert_eq!(versions, (1..=200).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_second_opener_is_refused_by_name_until_the_first_is_gone() {
    let (dir, store) = fresh();
    let error = Store::open(dir.path()).unwrap_err();
    let OpenError::Locked { lock, holder } = &error else { panic!("{error:?}") };
    assert!(lock.ends_with("store.lock"));
    assert_eq!(*holder, std::process::id().to_string());
    drop(store);
    Store::open(dir.path()).unwrap();
}

#[tokio::test]
async fn the_file_is_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let (dir, _store) = fresh();
    for file in ["store.redb", JOURNAL, "committed"] {
        let mode = std::fs::metadata(dir.path().join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
}

#[tokio::test]
async fn a_newer_format_is_refused_by_its_number() {
    let (dir, store) = fresh();
    drop(store);
    let database = redb::Database::open(dir.path().join("store.redb")).unwrap();
    let transaction = database.begin_write().unwrap();
    let numbers = redb::TableDefinition::<&str, u64>::new("numbers");
    transaction.open_table(numbers).unwrap().insert("format", 7).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let error = Store::open(dir.path()).unwrap_err();
    assert!(matches!(error, OpenError::Newer { found: 7, .. }), "{error:?}");
}

/// The first file of a store's journal.
const JOURNAL: &str = "journal/0000000001.journal";

#[tokio::test]
async fn a_newer_journal_is_refused_by_its_number() {
    let (dir, store) = fresh();
    drop(store);
    let path = dir.path().join(JOURNAL);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[8] = 9;
    std::fs::write(&path, bytes).unwrap();
    let error = Store::open(dir.path()).unwrap_err();
    assert!(matches!(error, OpenError::Newer { found: 9, .. }), "{error:?}");
}

/// A closed store with a few hundred objects, and the path of its journal.
async fn filled() -> (TempDir, std::path::PathBuf) {
    let (dir, store) = fresh();
    let batch = (0..300).map(|i| Write::Create(config(&format!("c{i}"), &"v".repeat(200)))).collect();
    store.write(batch).await.unwrap();
    drop(store);
    let path = dir.path().join(JOURNAL);
    (dir, path)
}

#[tokio::test]
async fn a_torn_file_is_an_error_and_never_an_empty_store() {
    for keep in [0, 10, 100, 4096, 5000, 50_000] {
        let (dir, path) = filled().await;
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..keep]).unwrap();
        let error = Store::open(dir.path()).unwrap_err();
        assert!(!matches!(error, OpenError::Locked { .. } | OpenError::Newer { .. }), "{keep}: {error:?}");
        assert!(std::fs::metadata(&path).unwrap().len() > 0 || keep == 0);
    }
}

/// What a store holds, by name.
fn held(store: &Store) -> BTreeMap<String, u64> {
    let (objects, _) = store.list(Kind::ConfigMap, None);
    objects.iter().map(|object| (object.name().to_owned(), object.resource_version())).collect()
}

/// Opens a store whose file was changed to `bytes`: it says what is wrong, or has everything.
fn is_healed(dir: &Path, bytes: &[u8], whole: &BTreeMap<String, u64>, what: &str) -> bool {
    std::fs::write(dir.join(JOURNAL), bytes).unwrap();
    // How far it was committed is noted beside it, and goes on with each look.
    std::fs::copy(dir.join("committed.before"), dir.join("committed")).unwrap();
    match Store::open(dir) {
        Ok(store) => {
            assert_eq!(held(&store), *whole, "{what}: misread");
            true
        }
        Err(error) => {
            let is_clear = matches!(error, OpenError::Damaged { .. } | OpenError::Database { .. });
            assert!(is_clear, "{what}: {error:?}");
            false
        }
    }
}

#[tokio::test]
async fn a_file_cut_anywhere_or_with_garbage_behind_is_refused_or_whole() {
    let (dir, path) = filled().await;
    let store = Store::open(dir.path()).unwrap();
    let objects = held(&store);
    drop(store);
    let whole = std::fs::read(&path).unwrap();
    std::fs::copy(dir.path().join("committed"), dir.path().join("committed.before")).unwrap();
    let used = whole.iter().rposition(|byte| *byte != 0).unwrap();
    let mut refused = 0;
    let step = used / 60;
    for at in (0..used).step_by(step).flat_map(|at| [at, at & !4095, at & !511]) {
        refused += usize::from(!is_healed(dir.path(), &whole[..at], &objects, &format!("cut at {at}")));
    }
    assert!(refused > 100, "{refused}");
    let mut healed = 0;
    for length in [1, 511, 512, 4096, 100_000] {
        let mut bytes = whole.clone();
        bytes.resize(whole.len() + length, 0xa5);
        healed += usize::from(is_healed(dir.path(), &bytes, &objects, &format!("{length} behind")));
    }
    // What is behind the last write may be of one that was torn.
    assert!(healed > 0, "{healed}");
    for at in (0..used).step_by(step) {
        let mut bytes = whole.clone();
        let end = (at + 512).min(bytes.len());
        bytes[at..end].fill(0xa5);
        is_healed(dir.path(), &bytes, &objects, &format!("garbage at {at}"));
    }
    assert!(is_healed(dir.path(), &whole, &objects, "whole"));
}

#[tokio::test]
async fn a_changed_byte_in_an_object_is_found() {
    let (dir, path) = filled().await;
    let store = Store::open(dir.path()).unwrap();
    write_one(&store, Write::Create(config("later", "1"))).await.unwrap();
    drop(store);
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.windows(8).position(|window| window == b"vvvvvvvv").unwrap();
    bytes[at] = b'w';
    std::fs::write(&path, bytes).unwrap();
    let error = Store::open(dir.path()).unwrap_err();
    let message = error.to_string();
    assert!(matches!(error, OpenError::Damaged { .. }) && message.contains("checksum"), "{message}");
}

#[tokio::test]
async fn the_newest_revision_survives_a_reopen_though_it_was_a_deletion() {
    let (dir, store) = fresh();
    write_one(&store, Write::Create(config("a", "1"))).await.unwrap();
    write_one(&store, Write::Create(config("b", "1"))).await.unwrap();
    write_one(&store, Write::Remove { key: key("b"), uid: None }).await.unwrap();
    drop(store);
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(store.read(State::revision), 3);
    let deleted = store.watch(None, 2).unwrap().next().await.unwrap();
    assert_eq!((deleted.revision, deleted.change), (3, Change::Deleted));
    let mut watch = store.watch(None, 3).unwrap();
    write_one(&store, Write::Create(config("b", "1"))).await.unwrap();
    assert_eq!(watch.next().await.unwrap().revision, 4);
}
