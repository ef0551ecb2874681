//! Wakes of repositories on this machine.

use crate::upstream::{Upstream, assert_unchanged, git, new, source};
use reconciler::git::Repository;
use reconciler::git::watch::RepositoryWatch;
use std::path::Path;
use std::time::Duration;
use tempfile::tempdir;

/// Far beyond any wake; only a lost one takes so long.
const PATIENCE: Duration = Duration::from_secs(30);

async fn wake(watch: &RepositoryWatch) {
    tokio::time::timeout(PATIENCE, watch.changed()).await.expect("a wake");
}

/// Looks until the repository is at `commit`, at each wake only.
async fn arrives(watch: &RepositoryWatch, repository: &mut Repository, in_force: Option<&str>, commit: &str) {
    loop {
        wake(watch).await;
        if let Ok(reconciler::git::Outcome::New(fetched)) = repository.fetch(in_force)
            && fetched.commit == commit
        {
            return;
        }
    }
}

#[tokio::test]
async fn a_push_wakes() {
    let upstream = Upstream::new();
    let mut repository = upstream.open(&upstream.file_url(), |_| {});
    let watch = RepositoryWatch::start(&source(&upstream.file_url())).unwrap().unwrap();
    wake(&watch).await;
    let mut in_force = new(repository.fetch(None)).commit;
    for _ in 0..5 {
        let next = upstream.push(&[]);
        arrives(&watch, &mut repository, Some(&in_force), &next).await;
        in_force = next;
        // The reference may go into packed-refs and come back as a file.
        git(&upstream.bare(), &["pack-refs", "--all"]);
    }
    assert_unchanged(repository.fetch(Some(&in_force)));
}

#[tokio::test]
async fn a_branch_in_a_folder_that_is_made_for_it_wakes() {
    let upstream = Upstream::new();
    let mut followed = source(&upstream.file_url());
    followed.branch = Some("team/one/live".into());
    let mut repository = Repository::open(&followed, &upstream.state()).unwrap();
    let watch = RepositoryWatch::start(&followed).unwrap().unwrap();
    wake(&watch).await;
    upstream.git(&["checkout", "-q", "-b", "team/one/live"]);
    let first = upstream.push(&[]);
    arrives(&watch, &mut repository, None, &first).await;
    let next = upstream.push(&[]);
    arrives(&watch, &mut repository, Some(&first), &next).await;
}

#[tokio::test]
async fn a_repository_that_comes_later_goes_and_comes_back_wakes() {
    let upstream = Upstream::new();
    let dir = tempdir().unwrap();
    let path = dir.path().join("deep/er/repo.git");
    let followed = source(path.to_str().unwrap());
    let mut repository = Repository::open(&followed, &upstream.state()).unwrap();
    let watch = RepositoryWatch::start(&followed).unwrap().unwrap();
    wake(&watch).await;
    for _ in 0..2 {
        let commit = upstream.push(&[]);
        copy(&upstream.bare(), &path);
        arrives(&watch, &mut repository, None, &commit).await;
        let next = upstream.commit(&[]);
        upstream.git(&["push", "-q", path.to_str().unwrap(), "HEAD:main"]);
        arrives(&watch, &mut repository, Some(&commit), &next).await;
        std::fs::remove_dir_all(&path).unwrap();
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    git(to, &["-c", "init.defaultBranch=main", "init", "-q", "--bare", "."]);
    git(to, &["fetch", "-q", from.to_str().unwrap(), "refs/heads/main:refs/heads/main"]);
}

#[tokio::test]
async fn only_local_repositories_are_watched() {
    assert!(RepositoryWatch::start(&source("https://example.org/x.git")).unwrap().is_none());
    assert!(RepositoryWatch::start(&source("nonsense")).is_err());
}
