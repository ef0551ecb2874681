//! Repositories on this machine.

use crate::upstream::{MANIFEST, Upstream, assert_unchanged, chain, git, new, paths, source};
use reconciler::git::{Excess, GitError, Limits, Repository};
use std::os::unix::fs::symlink;

#[test]
fn a_commit_brings_its_manifests_and_who_made_it() {
    let upstream = Upstream::new();
    let id = upstream.push(&[
        ("apps/b.yml", "b"),
        ("apps/a.json", "{}"),
        ("apps/README.md", "no manifest"),
        (".github/ci.yaml", "hidden"),
        ("apps/.hidden.yaml", "hidden"),
    ]);
    for url in
        [upstream.file_url(), upstream.bare().display().to_string(), upstream.work().display().to_string()]
    {
        let fetched = new(upstream.open(&url, |_| {}).fetch(None));
        assert_eq!(fetched.commit, id);
        assert_eq!(fetched.author, "Ann Author <ann@example.org>");
        assert_eq!(fetched.subject, "Change things");
        let committed = upstream.git(&["show", "-s", "--format=%ct"]);
        assert_eq!(fetched.committed_at.as_second().to_string(), committed);
        assert_eq!(paths(&fetched), ["apps/a.json", "apps/b.yml", "apps/web.yaml"]);
        assert_eq!(fetched.files[1].content, b"b");
    }
}

#[test]
fn the_ending_git_may_be_left_out() {
    let upstream = Upstream::new();
    let url = format!("file://{}", upstream.dir().join("repo").display());
    assert_eq!(new(upstream.open(&url, |_| {}).fetch(None)).commit, upstream.head());
}

#[test]
fn the_commit_in_force_is_nothing_new_and_can_be_read_again() {
    let upstream = Upstream::new();
    let mut repository = upstream.open(&upstream.file_url(), |_| {});
    let id = upstream.head();
    assert_unchanged(repository.fetch(Some(&id)));
    assert_eq!(paths(&repository.fetch_again(&id).unwrap()), ["apps/web.yaml"]);
    let next = upstream.push(&[("apps/two.yaml", MANIFEST)]);
    assert_eq!(new(repository.fetch(Some(&id))).commit, next);
}

#[test]
fn only_the_paths_are_read_and_each_file_once() {
    let upstream = Upstream::new();
    upstream.push(&[
        ("infra/dns/x.yaml", "x"),
        ("one.yaml", "1"),
        ("two.yaml", "2"),
        (".hidden/h.yaml", "h"),
    ]);
    let wanted = ["infra/", "./infra/dns", "one.yaml", ".hidden"].map(String::from);
    let fetched = new(upstream.open(&upstream.file_url(), |it| it.paths = wanted.into()).fetch(None));
    assert_eq!(paths(&fetched), [".hidden/h.yaml", "infra/dns/x.yaml", "one.yaml"]);
}

#[test]
fn branches_and_tags_of_both_kinds_and_commits_can_be_followed() {
    let upstream = Upstream::new();
    let first = upstream.head();
    upstream.git(&["tag", "light"]);
    upstream.git(&["tag", "-a", "-m", "a tag", "annotated"]);
    upstream.git(&["push", "-q", "origin", "--tags"]);
    upstream.git(&["checkout", "-q", "-b", "feature/x"]);
    let second = upstream.push(&[("apps/more.yaml", MANIFEST)]);
    upstream.git(&["checkout", "-q", "main"]);
    upstream.push(&[]);
    let url = upstream.file_url();
    assert_eq!(
        new(upstream.open(&url, |it| it.branch = Some("feature/x".into())).fetch(None)).commit,
        second
    );
    for tag in ["light", "annotated"] {
        assert_eq!(new(upstream.open(&url, |it| it.tag = Some(tag.into())).fetch(None)).commit, first);
    }
    assert_eq!(new(upstream.open(&url, |it| it.commit = Some(first.clone())).fetch(None)).commit, first);
    let back = upstream.open(&url, |it| it.commit = Some(first.clone())).fetch(Some(&second));
    assert_eq!(new(back).commit, first, "a pinned commit is trusted");
}

#[test]
fn rewritten_history_is_refused_until_allowed() {
    let upstream = Upstream::new();
    upstream.push(&[]);
    let in_force = upstream.head();
    let other = upstream.rewrite();
    let url = upstream.file_url();
    let error = upstream.open(&url, |it| it.branch = Some("main".into())).fetch(Some(&in_force)).unwrap_err();
    assert!(matches!(&error, GitError::HistoryRewritten { tip, .. } if *tip == other), "{error:?}");
    assert!(!error.is_transient());
    assert_eq!(error.commit(), Some(other.as_str()));
    assert_eq!(
        new(upstream.open(&url, |it| it.allow_history_rewrite = true).fetch(Some(&in_force))).commit,
        other
    );
    git(&upstream.bare(), &["gc", "-q", "--prune=now"]);
    let pruned = upstream.open(&url, |_| {}).fetch(Some(&in_force));
    assert!(matches!(pruned, Err(GitError::HistoryRewritten { .. })), "{pruned:?}");
}

