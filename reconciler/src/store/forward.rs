//! What a member that does not lead asks of the one that does, and its answers.

use super::cluster::{Cluster, ClusterError, LEADER_PATIENCE, Leadership};
use super::command::Answer;
use super::error::WriteError;
use super::proposer::Request;
use super::raft::Raft;
use super::snapshot::Head;
use super::wire;
use crate::peer::{CallError, NodeId, Peer, Topic, Transport};
use bytes::Bytes;
use manifests::{Kind, Object, ObjectKey};
use prost::Message;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot, watch};

#[derive(Clone, PartialEq, Message)]
struct WriteQuestion {
    #[prost(string, tag = "1")]
    cluster: String,
    #[prost(bytes = "bytes", repeated, tag = "2")]
    batches: Vec<Bytes>,
}

#[derive(Clone, PartialEq, Message)]
struct WriteAnswer {
    #[prost(message, repeated, tag = "1")]
    outcomes: Vec<Outcome>,
    /// Through there, the log holds what was written.
    #[prost(uint64, tag = "2")]
    index: u64,
}

#[derive(Clone, PartialEq, Message)]
struct Outcome {
    #[prost(message, repeated, tag = "1")]
    objects: Vec<Left>,
    #[prost(message, optional, tag = "2")]
    error: Option<Refusal>,
}

/// An object that a write left.
#[derive(Clone, PartialEq, Message)]
struct Left {
    #[prost(string, tag = "1")]
    kind: String,
    #[prost(bytes = "bytes", tag = "2")]
    json: Bytes,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
enum Why {
    Undecided = 0,
    Conflict = 1,
    AlreadyExists = 2,
    NotFound = 3,
    Unnamed = 4,
    Unreadable = 5,
    NoLeader = 6,
    /// The leader's disk; its words are the text.
    Storage = 7,
}

#[derive(Clone, PartialEq, Message)]
struct Refusal {
    #[prost(enumeration = "Why", tag = "1")]
    why: i32,
    #[prost(string, tag = "2")]
    kind: String,
    #[prost(string, tag = "3")]
    namespace: String,
    #[prost(string, tag = "4")]
    name: String,
    #[prost(uint64, tag = "5")]
    found: u64,
    #[prost(string, tag = "6")]
    text: String,
}

/// Brings batches to the leader.
pub(super) struct Forwarder {
    pub(super) raft: Raft,
    pub(super) transport: Arc<dyn Transport>,
    pub(super) cluster: String,
    pub(super) leadership: watch::Receiver<Leadership>,
}

impl Forwarder {
    /// The leader that this member follows; none if it leads, or knows of none.
    pub(super) fn leader(&self) -> Option<Peer> {
        let Leadership::Follows(id) = *self.leadership.borrow() else { return None };
        let membership = self.raft.metrics().borrow().membership_config.clone();
        membership.membership().get_node(&id).cloned()
    }

    /// The leader's answers to `batches`, one for each, and how far the log has to be applied for
    /// what they say to be seen here.
    pub(super) async fn write(&self, leader: Peer, batches: Vec<Bytes>) -> (Vec<Answer>, u64) {
        let count = batches.len();
        let question = WriteQuestion { cluster: self.cluster.clone(), batches };
        let body = question.encode_to_vec().into();
        let all = |error: WriteError| (vec![Err(error); count], 0);
        match self.transport.call(leader, Topic::Write, body, LEADER_PATIENCE).await {
            Ok(body) => match wire::decode::<WriteAnswer>("an answer", body) {
                Ok(answer) if answer.outcomes.len() == count => {
                    (answer.outcomes.into_iter().map(Outcome::take).collect(), answer.index)
                }
                Ok(_) | Err(_) => all(WriteError::Undecided),
            },
            Err(CallError::Unanswered { .. }) => all(WriteError::Undecided),
            Err(CallError::Unreachable { .. } | CallError::Refused { .. }) => all(WriteError::NoLeader),
        }
    }
}

/// Does as leader what another member asks.
pub(super) async fn answer_write(
    requests: mpsc::Sender<Vec<Request>>,
    cluster: &str,
    (leadership, applied): (Leadership, &watch::Receiver<Head>),
    body: Bytes,
) -> Result<Bytes, String> {
    let question: WriteQuestion = wire::decode("writes", body).map_err(|error| crate::chain(&error))?;
    check(cluster, &question.cluster)?;
    if leadership != Leadership::Leads {
        // Never passed on again: two members that take each other for the leader would go on for ever.
        return Err("this member does not lead".into());
    }
    let mut answers = Vec::with_capacity(question.batches.len());
    let mut asked = Vec::with_capacity(question.batches.len());
    for batch in question.batches {
        let (answer, answered) = oneshot::channel();
        asked.push(Request { batch, term: None, answer });
        answers.push(answered);
    }
    requests.send(asked).await.map_err(|_| "the store is closed")?;
    let mut outcomes = Vec::with_capacity(answers.len());
    for answer in answers {
        outcomes.push(Outcome::of(answer.await.unwrap_or(Err(WriteError::Undecided))));
    }
    let index = applied.borrow().last.map_or(0, |last| last.index);
    Ok(WriteAnswer { outcomes, index }.encode_to_vec().into())
}

/// # Errors
/// If who asks is of the cluster `theirs`, and this member of `mine`.
pub(super) fn check(mine: &str, theirs: &str) -> Result<(), String> {
    if mine == theirs { Ok(()) } else { Err(format!("this is a member of cluster {mine}, not of {theirs}")) }
}

impl Outcome {
    fn of(answer: Answer) -> Self {
        let objects = match answer {
            Ok(objects) => objects,
            Err(error) => return Self { objects: Vec::new(), error: Some(Refusal::of(&error)) },
        };
        let left = |object: &Arc<Object>| {
            let json = object.to_json_bytes().unwrap_or_default().into();
            Left { kind: object.kind().as_str().into(), json }
        };
        Self { objects: objects.iter().map(left).collect(), error: None }
    }

