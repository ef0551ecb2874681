//! A disk in memory that forgets, fails and fills up as a seed decides.
//!
//! It has two faces: what processes see (the page cache), and what is left after a power cut
//! (the platter). A sync makes them one. A sync that fails does what Linux does: the pages count
//! as written from then on, whether they were or not, and may be read back old or new.

use super::super::files::{Files, How, OpenFile};
use super::chance::Chance;
use redb::{Database, DatabaseError, StorageBackend};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// What a disk writes whole or not at all.
const SECTOR: usize = 512;

/// What a disk does badly, now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in super::super) struct Faults {
    /// Syncs say EIO (or, of a thin device, ENOSPC), and lose some of what they were to write.
    pub(in super::super) loses: bool,
    /// Writes say EIO.
    pub(in super::super) refuses_writes: bool,
    /// Reads say EIO.
    pub(in super::super) refuses_reads: bool,
    /// There is no room for what is not there yet.
    pub(in super::super) is_full: bool,
    /// How long a commit takes.
    pub(in super::super) delay: Duration,
}

/// The disk of one member; it outlives the processes. Clones are the same.
#[derive(Debug, Clone)]
pub(in super::super) struct Disk(Arc<Mutex<Platter>>);

/// The disk as one process has it. After the process it takes and gives nothing.
#[derive(Debug, Clone)]
struct Mount {
    disk: Disk,
    process: u64,
}

#[derive(Debug)]
struct Platter {
    /// As processes see them.
    names: BTreeMap<PathBuf, usize>,
    /// As they are after a power cut.
    kept_names: BTreeMap<PathBuf, usize>,
    /// What became of names since, in order.
    renamed: Vec<Renamed>,
    contents: Vec<Content>,
    faults: Faults,
    /// Writes and syncs until the power fails.
    fuse: Option<u64>,
    process: u64,
    chance: Chance,
}

#[derive(Debug, Clone)]
enum Renamed {
    Made(PathBuf, usize),
    Moved(PathBuf, PathBuf),
    Removed(PathBuf),
}

#[derive(Debug, Default)]
struct Content {
    seen: Vec<u8>,
    kept: Vec<u8>,
    /// Sectors that a sync has to write.
    dirty: BTreeSet<usize>,
    /// Sectors that have room on the disk.
    placed: BTreeSet<usize>,
    /// The shortest that it was since the last sync.
    shortest: Option<usize>,
}

impl Disk {
    pub(in super::super) fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(Platter {
            names: BTreeMap::new(),
            kept_names: BTreeMap::new(),
            renamed: Vec::new(),
            contents: Vec::new(),
            faults: Faults::default(),
            fuse: None,
            process: 0,
            chance: Chance::new(seed),
        })))
    }

    fn platter(&self) -> MutexGuard<'_, Platter> {
        self.0.lock().unwrap()
    }

    /// The disk for a new process; those before are dead.
    pub(in super::super) fn mount(&self) -> Arc<dyn Files> {
        let process = self.end_processes();
        Arc::new(Mount { disk: self.clone(), process })
    }

    /// Whoever has it open is dead: nothing more is written. What was written is still seen.
    pub(in super::super) fn end_processes(&self) -> u64 {
        let mut platter = self.platter();
        platter.process += 1;
        platter.process
    }

    /// The power fails when so many more writes and syncs were made. [`Disk::cut_power`] has to follow.
    pub(in super::super) fn cut_power_after(&self, count: u64) {
        self.platter().fuse = Some(count);
    }

    /// The power fails now: of what was not synced, some is there after, some is not.
    pub(in super::super) fn cut_power(&self) {
        let mut platter = self.platter();
        platter.process += 1;
        platter.fuse = None;
        platter.forget();
    }

    pub(in super::super) fn set(&self, faults: Faults) {
        self.platter().faults = faults;
    }

    pub(in super::super) fn faults(&self) -> Faults {
        self.platter().faults
    }

    /// Everything on it is gone.
    pub(in super::super) fn erase(&self) {
        let mut platter = self.platter();
        platter.process += 1;
        platter.names.clear();
        platter.kept_names.clear();
        platter.renamed.clear();
    }
}

