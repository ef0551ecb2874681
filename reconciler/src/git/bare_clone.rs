//! The local clone of a repository on another machine: a cache, never the truth.
//! Whatever is wrong with it, it can be thrown away and fetched again.

use super::error::{Failure, GitError};
use git2::{Oid, Repository};
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

/// Each fetch leaves one pack; past so many, a new shallow clone is cheaper than to repack.
const MAX_PACKS: usize = 64;
/// The tip that was last fetched, whether it was accepted or not.
const TIP: &str = "refs/keel/tip";
/// The commit in force, so that the server learns that it is here.
const IN_FORCE: &str = "refs/keel/in-force";

/// The folder of one source's clone.
#[derive(Debug)]
pub(super) struct BareClone {
    path: PathBuf,
}

impl BareClone {
    /// The clone in the source's folder `dir`; nothing is touched yet.
    pub(super) fn below(dir: &Path) -> Self {
        Self { path: dir.join("clone.git") }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens the clone, after removing what an interrupted fetch left, or makes an empty one.
    ///
    /// # Errors
    /// [`GitError::CloneFolder`] if the folder cannot be made; [`Failure::Repository`] if
    /// what is there is no repository (any more).
    pub(super) fn open(&self) -> Result<Repository, Failure> {
        let parent = self.path.parent().unwrap_or(&self.path);
        DirBuilder::new().recursive(true).mode(0o700).create(parent).map_err(|error| self.unusable(error))?;
        if !self.path.exists() {
            return Ok(Repository::init_bare(&self.path)?);
        }
        if self.sweep().map_err(|error| self.unusable(error))? > MAX_PACKS {
            self.discard()?;
            return Ok(Repository::init_bare(&self.path)?);
        }
        Ok(Repository::open_bare(&self.path)?)
    }

    /// Removes the clone.
    ///
    /// # Errors
    /// [`GitError::CloneFolder`] if it cannot be removed.
    pub(super) fn discard(&self) -> Result<(), GitError> {
        match fs::remove_dir_all(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.unusable(error)),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Removes the half-written packs and locks of an interrupted fetch and counts the packs.
    fn sweep(&self) -> io::Result<usize> {
        let mut packs = 0;
        for folder in ["objects/pack", "refs/keel", "."] {
            let entries = match fs::read_dir(self.path.join(folder)) {
                Ok(entries) => entries,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            for entry in entries {
                let entry = entry?;
                let name = entry.file_name();
                let name = name.to_string_lossy();
                // libgit2's temporary names; one process owns this folder, so none is in use.
                if name.contains("_git2_") || name.ends_with(".lock") {
                    fs::remove_file(entry.path())?;
                }
                packs += usize::from(name.ends_with(".pack"));
            }
        }
        Ok(packs)
    }

    fn unusable(&self, source: io::Error) -> GitError {
        GitError::CloneFolder { path: self.path.clone(), source }
    }
}

/// Notes the commits that the clone holds, for the next fetch to build upon.
///
/// # Errors
/// libgit2's, if a reference cannot be written.
pub(super) fn remember(repository: &Repository, tip: Oid, in_force: Option<Oid>) -> Result<(), git2::Error> {
    repository.reference(TIP, tip, true, "fetched")?;
    if let Some(in_force) = in_force.filter(|id| repository.odb().is_ok_and(|odb| odb.exists(*id))) {
        repository.reference(IN_FORCE, in_force, true, "in force")?;
    }
    Ok(())
}