    fn take(self) -> Answer {
        if let Some(refusal) = self.error {
            return Err(refusal.take());
        }
        let object = |left: Left| {
            let kind = kind_of(&left.kind).ok_or(WriteError::Undecided)?;
            // It was written; only what it left cannot be told.
            Object::from_json_bytes(kind, &left.json).map(Arc::new).map_err(|_| WriteError::Undecided)
        };
        self.objects.into_iter().map(object).collect()
    }
}

fn kind_of(word: &str) -> Option<Kind> {
    Kind::ALL.into_iter().find(|kind| kind.as_str() == word)
}

impl Refusal {
    fn of(error: &WriteError) -> Self {
        let about = |why: Why, key: &ObjectKey| Self {
            kind: key.kind.as_str().into(),
            namespace: key.namespace.clone(),
            name: key.name.clone(),
            ..Self::only(why, String::new())
        };
        match error {
            WriteError::Conflict { key, found } => Self { found: *found, ..about(Why::Conflict, key) },
            WriteError::AlreadyExists(key) => about(Why::AlreadyExists, key),
            WriteError::NotFound(key) => about(Why::NotFound, key),
            WriteError::Unnamed(key) => about(Why::Unnamed, key),
            WriteError::Encode { .. } | WriteError::Unreadable(_) => {
                Self::only(Why::Unreadable, crate::chain(error))
            }
            WriteError::Storage(_) | WriteError::LeaderStorage(_) => {
                Self::only(Why::Storage, crate::chain(error))
            }
            WriteError::NoLeader | WriteError::Deposed => Self::only(Why::NoLeader, String::new()),
            WriteError::Undecided | WriteError::Closed => Self::only(Why::Undecided, String::new()),
        }
    }

    fn only(why: Why, text: String) -> Self {
        Self { why: why.into(), text, ..Self::default() }
    }

