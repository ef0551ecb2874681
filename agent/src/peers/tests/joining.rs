//! How nodes come into the cluster, stay in it, and leave it.

use super::cluster::{LIFETIME, PATIENCE, Parrot, authority, days, identity_of, papers_of};
use crate::peers::applicant::{Applicant, ApplyError};
use crate::peers::desk::Desk;
use crate::peers::door::Door;
use crate::peers::folder::Folder;
use crate::peers::identity::NodeKey;
use crate::peers::links::Links;
use crate::peers::office::{Denial, Office};
use crate::peers::papers::Papers;
use crate::peers::records::LocalRecords;
use crate::peers::token::{Invitation, TokenRefusal};
use crate::peers::{Peers, membership};
use jiff::{SignedDuration, Timestamp};
use manifests::config::{ClusterConfiguration, JoinConfiguration};
use reconciler::peer::Peer;
use std::path::Path;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// A member that signs.
struct Founder {
    peer: Peer,
    office: Arc<Office>,
    stop: CancellationToken,
    task: JoinHandle<Result<(), rustls::Error>>,
}

impl Founder {
    async fn start() -> Self {
        let authority = authority("one");
        let key = NodeKey::generate().expect("a key");
        let papers = papers_of(&authority, "n1", &key, Timestamp::now());
        let office = Office::new(Arc::new(LocalRecords::default()), papers.clone(), LIFETIME);
        office.set_authority(authority);
        office.know("n1", papers.identity().passport().key, Timestamp::now()).await.expect("known");
        let office = Arc::new(office);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let peer = Peer { name: "n1".into(), address, zone: "a".into() };
        let members = watch::Sender::new(vec![peer.clone()]).subscribe();
        let desk = Desk { office: Arc::clone(&office), papers: papers.clone(), members };
        let stop = CancellationToken::new();
        let door = Door::new(papers, Arc::new(Parrot), Some(desk));
        let task = tokio::spawn(door.serve(listener, stop.clone()));
        Self { peer, office, stop, task }
    }

    async fn invite(&self, uses: Option<u32>) -> Invitation {
        let ttl = Some(SignedDuration::from_hours(24));
        self.office.create_token(ttl, uses, Timestamp::now()).await.expect("a token").1
    }

    async fn stop(self) {
        self.stop.cancel();
        self.task.await.expect("no panic").expect("no error");
    }
}

fn applicant<'a>(name: &'a str, key: &'a NodeKey) -> Applicant<'a> {
    Applicant { name, address: "127.0.0.1:2", key }
}

fn key() -> NodeKey {
    NodeKey::generate().expect("a key")
}

fn reason<T>(result: Result<T, ApplyError>) -> String {
    match result {
        Err(ApplyError::Refused { reason, .. }) => reason,
        Err(error) => panic!("not refused: {}", crate::chain::chain(&error)),
        Ok(_) => panic!("let in"),
    }
}

#[tokio::test]
async fn a_node_with_a_token_becomes_a_member_and_is_told_who_the_others_are() {
    let founder = Founder::start().await;
    let (invitation, key) = (founder.invite(None).await, key());
    let admission = applicant("n2", &key).join(&founder.peer.address, &invitation).await.expect("let in");
    assert_eq!(admission.members, std::slice::from_ref(&founder.peer));
    assert_eq!(admission.identity.passport().name, "n2");
    let links = Links::new(Papers::new(admission.identity));
    let answer = super::cluster::ask(&links, &founder.peer, "hello").await;
    assert_eq!(answer.expect("an answer"), "n2 Write hello");
    founder.stop().await;
}

