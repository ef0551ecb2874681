//! When a cluster has lost its majority, or its objects: a copy of the objects in one file, and
//! a new cluster of one that begins with what is left.
//!
//! The store that was there is never removed: it stands beside the new one after. The new cluster
//! has another id, so members of the old one that come back are refused, and not mixed in.

use super::files::HostFiles;
use super::log::{Folder, Identity};
use super::machine::Machine;
use super::migrate::begin;
use super::open_error::io_error;
use super::snapshot::{Snapshots, read_file};
use super::{OpenError, Shared, State, Store, Visible, replica};
use crate::peer::Peer;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The resource version goes on so far after the copy's, for what was written after the copy was
/// made: clients that have seen that must not take something new for it.
const LEAP: u64 = 1_000_000_000;

/// A store that began anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rescued {
    /// How many objects it has.
    pub objects: usize,
    /// Where the store stands that was there before, if there was one.
    pub before: Option<PathBuf>,
}

impl Store {
    /// A file in `folder` holds all objects as they are now; says which. `folder` is made.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save(&self, folder: &Path) -> Result<PathBuf, OpenError> {
        let state = self.read(Clone::clone);
        let head = self.cluster().head();
        let snapshots = Snapshots::open(Arc::new(HostFiles), folder.to_owned(), false)?;
        Ok(snapshots.write(&head, &state)?)
    }
}

/// The store in `dir` holds what `file`, which [`Store::save`] wrote, holds, and is a cluster of one.
/// No agent may run.
///
/// # Errors
/// If `file` is none, or damaged; if the store is in use; if the disk refuses. Then what was there
/// is still there.
pub fn restore(dir: &Path, file: &Path, me: &Peer) -> Result<Rescued, OpenError> {
    let state = read_file(file)?;
    drop(lock(dir)?);
    replace(dir, me, state)
}

/// The store in `dir` holds what it held, also what it did not know to be agreed on, and is a
/// cluster of one. No agent may run.
///
/// # Errors
/// As [`Store::open`], and if the disk refuses. Then what was there is still there.
pub fn reset(dir: &Path, me: &Peer) -> Result<Rescued, OpenError> {
    let state = whole_state(dir)?;
    replace(dir, me, state)
}

/// The store in `dir` is put aside; says where. At its next start the node is a member without
/// objects, and gets all from the others. No agent may run.
///
/// # Errors
/// If the store is in use, or cannot be moved.
pub fn put_aside(dir: &Path) -> Result<Option<PathBuf>, OpenError> {
    if !dir.try_exists().map_err(io_error("look for", dir))? {
        return Ok(None);
    }
    drop(lock(dir)?);
    aside(dir)
}

/// Everything that the log of the store in `dir` comes to.
fn whole_state(dir: &Path) -> Result<State, OpenError> {
    if !super::StoreOptions::has_begun(dir) {
        return Err(OpenError::Damaged { path: dir.to_owned(), what: "there is no store in it".into() });
    }
    let folder = lock(dir)?;
    folder.firm()?;
    let (journal, facts, _) = folder.load()?;
    let all = journal.entries(0..u64::MAX, usize::MAX);
    let (mut entries, _) = all.map_err(|source| OpenError::Database { path: dir.join("journal"), source })?;
    let snapshots = Snapshots::open(Arc::new(HostFiles), dir.join("snapshots"), false)?;
    let (head, state) = replica::start_state(&snapshots, &facts, dir)?;
    entries.retain(|entry| Some(entry.log_id) > head.last);
    let revision = state.revision();
    let shared = Arc::new(Shared(RwLock::new(Visible { state, ring: super::watch::Ring::new(revision) })));
    let machine = Machine::new(
        Arc::clone(&shared),
        watch::Sender::new(revision),
        head,
        snapshots,
        CancellationToken::new(),
    );
    machine.replay(entries).map_err(OpenError::Log)?;
    let state = shared.read().state.clone();
    Ok(state)
}

/// The folder `dir`, which is made; no other process has it.
fn lock(dir: &Path) -> Result<Folder, OpenError> {
    Folder::open(dir, Arc::new(HostFiles))
}

