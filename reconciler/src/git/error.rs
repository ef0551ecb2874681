//! What can go wrong with a source, in words for the person who can mend it.

use super::transport::Fault;
use std::path::PathBuf;

/// Why a source could not be followed. No variant carries a credential: addresses
/// are without user information, and files are named, never quoted.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// The configured address is none.
    #[error("`{url}` is not the address of a repository: {reason}")]
    InvalidUrl {
        /// Without user information.
        url: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// More than one reference, or one that cannot exist.
    #[error("`{reference}` cannot be followed: {reason}")]
    InvalidReference {
        /// As configured.
        reference: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A configured path leaves the repository.
    #[error("`{path}` is not a path inside the repository")]
    InvalidPath {
        /// As configured.
        path: String,
    },
    /// A file with a credential, key or authority cannot be used.
    #[error("the credential file {} cannot be used", path.display())]
    CredentialFile {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// libgit2 itself does not work in this process.
    #[error("libgit2 cannot be set up: {reason}")]
    Library {
        /// In libgit2's words.
        reason: String,
    },
    /// The server wants credentials, or others.
    #[error("{url} refused the credentials, or wants some")]
    AuthenticationFailed {
        /// Without user information.
        url: String,
    },
    /// The ssh server is not the one that `known_hosts` knows.
    #[error("the host key of {url} is not the known one")]
    HostKeyRejected {
        /// Without a password.
        url: String,
    },
    /// There is no repository, or none that these credentials may see.
    #[error("there is no repository at {url}, or the credentials do not reach it")]
    RepositoryNotFound {
        /// Without user information.
        url: String,
    },
    /// No answer, or none that a Git server gives.
    #[error("{url} cannot be reached")]
    Unreachable {
        /// Without user information.
        url: String,
        /// What happened on the way.
        #[source]
        source: Fault,
    },
    /// The server answered, but not as Git does, or reported an error of its own.
    #[error("{url} did not complete the fetch")]
    Protocol {
        /// Without user information.
        url: String,
        /// In libgit2's words.
        #[source]
        source: git2::Error,
    },
    /// The branch, tag or commit does not exist.
    #[error("{url} has no {reference}{}", suggest(nearest))]
    NoSuchReference {
        /// Without user information.
        url: String,
        /// ``branch `mian` ``.
        reference: String,
        /// What may have been meant, the likeliest first.
        nearest: Vec<String>,
    },
    /// The reference names something that is no commit.
    #[error("{reference} of {url} is not a commit")]
    NotACommit {
        /// Without user information.
        url: String,
        /// ``tag `v1` ``.
        reference: String,
    },
    /// A configured path is not in the commit, and `allowEmpty` is not set.
    #[error(
        "the path `{path}` is not in commit {commit}; with `allowEmpty: true` this would delete \
         everything that came from it"
    )]
    NoSuchPath {
        /// From the repository's root.
        path: String,
        /// The commit that was looked at.
        commit: String,
    },
    /// The new tip does not descend from the commit in force.
    #[error(
        "history was rewritten: {reference} is now {tip}, which does not descend from {in_force}, the commit \
         in force; set `allowHistoryRewrite: true` to follow it"
    )]
    HistoryRewritten {
        /// ``branch `main` ``.
        reference: String,
        /// The commit in force.
        in_force: String,
        /// The commit that was refused.
        tip: String,
    },
    /// The revision, or the way to it, is larger than allowed.
    #[error("too large: {excess}")]
    TooLarge {
        /// What, and the limit.
        excess: Excess,
    },
    /// A manifest is a symbolic link. Links are not followed.
    #[error("`{path}` in commit {commit} is a symbolic link; put the file itself there")]
    SymbolicLink {
        /// From the repository's root.
        path: String,
        /// The commit that was looked at.
        commit: String,
    },
    /// A manifest is kept in Git LFS: the repository holds a pointer in its place.
    #[error("`{path}` in commit {commit} is a Git LFS pointer; manifests must be in the repository itself")]
    LfsPointer {
        /// From the repository's root.
        path: String,
        /// The commit that was looked at.
        commit: String,
    },
    /// The folder of the local clone cannot be used.
    #[error("the folder {} cannot be used", path.display())]
    CloneFolder {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The local clone was damaged, and a new one is no better.
    #[error("the clone in {} does not work, not even a new one", path.display())]
    Damaged {
        /// The clone.
        path: PathBuf,
        /// In libgit2's words.
        #[source]
        source: git2::Error,
    },
    /// A repository on this machine cannot be read.
    #[error("the repository {} cannot be read", path.display())]
    LocalRepository {
        /// As configured.
        path: PathBuf,
        /// In libgit2's words.
        #[source]
        source: git2::Error,
    },
}

impl GitError {
    /// Whether the same fetch may succeed later although nobody changed anything.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Unreachable { .. }
                | Self::Protocol { .. }
                | Self::CloneFolder { .. }
                | Self::Damaged { .. }
                | Self::LocalRepository { .. }
        )
    }

    /// The commit that was looked at and refused, if one was reached.
    #[must_use]
    pub fn commit(&self) -> Option<&str> {
        if let Self::NoSuchPath { commit, .. }
        | Self::SymbolicLink { commit, .. }
        | Self::LfsPointer { commit, .. }
        | Self::HistoryRewritten { tip: commit, .. } = self
        {
            Some(commit)
        } else {
            None
        }
    }
}

/// What exceeded its limit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Excess {
    /// One manifest.
    #[error("`{path}` has {bytes} bytes, a manifest may have {limit}")]
    File {
        /// From the repository's root.
        path: String,
        /// Its size.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// All manifests together.
    #[error("the manifests of {commit} have more than {limit} bytes in all; narrow `paths`")]
    Revision {
        /// The commit.
        commit: String,
        /// The limit.
        limit: u64,
    },
    /// The number of manifests.
    #[error("{commit} holds more than {limit} manifests; narrow `paths`")]
    Files {
        /// The commit.
        commit: String,
        /// The limit.
        limit: usize,
    },
    /// What the server sends.
    #[error("the server sends more than {limit} bytes")]
    Transfer {
        /// The limit.
        limit: u64,
    },
}

fn suggest(nearest: &[String]) -> String {
    if nearest.is_empty() {
        return String::new();
    }
    let names: Vec<_> = nearest.iter().map(|name| format!("`{name}`")).collect();
    format!("; did you mean {}?", names.join(" or "))
}

/// How an attempt on a repository ended before its time: refused for a reason that
/// stands, or stopped by the repository itself, whose owner knows what that means.
#[derive(Debug)]
pub(super) enum Failure {
    Refused(GitError),
    Repository(git2::Error),
}

impl From<git2::Error> for Failure {
    fn from(error: git2::Error) -> Self {
        Self::Repository(error)
    }
}

impl From<GitError> for Failure {
    fn from(error: GitError) -> Self {
        Self::Refused(error)
    }
}