#[tokio::test]
async fn a_token_that_is_not_good_is_refused_in_words() {
    let founder = Founder::start().await;
    let server = founder.peer.address.clone();
    let (n2, n3) = (key(), key());
    // Used up: by another node, not by the one that it let in.
    let once = founder.invite(Some(1)).await;
    assert!(applicant("n2", &n2).join(&server, &once).await.is_ok());
    assert!(applicant("n2", &n2).join(&server, &once).await.is_ok());
    let id = once.secret.id.clone();
    assert_eq!(
        reason(applicant("n3", &n3).join(&server, &once).await),
        format!("join token {id} is used up")
    );
    // Deleted.
    let gone = founder.invite(None).await;
    founder.office.delete_token(&gone.secret.id, Timestamp::now()).await.expect("deleted");
    let words = format!("join token {} was deleted", gone.secret.id);
    assert_eq!(reason(applicant("n3", &n3).join(&server, &gone).await), words);
    // Expired.
    let yesterday = Timestamp::now() - days(1);
    let ttl = Some(SignedDuration::from_hours(1));
    let (_, old) = founder.office.create_token(ttl, None, yesterday).await.expect("a token");
    let words = reason(applicant("n3", &n3).join(&server, &old).await);
    assert!(words.starts_with(&format!("join token {} expired at ", old.secret.id)), "{words}");
    // The name of another.
    let good = founder.invite(None).await;
    let words = reason(applicant("n2", &n3).join(&server, &good).await);
    assert!(words.starts_with("a node n2 is in the cluster already, with another key"), "{words}");
    let words = reason(applicant("../n2", &n3).join(&server, &good).await);
    assert!(words.contains("is no name of a node"), "{words}");
    // Another cluster's authority, whoever says so.
    let foreign = Invitation { authority: authority("one").pin(), ..good.clone() };
    let error = applicant("n3", &n3).join(&server, &foreign).await.expect_err("not trusted");
    assert!(matches!(error, ApplyError::Dial(_)), "{error:?}");
    // Guesses.
    let other = Founder::start().await.invite(None).await;
    let wrong = Invitation { secret: other.secret, authority: good.authority };
    for _ in 0..5 {
        let words = reason(applicant("n3", &n3).join(&server, &wrong).await);
        assert_eq!(words, format!("there is no join token {}", wrong.secret.id));
    }
    let words = reason(applicant("n3", &n3).join(&server, &good).await);
    assert_eq!(words, "too many wrong tokens; wait a minute");
    founder.stop().await;
}

#[tokio::test]
async fn a_node_that_was_off_while_its_certificate_expired_comes_back_with_its_key_and_only_so() {
    let founder = Founder::start().await;
    let (invitation, n2) = (founder.invite(None).await, key());
    let server = founder.peer.clone();
    let admission = applicant("n2", &n2).join(&server.address, &invitation).await.expect("let in");
    let signer = founder.office.authority().expect("it signs");
    let expired = Papers::new(identity_of(&signer, "n2", &n2, Timestamp::now() - days(40)));
    assert!(super::cluster::ask(&Links::new(expired.clone()), &server, "hello").await.is_err());
    let renewed = applicant("n2", &n2).renew(&server, &expired).await.expect("renewed");
    assert_eq!(renewed.identity.passport().key, admission.identity.passport().key);
    let links = Links::new(Papers::new(renewed.identity));
    assert!(super::cluster::ask(&links, &server, "hello").await.is_ok());
    // Not for another key, nor for a key that nobody let in.
    let other = key();
    let words = reason(applicant("n2", &other).renew(&server, &expired).await);
    assert_eq!(words, "a certificate is renewed for its own key only");
    let unknown = Papers::new(identity_of(&signer, "n3", &other, Timestamp::now()));
    let words = reason(applicant("n3", &other).renew(&server, &unknown).await);
    assert_eq!(words, "no node n3 with this key is known here; it has to join");
    founder.stop().await;
}

#[tokio::test]
async fn a_removed_node_does_not_come_back_with_its_key() {
    let founder = Founder::start().await;
    let server = founder.peer.clone();
    let (invitation, n2) = (founder.invite(None).await, key());
    let admission = applicant("n2", &n2).join(&server.address, &invitation).await.expect("let in");
    let papers = Papers::new(admission.identity);
    let links = Links::new(papers.clone());
    assert!(super::cluster::ask(&links, &server, "hello").await.is_ok());
    founder.office.remove("n2", Timestamp::now()).await.expect("removed");
    let error = super::cluster::ask(&links, &server, "hello").await.expect_err("refused");
    assert!(super::cluster::words(&error).contains("n2 was removed from the cluster"), "{error}");
    let words = reason(applicant("n2", &n2).renew(&server, &papers).await);
    assert!(words.contains("n2 was removed from the cluster"), "{words}");
    let words = reason(applicant("n2", &n2).join(&server.address, &invitation).await);
    assert!(words.contains("it can join with a new key only"), "{words}");
    assert!(applicant("n2", &key()).join(&server.address, &invitation).await.is_ok());
    let myself = founder.office.remove("n1", Timestamp::now()).await;
    assert!(matches!(myself, Err(Denial::Myself { .. })), "{myself:?}");
    let nobody = founder.office.remove("n7", Timestamp::now()).await;
    assert!(matches!(nobody, Err(Denial::Unknown { .. })), "{nobody:?}");
    founder.stop().await;
}

