//! Raft's messages, on the transport that the agent has.

use super::forward::check;
use super::raft::{Config, Entry, LogId, Raft, Vote};
use super::version;
use super::wire::{self, EntryMessage, LogIdMessage, StoredMembershipMessage, VoteMessage, WireError};
use crate::peer::{CallError, NodeId, Peer, Topic, Transport};
use bytes::Bytes;
use openraft::error::{InstallSnapshotError, NetworkError, RPCError, RaftError, RemoteError, Unreachable};
use openraft::network::{Backoff, RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse,
    VoteRequest, VoteResponse,
};
use openraft::{AnyError, SnapshotMeta};
use prost::Message;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;

type RpcError<E = RaftError<NodeId>> = RPCError<NodeId, Peer, E>;
type SnapshotRpcError = RpcError<RaftError<NodeId, InstallSnapshotError>>;

/// Makes a way to each peer.
#[derive(Debug, Clone)]
pub(super) struct Network {
    pub(super) transport: Arc<dyn Transport>,
    /// The cluster's id, which goes with each message: another cluster's members may be found where one of
    /// this cluster was.
    pub(super) cluster: String,
}

/// How long the news of a commit waits for entries to go with, while there are many.
const NEWS_DELAY: Duration = Duration::from_millis(1);
/// Entries that follow others within this time are many.
const STREAM: Duration = Duration::from_millis(2);
/// How long a peer may take to hear it.
const NEWS_PATIENCE: Duration = Duration::from_secs(1);

/// The way to one peer.
#[derive(Debug)]
pub(super) struct Way {
    transport: Arc<dyn Transport>,
    cluster: String,
    peer: Peer,
    id: NodeId,
    /// How far the peer was told that the log is committed; none before entries went this way.
    told: Option<LogId>,
    /// When entries went last, and whether others had gone shortly before.
    sent: Option<Instant>,
    is_stream: bool,
    /// News that nobody waits for.
    news: JoinSet<()>,
}

impl RaftNetworkFactory<Config> for Network {
    type Network = Way;

    async fn new_client(&mut self, target: NodeId, node: &Peer) -> Way {
        let transport = Arc::clone(&self.transport);
        Way {
            transport,
            cluster: self.cluster.clone(),
            peer: node.clone(),
            id: target,
            told: None,
            sent: None,
            is_stream: false,
            news: JoinSet::new(),
        }
    }
}

impl Way {
    /// True if `request` says nothing but that the log is committed further than the peer knows.
    ///
    /// openraft sends this after each commit, and no entries before it is answered: the next
    /// write would wait for a message that it could have carried. What asks the peer whether it
    /// still follows comes by a way of its own, on which no entries went.
    fn is_news(&self, request: &AppendEntriesRequest<Config>) -> bool {
        request.entries.is_empty() && self.told.is_some() && request.leader_commit > self.told
    }

    /// Tells the peer of a commit, if no other message is about to. One that is lost costs a delay: each
    /// later message says the same.
    fn tell(&mut self, request: AppendEntriesRequest<Config>) {
        self.told = request.leader_commit;
        let (transport, peer) = (Arc::clone(&self.transport), self.peer.clone());
        self.news.abort_all();
        let is_stream = self.is_stream;
        let question = AppendQuestion { cluster: self.cluster.clone(), ..AppendQuestion::from(request) };
        self.news.spawn(async move {
            if is_stream {
                tokio::time::sleep(NEWS_DELAY).await;
            }
            let body = question.encode_to_vec().into();
            // A peer that follows another by now says so when it is sent entries, or its pulse is taken.
            drop(transport.call(peer, Topic::Append, body, NEWS_PATIENCE).await);
        });
        while self.news.try_join_next().is_some() {}
    }

    async fn call<Q, A, E>(&self, topic: Topic, question: Q, option: &RPCOption) -> Result<A, RpcError<E>>
    where
        Q: Message,
        A: Message + Default,
        E: std::error::Error,
    {
        let body = question.encode_to_vec().into();
        let answer = self.transport.call(self.peer.clone(), topic, body, option.hard_ttl()).await;
        let answer = answer.map_err(lost)?;
        wire::decode("an answer", answer).map_err(|error| network_error(&error))
    }