impl Platter {
    /// Some names and sectors are as they were at the last sync.
    fn forget(&mut self) {
        let kept = self.chance.below(self.renamed.len() as u64 + 1);
        for renamed in self.renamed.drain(..).take(usize::try_from(kept).unwrap()) {
            apply(&mut self.kept_names, renamed);
        }
        self.names = self.kept_names.clone();
        for content in &mut self.contents {
            // All, none, or any part of it was on its way already.
            let survive = [0, 500, 900, 1000][usize::try_from(self.chance.below(4)).unwrap()];
            if self.chance.of_thousand(survive) {
                content.resize_kept();
            }
            for sector in std::mem::take(&mut content.dirty) {
                if self.chance.of_thousand(survive) {
                    content.keep(sector);
                }
            }
            content.shortest = None;
            content.seen = content.kept.clone();
        }
    }

    /// A process that is dead, or has no power, gets nothing done.
    fn check(&mut self, process: u64, is_change: bool) -> io::Result<()> {
        if process != self.process {
            return Err(io::Error::other("the process is dead"));
        }
        match &mut self.fuse {
            Some(0) => return Err(io::Error::other("the power is off")),
            Some(left) if is_change => *left -= 1,
            Some(_) | None => {}
        }
        Ok(())
    }

    fn sync(&mut self, file: usize) -> io::Result<()> {
        let content = &mut self.contents[file];
        if !self.faults.loses {
            content.resize_kept();
            for sector in std::mem::take(&mut content.dirty) {
                content.keep(sector);
            }
            return Ok(());
        }
        if self.chance.of_thousand(500) {
            content.resize_kept();
        }
        for sector in std::mem::take(&mut content.dirty) {
            match self.chance.below(3) {
                0 => content.keep(sector),
                // Read again, it is what it was.
                1 => content.drop_from_cache(sector),
                // Seen for as long as there is power.
                _ => {}
            }
        }
        let errors = [io::ErrorKind::StorageFull.into(), io::Error::from_raw_os_error(5)];
        let [full, broken] = errors;
        Err(if self.chance.of_thousand(300) { full } else { broken })
    }

    fn write(&mut self, file: usize, offset: usize, bytes: &[u8]) -> io::Result<()> {
        if self.faults.refuses_writes {
            return Err(io::Error::from_raw_os_error(5));
        }
        let content = &mut self.contents[file];
        let mut end = offset + bytes.len();
        let is_placed = |sector: &usize| content.placed.contains(sector);
        let sectors = offset / SECTOR..end.div_ceil(SECTOR);
        let first_without = sectors.clone().find(|sector| !is_placed(sector));
        let full = first_without.filter(|_| self.faults.is_full);
        if let Some(sector) = full {
            // What has room is written.
            end = end.min((sector * SECTOR).max(offset));
        }
        if content.seen.len() < end {
            content.seen.resize(end, 0);
        }
        content.seen[offset..end].copy_from_slice(&bytes[..end - offset]);
        content.dirty.extend(offset / SECTOR..end.div_ceil(SECTOR));
        content.placed.extend(offset / SECTOR..end.div_ceil(SECTOR));
        if full.is_some() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn open(&mut self, path: &Path, how: How) -> io::Result<usize> {
        match self.names.get(path) {
            Some(file) if how != How::Fresh => return Ok(*file),
            None if how == How::Existing => return Err(io::ErrorKind::NotFound.into()),
            Some(_) | None => {}
        }
        if self.faults.refuses_writes {
            return Err(io::Error::from_raw_os_error(5));
        }
        self.contents.push(Content::default());
        let file = self.contents.len() - 1;
        self.rename(Renamed::Made(path.to_owned(), file));
        Ok(file)
    }

    fn rename(&mut self, renamed: Renamed) {
        apply(&mut self.names, renamed.clone());
        self.renamed.push(renamed);
    }
}

fn apply(names: &mut BTreeMap<PathBuf, usize>, renamed: Renamed) {
    match renamed {
        Renamed::Made(path, file) => drop(names.insert(path, file)),
        Renamed::Moved(from, to) => {
            if let Some(file) = names.remove(&from) {
                names.insert(to, file);
            }
        }
        Renamed::Removed(path) => drop(names.remove(&path)),
    }
}

impl Content {
    /// The platter knows how long it is.
    fn resize_kept(&mut self) {
        if let Some(shortest) = self.shortest.take() {
            self.kept.truncate(shortest);
        }
        self.kept.resize(self.seen.len(), 0);
    }

