//! Who is answered, who is not, and in which words.

use super::cluster::{Running, ask, authority, days, identity_of, papers, papers_of, words};
use crate::peers::dial::dial;
use crate::peers::identity::NodeKey;
use crate::peers::links::Links;
use crate::peers::tls::Expected;
use crate::peers::wire::v1::Question;
use crate::peers::wire::v1::peers_client::PeersClient;
use jiff::Timestamp;
use reconciler::peer::CallError;
use std::collections::BTreeSet;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

fn refused(answer: Result<String, CallError>) -> String {
    match answer {
        Err(CallError::Refused { reason, .. }) => reason,
        Err(error) => panic!("not refused but: {}", words(&error)),
        Ok(answer) => panic!("answered: {answer}"),
    }
}

#[tokio::test]
async fn members_are_answered_and_the_answer_knows_who_asked() {
    let authority = authority("one");
    let n1 = Running::start("n1", papers(&authority, "n1")).await;
    let n2 = Links::new(papers(&authority, "n2"));
    assert_eq!(ask(&n2, &n1.peer, "hello").await.expect("an answer"), "n2 Write hello");
    n1.stop().await;
}

#[tokio::test]
async fn whoever_is_no_member_is_told_why() {
    let (ours, same_name) = (authority("one"), authority("one"));
    let n1 = Running::start("n1", papers(&ours, "n1")).await;
    let now = Timestamp::now();
    let key = NodeKey::generate().expect("a key");
    // They believe our authority, and show what they have.
    let ask_as = async |papers: crate::peers::papers::Papers| {
        let expected = Expected::Pinned { authority: ours.pin() };
        let line = dial(&n1.peer.address, expected, Some(papers)).await.expect("a line");
        let origin = tonic::codegen::http::Uri::from_static("https://peer.keel");
        let mut client = PeersClient::with_origin(line, origin);
        let asked = client.ask(Question { version: 1, topic: 1, body: "x".into() }).await;
        asked.expect_err("refused").message().to_owned()
    };
    let other = ask_as(papers(&authority("two"), "n2")).await;
    assert_eq!(other, "the certificate of n2 is of cluster two; this is cluster one");
    let forged = ask_as(papers(&same_name, "n2")).await;
    assert_eq!(forged, "the certificate of n2 is not signed by an authority of this cluster");
    let expired = ask_as(papers_of(&ours, "n2", &key, now - days(40))).await;
    assert!(expired.starts_with("the certificate of n2 expired at "), "{expired}");
    assert!(expired.ends_with("; it can only be renewed"), "{expired}");
    let early = ask_as(papers_of(&ours, "n2", &key, now + days(2))).await;
    assert!(early.starts_with("the certificate of n2 is not good before "), "{early}");
    // Nothing at all.
    let expected = Expected::Pinned { authority: ours.pin() };
    let line = dial(&n1.peer.address, expected, None).await.expect("a line");
    let origin = tonic::codegen::http::Uri::from_static("https://peer.keel");
    let asked = PeersClient::with_origin(line, origin).ask(Question::default()).await;
    let nobody = asked.expect_err("refused");
    assert_eq!(nobody.message(), "no certificate was shown; a node becomes a member with `keel join`");
    n1.stop().await;
}

#[tokio::test]
async fn a_removed_node_is_refused_on_the_connection_that_it_has_and_on_new_ones() {
    let authority = authority("one");
    let n1 = Running::start("n1", papers(&authority, "n1")).await;
    let theirs = papers(&authority, "n2");
    let n2 = Links::new(theirs.clone());
    assert!(ask(&n2, &n1.peer, "hello").await.is_ok());
    n1.papers.set_removed(BTreeSet::from([theirs.identity().passport().key]));
    let words = "n2 was removed from the cluster; its key is not accepted any more";
    assert_eq!(refused(ask(&n2, &n1.peer, "still").await), words);
    assert_eq!(refused(ask(&Links::new(theirs), &n1.peer, "again").await), words);
    // Nor does anybody speak to it.
    let n2 = Running::start("n2", n2_papers(&n2)).await;
    let n3 = papers(&authority, "n3");
    n3.set_removed(BTreeSet::from([n2.papers.identity().passport().key]));
    let error = ask(&Links::new(n3), &n2.peer, "hello").await.expect_err("refused");
    assert!(matches!(error, CallError::Unreachable { .. }), "{error:?}");
    assert!(super::cluster::words(&error).contains("n2 was removed"), "{}", super::cluster::words(&error));
    n1.stop().await;
    n2.stop().await;
}

