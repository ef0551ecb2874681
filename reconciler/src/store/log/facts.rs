//! What a log holds besides its entries, and how it changes.

use crate::store::raft::{LogId, Vote};
use prost::Message;

/// Who a member is: given once, when its store is made.
#[derive(Clone, PartialEq, Eq, Message)]
pub(in crate::store) struct Identity {
    #[prost(string, tag = "1")]
    pub(in crate::store) cluster: String,
    #[prost(uint64, tag = "2")]
    pub(in crate::store) node: u64,
}

/// What a log holds, but for the entries.
#[derive(Debug, Clone, Default)]
pub(in crate::store) struct Facts {
    pub(in crate::store) identity: Identity,
    pub(in crate::store) vote: Option<Vote>,
    pub(in crate::store) purged: Option<LogId>,
}

/// One change of the log.
#[derive(Debug, Clone)]
pub(in crate::store) enum Change {
    /// Adds the entry of an index.
    Append(u64, Vec<u8>),
    /// Removes this entry and all after it.
    Truncate(u64),
    /// Removes this entry and all before it.
    Purge(LogId),
    Vote(Vote),
}
