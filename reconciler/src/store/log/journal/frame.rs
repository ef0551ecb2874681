//! What a journal's file is a row of: frames, each of which was one write and one sync.
//!
//! A frame is a checksum, a mark, a length and records. The checksum takes in the file's salt and
//! the frame's place, so nothing else in a file, not even a copy of a frame within an object, is
//! taken for one. A frame that is torn has none behind it: whoever finds one there has found damage.

use crate::store::log::checksum::checksum;
use crate::store::log::facts::Change;
use crate::store::log::former::sealed;
use crate::store::raft::{LogId, Vote};
use crate::store::wire::{LogIdMessage, VoteMessage};
use prost::Message as _;
use std::ops::Range;

/// Frames begin at multiples of this.
pub(super) const ALIGN: usize = 8;
const HEAD: usize = 16;
const MARK: u32 = 0x6d72_664b;

const APPEND: u8 = 1;
const TRUNCATE: u8 = 2;
const PURGE: u8 = 3;
const VOTE: u8 = 4;

/// What a frame says. An entry's place is that of its checksum and bytes, from the file's start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Record {
    Append(u64, Range<usize>),
    Truncate(u64),
    Purge(LogId),
    Vote(Vote),
}

/// The frame of `changes` at `offset` of a file, and what it says. None if it would be too long.
pub(super) fn frame(salt: u64, offset: u64, changes: &[Change]) -> Option<(Vec<u8>, Vec<Record>)> {
    let size: usize = changes.iter().map(|change| 64 + length(change)).sum();
    let mut bytes = Vec::with_capacity(HEAD + size + ALIGN);
    bytes.resize(HEAD, 0);
    let base = usize::try_from(offset).ok()?;
    let records = changes.iter().map(|change| put(change, base, &mut bytes)).collect();
    let length = u32::try_from(bytes.len() - HEAD).ok()?;
    bytes.resize(bytes.len().next_multiple_of(ALIGN), 0);
    let sum = sum(salt, offset, length, &bytes[HEAD..HEAD + length as usize]);
    bytes[..8].copy_from_slice(&sum.to_le_bytes());
    bytes[8..12].copy_from_slice(&MARK.to_le_bytes());
    bytes[12..16].copy_from_slice(&length.to_le_bytes());
    Some((bytes, records))
}

const fn length(change: &Change) -> usize {
    match change {
        Change::Append(_, bytes) => bytes.len(),
        Change::Truncate(_) | Change::Purge(_) | Change::Vote(_) => 0,
    }
}

fn put(change: &Change, base: usize, out: &mut Vec<u8>) -> Record {
    match change {
        Change::Append(index, entry) => {
            let length = 16 + entry.len();
            head(APPEND, length, out);
            out.extend_from_slice(&index.to_le_bytes());
            let start = base + out.len();
            sealed(entry, out);
            Record::Append(*index, start..base + out.len())
        }
        Change::Truncate(from) => {
            head(TRUNCATE, 8, out);
            out.extend_from_slice(&from.to_le_bytes());
            Record::Truncate(*from)
        }
        Change::Purge(through) => {
            let message = LogIdMessage::from(*through).encode_to_vec();
            head(PURGE, message.len(), out);
            out.extend_from_slice(&message);
            Record::Purge(*through)
        }
        Change::Vote(vote) => {
            let message = VoteMessage::from(*vote).encode_to_vec();
            head(VOTE, message.len(), out);
            out.extend_from_slice(&message);
            Record::Vote(*vote)
        }
    }
}

fn head(kind: u8, length: usize, out: &mut Vec<u8>) {
    out.push(kind);
    // What is longer makes the frame too long, which is found there.
    out.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
}

fn sum(salt: u64, offset: u64, length: u32, body: &[u8]) -> u64 {
    let mut place = [0; 24];
    place[..8].copy_from_slice(&salt.to_le_bytes());
    place[8..16].copy_from_slice(&offset.to_le_bytes());
    place[16..20].copy_from_slice(&length.to_le_bytes());
    checksum(body) ^ checksum(&place)
}

/// The body of the frame at `offset` of the file that begins with `bytes`; none if there is no whole one.
fn body(salt: u64, offset: usize, bytes: &[u8]) -> Option<Range<usize>> {
    let (head, rest) = bytes.get(offset..)?.split_first_chunk::<HEAD>()?;
    let (fours, _) = head.as_chunks::<4>();
    if u32::from_le_bytes(fours[2]) != MARK {
        return None;
    }
    let length = u32::from_le_bytes(fours[3]);
    let body = rest.get(..length as usize)?;
    let (eights, _) = head.as_chunks::<8>();
    let start = offset + HEAD;
    (u64::from_le_bytes(eights[0]) == sum(salt, offset as u64, length, body))
        .then_some(start..start + length as usize)
}

/// Where the next whole frame begins, at `offset` or behind it.
pub(super) fn find(salt: u64, offset: usize, bytes: &[u8]) -> Option<usize> {
    (offset.next_multiple_of(ALIGN)..bytes.len()).step_by(ALIGN).find(|at| body(salt, *at, bytes).is_some())
}

/// What the frame at `offset` says, and where it ends; none if there is no whole one.
///
/// # Errors
/// If it is whole, and says what it cannot.
pub(super) fn read(salt: u64, offset: usize, bytes: &[u8]) -> Option<Result<(Vec<Record>, usize), String>> {
    let body = body(salt, offset, bytes)?;
    let end = body.end.next_multiple_of(ALIGN);
    Some(
        records(body, bytes)
            .ok_or_else(|| format!("the frame at {offset} makes no sense"))
            .map(|all| (all, end)),
    )
}

fn records(mut body: Range<usize>, bytes: &[u8]) -> Option<Vec<Record>> {
    let mut records = Vec::new();
    while !body.is_empty() {
        let (head, _) = bytes[body.clone()].split_first_chunk::<5>()?;
        let [kind, length @ ..] = *head;
        let start = body.start + 5;
        let end = start.checked_add(u32::from_le_bytes(length) as usize).filter(|end| *end <= body.end)?;
        records.push(record(kind, start..end, bytes)?);
        body.start = end;
    }
    Some(records)
}

fn record(kind: u8, place: Range<usize>, bytes: &[u8]) -> Option<Record> {
    let content = &bytes[place.clone()];
    let number = || content.first_chunk().map(|number| u64::from_le_bytes(*number));
    Some(match kind {
        APPEND if content.len() >= 16 => Record::Append(number()?, place.start + 8..place.end),
        TRUNCATE => Record::Truncate(number()?),
        PURGE => Record::Purge(LogIdMessage::decode(content).ok()?.into()),
        VOTE => Record::Vote(VoteMessage::decode(content).ok()?.into()),
        _ => return None,
    })
}