/// What a crash leaves of a node that joins: the files up to a step, and no later ones.
#[tokio::test]
async fn a_node_that_crashed_while_it_joined_is_let_in_after_whatever_the_step() {
    let founder = Founder::start().await;
    let once = founder.invite(Some(1)).await;
    let join = JoinConfiguration {
        token: Some(once.to_string()),
        token_file: None,
        servers: vec!["127.0.0.1:1".into(), founder.peer.address.clone()],
    };
    let folder = tempfile::tempdir().expect("a folder");
    let pki = Folder::open(folder.path()).expect("a folder");
    let key = membership::node_key(&pki).expect("a key");
    let first = membership::join_once(&pki, applicant("n2", &key), &join).await.expect("let in");
    let files = ["node.crt", "ca.crt", "members.json"];
    for kept in 0..files.len() {
        for file in &files[..=kept] {
            let _gone = std::fs::remove_file(folder.path().join("pki").join(file));
        }
        let key = membership::node_key(&pki).expect("a key");
        assert!(membership::kept(&pki, "n2", &key).expect("readable").is_none(), "{kept}");
        let again = membership::join_once(&pki, applicant("n2", &key), &join).await.expect("let in again");
        assert_eq!(again.passport().key, first.passport().key, "{kept}");
    }
    let kept = membership::kept(&pki, "n2", &key).expect("readable").expect("a member");
    assert_eq!(kept.passport().name, "n2");
    let renamed = membership::kept(&pki, "n3", &key);
    assert!(matches!(renamed, Err(membership::MembershipError::Renamed { .. })), "{renamed:?}");
    assert_eq!(pki.members().expect("members"), std::slice::from_ref(&founder.peer));
    founder.stop().await;
}

async fn opened(
    state_dir: &Path,
    name: &str,
    join: Option<JoinConfiguration>,
) -> (Arc<Peers>, CancellationToken, JoinHandle<anyhow::Result<()>>) {
    let cluster = ClusterConfiguration {
        listen_address: "127.0.0.1:0".into(),
        join,
        ..ClusterConfiguration::default()
    };
    let records = Arc::new(LocalRecords::default());
    let (peers, listener) = Peers::open((&cluster, name, ""), state_dir, records).await.expect("a member");
    let (peers, stop) = (Arc::new(peers), CancellationToken::new());
    let metrics = crate::metrics::Metrics::new(name).expect("metrics");
    let expiration = metrics.certificate_expiration.clone();
    let run = Arc::clone(&peers).run(listener, Arc::new(Parrot), expiration, stop.clone());
    (peers, stop, tokio::spawn(run))
}

