//! Repositories behind http and https.

use crate::server::{Manners, Server, certificates};
use crate::upstream::{MANIFEST, Upstream, assert_unchanged, chain, new, paths};
use reconciler::git::{Excess, GitError, Limits};
use std::path::PathBuf;
use std::time::Duration;

const PASSWORD: &str = "correct-horse";

fn file(upstream: &Upstream, name: &str, text: &str) -> PathBuf {
    let path = upstream.dir().join(name);
    std::fs::write(&path, text).unwrap();
    path
}

#[test]
fn a_public_repository_is_followed_over_http() {
    let upstream = Upstream::new();
    let server = Server::start(upstream.dir());
    let mut repository = upstream.open(&server.url(), |_| {});
    let first = new(repository.fetch(None));
    assert_eq!((first.commit.as_str(), paths(&first)), (upstream.head().as_str(), vec!["apps/web.yaml"]));
    server.requests();
    assert_unchanged(repository.fetch(Some(&first.commit)));
    assert_eq!(server.requests().len(), 1, "nothing new costs one request");
    let next = upstream.push(&[("apps/two.yaml", MANIFEST)]);
    let second = new(repository.fetch(Some(&first.commit)));
    assert_eq!((second.commit.as_str(), second.files.len()), (next.as_str(), 2));
}

#[tokio::test]
async fn a_repository_is_used_on_a_blocking_thread_and_dropped_anywhere() {
    let upstream = Upstream::new();
    let server = Server::start(upstream.dir());
    let mut repository = upstream.open(&server.url(), |_| {});
    let fetched = tokio::task::spawn_blocking(move || (repository.fetch(None), repository)).await.unwrap();
    drop(fetched.1);
    assert_eq!(new(fetched.0).commit, upstream.head());
}

#[test]
fn credentials_come_from_files_and_are_read_each_time() {
    let upstream = Upstream::new();
    let server = Server::start(upstream.dir());
    let basic =
        |text: &str| format!("Basic {}", base64::Engine::encode(&base64::prelude::BASE64_STANDARD, text));
    server.behave(Manners { authorization: Some(basic("git:correct-horse")), ..Manners::default() });
    let anonymous = upstream.open(&server.url(), |_| {}).fetch(None).unwrap_err();
    assert!(matches!(anonymous, GitError::AuthenticationFailed { .. }), "{anonymous:?}");
    let password = file(&upstream, "password", "wrong-battery\n");
    let mut repository = upstream.open(&server.url(), |it| it.auth.password_file = Some(password.clone()));
    let error = repository.fetch(None).unwrap_err();
    assert!(matches!(error, GitError::AuthenticationFailed { .. }), "{error:?}");
    assert!(!chain(&error).contains("wrong-battery"));
    std::fs::write(&password, format!("{PASSWORD}\n")).unwrap();
    assert_eq!(new(repository.fetch(None)).commit, upstream.head());
    std::fs::remove_file(&password).unwrap();
    let error = repository.fetch(None).unwrap_err();
    assert!(matches!(&error, GitError::CredentialFile { path, .. } if *path == password), "{error:?}");

    server.behave(Manners { authorization: Some("Bearer t0ken".into()), ..Manners::default() });
    let token = file(&upstream, "token", "t0ken");
    let mut repository = upstream.open(&server.url(), |it| it.auth.token_file = Some(token));
    assert_eq!(new(repository.fetch(None)).commit, upstream.head());
}

#[test]
fn a_password_in_the_address_is_used_and_never_shown() {
    let upstream = Upstream::new();
    let server = Server::start(upstream.dir());
    let url = server.url().replace("://", "://ann:hunter2@");
    let mut repository = upstream.open(&url, |_| {});
    assert_eq!(new(repository.fetch(None)).commit, upstream.head());
    assert!(!repository.url().contains("hunter2") && !format!("{repository:?}").contains("hunter2"));
    for status in
        ["401 Unauthorized", "500 Oops", "404 Not Found", "302 Found\r\nLocation: http://127.0.0.1:1/"]
    {
        server.behave(Manners { status: Some(status.into()), ..Manners::default() });
        let error = repository.fetch(None).unwrap_err();
        let shown = format!("{} {error:?}", chain(&error));
        assert!(!shown.contains("hunter2") && !shown.contains("ann:"), "{shown}");
    }
    let stored =
        std::process::Command::new("grep").args(["-r", "hunter2"]).arg(upstream.state()).output().unwrap();
    assert!(stored.stdout.is_empty(), "the clone holds no credential");
}

