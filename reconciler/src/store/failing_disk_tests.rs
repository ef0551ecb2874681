//! A disk that is full, and one whose last word is lost.

use super::*;
use manifests::k8s_openapi::api::core::v1::ConfigMap;
use redb::backends::FileBackend;
use redb::{DatabaseError, StorageBackend};
use std::fs::OpenOptions;
use std::io;
use std::sync::atomic::{AtomicI64, Ordering};
use tempfile::TempDir;

/// More operations than any test does.
const ENOUGH: i64 = 1 << 40;

/// A file that takes a number of writes and syncs, then none.
#[derive(Debug)]
struct Failing {
    file: FileBackend,
    left: Arc<AtomicI64>,
}

impl Failing {
    fn take(&self) -> io::Result<()> {
        let is_left = self.left.fetch_sub(1, Ordering::SeqCst) > 0;
        if is_left { Ok(()) } else { Err(io::ErrorKind::StorageFull.into()) }
    }
}

impl StorageBackend for Failing {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.take()?;
        self.file.set_len(len)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.take()?;
        self.file.sync_data()
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.take()?;
        self.file.write(offset, data)
    }
}

/// A store in `dir` whose disk takes as many operations as `left` says.
fn open(dir: &Path, left: &Arc<AtomicI64>) -> Store {
    let left = Arc::clone(left);
    let opener = move |path: &Path| {
        let file = OpenOptions::new().read(true).write(true).open(path).map_err(redb::StorageError::from)?;
        let file = FileBackend::new(file)?;
        let failing = Failing { file, left: Arc::clone(&left) };
        redb::Builder::new().create_with_backend(failing) as Result<_, DatabaseError>
    };
    Store::open_with(StoreOptions { opener: Arc::new(opener), ..StoreOptions::alone(dir) }).unwrap()
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
