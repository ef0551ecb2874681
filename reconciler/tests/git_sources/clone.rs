//! The clone of a repository elsewhere: shallow, incremental, and never trusted.

use crate::server::{Manners, Server};
use crate::upstream::{MANIFEST, Upstream, assert_unchanged, chain, new};
use reconciler::git::GitError;
use std::fs;
use std::path::PathBuf;

fn clone(upstream: &Upstream) -> PathBuf {
    upstream.state().join("clone.git")
}

/// Leaves something in the clone that a new one would not have.
fn mark(upstream: &Upstream) {
    fs::write(clone(upstream).join("mark"), "").unwrap();
}

fn is_marked(upstream: &Upstream) -> bool {
    clone(upstream).join("mark").exists()
}

fn commits_in(upstream: &Upstream) -> usize {
    let all = crate::upstream::git(&clone(upstream), &["rev-list", "--count", "--all"]);
    all.parse().unwrap()
}

fn commit_many(upstream: &Upstream, count: usize) -> String {
    for number in 0..count {
        upstream.commit(&[("apps/web.yaml", &format!("number: {number}\n"))]);
    }
    upstream.push(&[])
}

#[test]
fn the_first_fetch_takes_one_commit_and_later_ones_what_is_between() {
    let upstream = Upstream::new();
    commit_many(&upstream, 40);
    let server = Server::start(upstream.dir());
    let mut repository = upstream.open(&server.url(), |_| {});
    let mut in_force = new(repository.fetch(None)).commit;
    assert_eq!(commits_in(&upstream), 1);
    mark(&upstream);
    for steps in [1, 3, 30, 1] {
        commit_many(&upstream, steps);
        let fetched = new(repository.fetch(Some(&in_force)));
        assert_eq!(fetched.commit, upstream.head(), "{steps} commits later");
        in_force = fetched.commit;
        assert_unchanged(repository.fetch(Some(&in_force)));
    }
    assert!(is_marked(&upstream), "the clone was kept");
}

#[test]
fn a_branch_that_started_before_the_commit_in_force_can_be_merged_after_it() {
    let upstream = Upstream::new();
    commit_many(&upstream, 5);
    upstream.git(&["checkout", "-q", "-b", "topic"]);
    upstream.push(&[("apps/topic.yaml", MANIFEST)]);
    upstream.git(&["checkout", "-q", "main"]);
    let in_force = commit_many(&upstream, 30);
    let server = Server::start(upstream.dir());
    let mut repository = upstream.open(&server.url(), |_| {});
    assert_eq!(new(repository.fetch(None)).commit, in_force);
    mark(&upstream);
    upstream.git(&["merge", "-q", "--no-edit", "topic"]);
    let merged = upstream.push(&[]);
    let fetched = new(repository.fetch(Some(&in_force)));
    assert_eq!((fetched.commit.as_str(), fetched.files.len()), (merged.as_str(), 2));
    assert!(is_marked(&upstream), "the clone was kept");
    let commits = commits_in(&upstream);
    assert!(commits < 35, "{commits} commits came");
    mark(&upstream);
    let next = commit_many(&upstream, 3);
    assert_eq!(new(repository.fetch(Some(&merged))).commit, next);
    assert!(is_marked(&upstream), "the clone was kept");
}

#[test]
fn rewritten_history_is_refused_without_fetching_again_and_then_allowed() {
    let upstream = Upstream::new();
    let in_force = commit_many(&upstream, 20);
    let server = Server::start(upstream.dir());
    let mut repository = upstream.open(&server.url(), |_| {});
    new(repository.fetch(None));
    let other = upstream.rewrite();
    for round in 0..2 {
        server.requests();
        let error = repository.fetch(Some(&in_force)).unwrap_err();
        assert!(
            matches!(&error, GitError::HistoryRewritten { tip, .. } if *tip == other),
            "{}",
            chain(&error)
        );
        if round == 1 {
            assert_eq!(server.requests().len(), 1, "the refused commit is here already");
        }
    }
    let mut allowed = upstream.open(&server.url(), |it| it.allow_history_rewrite = true);
    assert_eq!(new(allowed.fetch(Some(&in_force))).commit, other);
    let next = upstream.push(&[]);
    assert_eq!(new(repository.fetch(Some(&other))).commit, next);
}