    fn keep(&mut self, sector: usize) {
        let from = sector * SECTOR;
        let to = (from + SECTOR).min(self.seen.len()).min(self.kept.len());
        if from < to {
            self.kept[from..to].copy_from_slice(&self.seen[from..to]);
        }
    }

    fn drop_from_cache(&mut self, sector: usize) {
        let from = sector * SECTOR;
        for at in from..(from + SECTOR).min(self.seen.len()) {
            self.seen[at] = self.kept.get(at).copied().unwrap_or_default();
        }
    }

    fn set_len(&mut self, length: usize) {
        if length < self.seen.len() {
            self.shortest = Some(self.shortest.unwrap_or(length).min(length));
            self.dirty.retain(|sector| sector * SECTOR < length);
            self.placed.retain(|sector| sector * SECTOR < length);
        }
        self.seen.resize(length, 0);
    }
}

impl Mount {
    fn platter(&self, is_change: bool) -> io::Result<MutexGuard<'_, Platter>> {
        let mut platter = self.disk.platter();
        platter.check(self.process, is_change)?;
        Ok(platter)
    }
}

impl Files for Mount {
    fn make_folder(&self, _: &Path) -> io::Result<()> {
        // Folders are what names say.
        self.platter(false).map(drop)
    }

    fn open(&self, path: &Path, how: How) -> io::Result<Box<dyn OpenFile>> {
        let file = self.platter(how == How::Fresh)?.open(path, how)?;
        Ok(Box::new(Open { mount: self.clone(), file }))
    }

    fn database(&self, path: &Path, how: How) -> Result<Database, DatabaseError> {
        let file = self.platter(how == How::Fresh)?.open(path, how)?;
        let mut builder = redb::Builder::new();
        builder.set_cache_size(1 << 20);
        builder.create_with_backend(Open { mount: self.clone(), file })
    }