    fn take(self) -> WriteError {
        let key = || {
            let kind = kind_of(&self.kind)?;
            Some(ObjectKey::new(kind, self.namespace.clone(), self.name.clone()))
        };
        let about = |make: fn(ObjectKey) -> WriteError| key().map_or(WriteError::Undecided, make);
        match self.why() {
            Why::Conflict => {
                key().map_or(WriteError::Undecided, |key| WriteError::Conflict { key, found: self.found })
            }
            Why::AlreadyExists => about(WriteError::AlreadyExists),
            Why::NotFound => about(WriteError::NotFound),
            Why::Unnamed => about(WriteError::Unnamed),
            Why::Unreadable => WriteError::Unreadable(self.text),
            Why::Storage => WriteError::LeaderStorage(self.text),
            Why::NoLeader => WriteError::NoLeader,
            Why::Undecided => WriteError::Undecided,
        }
    }
}

#[derive(Clone, PartialEq, Message)]
struct IndexQuestion {
    #[prost(string, tag = "1")]
    cluster: String,
}

#[derive(Clone, PartialEq, Message)]
struct IndexAnswer {
    #[prost(uint64, tag = "1")]
    index: u64,
}

/// How far the leader's log is committed.
pub(super) async fn read_index(
    transport: &dyn Transport,
    leader: Peer,
    cluster: &str,
) -> Result<u64, ClusterError> {
    let question = IndexQuestion { cluster: cluster.to_owned() };
    let answer: IndexAnswer = ask(transport, leader, Topic::ReadIndex, &question).await?;
    Ok(answer.index)
}

pub(super) fn answer_read_index(cluster: &str, index: u64, body: Bytes) -> Result<Bytes, String> {
    let question: IndexQuestion = wire::decode("a question", body).map_err(|error| crate::chain(&error))?;
    check(cluster, &question.cluster)?;
    Ok(IndexAnswer { index }.encode_to_vec().into())
}

#[derive(Clone, PartialEq, Message)]
struct MemberQuestion {
    /// Empty of one that does not know it yet; its certificate says that it may ask.
    #[prost(string, tag = "1")]
    cluster: String,
    /// To add; its fields are those of `Peer`.
    #[prost(message, optional, tag = "2")]
    add: Option<PeerMessage>,
    #[prost(uint64, optional, tag = "3")]
    remove: Option<NodeId>,
    /// With `update`: the member that is to be found elsewhere.
    #[prost(uint64, tag = "4")]
    member: NodeId,
    #[prost(message, optional, tag = "5")]
    update: Option<PeerMessage>,
}

#[derive(Clone, PartialEq, Message)]
struct PeerMessage {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    address: String,
    #[prost(string, tag = "3")]
    zone: String,
}

#[derive(Clone, PartialEq, Message)]
struct MemberAnswer {
    #[prost(uint64, tag = "1")]
    node: NodeId,
    #[prost(string, tag = "2")]
    cluster: String,
}

/// Asks each of `members` in turn to make `me` one of them, until one does: the leader, or one
/// that knows it.
///
/// # Errors
/// What the last one said, if none does.
pub(super) async fn admission(
    transport: &dyn Transport,
    members: &[Peer],
    me: &Peer,
) -> Result<(String, NodeId), ClusterError> {
    let mut last = ClusterError::NoLeader;
    for member in members.iter().filter(|member| member.name != me.name) {
        let Peer { name, address, zone } = me.clone();
        let question =
            MemberQuestion { add: Some(PeerMessage { name, address, zone }), ..MemberQuestion::default() };
        match ask::<MemberAnswer>(transport, member.clone(), Topic::Member, &question).await {
            Ok(answer) => return Ok((answer.cluster, answer.node)),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Asks the leader to add `peer`.
pub(super) async fn add(
    transport: &dyn Transport,
    leader: Peer,
    cluster: &str,
    peer: Peer,
) -> Result<NodeId, ClusterError> {
    let add = PeerMessage { name: peer.name, address: peer.address, zone: peer.zone };
    let question =
        MemberQuestion { cluster: cluster.to_owned(), add: Some(add), ..MemberQuestion::default() };
    let answer: MemberAnswer = ask(transport, leader, Topic::Member, &question).await?;
    Ok(answer.node)
}

/// Asks the leader to remove the member `id`.
pub(super) async fn remove(
    transport: &dyn Transport,
    leader: Peer,
    cluster: &str,
    id: NodeId,
) -> Result<(), ClusterError> {
    let question =
        MemberQuestion { cluster: cluster.to_owned(), remove: Some(id), ..MemberQuestion::default() };
    ask::<MemberAnswer>(transport, leader, Topic::Member, &question).await.map(drop)
}

/// Tells the leader where the member `id` is found.
pub(super) async fn update(
    transport: &dyn Transport,
    leader: Peer,
    cluster: &str,
    id: NodeId,
    peer: Peer,
) -> Result<(), ClusterError> {
    let update = PeerMessage { name: peer.name, address: peer.address, zone: peer.zone };
    let question = MemberQuestion {
        cluster: cluster.to_owned(),
        member: id,
        update: Some(update),
        ..MemberQuestion::default()
    };
    ask::<MemberAnswer>(transport, leader, Topic::Member, &question).await.map(drop)
}

pub(super) async fn answer_member(this: &Cluster, cluster: &str, body: Bytes) -> Result<Bytes, String> {
    let question: MemberQuestion = wire::decode("a question", body).map_err(|error| crate::chain(&error))?;
    if !question.cluster.is_empty() {
        check(cluster, &question.cluster)?;
        // What a member passes on is for the leader: it is not passed on again.
        if this.leadership() != Leadership::Leads {
            return Err("this member does not lead".into());
        }
    }
    let told = |error: ClusterError| crate::chain(&error);
    let mut node = 0;
    if let Some(PeerMessage { name, address, zone }) = question.add {
        node = this.add(Peer { name, address, zone }).await.map_err(told)?;
    }
    if let Some(id) = question.remove {
        this.remove(id).await.map_err(told)?;
    }
    if let Some(PeerMessage { name, address, zone }) = question.update {
        this.update_here(question.member, Peer { name, address, zone }).await.map_err(told)?;
    }
    Ok(MemberAnswer { node, cluster: cluster.to_owned() }.encode_to_vec().into())
}

async fn ask<A: Message + Default>(
    transport: &dyn Transport,
    leader: Peer,
    topic: Topic,
    question: &impl Message,
) -> Result<A, ClusterError> {
    let body = question.encode_to_vec().into();
    let answer = transport.call(leader, topic, body, LEADER_PATIENCE).await.map_err(ClusterError::Call)?;
    wire::decode("an answer", answer).map_err(|error| ClusterError::Refused(crate::chain(&error)))
}
