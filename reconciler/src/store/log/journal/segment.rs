//! One file of a journal.
//!
//! It begins with a head, which says all that was known when it was made: what came before is
//! needed for its entries only. It gets its name when the head and a first frame are on disk, so
//! a file with a name has a head, or is damaged.

use super::frame::ALIGN;
use crate::random::{OsRandom, RandomSource as _};
use crate::store::log::checksum::checksum;
use crate::store::log::facts::{Facts, Identity};
use crate::store::log::former::FORMAT;
use crate::store::wire::{LogIdMessage, VoteMessage};
use prost::Message;
use std::path::{Path, PathBuf};

const MAGIC: &[u8; 8] = b"KEELJRNL";
/// Magic, format, checksum, length.
const FIXED: usize = 32;

/// What a file says of itself.
#[derive(Debug, Clone)]
pub(super) struct Head {
    /// What only this file's frames are summed with.
    pub(super) salt: u64,
    /// Where the file before it ended. What follows there was not known to be on disk.
    pub(super) end_before: u64,
    /// The index of the entry that came next.
    pub(super) next: u64,
    pub(super) facts: Facts,
}

#[derive(Clone, PartialEq, Eq, Message)]
struct HeadMessage {
    #[prost(fixed64, tag = "1")]
    salt: u64,
    #[prost(uint64, tag = "2")]
    end_before: u64,
    #[prost(uint64, tag = "3")]
    next: u64,
    #[prost(message, optional, tag = "4")]
    identity: Option<Identity>,
    #[prost(message, optional, tag = "5")]
    vote: Option<VoteMessage>,
    #[prost(message, optional, tag = "6")]
    purged: Option<LogIdMessage>,
}

/// Why a head cannot be read.
#[derive(Debug)]
pub(super) enum BadHead {
    Newer(u64),
    Damaged(&'static str),
}

impl Head {
    /// The head of a file that goes on from `facts` and `next`.
    pub(super) fn new(facts: Facts, next: u64, end_before: u64) -> Self {
        Self { salt: OsRandom::new().next(), end_before, next, facts }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let message = HeadMessage {
            salt: self.salt,
            end_before: self.end_before,
            next: self.next,
            identity: Some(self.facts.identity.clone()),
            vote: self.facts.vote.map(Into::into),
            purged: self.facts.purged.map(Into::into),
        };
        let message = message.encode_to_vec();
        let mut bytes = Vec::with_capacity(FIXED + message.len() + ALIGN);
        bytes.extend_from_slice(MAGIC);
        for number in [FORMAT, checksum(&message), message.len() as u64] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(&message);
        bytes.resize(bytes.len().next_multiple_of(ALIGN), 0);
        bytes
    }

    /// The head at the beginning of `bytes`, and where it ends.
    pub(super) fn decode(bytes: &[u8]) -> Result<(Self, usize), BadHead> {
        let (fixed, rest) = bytes.split_first_chunk::<FIXED>().ok_or(BadHead::Damaged("it is cut short"))?;
        let (words, _) = fixed.as_chunks::<8>();
        if words[0] != *MAGIC {
            return Err(BadHead::Damaged("it is no journal"));
        }
        let [format, sum, length] = [1, 2, 3].map(|at: usize| u64::from_le_bytes(words[at]));
        if format > FORMAT {
            return Err(BadHead::Newer(format));
        }
        let length = usize::try_from(length).map_err(|_| BadHead::Damaged("its head is cut short"))?;
        let message = rest.get(..length).ok_or(BadHead::Damaged("its head is cut short"))?;
        if checksum(message) != sum {
            return Err(BadHead::Damaged("its head fails its checksum"));
        }
        let message =
            HeadMessage::decode(message).map_err(|_| BadHead::Damaged("its head makes no sense"))?;
        let facts = Facts {
            identity: message.identity.unwrap_or_default(),
            vote: message.vote.map(Into::into),
            purged: message.purged.map(Into::into),
        };
        let HeadMessage { salt, end_before, next, .. } = message;
        let head = Self { salt, end_before, next, facts };
        Ok((head, (FIXED + length).next_multiple_of(ALIGN)))
    }
}

/// The file of a number.
pub(super) fn path_of(folder: &Path, number: u32) -> PathBuf {
    folder.join(format!("{number:010}.journal"))
}

/// The number of a file; none if it is no whole one's.
pub(super) fn number_of(path: &Path) -> Option<u32> {
    let is_named = path.extension().is_some_and(|extension| extension == "journal");
    path.file_stem().filter(|_| is_named)?.to_str()?.parse().ok()
}

/// A file that has no name yet.
pub(super) fn unnamed(folder: &Path) -> PathBuf {
    folder.join("next.part")
}
