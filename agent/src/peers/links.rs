//! The transport: carries messages to peers over kept connections.

use super::dial::{DialError, Line};
use super::link::Link;
use super::papers::Papers;
use super::wire::v1::peers_client::PeersClient;
use super::wire::v1::{Answer, Question};
use super::wire::{MAX_BODY_BYTES, MAX_MESSAGE_BYTES, VERSION};
use bytes::Bytes;
use futures::future::BoxFuture;
use reconciler::peer::{CallError, Peer, Topic, Transport};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::time::{Instant, timeout_at};
use tonic::codegen::http::Uri;
use tonic::{Code, Status};

/// Parts of snapshots have a connection of their own, and images another: heartbeats do not queue
/// behind them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Lane {
    Quick,
    Bulk,
    Blobs,
}

impl Lane {
    const fn of(topic: Topic) -> Self {
        match topic {
            Topic::Snapshot => Self::Bulk,
            Topic::Blob => Self::Blobs,
            Topic::Append
            | Topic::Vote
            | Topic::PreVote
            | Topic::Pulse
            | Topic::Write
            | Topic::ReadIndex
            | Topic::Member
            | Topic::Sync => Self::Quick,
        }
    }
}

/// Any node may ask any other for blobs, now and then: their connections do not stay for ever.
const BLOBS_IDLE: Duration = Duration::from_secs(60);

/// Each with the time of its last use.
type ByPeer = HashMap<(String, Lane), (Arc<Link>, Instant)>;

/// Connections to peers, by name.
#[derive(Debug, Clone)]
pub(crate) struct Links {
    papers: Papers,
    links: Arc<Mutex<ByPeer>>,
    /// Where connections are driven, whichever thread asks for one: what is long on that thread
    /// holds no message up.
    home: Handle,
}

/// No answer came in time.
#[derive(Debug, thiserror::Error)]
#[error("nothing came in {} ms", .0.as_millis())]
struct TimedOut(Duration);

impl Links {
    /// No connections yet, to be made as `papers` say, and driven by the runtime of the caller.
    pub(crate) fn new(papers: Papers) -> Self {
        Self { papers, links: Arc::default(), home: Handle::current() }
    }

    /// What connections are made with.
    #[cfg(test)]
    pub(super) fn papers(&self) -> &Papers {
        &self.papers
    }

    /// The link to `peer`; one to an address of before is dropped.
    fn link(&self, peer: &Peer, lane: Lane) -> Arc<Link> {
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        let (key, now) = ((peer.name.clone(), lane), Instant::now());
        match links.get_mut(&key) {
            Some((link, used)) if link.address() == peer.address => {
                *used = now;
                Arc::clone(link)
            }
            Some(_) | None => {
                links.retain(|(_, lane), (_, used)| *lane != Lane::Blobs || now < *used + BLOBS_IDLE);
                let names = (peer.name.clone(), peer.address.clone());
                let link = Link::new(names, self.papers.clone(), self.home.clone());
                links.insert(key, (Arc::clone(&link), now));
                link
            }
        }
    }

    /// Connections to nobody but `members` are kept.
    pub(crate) fn keep_only(&self, members: &[Peer]) {
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        links.retain(|(name, _), _| members.iter().any(|member| member.name == *name));
    }
}

impl Transport for Links {
    fn call(
        &self,
        peer: Peer,
        topic: Topic,
        body: Bytes,
        within: Duration,
    ) -> BoxFuture<'static, Result<Bytes, CallError>> {
        let deadline = Instant::now() + within;
        if body.len() > MAX_BODY_BYTES {
            let reason = format!("a message has {MAX_BODY_BYTES} bytes at most, not {}", body.len());
            return Box::pin(std::future::ready(Err(CallError::Refused { peer: peer.name, reason })));
        }
        let link = self.link(&peer, Lane::of(topic));
        let question = Question { version: VERSION, topic: u32::from(topic as u8), body };
        Box::pin(async move {
            // A line that closes just before it is used has cost nothing but that.
            let first = attempt(&link, question.clone(), deadline, within).await;
            let outcome = match first {
                Err(Failure::NotSent(_)) => attempt(&link, question, deadline, within).await,
                Err(_) | Ok(_) => first,
            };
            outcome.map_err(|failure| failure.of(peer.name))
        })
    }
}

/// How an attempt failed.
enum Failure {
    NotDialled(Arc<DialError>),
    NotSent(Status),
    TimedOut { sent: bool, within: Duration },
    Broken(Status),
    Refused(Status),
}

impl Failure {
    fn of(self, peer: String) -> CallError {
        match self {
            Self::NotDialled(error) => CallError::Unreachable { peer, source: Box::new(error) },
            Self::NotSent(status) => CallError::Unreachable { peer, source: Box::new(status) },
            Self::TimedOut { sent: false, within } => {
                CallError::Unreachable { peer, source: Box::new(TimedOut(within)) }
            }
            Self::TimedOut { sent: true, within } => {
                CallError::Unanswered { peer, source: Box::new(TimedOut(within)) }
            }
            Self::Broken(status) => CallError::Unanswered { peer, source: Box::new(status) },
            Self::Refused(status) => CallError::Refused { peer, reason: status.message().to_owned() },
        }
    }
}

async fn attempt(
    link: &Arc<Link>,
    question: Question,
    deadline: Instant,
    within: Duration,
) -> Result<Bytes, Failure> {
    let line = timeout_at(deadline, link.line()).await;
    let line = line.map_err(|_| Failure::TimedOut { sent: false, within })?.map_err(Failure::NotDialled)?;
    match timeout_at(deadline, ask(line, question)).await {
        Ok(Ok(answer)) => Ok(answer.body),
        Ok(Err(status)) => Err(judged(status)),
        Err(_) => Err(Failure::TimedOut { sent: true, within }),
    }
}

async fn ask(line: Line, question: Question) -> Result<Answer, Status> {
    let mut client = PeersClient::with_origin(line, Uri::from_static("https://peer.keel"))
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    Ok(client.ask(question).await?.into_inner())
}

/// What `status` says of the message: a peer's own words have no source.
fn judged(status: Status) -> Failure {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = std::error::Error::source(&status);
    while let Some(error) = cause {
        if error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_canceled) {
            return Failure::NotSent(status);
        }
        cause = error.source();
    }
    match status.code() {
        Code::PermissionDenied
        | Code::Unauthenticated
        | Code::FailedPrecondition
        | Code::Unimplemented
        | Code::InvalidArgument
        | Code::OutOfRange
        | Code::Aborted => Failure::Refused(status),
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::NotFound
        | Code::AlreadyExists
        | Code::ResourceExhausted
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss => Failure::Broken(status),
    }
}
