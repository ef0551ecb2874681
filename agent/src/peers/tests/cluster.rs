//! Clusters for tests: an authority, and nodes that answer on the loopback.

use crate::peers::authority::{ClusterCa, Subject};
use crate::peers::door::Door;
use crate::peers::identity::{Identity, NodeKey};
use crate::peers::links::Links;
use crate::peers::papers::Papers;
use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};
use reconciler::peer::{Answerer, CallError, Peer, Topic, Transport as _};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(super) const LIFETIME: Duration = Duration::from_secs(30 * 24 * 3600);
/// Generous: no test waits for it unless something is broken.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

pub(super) fn days(days: i64) -> SignedDuration {
    SignedDuration::from_hours(24 * days)
}

/// Says who asked, about what, and what it heard.
pub(super) struct Parrot;

impl Answerer for Parrot {
    fn answer(&self, name: String, topic: Topic, body: Bytes) -> BoxFuture<'static, Result<Bytes, String>> {
        async move {
            match (topic, &body[..]) {
                (Topic::Vote, b"no") => Err("no vote for you".to_owned()),
                (Topic::Member, b"never") => std::future::pending().await,
                (Topic::Snapshot, _) => Ok(body),
                _ => Ok(format!("{name} {topic:?} {}", String::from_utf8_lossy(&body)).into()),
            }
        }
        .boxed()
    }
}

/// Something to sign with.
pub(super) fn authority(cluster: &str) -> ClusterCa {
    ClusterCa::generate(cluster, Timestamp::now()).expect("an authority")
}

/// Papers for `name` that were signed at `at`.
pub(super) fn papers_of(authority: &ClusterCa, name: &str, key: &NodeKey, at: Timestamp) -> Papers {
    Papers::new(identity_of(authority, name, key, at))
}

pub(super) fn identity_of(authority: &ClusterCa, name: &str, key: &NodeKey, at: Timestamp) -> Identity {
    let subject = Subject { name, address: "127.0.0.1:1" };
    let request = key.request().expect("a request");
    let certificates = authority.sign(&request, subject, LIFETIME, at).expect("a certificate");
    let trust = authority.trust().expect("trust");
    Identity::new(&certificates, key, Arc::new(trust)).expect("an identity")
}

/// Papers for `name`, with a key of its own, good now.
pub(super) fn papers(authority: &ClusterCa, name: &str) -> Papers {
    papers_of(authority, name, &NodeKey::generate().expect("a key"), Timestamp::now())
}

/// A node that answers.
pub(super) struct Running {
    pub(super) peer: Peer,
    pub(super) papers: Papers,
    stop: CancellationToken,
    task: JoinHandle<Result<(), rustls::Error>>,
}

impl Running {
    pub(super) async fn start(name: &str, papers: Papers) -> Self {
        Self::start_at("127.0.0.1:0", name, papers).await
    }

    pub(super) async fn start_at(address: &str, name: &str, papers: Papers) -> Self {
        let listener = TcpListener::bind(address).await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let stop = CancellationToken::new();
        let door = Door::new(papers.clone(), Arc::new(Parrot), None);
        let task = tokio::spawn(door.serve(listener, stop.clone()));
        let peer = Peer { name: name.to_owned(), address, zone: String::new() };
        Self { peer, papers, stop, task }
    }

    pub(super) async fn stop(self) {
        self.stop.cancel();
        self.task.await.expect("no panic").expect("no error");
    }
}

/// Asks `peer` something short.
pub(super) async fn ask(links: &Links, peer: &Peer, text: &'static str) -> Result<String, CallError> {
    let answer =
        links.call(peer.clone(), Topic::Write, Bytes::from_static(text.as_bytes()), PATIENCE).await?;
    Ok(String::from_utf8(answer.to_vec()).expect("text"))
}

/// An error and its causes, in a line.
pub(super) fn words(error: &CallError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
