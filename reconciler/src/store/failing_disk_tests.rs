//! A disk that is full, and one whose last word is lost.

use super::files::{Files, HostFiles, How, OpenFile};
use super::*;
use manifests::k8s_openapi::api::core::v1::ConfigMap;
use redb::backends::FileBackend;
use redb::{Database, DatabaseError, StorageBackend};
use std::fs::OpenOptions;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, Ordering};
use tempfile::TempDir;

/// More operations than any test does.
const ENOUGH: i64 = 1 << 40;

/// Files of which the databases take a number of writes and syncs, then none.
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
        HostFiles.open(path, how)
    }
    fn database(&self, path: &Path, how: How) -> Result<Database, DatabaseError> {
        if how != How::Existing {
            return HostFiles.database(path, how);
        }
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let file = FailingFile { file: FileBackend::new(file)?, files: self.clone() };
        redb::Builder::new().create_with_backend(file)
    }
    fn len(&self, path: &Path) -> io::Result<Option<u64>> {
        HostFiles.len(path)
    }
    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        HostFiles.list(folder)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        HostFiles.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        HostFiles.remove(path)
    }
    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        HostFiles.sync_folder(path)
    }
}

#[derive(Debug)]
struct FailingFile {
    file: FileBackend,
    files: Failing,
}

impl StorageBackend for FailingFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.files.take()?;
        self.file.set_len(len)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.files.take()?;
        self.file.sync_data()
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.files.take()?;
        self.file.write(offset, data)
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

#[tokio::test]
async fn after_a_failure_at_any_step_the_store_goes_on_and_is_what_is_on_disk() {
    let (mut failed, mut undecided) = (0, 0);
    for budget in 0.. {
        let dir = TempDir::new().unwrap();
        let left = Arc::new(AtomicI64::new(ENOUGH));
        let store = open(dir.path(), &left);
        store.write(create("a")).await.unwrap();

        left.store(budget, Ordering::SeqCst);
        let full = store.write(create("b")).await;
        if full.is_err() {
            assert!(matches!(full, Err(WriteError::Storage(_))), "{full:?}");
            assert_eq!(names(&store), ["a"], "what was refused is not seen");
            let again = store.write(create("c")).await;
            assert!(matches!(again, Err(WriteError::Storage(_))), "the disk is still full: {again:?}");
            failed += 1;
        }

        left.store(ENOUGH, Ordering::SeqCst);
        store.write(create("d")).await.unwrap();
        let seen = names(&store);
        assert!(full.is_err() || seen.contains(&"b".to_owned()), "{budget}: {seen:?}");
        undecided += usize::from(full.is_err() && seen.contains(&"b".to_owned()));
        drop(store);
        assert_eq!(names(&Store::open(dir.path()).unwrap()), seen, "{budget}");
        if full.is_ok() {
            break;
        }
    }
    assert!(failed > 3, "the disk failed at {failed} steps, {undecided} of them after the commit");
}
