//! A repository to follow: a bare one that is served, and a working folder that pushes to it.

use manifests::config::{GitAuth, GitSource};
use reconciler::git::{Fetched, GitError, Outcome, Repository};
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// A manifest that nobody parses here.
pub(crate) const MANIFEST: &str = "kind: ConfigMap\n";

pub(crate) struct Upstream {
    dir: TempDir,
}

impl Upstream {
    /// With one commit on `main` that holds `apps/web.yaml`.
    pub(crate) fn new() -> Self {
        let upstream = Self { dir: tempfile::tempdir().unwrap() };
        git(upstream.dir(), &["-c", "init.defaultBranch=main", "init", "-q", "--bare", "repo.git"]);
        git(upstream.dir(), &["-c", "init.defaultBranch=main", "init", "-q", "work"]);
        git(&upstream.work(), &["remote", "add", "origin", "../repo.git"]);
        upstream.push(&[("apps/web.yaml", MANIFEST)]);
        upstream
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn bare(&self) -> PathBuf {
        self.dir().join("repo.git")
    }

    pub(crate) fn work(&self) -> PathBuf {
        self.dir().join("work")
    }

    /// Runs git in the working folder and returns what it printed.
    pub(crate) fn git(&self, arguments: &[&str]) -> String {
        git(&self.work(), arguments)
    }

    /// Writes `files` and commits them, without pushing; returns the commit's id.
    pub(crate) fn commit(&self, files: &[(&str, &str)]) -> String {
        for (path, text) in files {
            let path = self.work().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "--allow-empty", "-m", "Change things\n\nAnd say why."]);
        self.head()
    }

    pub(crate) fn head(&self) -> String {
        self.git(&["rev-parse", "HEAD"])
    }

    /// Commits `files` and pushes the branch that is checked out; returns the commit's id.
    pub(crate) fn push(&self, files: &[(&str, &str)]) -> String {
        let id = self.commit(files);
        self.git(&["push", "-q", "--force", "origin", "HEAD"]);
        id
    }

    /// Pushes a history in which the tip is replaced by another commit.
    pub(crate) fn rewrite(&self) -> String {
        self.git(&["commit", "-q", "--amend", "--allow-empty", "-m", "Another past"]);
        self.git(&["push", "-q", "--force", "origin", "HEAD"]);
        self.head()
    }

    pub(crate) fn file_url(&self) -> String {
        format!("file://{}", self.bare().display())
    }

    /// A repository with its clone below this folder, changed by `configure`.
    pub(crate) fn open(&self, url: &str, configure: impl FnOnce(&mut GitSource)) -> Repository {
        let mut source = source(url);
        configure(&mut source);
        Repository::open(&source, &self.state()).unwrap()
    }

    /// Where the repositories of [`open`](Self::open) keep their clone.
    pub(crate) fn state(&self) -> PathBuf {
        self.dir().join("state/git/test")
    }
}

pub(crate) fn source(url: &str) -> GitSource {
    GitSource {
        name: "test".into(),
        url: url.into(),
        branch: None,
        tag: None,
        commit: None,
        paths: Vec::new(),
        interval: "1m".into(),
        allow_empty: false,
        allow_history_rewrite: false,
        auth: GitAuth::default(),
    }
}

pub(crate) fn git(dir: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .current_dir(dir)
        .args(arguments)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_AUTHOR_NAME", "Ann Author")
        .env("GIT_AUTHOR_EMAIL", "ann@example.org")
        .env("GIT_COMMITTER_NAME", "Carl Committer")
        .env("GIT_COMMITTER_EMAIL", "carl@example.org")
        .output()
        .unwrap();
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// The fetched commit, where there must be a new one.
pub(crate) fn new(outcome: Result<Outcome, GitError>) -> Fetched {
    match outcome.unwrap() {
        Outcome::New(fetched) => fetched,
        Outcome::Unchanged => panic!("nothing new"),
    }
}

pub(crate) fn assert_unchanged(outcome: Result<Outcome, GitError>) {
    assert!(matches!(outcome, Ok(Outcome::Unchanged)), "{outcome:?}");
}

pub(crate) fn paths(fetched: &Fetched) -> Vec<&str> {
    fetched.files.iter().map(|file| file.path.as_str()).collect()
}

/// The error with all that it stems from, as it would be printed.
pub(crate) fn chain(error: &GitError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}
