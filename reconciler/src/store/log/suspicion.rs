//! A note that the log's file may not be what the disk holds, for the next process.
//!
//! After a sync that failed, the kernel may still show what it could not write, to this process
//! and to the next one. Only a power cut, or writing all of it again, makes disk and memory one.
//! The note is not synced either: it goes the same way as what it is about.

use crate::store::files::{Files, How, OpenFile};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

#[derive(Debug)]
pub(super) struct Suspicion {
    is_held: AtomicBool,
    /// Made at the start: a full disk, too, takes a byte that is there already.
    note: Option<Box<dyn OpenFile>>,
}

impl Suspicion {
    /// What the process before knew in `dir`.
    pub(super) fn open(files: &dyn Files, dir: &Path) -> Self {
        let note = files.open(&dir.join("suspect"), How::Missing).ok();
        let mut byte = [b'0'];
        let read = note.as_ref().and_then(|note| note.read_at(0, &mut byte).ok());
        let this = Self { is_held: AtomicBool::new(byte == *b"1"), note };
        if read == Some(0) {
            this.set(false);
        }
        this
    }

    pub(super) fn is_held(&self) -> bool {
        self.is_held.load(Ordering::SeqCst)
    }

    pub(super) fn set(&self, is_held: bool) {
        self.is_held.store(is_held, Ordering::SeqCst);
        if let Some(note) = &self.note {
            // The disk fails anyhow; this process knows.
            drop(note.write_at(0, if is_held { b"1" } else { b"0" }));
        }
    }
}