#[test]
fn a_tag_that_moves_must_move_forward() {
    let upstream = Upstream::new();
    let first = upstream.head();
    let second = upstream.push(&[]);
    let mut repository = upstream.open(&upstream.file_url(), |it| it.tag = Some("live".into()));
    let tag = |commit: &str| {
        upstream.git(&["push", "-q", "--force", "origin", &format!("{commit}:refs/tags/live")])
    };
    tag(&first);
    assert_eq!(new(repository.fetch(None)).commit, first);
    tag(&second);
    assert_eq!(new(repository.fetch(Some(&first))).commit, second);
    tag(&first);
    assert!(matches!(repository.fetch(Some(&second)), Err(GitError::HistoryRewritten { .. })));
}

#[test]
fn a_missing_reference_names_the_nearest() {
    let upstream = Upstream::new();
    let error =
        upstream.open(&upstream.file_url(), |it| it.branch = Some("mian".into())).fetch(None).unwrap_err();
    assert!(error.to_string().ends_with("has no branch `mian`; did you mean `main`?"), "{error}");
    let unknown = Some("0123456789012345678901234567890123456789".to_owned());
    let error = upstream.open(&upstream.file_url(), |it| it.commit = unknown).fetch(None).unwrap_err();
    assert!(matches!(error, GitError::NoSuchReference { .. }), "{error:?}");
    let empty = tempfile::tempdir().unwrap();
    git(empty.path(), &["init", "-q", "--bare", "."]);
    let error = upstream.open(empty.path().to_str().unwrap(), |_| {}).fetch(None).unwrap_err();
    assert!(matches!(error, GitError::NoSuchReference { .. }), "{error:?}");
}

#[test]
fn a_path_that_vanished_needs_consent() {
    let upstream = Upstream::new();
    let in_force = upstream.head();
    std::fs::remove_dir_all(upstream.work().join("apps")).unwrap();
    let emptied = upstream.push(&[("other.yaml", MANIFEST)]);
    let url = upstream.file_url();
    let error = upstream.open(&url, |it| it.paths = vec!["apps".into()]).fetch(Some(&in_force)).unwrap_err();
    assert!(matches!(&error, GitError::NoSuchPath { path, commit } if path == "apps" && *commit == emptied));
    let allowed = |it: &mut manifests::config::GitSource| {
        it.paths = vec!["apps".into()];
        it.allow_empty = true;
    };
    let fetched = new(upstream.open(&url, allowed).fetch(Some(&in_force)));
    assert!(fetched.is_empty());
    assert_eq!(fetched.missing_paths, ["apps"]);
}

#[test]
fn links_and_lfs_pointers_in_a_manifests_place_are_refused_by_name() {
    let upstream = Upstream::new();
    let mut repository = upstream.open(&upstream.file_url(), |_| {});
    symlink("apps", upstream.work().join("link-to-folder")).unwrap();
    upstream.push(&[]);
    assert_eq!(paths(&new(repository.fetch(None))), ["apps/web.yaml"], "other links are passed over");
    symlink("/etc/passwd", upstream.work().join("apps/evil.yaml")).unwrap();
    upstream.push(&[]);
    let error = repository.fetch(None).unwrap_err();
    assert!(matches!(&error, GitError::SymbolicLink { path, .. } if path == "apps/evil.yaml"), "{error:?}");
    std::fs::remove_file(upstream.work().join("apps/evil.yaml")).unwrap();
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n";
    upstream.push(&[("apps/big.yaml", pointer)]);
    let error = repository.fetch(None).unwrap_err();
    assert!(matches!(&error, GitError::LfsPointer { path, .. } if path == "apps/big.yaml"), "{error:?}");
}

#[test]
fn each_limit_is_named() {
    let upstream = Upstream::new();
    upstream.push(&[("apps/a.yaml", "0123456789"), ("apps/b.yaml", "0123456789")]);
    let excess = |limits: Limits| {
        let fetched = upstream.open(&upstream.file_url(), |_| {}).with_limits(limits).fetch(None);
        let error = fetched.unwrap_err();
        let GitError::TooLarge { excess } = error else { panic!("{error:?}") };
        excess
    };
    let limits = Limits { file_bytes: 9, ..Limits::default() };
    assert!(matches!(excess(limits), Excess::File { path, bytes: 10, limit: 9 } if path == "apps/a.yaml"));
    assert!(matches!(
        excess(Limits { total_bytes: 25, ..Limits::default() }),
        Excess::Revision { limit: 25, .. }
    ));
    assert!(matches!(excess(Limits { files: 2, ..Limits::default() }), Excess::Files { limit: 2, .. }));
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn a_repository_of_somebody_else_can_be_read() {
    let upstream = Upstream::new();
    let nobody = std::process::Command::new("chown").args(["-R", "65534"]).arg(upstream.bare()).status();
    assert!(nobody.unwrap().success());
    assert_eq!(new(upstream.open(&upstream.file_url(), |_| {}).fetch(None)).commit, upstream.head());
}

#[test]
fn what_is_no_repository_is_said_to_be_none() {
    let upstream = Upstream::new();
    for url in ["/nowhere/at/all", "file:///etc"] {
        let error = upstream.open(url, |_| {}).fetch(None).unwrap_err();
        assert!(matches!(error, GitError::RepositoryNotFound { .. }), "{}", chain(&error));
    }
    let mut both = source("/x");
    (both.branch, both.tag) = (Some("a".into()), Some("b".into()));
    assert!(matches!(Repository::open(&both, upstream.dir()), Err(GitError::InvalidReference { .. })));
}
