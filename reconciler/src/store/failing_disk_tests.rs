//! A disk that is full, and one whose last word is lost.

use super::files::{Files, HostFiles, How, OpenFile};
use super::*;
use manifests::k8s_openapi::api::core::v1::ConfigMap;
use redb::{Database, DatabaseError};
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, Ordering};
use tempfile::TempDir;

/// More operations than any test does.
const ENOUGH: i64 = 1 << 40;

/// Files of which the journal takes a number of writes and syncs, then none.
#[derive(Debug, Clone)]
struct Failing(Arc<AtomicI64>);

impl Failing {
    fn take(&self) -> io::Result<()> {
        let is_left = self.0.fetch_sub(1, Ordering::SeqCst) > 0;
        if is_left { Ok(()) } else { Err(io::ErrorKind::StorageFull.into()) }
    }
}

impl Files for Failing {
    fn make_folder(&self, path: &Path) -> io::Result<()> {
        HostFiles.make_folder(path)
    }
    fn open(&self, path: &Path, how: How) -> io::Result<Box<dyn OpenFile>> {
        let file = HostFiles.open(path, how)?;
        if path.parent().is_some_and(|folder| folder.ends_with("journal")) {
            return Ok(Box::new(FailingFile { file, files: self.clone() }));
        }
        Ok(file)
    }
    fn database(&self, path: &Path, how: How) -> Result<Database, DatabaseError> {
        HostFiles.database(path, how)
    }
    fn len(&self, path: &Path) -> io::Result<Option<u64>> {
        HostFiles.len(path)
    }
    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        HostFiles.list(folder)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.take()?;
        HostFiles.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        HostFiles.remove(path)
    }
    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        self.take()?;
        HostFiles.sync_folder(path)
    }
}

#[derive(Debug)]
struct FailingFile {
    file: Box<dyn OpenFile>,
    files: Failing,
}

impl OpenFile for FailingFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<usize> {
        self.file.read_at(offset, out)
    }
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.files.take()?;
        self.file.write_at(offset, bytes)
    }
    fn sync(&self) -> io::Result<()> {
        // What is written and not synced may be there after all.
        self.files.take()?;
        self.file.sync()
    }
}

/// A store in `dir` whose disk takes as many operations as `left` says.
fn open(dir: &Path, left: &Arc<AtomicI64>) -> Store {
    let files = Arc::new(Failing(Arc::clone(left)));
    Store::open_with(StoreOptions { files, ..StoreOptions::alone(dir) }).unwrap()
}

fn create(name: &str) -> Vec<Write> {
    let mut map = ConfigMap::default();
    map.metadata.namespace = Some("default".into());
    map.metadata.name = Some(name.into());
    map.data = Some([("k".into(), "v".repeat(3000))].into());
    vec![Write::Create(map.into())]
}

fn names(store: &Store) -> Vec<String> {
    store.list(Kind::ConfigMap, None).0.iter().map(|object| object.name().to_owned()).collect()
}

/// Writes on a disk that fails after `budget` more steps, for as many as `retries` more, and then works:
/// what is seen then is what is on disk. Says how many writes were refused.
async fn fails(budget: i64, retries: i64) -> usize {
    let dir = TempDir::new().unwrap();
    let left = Arc::new(AtomicI64::new(ENOUGH));
    let store = open(dir.path(), &left);
    store.write(create("a")).await.unwrap();

    left.store(budget, Ordering::SeqCst);
    let full = store.write(create("b")).await;
    let mut refused = 0;
    if full.is_err() {
        assert!(matches!(full, Err(WriteError::Storage(_))), "{full:?}");
        assert_eq!(names(&store), ["a"], "what was refused is not seen");
        let again = store.write(create("c")).await;
        assert!(matches!(again, Err(WriteError::Storage(_))), "the disk is still full: {again:?}");
        refused = 2;
        // It fails once more, further on.
        left.store(retries, Ordering::SeqCst);
        refused += usize::from(store.write(create("d")).await.is_err());
    }
    left.store(ENOUGH, Ordering::SeqCst);
    store.write(create("e")).await.unwrap();
    let seen = names(&store);
    assert!(full.is_err() || seen.contains(&"b".to_owned()), "{budget}: {seen:?}");
    drop(store);
    assert_eq!(names(&Store::open(dir.path()).unwrap()), seen, "{budget}");
    refused
}

#[tokio::test]
async fn after_a_failure_at_any_step_the_store_goes_on_and_is_what_is_on_disk() {
    let mut refused = 0;
    // A write and a sync; and of a new file a write, a sync, a name and the folder's sync.
    for budget in 0..3 {
        for retries in 0..6 {
            refused += fails(budget, retries).await;
        }
    }
    assert!(refused > 24, "the disk refused {refused} writes");
}
