//! Where a journal's entries are.

use super::frame::Record;
use crate::store::files::OpenFile;
use crate::store::log::facts::Facts;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

/// An entry behind its checksum.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) segment: u32,
    pub(super) offset: u32,
    pub(super) length: u32,
}

#[derive(Debug)]
struct Segment {
    file: Arc<dyn OpenFile>,
    /// The highest index of an entry in it, also of one that was removed.
    most: Option<u64>,
}

/// The places of all entries, and the files they are in.
#[derive(Debug)]
pub(super) struct Places {
    /// The index of the first of `entries`.
    first: u64,
    entries: VecDeque<Place>,
    segments: BTreeMap<u32, Segment>,
}

impl Places {
    /// No entries; `next` is the first to come.
    pub(super) const fn new(next: u64) -> Self {
        Self { first: next, entries: VecDeque::new(), segments: BTreeMap::new() }
    }

    /// The index of the entry that comes next.
    pub(super) fn next(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    /// What entries take on disk, in bytes.
    pub(super) fn size_bytes(&self) -> u64 {
        self.entries.iter().map(|place| u64::from(place.length)).sum()
    }

    pub(super) fn add_segment(&mut self, number: u32, file: Arc<dyn OpenFile>) {
        self.segments.insert(number, Segment { file, most: None });
    }

    pub(super) fn file(&self, segment: u32) -> Option<Arc<dyn OpenFile>> {
        self.segments.get(&segment).map(|segment| Arc::clone(&segment.file))
    }

    /// Takes in what a frame of file `segment` says.
    ///
    /// # Errors
    /// In words, if an entry follows a gap, or its place is too far in.
    pub(super) fn apply(&mut self, segment: u32, record: Record, facts: &mut Facts) -> Result<(), String> {
        match record {
            Record::Append(index, place) => self.append(segment, index, place)?,
            Record::Truncate(from) => self.truncate(from),
            Record::Purge(through) => {
                self.purge(through.index);
                facts.purged = facts.purged.max(Some(through));
            }
            Record::Vote(vote) => facts.vote = Some(vote),
        }
        Ok(())
    }

    fn append(&mut self, segment: u32, index: u64, place: Range<usize>) -> Result<(), String> {
        self.truncate(index);
        if index != self.next() {
            if !self.entries.is_empty() {
                return Err(format!("entry {index} follows a gap"));
            }
            self.first = index;
        }
        let number =
            |number: usize| u32::try_from(number).map_err(|_| format!("entry {index} is out of reach"));
        let (offset, length) = (number(place.start)?, number(place.len())?);
        self.entries.push_back(Place { segment, offset, length });
        if let Some(segment) = self.segments.get_mut(&segment) {
            segment.most = segment.most.max(Some(index));
        }
        Ok(())
    }

    fn truncate(&mut self, from: u64) {
        let kept = from.saturating_sub(self.first);
        self.entries.truncate(usize::try_from(kept).unwrap_or(usize::MAX));
        self.first = self.first.min(from);
    }

    fn purge(&mut self, through: u64) {
        let gone = (through + 1).saturating_sub(self.first);
        let gone = usize::try_from(gone).unwrap_or(usize::MAX).min(self.entries.len());
        self.entries.drain(..gone);
        self.first = (self.first + gone as u64).max(if self.entries.is_empty() { through + 1 } else { 0 });
        if self.entries.capacity() > 2 * self.entries.len() + 1024 {
            self.entries.shrink_to_fit();
        }
    }

    /// Forgets the oldest files, of whose entries none is after `purged`, but for the newest file; says which.
    pub(super) fn drop_segments(&mut self, purged: u64) -> Vec<u32> {
        let mut dropped = Vec::new();
        while self.segments.len() > 1
            && let Some(oldest) = self.segments.first_entry()
            && oldest.get().most.is_none_or(|most| most <= purged)
        {
            dropped.push(*oldest.key());
            oldest.remove();
        }
        dropped
    }

    /// The places of the entries of `range` that are there, of `most_bytes` at most but for the first;
    /// with the index of the first, and true if these are all.
    pub(super) fn within(&self, range: Range<u64>, most_bytes: usize) -> (u64, Vec<Place>, bool) {
        let (start, end) = (range.start.max(self.first), range.end.min(self.next()));
        let mut bytes = 0;
        let mut places = Vec::new();
        for index in start..end {
            let Some(place) = usize::try_from(index - self.first).ok().and_then(|at| self.entries.get(at))
            else {
                break;
            };
            bytes += place.length as usize;
            if bytes > most_bytes && !places.is_empty() {
                return (start, places, false);
            }
            places.push(*place);
        }
        (start, places, true)
    }

    /// The index of the oldest of the newest entries that take at most `bytes` together.
    pub(super) fn newest(&self, bytes: usize) -> u64 {
        let mut left = bytes;
        let fits = self.entries.iter().rev().take_while(|place| {
            let fits = left >= place.length as usize;
            left = left.saturating_sub(place.length as usize);
            fits
        });
        self.next() - (fits.count().max(1) as u64).min(self.entries.len() as u64)
    }
}