fn replace(dir: &Path, me: &Peer, mut state: State) -> Result<Rescued, OpenError> {
    state.restart_at(state.revision().saturating_add(LEAP));
    let mut fresh = dir.as_os_str().to_owned();
    fresh.push(".new");
    let fresh = PathBuf::from(fresh);
    if fresh.try_exists().map_err(io_error("look for", &fresh))? {
        // Of a try that was cut short.
        fs::remove_dir_all(&fresh).map_err(io_error("remove", &fresh))?;
    }
    let identity = Identity { cluster: replica::new_cluster_id(), node: 1 };
    begin(&lock(&fresh)?, &identity, me, &state)?;
    let before = aside(dir)?;
    fs::rename(&fresh, dir).map_err(io_error("rename", &fresh))?;
    sync_parent(dir)?;
    Ok(Rescued { objects: state.len(), before })
}

/// Gives `dir` a name that tells when it was put aside. An empty one is removed.
fn aside(dir: &Path) -> Result<Option<PathBuf>, OpenError> {
    if !super::StoreOptions::has_begun(dir) {
        fs::remove_dir_all(dir).map_err(io_error("remove", dir))?;
        return Ok(None);
    }
    let mut name = dir.as_os_str().to_owned();
    name.push(jiff::Timestamp::now().strftime(".before-%Y%m%dT%H%M%S%.9fZ").to_string());
    let before = PathBuf::from(name);
    fs::rename(dir, &before).map_err(io_error("rename", dir))?;
    sync_parent(dir)?;
    Ok(Some(before))
}

fn sync_parent(dir: &Path) -> Result<(), OpenError> {
    let parent = dir.parent().unwrap_or(dir);
    fs::File::open(parent).and_then(|folder| folder.sync_all()).map_err(io_error("sync", parent))
}

#[cfg(test)]
mod tests {
    use super::super::simulation::{create, key, values};
    use super::*;

    fn me() -> Peer {
        Peer { name: "n".into(), address: "192.0.2.1:7443".into(), zone: String::new() }
    }

    async fn store_with(dir: &Path, names: &[&str]) -> u64 {
        let store = Store::open(dir).unwrap();
        for name in names {
            store.write(create(name, "1")).await.unwrap();
        }
        store.read(State::revision)
    }

    #[tokio::test]
    async fn a_copy_brings_back_what_was_when_it_was_made() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("store");
        let store = Store::open(&dir).unwrap();
        store.write(create("kept", "1")).await.unwrap();
        let copy = store.save(&root.path().join("copies")).unwrap();
        store.write(create("later", "1")).await.unwrap();
        let (revision, id) = (store.read(State::revision), store.cluster().id().to_owned());
        let refused = restore(&dir, &copy, &me()).unwrap_err();
        assert!(matches!(refused, OpenError::Locked { .. }), "{refused:?}");
        drop(store);
        let rescued = restore(&dir, &copy, &me()).unwrap();
        assert_eq!(rescued.objects, 1);
        assert!(rescued.before.unwrap().join("store.redb").exists());
        let store = Store::open(&dir).unwrap();
        assert_eq!(values(&store).keys().collect::<Vec<_>>(), ["kept"]);
        assert!(store.read(State::revision) > revision);
        assert_ne!(store.cluster().id(), id);
        store.write(create("new", "1")).await.unwrap();
        assert!(store.get(&key("new")).is_some());
    }

    #[tokio::test]
    async fn a_reset_keeps_every_object_and_a_damaged_copy_changes_nothing() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("store");
        store_with(&dir, &["a", "b"]).await;
        let copy = root.path().join("copy");
        fs::write(&copy, b"KEELSNAP and then nothing of use").unwrap();
        let refused = restore(&dir, &copy, &me()).unwrap_err();
        assert!(matches!(refused, OpenError::Damaged { .. }), "{refused:?}");
        assert_eq!(reset(&dir, &me()).unwrap().objects, 2);
        let store = Store::open(&dir).unwrap();
        assert_eq!(values(&store).keys().collect::<Vec<_>>(), ["a", "b"]);
        drop(store);
        assert!(put_aside(&dir).unwrap().is_some());
        let refused = reset(&dir, &me()).unwrap_err();
        assert!(matches!(refused, OpenError::Damaged { .. }), "{refused:?}");
    }
}
