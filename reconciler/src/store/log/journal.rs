//! The log on disk: files that are only appended to.
//!
//! What is written here is what Raft's promises stand on. A commit is one write behind the one
//! before it, mostly over zeros that were there, and one sync, so the disk has one run of
//! sectors to write and the file system nothing to note down.
//!
//! A sync that failed is not repeated: what it was to write is written again, into a new file,
//! which says where the one before it ended.

mod frame;
mod places;
mod recovery;
mod segment;

use super::facts::{Change, Facts};
use super::folder::Folder;
use super::former::unsealed;
use super::suspicion::Suspicion;
use crate::store::files::{Files, How, OpenFile, rewrite};
use crate::store::open_error::io_error;
use crate::store::raft::Entry;
use crate::store::{OpenError, StorageError};
use frame::Record;
use places::{Place, Places};
use recovery::Recovered;
use segment::{Head, path_of, unnamed};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A frame takes room for those after it when it is at most so long a part of that.
const SMALL_PART: u64 = 8;
/// Of a file, what is made ready at a time.
const RESERVED_PART: u64 = 8;
/// What one frame of a store that is taken over holds at least, in bytes.
const TAKEN_OVER_BYTES: usize = 1 << 20;

/// The open journal. Clones share it.
#[derive(Debug, Clone)]
pub(in crate::store) struct Journal(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Held while the disk works.
    writer: Mutex<Writer>,
    /// Held for moments only.
    places: Mutex<Places>,
    folder: PathBuf,
    files: Arc<dyn Files>,
    suspicion: Suspicion,
    segment_bytes: u64,
    /// Held for as long as the files are open; declared after them, so freed after them.
    _lock: File,
}

/// The newest file.
#[derive(Debug)]
struct Writer {
    number: u32,
    file: Arc<dyn OpenFile>,
    salt: u64,
    /// Where the last frame ends that is on disk.
    end: u64,
    /// How long the file is.
    length: u64,
    facts: Facts,
    /// False after a failure: nothing more goes into this file.
    is_sound: bool,
}

impl Journal {
    /// Makes the first file of a journal; removes what there is of another.
    pub(super) fn create(
        folder: &Folder,
        facts: &Facts,
        entries: Vec<(u64, Vec<u8>)>,
    ) -> Result<(), OpenError> {
        let (files, path) = (&*folder.files, folder.journal());
        files.make_folder(&path).map_err(io_error("make", &path))?;
        for old in files.list(&path).map_err(io_error("list", &path))? {
            files.remove(&old).map_err(io_error("remove", &old))?;
        }
        let next = entries.first().map(|(index, _)| *index);
        let next = next.unwrap_or_else(|| facts.purged.map_or(0, |purged| purged.index + 1));
        let head = Head::new(facts.clone(), next, 0);
        let mut bytes = head.encode();
        let mut changes = Vec::new();
        let mut size = 0;
        let mut entries = entries.into_iter().peekable();
        while let Some((index, entry)) = entries.next() {
            size += entry.len();
            changes.push(Change::Append(index, entry));
            if size >= TAKEN_OVER_BYTES || entries.peek().is_none() {
                let frame = frame::frame(head.salt, bytes.len() as u64, &changes);
                let (frame, _) =
                    frame.ok_or_else(|| io_error("take over the log into", &path)(too_long()))?;
                bytes.extend_from_slice(&frame);
                changes.clear();
                size = 0;
            }
        }
        put_segment(files, &path, 1, &bytes).map(drop).map_err(io_error("write in", &path))
    }

    /// Opens the journal of a folder, and reads all of it. What it shows is on disk.
    pub(super) fn open(folder: Folder) -> Result<(Self, Facts), OpenError> {
        let path = folder.journal();
        let Folder { files, suspicion, segment_bytes, lock, .. } = folder;
        files.make_folder(&path).map_err(io_error("make", &path))?;
        let numbers = recovery::numbers(&*files, &path)?;
        if let Some(newest) = numbers.last() {
            let newest = path_of(&path, *newest);
            firm(&*files, &path, &newest, &suspicion).map_err(io_error("sync", &newest))?;
        }
        let Recovered { places, facts, newest } = recovery::recover(&*files, &path, &numbers)?;
        remove_others(&*files, &path, &numbers);
        let writer = Writer {
            number: newest.number,
            file: newest.file,
            salt: newest.salt,
            end: newest.end,
            length: newest.length,
            facts: facts.clone(),
            is_sound: true,
        };
        let inner = Inner {
            writer: Mutex::new(writer),
            places: Mutex::new(places),
            folder: path,
            files,
            suspicion,
            segment_bytes,
            _lock: lock,
        };
        Ok((Self(Arc::new(inner)), facts))
    }