#[test]
fn a_lost_clone_is_made_again_and_history_is_still_checked() {
    let upstream = Upstream::new();
    let in_force = commit_many(&upstream, 20);
    let server = Server::start(upstream.dir());
    let mut repository = upstream.open(&server.url(), |_| {});
    new(repository.fetch(None));
    let next = commit_many(&upstream, 20);
    fs::remove_dir_all(upstream.state()).unwrap();
    assert_eq!(new(repository.fetch(Some(&in_force))).commit, next);
    fs::remove_dir_all(upstream.state()).unwrap();
    upstream.git(&["reset", "-q", "--hard", &in_force]);
    upstream.push(&[]);
    let sideways = repository.fetch(Some(&next));
    assert!(matches!(sideways, Err(GitError::HistoryRewritten { .. })), "{sideways:?}");
}

#[test]
fn a_damaged_clone_is_thrown_away() {
    let upstream = Upstream::new();
    let server = Server::start(upstream.dir());
    let mut repository = upstream.open(&server.url(), |_| {});
    let in_force = new(repository.fetch(None)).commit;
    let packs =
        || fs::read_dir(clone(&upstream).join("objects/pack")).unwrap().map(|entry| entry.unwrap().path());
    let damages: [&dyn Fn(); 6] = [
        &|| packs().for_each(|pack| fs::write(pack, "").unwrap()),
        &|| packs().for_each(|pack| fs::remove_file(pack).unwrap()),
        &|| fs::write(clone(&upstream).join("HEAD"), "").unwrap(),
        &|| fs::write(clone(&upstream).join("config"), "[core\n").unwrap(),
        &|| fs::write(clone(&upstream).join("refs/keel/tip"), "").unwrap(),
        &|| fs::write(clone(&upstream).join("shallow"), "nonsense\n").unwrap(),
    ];
    let mut in_force = in_force;
    for (number, damage) in damages.iter().enumerate() {
        damage();
        let next = upstream.push(&[("apps/web.yaml", &number.to_string())]);
        let fetched = new(repository.fetch(Some(&in_force)));
        assert_eq!(
            (fetched.commit.as_str(), fetched.files[0].content.as_slice()),
            (next.as_str(), number.to_string().as_bytes())
        );
        in_force = next;
    }
    packs().for_each(|pack| fs::write(pack, "").unwrap());
    assert_eq!(repository.fetch_again(&in_force).unwrap().commit, in_force);
}

#[test]
fn an_interrupted_fetch_harms_neither_the_next_nor_the_disk() {
    let upstream = Upstream::new();
    let server = Server::start(upstream.dir());
    let mut repository = upstream.open(&server.url(), |_| {});
    let in_force = new(repository.fetch(None)).commit;
    let next = upstream.push(&[("apps/two.yaml", MANIFEST)]);
    for bytes in [0, 150, 250, 400, 500] {
        server.behave(Manners { cut_after: Some(bytes), ..Manners::default() });
        let error = repository.fetch(Some(&in_force)).unwrap_err();
        assert!(error.is_transient(), "cut after {bytes} bytes: {}", chain(&error));
    }
    server.behave(Manners::default());
    let left = clone(&upstream).join("objects/pack/pack_git2_left");
    fs::write(&left, "what a killed process leaves").unwrap();
    fs::write(clone(&upstream).join("refs/keel/tip.lock"), "").unwrap();
    assert_eq!(new(repository.fetch(Some(&in_force))).commit, next);
    assert!(!left.exists());
}

#[test]
fn many_fetches_do_not_fill_the_disk() {
    let upstream = Upstream::new();
    let server = Server::start(upstream.dir());
    let mut repository = upstream.open(&server.url(), |_| {});
    let in_force = new(repository.fetch(None)).commit;
    let folder = clone(&upstream).join("objects/pack");
    for number in 0..80 {
        fs::write(folder.join(format!("pack-{number}.pack")), "").unwrap();
    }
    let next = upstream.push(&[]);
    assert_eq!(new(repository.fetch(Some(&in_force))).commit, next);
    assert!(fs::read_dir(&folder).unwrap().count() < 20);
}
