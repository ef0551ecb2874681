//! Repositories behind ssh: the real protocol through a stand-in for the ssh client.

use crate::upstream::{MANIFEST, Upstream, assert_unchanged, chain, new, source};
use reconciler::git::{GitError, Limits, Repository};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

/// A program in the ssh client's place that notes its arguments and runs `script`.
fn client(upstream: &Upstream, script: &str) -> PathBuf {
    let path = upstream.dir().join("ssh");
    let noted = upstream.dir().join("arguments");
    // Written beside and renamed, so that a running one is never changed.
    let new = upstream.dir().join("ssh.new");
    fs::write(&new, format!("#!/bin/sh\nprintf '%s\\n' \"$@\" >{}\n{script}\n", noted.display())).unwrap();
    fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).unwrap();
    fs::rename(&new, &path).unwrap();
    path
}

const SERVE: &str = "for last; do :; done; exec sh -c \"$last\"";

fn arguments(upstream: &Upstream) -> Vec<String> {
    fs::read_to_string(upstream.dir().join("arguments")).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn a_repository_is_followed_over_ssh() {
    let upstream = Upstream::new();
    let url = format!("ssh://git@example.org:2222{}", upstream.bare().display());
    let mut repository = upstream.open(&url, |_| {}).with_ssh_program(&client(&upstream, SERVE));
    let first = new(repository.fetch(None)).commit;
    assert_eq!(first, upstream.head());
    assert_unchanged(repository.fetch(Some(&first)));
    for _ in 0..20 {
        upstream.commit(&[]);
    }
    let next = upstream.push(&[("apps/two.yaml", MANIFEST)]);
    let fetched = new(repository.fetch(Some(&first)));
    assert_eq!((fetched.commit.as_str(), fetched.files.len()), (next.as_str(), 2));
    upstream.rewrite();
    assert!(matches!(repository.fetch(Some(&next)), Err(GitError::HistoryRewritten { .. })));
}

#[test]
fn the_scp_form_and_all_options_reach_the_client() {
    let upstream = Upstream::new();
    let (key, hosts) = (upstream.dir().join("a key"), upstream.dir().join("known"));
    fs::write(&key, "").unwrap();
    fs::write(&hosts, "").unwrap();
    let url = format!("git@example.org:{}", upstream.bare().display());
    let configure = |it: &mut manifests::config::GitSource| {
        it.auth.ssh_key_file = Some(key.clone());
        it.auth.known_hosts_file = Some(hosts.clone());
    };
    let mut repository = upstream.open(&url, configure).with_ssh_program(&client(&upstream, SERVE));
    assert_eq!(new(repository.fetch(None)).commit, upstream.head());
    let arguments = arguments(&upstream);
    let has = |wanted: &str| assert!(arguments.iter().any(|it| it == wanted), "{wanted} in {arguments:?}");
    has("BatchMode=yes");
    has("StrictHostKeyChecking=yes");
    has("IdentitiesOnly=yes");
    has(&format!("UserKnownHostsFile=\"{}\"", hosts.display()));
    has(key.to_str().unwrap());
    let command = format!("git-upload-pack '{}'", upstream.bare().display());
    assert_eq!(arguments[arguments.len() - 3..], ["--".to_owned(), "git@example.org".to_owned(), command]);
    fs::remove_file(&key).unwrap();
    assert!(matches!(repository.fetch(None), Err(GitError::CredentialFile { path, .. }) if path == key));
}

#[test]
fn a_host_met_for_the_first_time_is_noted_in_the_sources_folder() {
    let upstream = Upstream::new();
    let url = format!("git@example.org:{}", upstream.bare().display());
    let mut repository = upstream.open(&url, |_| {}).with_ssh_program(&client(&upstream, SERVE));
    new(repository.fetch(None));
    let noted =
        format!("UserKnownHostsFile=\"{}/known_hosts\" ~/.ssh/known_hosts", upstream.state().display());
    assert!(arguments(&upstream).contains(&noted));
    assert!(arguments(&upstream).contains(&"StrictHostKeyChecking=accept-new".to_owned()));
}

#[test]
fn what_ssh_complains_about_has_its_name() {
    let upstream = Upstream::new();
    let failure = |script: &str| {
        let program = client(&upstream, script);
        upstream.open("git@example.org:x.git", |_| {}).with_ssh_program(&program).fetch(None).unwrap_err()
    };
    let denied = failure("echo 'git@example.org: Permission denied (publickey).' >&2; exit 255");
    assert!(matches!(denied, GitError::AuthenticationFailed { .. }), "{}", chain(&denied));
    let host = failure("echo 'Host key verification failed.' >&2; exit 255");
    assert!(matches!(host, GitError::HostKeyRejected { .. }) && !host.is_transient(), "{}", chain(&host));
    let gone = failure("echo 'ssh: connect to host example.org port 22: Connection refused' >&2; exit 255");
    assert!(gone.is_transient() && chain(&gone).contains("Connection refused"), "{}", chain(&gone));
    let missing = failure(SERVE);
    assert!(matches!(missing, GitError::RepositoryNotFound { .. }), "{}", chain(&missing));
    let source = source("git@example.org:x.git");
    let mut repository = Repository::open(&source, &upstream.state()).unwrap();
    repository = repository.with_ssh_program("/nowhere/ssh".as_ref());
    let absent = repository.fetch(None).unwrap_err();
    assert!(chain(&absent).contains("/nowhere/ssh"), "{}", chain(&absent));
}

#[test]
fn a_client_that_hangs_is_ended() {
    let upstream = Upstream::new();
    let program = client(&upstream, "echo $$ >\"$0.pid\"; exec cat /dev/zero >/dev/null");
    let limits = Limits { idle_timeout: Duration::from_secs(2), ..Limits::default() };
    let mut repository =
        upstream.open("git@example.org:x.git", |_| {}).with_ssh_program(&program).with_limits(limits);
    let error = repository.fetch(None).unwrap_err();
    assert!(matches!(error, GitError::Unreachable { .. }), "{}", chain(&error));
    let pid = fs::read_to_string(upstream.dir().join("ssh.pid")).unwrap();
    assert!(!PathBuf::from(format!("/proc/{}", pid.trim())).exists());
}
