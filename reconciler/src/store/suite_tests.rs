//! openraft's own suite for storages, on ours; and stores of before.

use super::files::HostFiles;
use super::log::{Facts, Folder, Hint, Identity, LogStore, checksum};
use super::machine::Machine;
use super::raft::{Config, StorageError as RaftStorageError};
use super::snapshot::{Head, Snapshots};
use super::wire::{EntryMessage, LogIdMessage, VoteMessage};
use super::*;
use openraft::testing::{StoreBuilder, Suite};
use prost::Message as _;
use redb::TableDefinition;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

struct Builder;

impl StoreBuilder<Config, LogStore, Machine, TempDir> for Builder {
    async fn build(&self) -> Result<(TempDir, LogStore, Machine), RaftStorageError> {
        let dir = TempDir::new().unwrap();
        let folder = Folder::open(dir.path(), Arc::new(HostFiles)).unwrap();
        let identity = Identity { cluster: "test".into(), node: 1 };
        folder.create(&Facts { identity, ..Facts::default() }, Vec::new()).unwrap();
        let (journal, facts, entries) = folder.load().unwrap();
        let log = LogStore::new(journal, facts, entries, Hint::open(&HostFiles, dir.path()), true).unwrap();
        let shared = Arc::new(Shared::default());
        let changed = tokio::sync::watch::Sender::new(0);
        let snapshots = Snapshots::open(Arc::new(HostFiles), dir.path().join("snapshots"), true).unwrap();
        Ok((dir, log, Machine::new(shared, changed, Head::default(), snapshots, CancellationToken::new())))
    }
}

#[test]
fn openrafts_suite_for_storages_passes() {
    Suite::test_all(Builder).unwrap();
}

/// Writes a store as the version before this one did.
fn format_1(dir: &Path, objects: &[(&str, &str)]) {
    std::fs::create_dir_all(dir).unwrap();
    let database = redb::Database::create(dir.join("store.redb")).unwrap();
    let transaction = database.begin_write().unwrap();
    {
        let mut table = transaction.open_table(TableDefinition::<&str, &[u8]>::new("objects")).unwrap();
        for (name, json) in objects {
            let mut value = checksum(json.as_bytes()).to_le_bytes().to_vec();
            value.extend_from_slice(json.as_bytes());
            table.insert(*name, value.as_slice()).unwrap();
        }
        let mut numbers = transaction.open_table(TableDefinition::<&str, u64>::new("numbers")).unwrap();
        numbers.insert("format", 1).unwrap();
        numbers.insert("revision", 41).unwrap();
    }
    transaction.commit().unwrap();
}

const OLD: &str = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"old","namespace":"default","resourceVersion":"41","uid":"u"},"data":{"k":"v"}}"#;

#[tokio::test]
async fn a_store_of_the_format_before_is_taken_over_and_goes_on() {
    let dir = TempDir::new().unwrap();
    format_1(dir.path(), &[("ConfigMap/default/old", OLD)]);
    for look in 0..2 {
        let store = Store::open(dir.path()).unwrap();
        let (objects, revision) = store.list(Kind::ConfigMap, None);
        assert_eq!((objects.len(), revision), (1, 41), "look {look}");
        assert_eq!(objects[0].uid(), "u");
    }
    let store = Store::open(dir.path()).unwrap();
    let mut next = (*store.list(Kind::ConfigMap, None).0[0]).clone();
    next.metadata_mut().labels = Some([("a".to_owned(), "b".to_owned())].into());
    let left = store.write(vec![Write::Update(next)]).await.unwrap();
    assert_eq!(left[0].resource_version(), 42);
}

/// Turns the closed store in `dir` into one of format 2, whose log was a table of a database.
fn into_format_2(dir: &Path) {
    let folder = Folder::open(dir, Arc::new(HostFiles)).unwrap();
    let (journal, facts, _) = folder.load().unwrap();
    let (entries, _) = journal.entries(0..u64::MAX, usize::MAX).unwrap();
    drop(journal);
    std::fs::remove_dir_all(dir.join("journal")).unwrap();
    std::fs::remove_file(dir.join("store.redb")).unwrap();
    let database = redb::Database::create(dir.join("store.redb")).unwrap();
    let transaction = database.begin_write().unwrap();
    {
        let mut table = transaction.open_table(TableDefinition::<u64, &[u8]>::new("entries")).unwrap();
        for entry in &entries {
            let bytes = EntryMessage::from(entry).encode_to_vec();
            let value = [checksum(&bytes).to_le_bytes().to_vec(), bytes].concat();
            table.insert(entry.log_id.index, value.as_slice()).unwrap();
        }
        let mut numbers = transaction.open_table(TableDefinition::<&str, u64>::new("numbers")).unwrap();
        numbers.insert("format", 2).unwrap();
        let mut table = transaction.open_table(TableDefinition::<&str, &[u8]>::new("facts")).unwrap();
        table.insert("identity", facts.identity.encode_to_vec().as_slice()).unwrap();
        let purged = LogIdMessage::from(facts.purged.unwrap()).encode_to_vec();
        table.insert("purged", purged.as_slice()).unwrap();
        let vote = VoteMessage::from(facts.vote.unwrap()).encode_to_vec();
        table.insert("vote", vote.as_slice()).unwrap();
    }
    transaction.commit().unwrap();
}