fn n2_papers(links: &Links) -> crate::peers::papers::Papers {
    links.papers().clone()
}

#[tokio::test]
async fn whoever_answers_has_to_be_the_one_who_is_asked() {
    let ours = authority("one");
    let n1 = Running::start("n1", papers(&ours, "n1")).await;
    let n3 = Running::start("n3", papers(&authority("two"), "n3")).await;
    let n2 = Links::new(papers(&ours, "n2"));
    let mut somebody = n1.peer.clone();
    somebody.name = "n9".into();
    let error = ask(&n2, &somebody, "hello").await.expect_err("somebody else");
    assert!(matches!(error, CallError::Unreachable { .. }), "{error:?}");
    let text = words(&error);
    assert!(text.contains("n9 was expected, and the certificate is that of n1"), "{text}");
    let error = words(&ask(&n2, &n3.peer, "hello").await.expect_err("another cluster"));
    assert!(error.contains("the certificate of n3 is of cluster two; this is cluster one"), "{error}");
    n1.stop().await;
    n3.stop().await;
}

#[tokio::test]
async fn what_is_no_protocol_ends_its_own_connection_only() {
    let authority = authority("one");
    let n1 = Running::start("n1", papers(&authority, "n1")).await;
    let n2 = Links::new(papers(&authority, "n2"));
    assert!(ask(&n2, &n1.peer, "before").await.is_ok());
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for round in 0..64 {
        let mut stream = TcpStream::connect(&n1.peer.address).await.expect("it listens");
        let bytes: Vec<u8> = (0..200)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                state.to_be_bytes()[0]
            })
            .collect();
        // Half of them look like a handshake at first.
        let head: &[u8] =
            if round % 2 == 0 { &[0x16, 3, 1, 0, 190, 1, 0, 0, 186] } else { b"GET / HTTP/1.1\r\n\r\n" };
        let sent = stream.write_all(&[head, &bytes].concat()).await;
        if sent.is_ok() {
            let _shut = stream.shutdown().await;
            let _ended = stream.read_to_end(&mut Vec::new()).await;
        }
    }
    // The same inside of TLS.
    for round in 0..16_u8 {
        let expected = Expected::Pinned { authority: authority.pin() };
        let config = crate::peers::tls::client(expected, None).expect("TLS");
        let stream = TcpStream::connect(&n1.peer.address).await.expect("it listens");
        let connector = tokio_rustls::TlsConnector::from(config);
        let name = "peer.keel".try_into().expect("a name");
        let mut stream = connector.connect(name, stream).await.expect("a handshake");
        let preface: &[u8] = if round % 2 == 0 { b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" } else { b"" };
        let _sent = stream.write_all(&[preface, &[round; 300]].concat()).await;
        let _ended = stream.read_to_end(&mut Vec::new()).await;
    }
    assert!(ask(&n2, &n1.peer, "after").await.is_ok());
    assert!(ask(&Links::new(papers(&authority, "n4")), &n1.peer, "new").await.is_ok());
    n1.stop().await;
}

#[tokio::test]
async fn what_is_signed_says_what_the_authority_says_and_nothing_else() {
    let authority = authority("one");
    let key = NodeKey::generate().expect("a key");
    let now = Timestamp::now();
    let first = identity_of(&authority, "n1", &key, now);
    let passport = first.passport();
    assert_eq!((passport.name.as_str(), passport.cluster.as_str()), ("n1", "one"));
    assert_eq!(passport.until.as_second() - now.as_second(), 30 * 24 * 3600);
    // The authority is the same after it was kept.
    let again = crate::peers::authority::ClusterCa::from_pem(&authority.to_pem()).expect("read");
    assert_eq!((again.pin(), again.cluster()), (authority.pin(), "one"));
    let second = identity_of(&again, "n1", &key, now);
    assert_eq!(second.passport().key, passport.key);
    assert_eq!(authority.trust().expect("trust").pins().collect::<Vec<_>>(), [authority.pin()]);
    // Never longer than the authority itself.
    let old = crate::peers::authority::ClusterCa::generate("one", now - days(3640)).expect("an authority");
    let late = identity_of(&old, "n1", &key, now).passport().until;
    assert!(late < now + days(11), "{late}");
    let broken = authority.sign(
        b"no request",
        crate::peers::authority::Subject { name: "n1", address: "" },
        super::cluster::LIFETIME,
        now,
    );
    assert!(broken.is_err());
    let key_only = authority.to_pem().replace("BEGIN PRIVATE KEY", "BEGIN KEY");
    assert!(crate::peers::authority::ClusterCa::from_pem(&key_only).is_err());
}