    fn places(&self) -> MutexGuard<'_, Places> {
        // Changed by steps that cannot panic.
        self.0.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long to wait before a commit.
    pub(super) fn delay(&self) -> Duration {
        self.0.files.delay()
    }

    /// The error of a journal that is not what it should be at its end.
    pub(in crate::store) fn damaged(&self, what: String) -> OpenError {
        let number = self.0.writer.lock().unwrap_or_else(PoisonError::into_inner).number;
        OpenError::Damaged { path: path_of(&self.0.folder, number), what }
    }

    /// What all entries take, in bytes.
    pub(in crate::store) fn size_bytes(&self) -> u64 {
        self.places().size_bytes()
    }

    /// Makes `changes` durable, all or none.
    ///
    /// # Errors
    /// If the disk fails. The changes are not there then, as far as this process goes; the next one
    /// may find them. Call again with the same ones, and they are written into a new file.
    pub(in crate::store) fn commit(&self, changes: &[Change]) -> Result<(), StorageError> {
        let mut writer = self.0.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let was_sound = writer.is_sound;
        let written = if was_sound && writer.end < self.0.segment_bytes {
            writer.append(changes, self.reserved_bytes())
        } else {
            self.go_on(&mut writer, changes)
        };
        match written {
            Ok(records) => {
                if !was_sound {
                    self.0.suspicion.set(false);
                }
                self.take_in(&mut writer, records)
            }
            Err(error) => {
                writer.is_sound = false;
                self.0.suspicion.set(true);
                Err(error.into())
            }
        }
    }

    fn reserved_bytes(&self) -> u64 {
        self.0.segment_bytes / RESERVED_PART
    }

    /// Writes `changes` into a new file.
    fn go_on(&self, writer: &mut Writer, changes: &[Change]) -> io::Result<Vec<Record>> {
        let head = Head::new(writer.facts.clone(), self.places().next(), writer.end);
        let mut bytes = head.encode();
        let (frame, records) = frame::frame(head.salt, bytes.len() as u64, changes).ok_or_else(too_long)?;
        bytes.extend_from_slice(&frame);
        let end = bytes.len();
        if writer.is_sound && (frame.len() as u64) < self.reserved_bytes() / SMALL_PART {
            bytes.resize(end + usize::try_from(self.reserved_bytes()).map_err(io::Error::other)?, 0);
        }
        let number = writer.number + 1;
        let file: Arc<dyn OpenFile> = put_segment(&*self.0.files, &self.0.folder, number, &bytes)?.into();
        self.places().add_segment(number, Arc::clone(&file));
        writer.number = number;
        writer.file = file;
        writer.salt = head.salt;
        writer.end = end as u64;
        writer.length = bytes.len() as u64;
        writer.is_sound = true;
        Ok(records)
    }

    /// What was written is seen from here on.
    fn take_in(&self, writer: &mut Writer, records: Vec<Record>) -> Result<(), StorageError> {
        let is_purge = records.iter().any(|record| matches!(record, Record::Purge(_)));
        let mut places = self.places();
        for record in records {
            let applied = places.apply(writer.number, record, &mut writer.facts);
            applied.map_err(StorageError::damaged)?;
        }
        let purged = writer.facts.purged.filter(|_| is_purge);
        let dropped = purged.map(|purged| places.drop_segments(purged.index)).unwrap_or_default();
        drop(places);
        for number in dropped {
            // What stays is removed at the next start.
            drop(self.0.files.remove(&path_of(&self.0.folder, number)));
        }
        Ok(())
    }

