//! The demo's Git repository, and the clone in which the story is written.
//! Needs no `git` program.

use git2::{IndexAddOption, Repository, RepositoryInitOptions, Signature};
use std::path::{Path, PathBuf};

/// Why the repository could not be written.
#[derive(Debug, thiserror::Error)]
pub(super) enum RepositoryError {
    /// A file of the clone cannot be written.
    #[error("cannot write {}", .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Git refused.
    #[error("cannot {action} the demo's repository")]
    Git {
        /// What was tried.
        action: &'static str,
        /// Why.
        #[source]
        source: git2::Error,
    },
    /// The bare repository refused a push.
    #[error("the demo's repository refused the push: {0}")]
    Push(String),
}

/// A bare repository and a clone of it.
pub(super) struct Clone {
    work: Repository,
    folder: PathBuf,
}

impl Clone {
    /// Both are there, empty.
    ///
    /// # Errors
    /// If one cannot be made.
    pub(super) fn make(bare: &Path, folder: &Path) -> Result<Self, RepositoryError> {
        let failed = |source| RepositoryError::Git { action: "make", source };
        let mut options = RepositoryInitOptions::new();
        options.initial_head(super::BRANCH);
        Repository::init_opts(bare, options.bare(true)).map_err(failed)?;
        let work = Repository::init_opts(folder, options.bare(false)).map_err(failed)?;
        work.remote("origin", &format!("file://{}", bare.display())).map_err(failed)?;
        Ok(Self { work, folder: folder.to_owned() })
    }

    /// The file `name` says `content`.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(super) fn write(&self, name: &str, content: &str) -> Result<(), RepositoryError> {
        let path = self.folder.join(name);
        std::fs::write(&path, content).map_err(|source| RepositoryError::File { path, source })
    }

    /// In the file `name`, `from` became `to`.
    ///
    /// # Errors
    /// If it cannot be read or written.
    pub(super) fn replace(&self, name: &str, from: &str, to: &str) -> Result<(), RepositoryError> {
        let path = self.folder.join(name);
        let failed = |source| RepositoryError::File { path: path.clone(), source };
        let content = std::fs::read_to_string(&path).map_err(failed)?;
        self.write(name, &content.replace(from, to))
    }

    /// The file `name` is gone.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub(super) fn remove(&self, name: &str) -> Result<(), RepositoryError> {
        let path = self.folder.join(name);
        std::fs::remove_file(&path).map_err(|source| RepositoryError::File { path, source })
    }

    /// Commits all that changed and pushes it; returns the commit.
    ///
    /// # Errors
    /// If Git refuses.
    pub(super) fn push(&self, subject: &str) -> Result<String, RepositoryError> {
        let commit =
            self.commit(subject).map_err(|source| RepositoryError::Git { action: "commit to", source })?;
        let refused = std::cell::RefCell::new(None);
        let mut callbacks = git2::RemoteCallbacks::new();
        callbacks.push_update_reference(|_, status| {
            *refused.borrow_mut() = status.map(str::to_owned);
            Ok(())
        });
        let mut options = git2::PushOptions::new();
        options.remote_callbacks(callbacks);
        let branch = format!("refs/heads/{0}:refs/heads/{0}", super::BRANCH);
        let pushed = self.work.find_remote("origin").and_then(|mut o| o.push(&[branch], Some(&mut options)));
        drop(options);
        pushed.map_err(|source| RepositoryError::Git { action: "push to", source })?;
        match refused.into_inner() {
            Some(reason) => Err(RepositoryError::Push(reason)),
            None => Ok(commit.to_string()),
        }
    }

    fn commit(&self, subject: &str) -> Result<git2::Oid, git2::Error> {
        let mut index = self.work.index()?;
        index.add_all(["*"], IndexAddOption::FORCE, None)?;
        index.update_all(["*"], None)?;
        index.write()?;
        let tree = self.work.find_tree(index.write_tree()?)?;
        let author = Signature::now("Ada Lovelace", "ada@example.org")?;
        let parent = self.work.head().and_then(|head| head.peel_to_commit()).ok();
        let parents: Vec<_> = parent.iter().collect();
        self.work.commit(Some("HEAD"), &author, &author, subject, &tree, &parents)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_pushed_is_in_the_bare_repository() {
        let folder = tempfile::tempdir().unwrap();
        let bare = folder.path().join("bare.git");
        let clone = Clone::make(&bare, &folder.path().join("work")).unwrap();
        clone.write("a.yaml", "one").unwrap();
        let first = clone.push("First").unwrap();
        clone.replace("a.yaml", "one", "two").unwrap();
        clone.write("b.yaml", "b").unwrap();
        let second = clone.push("Second").unwrap();
        clone.remove("a.yaml").unwrap();
        clone.push("Third").unwrap();
        let bare = Repository::open_bare(&bare).unwrap();
        let head = bare.find_reference("refs/heads/main").unwrap().peel_to_commit().unwrap();
        assert_eq!(head.summary(), Ok(Some("Third")));
        assert_eq!(head.parent(0).unwrap().id().to_string(), second);
        assert_eq!(head.parent(0).unwrap().parent(0).unwrap().id().to_string(), first);
        let names: Vec<_> = head.tree().unwrap().iter().map(|e| e.name().unwrap().to_owned()).collect();
        assert_eq!(names, ["b.yaml"]);
    }
}