#[tokio::test]
async fn a_first_node_founds_a_cluster_and_a_second_joins_it_by_its_configuration() {
    let (one, two) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let (n1, stop1, task1) = opened(one.path(), "n1", None).await;
    let made = n1.office().create_token(None, None, Timestamp::now()).await;
    let token_file = two.path().join("token");
    std::fs::write(&token_file, format!("{}\n", made.expect("a token").1)).expect("written");
    let join = JoinConfiguration {
        token: None,
        token_file: Some(token_file),
        servers: vec![n1.me().address.clone()],
    };
    let (n2, stop2, task2) = opened(two.path(), "n2", Some(join)).await;
    assert_eq!(n2.passport().cluster, n1.passport().cluster);
    let ask = async |from: &Peers, to: &Peers| {
        let call = from.transport().call(
            to.me().clone(),
            reconciler::peer::Topic::Pulse,
            bytes::Bytes::from_static(b"hello"),
            PATIENCE,
        );
        call.await.map(|answer| String::from_utf8_lossy(&answer).into_owned())
    };
    assert_eq!(ask(&n2, &n1).await.expect("an answer"), "n2 Pulse hello");
    assert_eq!(ask(&n1, &n2).await.expect("an answer"), "n1 Pulse hello");
    // The authority can be given to a second signer.
    assert!(n2.authority_pem().is_none());
    n2.set_authority(&n1.authority_pem().expect("the founder has it")).expect("kept");
    assert_eq!(n2.authority_pem(), n1.authority_pem());
    assert!(n2.set_authority(&authority("two").to_pem()).is_err());
    // Both are members after a restart too, without any token.
    for stop in [&stop1, &stop2] {
        stop.cancel();
    }
    task1.await.expect("no panic").expect("no error");
    task2.await.expect("no panic").expect("no error");
    let before = n1.passport();
    let (n1, stop1, task1) = opened(one.path(), "n1", None).await;
    assert_eq!((n1.passport().key, n1.passport().cluster), (before.key, before.cluster));
    stop1.cancel();
    task1.await.expect("no panic").expect("no error");
}

#[tokio::test]
async fn a_founder_begins_no_second_cluster_when_it_was_told_to_rejoin_or_knows_of_others() {
    let folder = tempfile::tempdir().expect("a folder");
    let pki = Folder::open(folder.path()).expect("a folder");
    let (n1, stop, task) = opened(folder.path(), "n1", None).await;
    assert!(n1.begins_alone());
    pki.set_rejoins(true).expect("kept");
    assert!(!n1.begins_alone());
    n1.has_begun().expect("kept");
    assert!(n1.begins_alone());
    // A store that has just begun knows of nobody: what is known stays.
    let other = Peer { name: "n2".into(), address: "127.0.0.1:2".into(), zone: String::new() };
    n1.set_members(vec![n1.me().clone(), other.clone()]).expect("kept");
    n1.set_members(Vec::new()).expect("kept");
    assert!(!n1.begins_alone());
    assert_eq!(pki.members().expect("readable"), [n1.me().clone(), other]);
    stop.cancel();
    task.await.expect("no panic").expect("no error");
}

#[tokio::test]
async fn a_certificate_that_expired_while_the_founder_was_off_is_renewed_by_itself() {
    let folder = tempfile::tempdir().expect("a folder");
    let pki = Folder::open(folder.path()).expect("a folder");
    let key = membership::node_key(&pki).expect("a key");
    let then = Timestamp::now() - days(100);
    let old = membership::found(&pki, applicant("n1", &key), LIFETIME, then).expect("a cluster");
    assert!(old.passport().until < Timestamp::now());
    let (n1, stop, task) = opened(folder.path(), "n1", None).await;
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while n1.passport().until < Timestamp::now() {
        assert!(tokio::time::Instant::now() < deadline, "not renewed");
        tokio::task::yield_now().await;
    }
    assert_eq!(n1.passport().key, old.passport().key);
    stop.cancel();
    task.await.expect("no panic").expect("no error");
    let kept = membership::kept(&pki, "n1", &key).expect("readable").expect("a member");
    assert_eq!(kept.passport().until, n1.passport().until);
}

#[tokio::test]
async fn tokens_are_forgotten_a_day_after_their_end_and_not_sooner() {
    let founder = Founder::start().await;
    let now = Timestamp::now();
    let ttl = Some(SignedDuration::from_hours(1));
    let (token, _) = founder.office.create_token(ttl, None, now).await.expect("a token");
    let ids = async |at| {
        let tokens = founder.office.tokens(at).await.expect("tokens");
        tokens.into_iter().map(|token| token.id).collect::<Vec<_>>()
    };
    assert_eq!(ids(now + SignedDuration::from_hours(20)).await, std::slice::from_ref(&token.id));
    assert_eq!(ids(now + SignedDuration::from_hours(26)).await, Vec::<String>::new());
    let unknown = founder.office.delete_token(&token.id, now).await;
    assert!(matches!(unknown, Err(Denial::Token(TokenRefusal::Unknown { .. }))), "{unknown:?}");
    founder.stop().await;
}