    /// The entries of `range` that are there, in order, of `most_bytes` at most but for the first;
    /// true if these are all.
    ///
    /// # Errors
    /// If the disk fails, or an entry is damaged.
    pub(in crate::store) fn entries(
        &self,
        range: Range<u64>,
        most_bytes: usize,
    ) -> Result<(Vec<Entry>, bool), StorageError> {
        let (first, rows, is_all) = {
            let places = self.places();
            let (first, found, is_all) = places.within(range, most_bytes);
            let rows = found.chunk_by(|a, b| a.segment == b.segment && a.offset < b.offset);
            let rows = rows.map(|row| Some((places.file(row[0].segment)?, row.to_vec())));
            (first, rows.collect::<Option<Vec<_>>>().unwrap_or_default(), is_all)
        };
        let mut entries = Vec::new();
        for (file, row) in rows {
            read_row(&*file, first + entries.len() as u64, &row, &mut entries)?;
        }
        Ok((entries, is_all))
    }

    /// The newest entries, of at most `bytes` together, but for a single one that is longer.
    pub(super) fn newest(&self, bytes: usize) -> Result<Vec<Entry>, StorageError> {
        let from = self.places().newest(bytes);
        self.entries(from..u64::MAX, usize::MAX).map(|(entries, _)| entries)
    }
}

impl Writer {
    /// Writes `changes` behind the last frame, and zeros for `reserved` bytes more where the file ends.
    fn append(&mut self, changes: &[Change], reserved: u64) -> io::Result<Vec<Record>> {
        let (mut bytes, records) = frame::frame(self.salt, self.end, changes).ok_or_else(too_long)?;
        let length = bytes.len() as u64;
        let end = self.end + length;
        if end > self.length && length < reserved / SMALL_PART {
            bytes.resize(bytes.len() + usize::try_from(reserved).map_err(io::Error::other)?, 0);
        }
        self.file.write_at(self.end, &bytes)?;
        self.file.sync()?;
        self.length = self.length.max(self.end + bytes.len() as u64);
        self.end = end;
        Ok(records)
    }
}

fn too_long() -> io::Error {
    io::Error::new(io::ErrorKind::FileTooLarge, "a write of more than 4 GiB")
}

/// Reads the entries of one file from `first` on, whose places go up.
fn read_row(
    file: &dyn OpenFile,
    first: u64,
    row: &[Place],
    entries: &mut Vec<Entry>,
) -> Result<(), StorageError> {
    let (Some(start), Some(last)) = (row.first(), row.last()) else { return Ok(()) };
    let start = start.offset;
    let mut bytes = vec![0; (last.offset + last.length - start) as usize];
    let mut count = 0;
    while count < bytes.len() {
        match file.read_at(u64::from(start) + count as u64, &mut bytes[count..])? {
            0 => return Err(StorageError::damaged(format!("entry {first} is cut short"))),
            more => count += more,
        }
    }
    for (index, place) in (first..).zip(row) {
        let from = (place.offset - start) as usize;
        let entry = unsealed(index, &bytes[from..from + place.length as usize]);
        entries.push(entry.map_err(StorageError::damaged)?);
    }
    Ok(())
}

/// The file `number` holds `bytes` after, and is on disk with its name. One that was there is replaced.
fn put_segment(files: &dyn Files, folder: &Path, number: u32, bytes: &[u8]) -> io::Result<Box<dyn OpenFile>> {
    let part = unnamed(folder);
    let put = || {
        let file = files.open(&part, How::Fresh)?;
        file.write_at(0, bytes)?;
        file.sync()?;
        files.rename(&part, &path_of(folder, number))?;
        files.sync_folder(folder)?;
        Ok(file)
    };
    put().inspect_err(|_| {
        // A full disk gets its room back.
        drop(files.remove(&part));
    })
}

/// What the newest file shows, and which files there are, is on disk after: a process that was
/// killed may have written it without a sync.
fn firm(files: &dyn Files, folder: &Path, newest: &Path, suspicion: &Suspicion) -> io::Result<()> {
    let firm = || {
        let file = files.open(newest, How::Existing)?;
        if suspicion.is_held() {
            rewrite(&*file)?
        } else {
            file.sync()?
        }
        files.sync_folder(folder)
    };
    firm().inspect_err(|_| suspicion.set(true))?;
    if suspicion.is_held() {
        suspicion.set(false);
    }
    Ok(())
}

/// Removes what is not one of the files `numbers`.
fn remove_others(files: &dyn Files, folder: &Path, numbers: &[u32]) {
    let paths = files.list(folder).unwrap_or_default();
    for path in paths {
        if segment::number_of(&path).is_none_or(|number| !numbers.contains(&number)) {
            // It is of no account, and tried again at the next start.
            drop(files.remove(&path));
        }
    }
}

#[cfg(test)]
mod tests;