#[tokio::test]
async fn a_store_whose_log_was_a_database_goes_on_as_the_member_that_it_was() {
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path()).unwrap();
    for number in 0..50 {
        store.write(super::simulation::create(&format!("o{number}"), "1")).await.unwrap();
    }
    let (before, id) = (store.list(Kind::ConfigMap, None), store.cluster().id().to_owned());
    let term = store.cluster().term();
    drop(store);
    into_format_2(dir.path());
    // A migration that was cut short left a journal that is not counted.
    std::fs::create_dir(dir.path().join("journal")).unwrap();
    std::fs::write(dir.path().join("journal/0000000001.journal"), b"half").unwrap();
    for look in 0..2 {
        let store = Store::open(dir.path()).unwrap();
        assert_eq!(store.list(Kind::ConfigMap, None), before, "look {look}");
        assert_eq!(store.cluster().id(), id);
        assert!(store.cluster().term() > term, "its vote was taken over");
    }
    let store = Store::open(dir.path()).unwrap();
    store.write(super::simulation::create("new", "1")).await.unwrap();
    assert_eq!(store.read(State::revision), before.1 + 1);
}

#[tokio::test]
async fn a_damaged_log_that_was_a_database_is_refused_and_left_as_it_is() {
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path()).unwrap();
    store.write(super::simulation::create("o", &"v".repeat(3000))).await.unwrap();
    drop(store);
    into_format_2(dir.path());
    let path = dir.path().join("store.redb");
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.windows(8).position(|window| window == b"vvvvvvvv").unwrap();
    bytes[at] = b'w';
    std::fs::write(&path, &bytes).unwrap();
    for _ in 0..2 {
        let error = Store::open(dir.path()).unwrap_err();
        assert!(matches!(error, OpenError::Damaged { .. }), "{error:?}");
    }
    let left = std::fs::read(&path).unwrap();
    assert!(left.windows(8).any(|window| window == b"wvvvvvvv"), "what it held is still there");
}

#[test]
fn a_damaged_store_of_the_format_before_is_left_as_it_is() {
    let dir = TempDir::new().unwrap();
    format_1(dir.path(), &[("ConfigMap/default/old", &OLD[..60])]);
    let before = std::fs::read(dir.path().join("store.redb")).unwrap();
    let error = Store::open(dir.path()).unwrap_err();
    assert!(matches!(error, OpenError::Damaged { .. }), "{error:?}");
    assert_eq!(std::fs::read(dir.path().join("store.redb")).unwrap().len(), before.len());
}

#[tokio::test]
async fn a_damaged_or_missing_snapshot_is_an_error_and_never_an_empty_store() {
    let dir = TempDir::new().unwrap();
    format_1(dir.path(), &[("ConfigMap/default/old", OLD)]);
    drop(Store::open(dir.path()).unwrap());
    let folder = dir.path().join("snapshots");
    let path = std::fs::read_dir(&folder).unwrap().next().unwrap().unwrap().path();
    let whole = std::fs::read(&path).unwrap();
    for cut in 0..whole.len() {
        std::fs::write(&path, &whole[..cut]).unwrap();
        let error = Store::open(dir.path()).unwrap_err();
        assert!(matches!(error, OpenError::Damaged { .. }), "{cut}: {error:?}");
    }
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x20;
        std::fs::write(&path, bytes).unwrap();
        let error = Store::open(dir.path()).unwrap_err();
        assert!(matches!(error, OpenError::Damaged { .. } | OpenError::Newer { .. }), "{at}: {error:?}");
    }
    std::fs::remove_file(&path).unwrap();
    let error = Store::open(dir.path()).unwrap_err();
    assert!(matches!(error, OpenError::Damaged { .. }), "{error:?}");
    std::fs::write(&path, whole).unwrap();
    assert_eq!(Store::open(dir.path()).unwrap().list(Kind::ConfigMap, None).1, 41);
}