    fn refused<E: std::error::Error>(&self, error: E) -> RpcError<E> {
        RPCError::RemoteError(RemoteError::new(self.id, error))
    }
}

/// A peer that cannot be reached is left alone for a moment; another failure says nothing of the next try.
fn lost<E: std::error::Error>(error: CallError) -> RpcError<E> {
    match error {
        CallError::Unreachable { .. } | CallError::Refused { .. } => {
            RPCError::Unreachable(Unreachable::new(&AnyError::new(&error)))
        }
        CallError::Unanswered { .. } => network_error(&error),
    }
}

fn network_error<E: std::error::Error>(error: &(impl std::error::Error + 'static)) -> RpcError<E> {
    RPCError::Network(NetworkError::new(&AnyError::new(error)))
}

impl RaftNetwork<Config> for Way {
    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Config>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<NodeId>, RpcError> {
        if self.is_news(&request) {
            self.tell(request);
            return Ok(AppendEntriesResponse::Success);
        }
        // It carries the news, too.
        self.news.abort_all();
        let told = (!request.entries.is_empty()).then_some(request.leader_commit).flatten();
        if !request.entries.is_empty() {
            let before = self.sent.replace(Instant::now());
            self.is_stream = before.is_some_and(|before| before.elapsed() < STREAM);
        }
        let question = AppendQuestion { cluster: self.cluster.clone(), ..AppendQuestion::from(request) };
        let answer: AppendAnswer = self.call(Topic::Append, question, &option).await?;
        let answer = answer.try_into().map_err(|error: WireError| network_error(&error))?;
        if matches!(answer, AppendEntriesResponse::Success) {
            self.told = self.told.max(told);
        }
        Ok(answer)
    }

    async fn install_snapshot(
        &mut self,
        request: InstallSnapshotRequest<Config>,
        option: RPCOption,
    ) -> Result<InstallSnapshotResponse<NodeId>, SnapshotRpcError> {
        let question = PartQuestion { cluster: self.cluster.clone(), ..PartQuestion::from(request) };
        let answer: PartAnswer = self.call(Topic::Snapshot, question, &option).await?;
        if let Some(expected) = answer.expected_offset {
            let mismatch = openraft::error::SnapshotMismatch {
                expect: openraft::SnapshotSegmentId { id: answer.id.clone(), offset: expected },
                got: openraft::SnapshotSegmentId { id: answer.id, offset: answer.offset },
            };
            return Err(self.refused(RaftError::APIError(mismatch.into())));
        }
        Ok(InstallSnapshotResponse { vote: answer.vote.unwrap_or_default().into() })
    }

    async fn vote(
        &mut self,
        request: VoteRequest<NodeId>,
        _: RPCOption,
    ) -> Result<VoteResponse<NodeId>, RpcError> {
        let question = VoteQuestion {
            vote: Some(request.vote.into()),
            last: request.last_log_id.map(Into::into),
            cluster: self.cluster.clone(),
        };
        let option = RPCOption::new(super::patience::VOTE);
        let answer: VoteAnswer = self.call(Topic::Vote, question, &option).await?;
        let vote: Vote = answer.vote.unwrap_or_default().into();
        Ok(VoteResponse::new(vote, answer.last.map(Into::into), answer.is_granted))
    }

    fn backoff(&self) -> Backoff {
        let delays = [20_u64, 50, 100, 200].into_iter().chain(std::iter::repeat(300));
        Backoff::new(delays.map(Duration::from_millis))
    }
}

/// This member's answer to a message of Raft's; none if the topic is not Raft's.
///
/// # Errors
/// What is to be told to the peer.
pub(super) async fn answer(
    raft: &Raft,
    cluster: &str,
    topic: Topic,
    body: Bytes,
) -> Result<Option<Bytes>, String> {
    let told = |error: &dyn std::error::Error| crate::chain(error);
    let bytes = match topic {
        Topic::Append => {
            let question: AppendQuestion = wire::decode("entries", body).map_err(|e| told(&e))?;
            check(cluster, &question.cluster)?;
            let request = question.try_into().map_err(|e: WireError| told(&e))?;
            version::entries(&request).map_err(|e| told(&e))?;
            let answer = raft.append_entries(request).await.map_err(|e| told(&e))?;
            AppendAnswer::from(answer).encode_to_vec()
        }
        Topic::Vote => {
            let question: VoteQuestion = wire::decode("a request to vote", body).map_err(|e| told(&e))?;
            check(cluster, &question.cluster)?;
            let vote = question.vote.ok_or("the request has no vote")?.into();
            let request = VoteRequest { vote, last_log_id: question.last.map(Into::into) };
            let answer = raft.vote(request).await.map_err(|e| told(&e))?;
            VoteAnswer {
                vote: Some(answer.vote.into()),
                is_granted: answer.vote_granted,
                last: answer.last_log_id.map(Into::into),
            }
            .encode_to_vec()
        }
        Topic::Snapshot => {
            let question: PartQuestion = wire::decode("a snapshot's part", body).map_err(|e| told(&e))?;
            check(cluster, &question.cluster)?;
            part(raft, question).await?.encode_to_vec()
        }
        Topic::PreVote | Topic::Pulse | Topic::Write | Topic::ReadIndex | Topic::Member | Topic::Sync => {
            return Ok(None);
        }
    };
    Ok(Some(bytes.into()))
}

async fn part(raft: &Raft, question: PartQuestion) -> Result<PartAnswer, String> {
    let (id, offset) = (question.id.clone(), question.offset);
    let request = question.into();
    version::part(&request).map_err(|error| crate::chain(&error))?;
    match raft.install_snapshot(request).await {
        Ok(answer) => Ok(PartAnswer { vote: Some(answer.vote.into()), ..PartAnswer::default() }),
        Err(RaftError::APIError(InstallSnapshotError::SnapshotMismatch(mismatch))) => {
            Ok(PartAnswer { id, offset, expected_offset: Some(mismatch.expect.offset), vote: None })
        }
        Err(error @ RaftError::Fatal(_)) => Err(crate::chain(&error)),
    }
}

#[derive(Clone, PartialEq, Message)]
struct AppendQuestion {
    #[prost(message, optional, tag = "1")]
    vote: Option<VoteMessage>,
    #[prost(message, optional, tag = "2")]
    previous: Option<LogIdMessage>,
    #[prost(message, optional, tag = "3")]
    committed: Option<LogIdMessage>,
    #[prost(message, repeated, tag = "4")]
    entries: Vec<EntryMessage>,
    #[prost(string, tag = "15")]
    cluster: String,
}

impl From<AppendEntriesRequest<Config>> for AppendQuestion {
    fn from(request: AppendEntriesRequest<Config>) -> Self {
        Self {
            vote: Some(request.vote.into()),
            previous: request.prev_log_id.map(Into::into),
            committed: request.leader_commit.map(Into::into),
            entries: request.entries.iter().map(Into::into).collect(),
            cluster: String::new(),
        }
    }
}

impl TryFrom<AppendQuestion> for AppendEntriesRequest<Config> {
    type Error = WireError;

    fn try_from(question: AppendQuestion) -> Result<Self, WireError> {
        Ok(Self {
            vote: question.vote.ok_or(WireError::Missing("the leader's vote"))?.into(),
            prev_log_id: question.previous.map(Into::into),
            leader_commit: question.committed.map(Into::into),
            entries: question.entries.into_iter().map(Entry::try_from).collect::<Result<_, _>>()?,
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
enum Appended {
    Unknown = 0,
    All = 1,
    /// Through `matching` only.
    Partly = 2,
    /// What came before is missing or another.
    Conflict = 3,
    /// There is a vote that is higher.
    Outvoted = 4,
}

#[derive(Clone, PartialEq, Message)]
struct AppendAnswer {
    #[prost(enumeration = "Appended", tag = "1")]
    outcome: i32,
    #[prost(message, optional, tag = "2")]
    matching: Option<LogIdMessage>,
    #[prost(message, optional, tag = "3")]
    higher: Option<VoteMessage>,
}

impl From<AppendEntriesResponse<NodeId>> for AppendAnswer {
    fn from(response: AppendEntriesResponse<NodeId>) -> Self {
        let (outcome, matching, higher) = match response {
            AppendEntriesResponse::Success => (Appended::All, None, None),
            AppendEntriesResponse::PartialSuccess(matching) => (Appended::Partly, matching, None),
            AppendEntriesResponse::Conflict => (Appended::Conflict, None, None),
            AppendEntriesResponse::HigherVote(vote) => (Appended::Outvoted, None, Some(vote)),
        };
        Self { outcome: outcome.into(), matching: matching.map(Into::into), higher: higher.map(Into::into) }
    }
}

impl TryFrom<AppendAnswer> for AppendEntriesResponse<NodeId> {
    type Error = WireError;

    fn try_from(answer: AppendAnswer) -> Result<Self, WireError> {
        Ok(match answer.outcome() {
            Appended::All => Self::Success,
            Appended::Partly => Self::PartialSuccess(answer.matching.map(LogId::from)),
            Appended::Conflict => Self::Conflict,
            Appended::Outvoted => {
                Self::HigherVote(answer.higher.ok_or(WireError::Missing("the higher vote"))?.into())
            }
            Appended::Unknown => return Err(WireError::Missing("what became of the entries")),
        })
    }
}

#[derive(Clone, PartialEq, Message)]
struct VoteQuestion {
    #[prost(message, optional, tag = "1")]
    vote: Option<VoteMessage>,
    #[prost(message, optional, tag = "2")]
    last: Option<LogIdMessage>,
    #[prost(string, tag = "15")]
    cluster: String,
}

#[derive(Clone, PartialEq, Message)]
struct VoteAnswer {
    #[prost(message, optional, tag = "1")]
    vote: Option<VoteMessage>,
    #[prost(bool, tag = "2")]
    is_granted: bool,
    #[prost(message, optional, tag = "3")]
    last: Option<LogIdMessage>,
}

#[derive(Clone, PartialEq, Message)]
struct PartQuestion {
    #[prost(message, optional, tag = "1")]
    vote: Option<VoteMessage>,
    #[prost(string, tag = "2")]
    id: String,
    #[prost(message, optional, tag = "3")]
    last: Option<LogIdMessage>,
    #[prost(message, optional, tag = "4")]
    membership: Option<StoredMembershipMessage>,
    #[prost(uint64, tag = "5")]
    offset: u64,
    #[prost(bytes = "vec", tag = "6")]
    data: Vec<u8>,
    #[prost(bool, tag = "7")]
    is_last: bool,
    #[prost(string, tag = "15")]
    cluster: String,
}

impl From<InstallSnapshotRequest<Config>> for PartQuestion {
    fn from(request: InstallSnapshotRequest<Config>) -> Self {
        Self {
            vote: Some(request.vote.into()),
            id: request.meta.snapshot_id,
            last: request.meta.last_log_id.map(Into::into),
            membership: Some((&request.meta.last_membership).into()),
            offset: request.offset,
            data: request.data,
            is_last: request.done,
            cluster: String::new(),
        }
    }
}

impl From<PartQuestion> for InstallSnapshotRequest<Config> {
    fn from(question: PartQuestion) -> Self {
        Self {
            vote: question.vote.unwrap_or_default().into(),
            meta: SnapshotMeta {
                last_log_id: question.last.map(Into::into),
                last_membership: question.membership.unwrap_or_default().into(),
                snapshot_id: question.id,
            },
            offset: question.offset,
            data: question.data,
            done: question.is_last,
        }
    }
}

#[derive(Clone, PartialEq, Message)]
struct PartAnswer {
    #[prost(message, optional, tag = "1")]
    vote: Option<VoteMessage>,
    /// Set if another part is wanted, from this offset on.
    #[prost(uint64, optional, tag = "2")]
    expected_offset: Option<u64>,
    #[prost(string, tag = "3")]
    id: String,
    #[prost(uint64, tag = "4")]
    offset: u64,
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod version_tests;
