//! What a member does with messages of a version of keel that comes after it.

use super::*;
use crate::peer::Answerer as _;
use crate::store::command::{self, Command, encode_batch};
use crate::store::{Store, Write};
use manifests::k8s_openapi::api::core::v1::ConfigMap;
use manifests::{Kind, Object};
use openraft::{CommittedLeaderId, EntryPayload};
use std::sync::atomic::{AtomicU32, Ordering};
use tempfile::TempDir;

/// A command or a head of a snapshot, as far as every version can read it.
#[derive(Clone, PartialEq, Message)]
struct Versioned {
    #[prost(uint32, tag = "1")]
    version: u32,
    #[prost(string, tag = "200")]
    news: String,
}

/// A question to the leader with something that this version does not know.
#[derive(Clone, PartialEq, Message)]
struct Question {
    #[prost(string, tag = "1")]
    cluster: String,
    #[prost(bytes = "bytes", repeated, tag = "2")]
    batches: Vec<Bytes>,
    #[prost(string, tag = "200")]
    news: String,
}

fn store() -> (TempDir, Store) {
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path()).unwrap();
    (dir, store)
}

fn creation() -> Write {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let mut map = ConfigMap::default();
    map.metadata.namespace = Some("default".into());
    map.metadata.name = Some(format!("c{}", NUMBER.fetch_add(1, Ordering::Relaxed)));
    Write::Create(Object::from(map))
}

async fn told(store: &Store, topic: Topic, body: Vec<u8>) -> Result<Bytes, String> {
    store.cluster().answer("n2".into(), topic, body.into()).await
}

fn versioned(version: u32) -> Versioned {
    Versioned { version, news: "of tomorrow".into() }
}

/// What the leader of a later term says, after which the member would follow it.
fn entries(cluster: &str, command: Option<Vec<u8>>) -> Vec<u8> {
    let log_id = LogId::new(CommittedLeaderId::new(9, 2), 1);
    let entry =
        |command: Vec<u8>| Entry { log_id, payload: EntryPayload::Normal(Command::of(command.into())) };
    let request = AppendEntriesRequest {
        vote: Vote::new_committed(9, 2),
        prev_log_id: None,
        entries: command.map(entry).into_iter().collect(),
        leader_commit: None,
    };
    AppendQuestion { cluster: cluster.into(), ..AppendQuestion::from(request) }.encode_to_vec()
}

fn beginning(cluster: &str, version: u32) -> Vec<u8> {
    let mut data = b"KEELSNAP".to_vec();
    data.extend(versioned(version).encode_length_delimited_to_vec());
    let vote = Some(Vote::new_committed(9, 2).into());
    let cluster = cluster.into();
    PartQuestion { vote, id: "s".into(), data, cluster, ..PartQuestion::default() }.encode_to_vec()
}

#[tokio::test]
async fn entries_of_a_newer_version_are_refused_in_words_and_the_member_goes_on() {
    let (_dir, store) = store();
    let refused =
        told(&store, Topic::Append, entries(store.cluster().id(), Some(versioned(3).encode_to_vec()))).await;
    assert_eq!(refused.unwrap_err(), "a command has version 3; this version of keel knows up to 2");
    store.write(vec![creation()]).await.unwrap();
    let vote = store.cluster().term();
    assert!(vote < 9, "it follows whom it cannot read: term {vote}");
}

#[tokio::test]
async fn a_snapshot_of_a_newer_version_is_refused_in_words_and_the_member_goes_on() {
    let (_dir, store) = store();
    let refused = told(&store, Topic::Snapshot, beginning(store.cluster().id(), 2)).await;
    assert_eq!(refused.unwrap_err(), "a snapshot has version 2; this version of keel knows up to 1");
    store.write(vec![creation()]).await.unwrap();
}

#[tokio::test]
async fn a_snapshot_of_this_version_is_taken_in() {
    let (_dir, store) = store();
    let answer = told(&store, Topic::Snapshot, beginning(store.cluster().id(), 1)).await.unwrap();
    assert_eq!(PartAnswer::decode(answer).unwrap().expected_offset, None);
}

#[tokio::test]
async fn another_clusters_leader_and_candidate_are_refused() {
    let (_dir, store) = store();
    let vote = Some(Vote::new(9, 2).into());
    let candidacy = VoteQuestion { vote, last: None, cluster: "theirs".into() }.encode_to_vec();
    let part = beginning("theirs", 1);
    for (topic, body) in
        [(Topic::Append, entries("theirs", None)), (Topic::Vote, candidacy), (Topic::Snapshot, part)]
    {
        let refused = told(&store, topic, body).await.unwrap_err();
        assert_eq!(refused, format!("this is a member of cluster {}, not of theirs", store.cluster().id()));
    }
    store.write(vec![creation()]).await.unwrap();
}

#[tokio::test]
async fn fields_that_this_version_does_not_know_are_passed_over() {
    let (_dir, store) = store();
    let question = |batches| Question { cluster: store.cluster().id().into(), batches, news: "later".into() };
    let batch = encode_batch(&[creation()]).unwrap();
    told(&store, Topic::Write, question(vec![batch]).encode_to_vec()).await.unwrap();
    told(&store, Topic::ReadIndex, question(Vec::new()).encode_to_vec()).await.unwrap();
    let mut append = entries(store.cluster().id(), None);
    append.extend(Question { news: "later".into(), ..Question::default() }.encode_to_vec());
    let answer = AppendAnswer::decode(told(&store, Topic::Append, append).await.unwrap()).unwrap();
    assert_ne!(answer.outcome(), Appended::Unknown);
}

#[tokio::test]
async fn bytes_that_are_no_message_are_refused_in_words() {
    let (_dir, store) = store();
    for topic in [Topic::Append, Topic::Vote, Topic::PreVote, Topic::Snapshot, Topic::Pulse, Topic::Write] {
        let refused = told(&store, topic, b"\xff\xff\xff".to_vec()).await.unwrap_err();
        assert!(refused.starts_with("cannot decode "), "{topic:?}: {refused}");
    }
    store.write(vec![creation()]).await.unwrap();
}

#[test]
fn a_command_is_of_the_newest_version_only_if_it_has_to_be() {
    let ingress = |name: &str| {
        crate::testing::object(
            Kind::Ingress,
            name,
            serde_json::json!({"spec": {"defaultBackend": {"service": {"name": "a", "port": {"number": 80}}}}}),
        )
    };
    let version = |batches: &[Vec<Write>]| {
        let batches = batches.iter().map(|batch| encode_batch(batch).unwrap()).collect();
        let command = Command::new(jiff::Timestamp::UNIX_EPOCH, &mut crate::random::OsRandom::new(), batches);
        assert!(command.decode().unwrap().batches.iter().all(|(batch, _)| batch.is_ok()));
        Versioned::decode(command.bytes()).unwrap().version
    };
    assert_eq!(version(&[vec![creation()], vec![Write::Create(ingress("a"))]]), 1);
    assert_eq!(version(&[vec![creation()], vec![Write::UpdateStatus(ingress("a"))]]), 2);
    assert_eq!(version(&[vec![Write::Update(ingress("a")), creation()]]), 2);
}

/// An older member refuses what has a kind that it does not know, where the others do it: they would differ.
#[test]
fn a_kind_more_is_a_version_more() {
    let versions = (command::VERSION, crate::store::snapshot::VERSION);
    assert_eq!(
        (Kind::ALL.len(), versions),
        (35, (2, 1)),
        "raise both versions, and say which kinds need them"
    );
}
