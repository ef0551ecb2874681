//! A repository on this machine, read in place: nothing is copied, nothing written.

use super::error::{Failure, GitError};
use super::reference::Wanted;
use git2::{ErrorCode, ObjectType, Oid, Repository, RepositoryOpenFlags};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The repository at `path`, which is a bare one or a folder with `.git` in it; as with
/// `git clone`, the ending `.git` may be left out.
///
/// # Errors
/// [`GitError::RepositoryNotFound`], or [`GitError::LocalRepository`] for one that is
/// there and cannot be opened.
pub(super) fn open(path: &Path) -> Result<Repository, GitError> {
    for candidate in candidates(path) {
        let flags = RepositoryOpenFlags::NO_SEARCH;
        match Repository::open_ext(&candidate, flags, &[] as &[&Path]) {
            Ok(repository) => return Ok(repository),
            Err(error) if error.code() == ErrorCode::NotFound => {}
            Err(source) => return Err(GitError::LocalRepository { path: candidate, source }),
        }
    }
    Err(GitError::RepositoryNotFound { url: format!("file://{}", path.display()) })
}

/// The folders that `path` may mean, in order.
pub(super) fn candidates(path: &Path) -> [PathBuf; 2] {
    let mut bare = OsString::from(path);
    bare.push(".git");
    [path.to_owned(), PathBuf::from(bare)]
}

/// The commit that `wanted` is in `repository`.
///
/// # Errors
/// [`GitError::NoSuchReference`] and [`GitError::NotACommit`], naming `url`;
/// [`Failure::Repository`] if the repository cannot be read.
pub(super) fn resolve(repository: &Repository, wanted: &Wanted, url: &str) -> Result<Oid, Failure> {
    let found = match wanted {
        Wanted::Commit(id) => repository.find_object(*id, None),
        Wanted::Head | Wanted::Branch(_) | Wanted::Tag(_) => {
            let name = wanted.full_name().unwrap_or_default();
            repository.find_reference(&name).and_then(|reference| reference.peel(ObjectType::Any))
        }
    };
    let object = match found {
        Ok(object) => object,
        Err(error) if matches!(error.code(), ErrorCode::NotFound | ErrorCode::UnbornBranch) => {
            return Err(missing(repository, wanted, url)?.into());
        }
        Err(error) => return Err(error.into()),
    };
    let not_a_commit = |_| GitError::NotACommit { url: url.to_owned(), reference: wanted.to_string() };
    Ok(object.peel_to_commit().map_err(not_a_commit)?.id())
}

fn missing(repository: &Repository, wanted: &Wanted, url: &str) -> Result<GitError, Failure> {
    let mut references = repository.references()?;
    let names: Vec<String> = references.names().filter_map(|name| name.ok().map(str::to_owned)).collect();
    let nearest = wanted.nearest(names.iter().map(String::as_str));
    Ok(GitError::NoSuchReference { url: url.to_owned(), reference: wanted.to_string(), nearest })
}
