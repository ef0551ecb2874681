//! The forms of the log's parts on disk and between peers.
//!
//! Protocol buffers: fields that a later version adds are passed over by this one; what this
//! one must not misread carries a version of its own (commands, snapshots, messages).

use super::command::Command;
use super::raft::{Entry, LogId, Membership, StoredMembership, Vote};
use crate::peer::{NodeId, Peer};
use bytes::Bytes;
use openraft::{CommittedLeaderId, EntryPayload};
use prost::Message;
use std::collections::{BTreeMap, BTreeSet};

/// Bytes that are not what they should be.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum WireError {
    #[error("cannot decode {what}")]
    Decode {
        what: &'static str,
        #[source]
        source: prost::DecodeError,
    },
    #[error("{0} is missing")]
    Missing(&'static str),
    #[error("{what} has version {found}; this version of keel knows up to {known}")]
    Newer { what: &'static str, found: u32, known: u32 },
}

/// Decodes a message, for an error that says what it was to be.
pub(super) fn decode<M: Message + Default>(what: &'static str, bytes: Bytes) -> Result<M, WireError> {
    M::decode(bytes).map_err(|source| WireError::Decode { what, source })
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(super) struct LogIdMessage {
    #[prost(uint64, tag = "1")]
    term: u64,
    #[prost(uint64, tag = "2")]
    node: NodeId,
    #[prost(uint64, tag = "3")]
    index: u64,
}

impl LogIdMessage {
    pub(super) const fn new(term: u64, node: NodeId, index: u64) -> Self {
        Self { term, node, index }
    }
}

impl From<LogId> for LogIdMessage {
    fn from(id: LogId) -> Self {
        Self { term: id.leader_id.term, node: id.leader_id.node_id, index: id.index }
    }
}

impl From<LogIdMessage> for LogId {
    fn from(id: LogIdMessage) -> Self {
        Self::new(CommittedLeaderId::new(id.term, id.node), id.index)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(super) struct VoteMessage {
    #[prost(uint64, tag = "1")]
    term: u64,
    #[prost(uint64, tag = "2")]
    node: NodeId,
    #[prost(bool, tag = "3")]
    committed: bool,
}

impl From<Vote> for VoteMessage {
    fn from(vote: Vote) -> Self {
        Self { term: vote.leader_id.term, node: vote.leader_id.node_id, committed: vote.committed }
    }
}

impl From<VoteMessage> for Vote {
    fn from(vote: VoteMessage) -> Self {
        if vote.committed {
            Self::new_committed(vote.term, vote.node)
        } else {
            Self::new(vote.term, vote.node)
        }
    }
}

#[derive(Clone, PartialEq, Eq, Message)]
struct VotersMessage {
    #[prost(uint64, repeated, tag = "1")]
    ids: Vec<NodeId>,
}

#[derive(Clone, PartialEq, Eq, Message)]
struct MemberMessage {
    #[prost(uint64, tag = "1")]
    id: NodeId,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(string, tag = "3")]
    address: String,
    #[prost(string, tag = "4")]
    zone: String,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct MembershipMessage {
    /// More than one set while voters change.
    #[prost(message, repeated, tag = "1")]
    voters: Vec<VotersMessage>,
    #[prost(message, repeated, tag = "2")]
    members: Vec<MemberMessage>,
}

impl From<&Membership> for MembershipMessage {
    fn from(membership: &Membership) -> Self {
        let voters = membership.get_joint_config().iter();
        let members = membership.nodes().map(|(id, peer)| MemberMessage {
            id: *id,
            name: peer.name.clone(),
            address: peer.address.clone(),
            zone: peer.zone.clone(),
        });
        Self {
            voters: voters.map(|set| VotersMessage { ids: set.iter().copied().collect() }).collect(),
            members: members.collect(),
        }
    }
}

impl From<MembershipMessage> for Membership {
    fn from(message: MembershipMessage) -> Self {
        let sets = message.voters.into_iter().map(|set| set.ids.into_iter().collect::<BTreeSet<_>>());
        let members = message.members.into_iter().map(|member| {
            (member.id, Peer { name: member.name, address: member.address, zone: member.zone })
        });
        Self::new(sets.collect(), members.collect::<BTreeMap<_, _>>())
    }
}

/// A membership, and where in the log it was decided.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct StoredMembershipMessage {
    #[prost(message, optional, tag = "1")]
    log_id: Option<LogIdMessage>,
    #[prost(message, optional, tag = "2")]
    membership: Option<MembershipMessage>,
}

impl From<&StoredMembership> for StoredMembershipMessage {
    fn from(stored: &StoredMembership) -> Self {
        Self { log_id: stored.log_id().map(Into::into), membership: Some(stored.membership().into()) }
    }
}

impl From<StoredMembershipMessage> for StoredMembership {
    fn from(message: StoredMembershipMessage) -> Self {
        Self::new(message.log_id.map(Into::into), message.membership.unwrap_or_default().into())
    }
}

/// One entry of the log. With neither a command nor a membership it is a new leader's blank.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct EntryMessage {
    #[prost(message, optional, tag = "1")]
    log_id: Option<LogIdMessage>,
    #[prost(bytes = "bytes", optional, tag = "2")]
    command: Option<Bytes>,
    #[prost(message, optional, tag = "3")]
    membership: Option<MembershipMessage>,
}

impl From<&Entry> for EntryMessage {
    fn from(entry: &Entry) -> Self {
        let (command, membership) = match &entry.payload {
            EntryPayload::Blank => (None, None),
            EntryPayload::Normal(command) => (Some(command.bytes()), None),
            EntryPayload::Membership(membership) => (None, Some(membership.into())),
        };
        Self { log_id: Some(entry.log_id.into()), command, membership }
    }
}

impl TryFrom<EntryMessage> for Entry {
    type Error = WireError;

    fn try_from(message: EntryMessage) -> Result<Self, WireError> {
        let log_id = message.log_id.ok_or(WireError::Missing("an entry's place"))?.into();
        let payload = match (message.command, message.membership) {
            (Some(command), _) => EntryPayload::Normal(Command::of(command)),
            (None, Some(membership)) => EntryPayload::Membership(membership.into()),
            (None, None) => EntryPayload::Blank,
        };
        Ok(Self { log_id, payload })
    }
}