    fn len(&self, path: &Path) -> io::Result<Option<u64>> {
        let platter = self.platter(false)?;
        Ok(platter.names.get(path).map(|file| platter.contents[*file].seen.len() as u64))
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        let platter = self.platter(false)?;
        Ok(platter.names.keys().filter(|path| path.parent() == Some(folder)).cloned().collect())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut platter = self.platter(true)?;
        if platter.faults.refuses_writes {
            return Err(io::Error::from_raw_os_error(5));
        }
        platter.rename(Renamed::Moved(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.platter(true)?.rename(Renamed::Removed(path.to_owned()));
        Ok(())
    }

    fn sync_folder(&self, _: &Path) -> io::Result<()> {
        let mut platter = self.platter(true)?;
        if platter.faults.loses {
            return Err(io::Error::from_raw_os_error(5));
        }
        for renamed in std::mem::take(&mut platter.renamed) {
            apply(&mut platter.kept_names, renamed);
        }
        Ok(())
    }

    fn delay(&self) -> Duration {
        self.disk.faults().delay
    }
}

/// An open file of a [`Mount`].
#[derive(Debug)]
struct Open {
    mount: Mount,
    file: usize,
}

impl OpenFile for Open {
    fn len(&self) -> io::Result<u64> {
        Ok(self.mount.platter(false)?.contents[self.file].seen.len() as u64)
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<usize> {
        let platter = self.mount.platter(false)?;
        if platter.faults.refuses_reads {
            return Err(io::Error::from_raw_os_error(5));
        }
        let seen = &platter.contents[self.file].seen;
        let from = usize::try_from(offset).unwrap().min(seen.len());
        let count = out.len().min(seen.len() - from);
        out[..count].copy_from_slice(&seen[from..from + count]);
        Ok(count)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let offset = usize::try_from(offset).unwrap();
        self.mount.platter(true)?.write(self.file, offset, bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.mount.platter(true)?.sync(self.file)
    }
}

impl StorageBackend for Open {
    fn len(&self) -> io::Result<u64> {
        OpenFile::len(self)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let count = self.read_at(offset, out)?;
        if count == out.len() { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let mut platter = self.mount.platter(true)?;
        if platter.faults.refuses_writes {
            return Err(io::Error::from_raw_os_error(5));
        }
        platter.contents[self.file].set_len(usize::try_from(length).unwrap());
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.sync()
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_at(offset, bytes)
    }
}

#[test]
fn a_power_cut_leaves_what_was_synced_and_any_part_of_the_rest() {
    let (mut lost, mut kept, mut torn) = (0, 0, 0);
    for seed in 0..40 {
        let disk = Disk::new(seed);
        let files = disk.mount();
        let path = Path::new("/a");
        let file = files.open(path, How::Missing).unwrap();
        file.write_at(0, &[1; 4 * SECTOR]).unwrap();
        file.sync().unwrap();
        files.sync_folder(Path::new("/")).unwrap();
        file.write_at(0, &[2; 4 * SECTOR]).unwrap();
        disk.cut_power();
        assert!(file.sync().is_err(), "its process is dead");
        let file = disk.mount().open(path, How::Existing).unwrap();
        let mut bytes = [0; 4 * SECTOR];
        assert_eq!(file.read_at(0, &mut bytes).unwrap(), bytes.len());
        let news = bytes.chunks(SECTOR).filter(|sector| *sector == [2; SECTOR]).count();
        let olds = bytes.chunks(SECTOR).filter(|sector| *sector == [1; SECTOR]).count();
        assert_eq!(news + olds, 4, "a sector is whole");
        match news {
            0 => lost += 1,
            4 => kept += 1,
            _ => torn += 1,
        }
    }
    assert!(lost > 5 && kept > 5 && torn > 5, "{lost} {kept} {torn}");
}

#[test]
fn after_a_failed_sync_only_what_is_written_again_is_synced() {
    let disk = Disk::new(1);
    let files = disk.mount();
    let path = Path::new("/a");
    let file = files.open(path, How::Missing).unwrap();
    files.sync_folder(Path::new("/")).unwrap();
    let whole = vec![7; 64 * SECTOR];
    let left = |file: &dyn OpenFile| {
        disk.set(Faults::default());
        file.sync().unwrap();
        disk.cut_power();
        let mut bytes = vec![0; whole.len()];
        disk.mount().open(path, How::Existing).unwrap().read_at(0, &mut bytes).unwrap();
        bytes
    };
    file.write_at(0, &whole).unwrap();
    disk.set(Faults { loses: true, ..Faults::default() });
    file.sync().unwrap_err();
    assert_ne!(left(&*file), whole, "the second sync says that all is well");
    let file = disk.mount().open(path, How::Existing).unwrap();
    disk.set(Faults { loses: true, ..Faults::default() });
    file.write_at(0, &whole).unwrap();
    file.sync().unwrap_err();
    file.write_at(0, &whole).unwrap();
    assert_eq!(left(&*file), whole);
}
