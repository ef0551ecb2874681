//! Peers of the cluster, and how messages get to them.
//!
//! The store says what it needs of a transport; the agent has one. Messages are bytes of a
//! format with a version, so that a transport understands nothing of them.

use bytes::Bytes;
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// A member's number in the cluster's log: given once, never again to another.
pub type NodeId = u64;

/// A member of the cluster, as the log knows it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// The name of its Node object, and of its certificate.
    pub name: String,
    /// `host:port` on which it answers peers.
    pub address: String,
    /// Its failure domain (`topology.kubernetes.io/zone`), or empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub zone: String,
}

/// What a message is about. The numbers are the wire's: never change one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Topic {
    /// Entries of the log, from the leader.
    Append = 1,
    /// A request for a vote.
    Vote = 2,
    /// Would there be a vote? Nothing changes by asking.
    PreVote = 3,
    /// A part of a snapshot, from the leader.
    Snapshot = 4,
    /// A leader is alive, or a node is; never written to the log.
    Pulse = 5,
    /// Writes, forwarded to the leader.
    Write = 6,
    /// A question to the leader of how far its log is committed.
    ReadIndex = 7,
    /// A request to be a member, or no more.
    Member = 8,
    /// A request to look at a Git source now, to the member that looks at it.
    Sync = 9,
    /// A part of an image, or who has it.
    Blob = 10,
}

impl Topic {
    /// The topic of the wire's number `number`, if this version knows it.
    #[must_use]
    pub const fn of(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Append,
            2 => Self::Vote,
            3 => Self::PreVote,
            4 => Self::Snapshot,
            5 => Self::Pulse,
            6 => Self::Write,
            7 => Self::ReadIndex,
            8 => Self::Member,
            9 => Self::Sync,
            10 => Self::Blob,
            _ => return None,
        })
    }
}

/// Why a message brought no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The peer could not be reached: it has not seen the message.
    #[error("cannot reach {peer}")]
    Unreachable {
        /// The peer's name.
        peer: String,
        /// What the transport says.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No answer in time, or the connection broke: the peer may have acted on the message.
    #[error("{peer} did not answer")]
    Unanswered {
        /// The peer's name.
        peer: String,
        /// What the transport says.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The peer answered that it will not: it speaks another version, or does not know us.
    #[error("{peer} refused: {reason}")]
    Refused {
        /// The peer's name.
        peer: String,
        /// The peer's words.
        reason: String,
    },
}

/// Carries messages to peers and brings their answers.
pub trait Transport: fmt::Debug + Send + Sync + 'static {
    /// The answer of `peer` to `body`, waited for `within` at most. Calls to one peer may
    /// overtake each other.
    ///
    /// # Cancel safety
    /// A call that is dropped may have reached the peer.
    fn call(
        &self,
        peer: Peer,
        topic: Topic,
        body: Bytes,
        within: Duration,
    ) -> BoxFuture<'static, Result<Bytes, CallError>>;
}

/// Answers what peers ask.
pub trait Answerer: Send + Sync + 'static {
    /// The answer to `body` from the member whose certificate says `name`; or why there is
    /// none, for the peer to read.
    fn answer(&self, name: String, topic: Topic, body: Bytes) -> BoxFuture<'static, Result<Bytes, String>>;
}
