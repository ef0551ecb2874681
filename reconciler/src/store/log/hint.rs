//! How far the log is known to be committed, for a start without peers.
//!
//! Raft needs no such record; a member that starts alone does, to know what it last ran. It is
//! written without a flush, after the fact, so it may be old and is never too new.

use super::checksum::checksum;
use crate::store::files::{Files, How, OpenFile};
use crate::store::raft::LogId;
use crate::store::wire::LogIdMessage;
use std::path::Path;

const LENGTH: usize = 32;

/// The file of the hint; without it, there is none.
#[derive(Debug)]
pub(in crate::store) struct Hint(Option<Box<dyn OpenFile>>);

impl Hint {
    /// The hint in `dir`, and what it says if it is whole.
    pub(in crate::store) fn open(files: &dyn Files, dir: &Path) -> (Self, Option<LogId>) {
        let Ok(file) = files.open(&dir.join("committed"), How::Missing) else { return (Self(None), None) };
        let mut bytes = [0; LENGTH];
        let is_whole = file.read_at(0, &mut bytes).is_ok_and(|count| count == LENGTH);
        let said = is_whole.then(|| parse(&bytes)).flatten();
        (Self(Some(file)), said)
    }

    /// Notes that the log is committed through `id`.
    pub(in crate::store) fn write(&self, id: LogId) {
        let Some(file) = &self.0 else { return };
        let mut bytes = [0; LENGTH];
        for (place, number) in
            bytes.chunks_exact_mut(8).zip([id.leader_id.term, id.leader_id.node_id, id.index])
        {
            place.copy_from_slice(&number.to_le_bytes());
        }
        let sum = checksum(&bytes[..24]);
        bytes[24..].copy_from_slice(&sum.to_le_bytes());
        // A hint that is not written is an older hint.
        drop(file.write_at(0, &bytes));
    }
}

fn parse(bytes: &[u8; LENGTH]) -> Option<LogId> {
    let (numbers, _) = bytes.as_chunks::<8>();
    let number = |at: usize| u64::from_le_bytes(numbers[at]);
    if checksum(&bytes[..24]) != number(3) {
        return None;
    }
    Some(LogIdMessage::new(number(0), number(1), number(2)).into())
}
