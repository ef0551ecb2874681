//! The Git repository that an agent follows, and the clone that a test edits.

use std::path::{Path, PathBuf};
use std::process::Command;

pub(crate) struct Repository {
    /// Bare; what the agent is told.
    pub(crate) bare: PathBuf,
    work: PathBuf,
}

impl Repository {
    pub(crate) fn new(folder: &Path) -> Self {
        let it = Self { bare: folder.join("repository.git"), work: folder.join("work") };
        git(folder, &["init", "-q", "--bare", "-b", "main", "repository.git"]);
        git(folder, &["init", "-q", "-b", "main", "work"]);
        it.git(&["remote", "add", "origin", it.bare.to_str().unwrap()]);
        it
    }

    pub(crate) fn git(&self, words: &[&str]) -> String {
        git(&self.work, words)
    }

    /// The file says `content`; not committed yet.
    pub(crate) fn write(&self, file: &str, content: &str) {
        let path = self.work.join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    pub(crate) fn remove(&self, file: &str) {
        std::fs::remove_file(self.work.join(file)).unwrap();
    }

    /// Commits what there is and pushes it; returns the commit.
    pub(crate) fn push(&self, subject: &str) -> String {
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "--allow-empty", "-m", subject]);
        self.git(&["push", "-q", "origin", "main"]);
        self.git(&["rev-parse", "HEAD"])
    }

    /// [`Repository::write`] and [`Repository::push`].
    pub(crate) fn push_file(&self, file: &str, content: &str) -> String {
        self.write(file, content);
        self.push(&format!("Change {file}"))
    }

    /// Every file goes.
    pub(crate) fn empty(&self) {
        if !self.git(&["ls-files"]).is_empty() {
            self.git(&["rm", "-rq", "."]);
        }
    }
}

fn git(folder: &Path, words: &[&str]) -> String {
    let mut command = Command::new("git");
    command.current_dir(folder).args(["-c", "user.name=Ada Lovelace", "-c", "user.email=ada@example.org"]);
    command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_SYSTEM", "/dev/null");
    let output = command.args(words).output().unwrap();
    assert!(output.status.success(), "git {words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}