#[test]
fn what_a_server_can_do_wrong_has_its_name() {
    let upstream = Upstream::new();
    let server = Server::start(upstream.dir());
    let mut repository = upstream.open(&server.url(), |_| {});
    let mut answer = |status: &str| {
        server.behave(Manners { status: Some(status.into()), ..Manners::default() });
        repository.fetch(None).unwrap_err()
    };
    let busy = answer("503 Busy");
    assert!(matches!(busy, GitError::Unreachable { .. }) && busy.is_transient(), "{}", chain(&busy));
    assert!(chain(&busy).contains("503"));
    assert!(matches!(answer("404 Not Found"), GitError::RepositoryNotFound { .. }));
    assert!(matches!(answer("403 Forbidden"), GitError::AuthenticationFailed { .. }));
    assert!(chain(&answer("200 OK\r\nContent-Type: text/html")).contains("smart http"));
}

#[test]
fn an_unreachable_and_a_silent_server_are_transient() {
    let upstream = Upstream::new();
    let server = Server::start(upstream.dir());
    let url = server.url();
    server.behave(Manners { silent: true, ..Manners::default() });
    let limits = Limits { idle_timeout: Duration::from_millis(200), ..Limits::default() };
    let error = upstream.open(&url, |_| {}).with_limits(limits).fetch(None).unwrap_err();
    assert!(matches!(error, GitError::Unreachable { .. }) && error.is_transient(), "{error:?}");
    drop(server);
    let error = upstream.open(&url, |_| {}).fetch(None).unwrap_err();
    assert!(matches!(error, GitError::Unreachable { .. }) && error.is_transient(), "{error:?}");
}

#[test]
fn https_trusts_the_authority_from_a_file_and_no_other() {
    let upstream = Upstream::new();
    certificates(upstream.dir());
    let server = Server::start_tls(upstream.dir(), upstream.dir());
    let stranger = upstream.open(&server.url(), |_| {}).fetch(None).unwrap_err();
    assert!(matches!(stranger, GitError::Unreachable { .. }), "{}", chain(&stranger));
    let authority = upstream.dir().join("ca.pem");
    let mut repository = upstream.open(&server.url(), |it| it.auth.ca_file = Some(authority.clone()));
    let first = new(repository.fetch(None)).commit;
    assert_eq!(first, upstream.head());
    let next = upstream.push(&[]);
    assert_eq!(new(repository.fetch(Some(&first))).commit, next, "the kept client works again");
    std::fs::write(&authority, "nonsense").unwrap();
    assert!(matches!(repository.fetch(None), Err(GitError::CredentialFile { .. })));
}

#[test]
fn a_missing_branch_names_the_nearest() {
    let upstream = Upstream::new();
    let server = Server::start(upstream.dir());
    let error = upstream.open(&server.url(), |it| it.branch = Some("mian".into())).fetch(None).unwrap_err();
    assert!(error.to_string().ends_with("has no branch `mian`; did you mean `main`?"), "{error}");
}

#[test]
fn tags_and_commits_are_followed_over_http() {
    let upstream = Upstream::new();
    let first = upstream.head();
    upstream.git(&["tag", "-a", "-m", "a tag", "annotated"]);
    upstream.git(&["push", "-q", "origin", "--tags"]);
    let middle = upstream.push(&[]);
    let last = upstream.push(&[]);
    let server = Server::start(upstream.dir());
    let commit = |id: &str| {
        let id = id.to_owned();
        new(upstream.open(&server.url(), |it| it.commit = Some(id)).fetch(None)).commit
    };
    assert_eq!(
        new(upstream.open(&server.url(), |it| it.tag = Some("annotated".into())).fetch(None)).commit,
        first
    );
    assert_eq!(commit(&last), last);
    assert_eq!(commit(&middle), middle, "although the server does not let one ask for it by id");
    let unknown = "0123456789012345678901234567890123456789";
    let error = upstream.open(&server.url(), |it| it.commit = Some(unknown.into())).fetch(None).unwrap_err();
    assert!(matches!(error, GitError::NoSuchReference { .. }), "{}", chain(&error));
    let before = upstream.git(&["rev-parse", "HEAD~2"]);
    assert_eq!(commit(&before), before);
    let tree = upstream.git(&["rev-parse", "HEAD^{tree}"]);
    let error = upstream.open(&server.url(), |it| it.commit = Some(tree)).fetch(None).unwrap_err();
    assert!(matches!(error, GitError::NotACommit { .. }), "{}", chain(&error));
}

#[test]
fn a_transfer_beyond_the_limit_is_broken_off() {
    let upstream = Upstream::new();
    let noise: String =
        (0..60_000).map(|number: u32| format!("{:x}", number.wrapping_mul(2_654_435_761))).collect();
    upstream.push(&[("apps/noise.yaml", &noise)]);
    let server = Server::start(upstream.dir());
    let limits = Limits { transfer_bytes: 10_000, ..Limits::default() };
    let error = upstream.open(&server.url(), |_| {}).with_limits(limits).fetch(None).unwrap_err();
    assert!(matches!(error, GitError::TooLarge { excess: Excess::Transfer { .. } }), "{}", chain(&error));
}
