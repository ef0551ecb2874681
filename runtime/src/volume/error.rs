//! Why a volume cannot be made.

use crate::plan::Cause;
use std::io;
use std::path::{Path, PathBuf};

/// A volume of a pod could not be made or brought up to date.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// Kubernetes has it, this runtime does not yet.
    #[error("volume \"{volume}\" is of a kind that is not supported yet")]
    Unsupported {
        /// Its name.
        volume: String,
    },
    /// Something that the volume shows is missing.
    #[error("MountVolume.SetUp failed for volume \"{volume}\" : {cause}")]
    Missing {
        /// Its name.
        volume: String,
        /// What, in the kubelet's words.
        cause: Cause,
    },
    /// An item's key is not in its object.
    #[error("MountVolume.SetUp failed for volume \"{volume}\" : references non-existent {kind} key: {key}")]
    KeyNotFound {
        /// The volume's name.
        volume: String,
        /// `config` or `secret`.
        kind: &'static str,
        /// The key.
        key: String,
    },
    /// An item would be written outside of its volume, or over another.
    #[error("MountVolume.SetUp failed for volume \"{volume}\" : invalid path: {path}")]
    BadPath {
        /// The volume's name.
        volume: String,
        /// As written.
        path: String,
    },
    /// A mode outside of 0 to 0777.
    #[error("MountVolume.SetUp failed for volume \"{volume}\" : {mode} is no file mode")]
    BadMode {
        /// The volume's name.
        volume: String,
        /// As written.
        mode: i32,
    },
    /// The owner of a file is no user id.
    #[error("MountVolume.SetUp failed for volume \"{volume}\" : {id} is no user id")]
    BadUser {
        /// The volume's name.
        volume: String,
        /// As written.
        id: i64,
    },
    /// `fsGroup` is no group id.
    #[error("{id} is no group id")]
    BadGroup {
        /// As written.
        id: i64,
    },
    /// What is at the path of a `hostPath` is not of its type.
    #[error(
        "MountVolume.SetUp failed for volume \"{volume}\" : hostPath type check failed: {path} is not a {wanted}"
    )]
    HostPathType {
        /// The volume's name.
        volume: String,
        /// The path on the host.
        path: String,
        /// `directory`, `file`, `socket file`, `character device`, `block device`.
        wanted: &'static str,
    },
    /// A `hostPath` type that Kubernetes does not have.
    #[error("volume \"{volume}\" has the unknown hostPath type \"{found}\"")]
    UnknownHostPathType {
        /// The volume's name.
        volume: String,
        /// As written.
        found: String,
    },
    /// What is mounted below the path of a `Bidirectional` mount stays there.
    #[error("volume \"{volume}\": path \"{path}\" is mounted on \"{mount}\" but it is not a shared mount")]
    NotShared {
        /// The volume's name.
        volume: String,
        /// On the host.
        path: String,
        /// The mount that it is on.
        mount: String,
    },
    /// A service account token is asked for, and there is no such account.
    #[error(
        "MountVolume.SetUp failed for volume \"{volume}\" : failed to fetch token: serviceaccounts \"{account}\" not found"
    )]
    NoAccount {
        /// The volume's name.
        volume: String,
        /// The account's.
        account: String,
    },
    /// A service account token cannot be made.
    #[error("MountVolume.SetUp failed for volume \"{volume}\" : failed to fetch token")]
    Token {
        /// The volume's name.
        volume: String,
        /// Why.
        #[source]
        source: crate::token::TokenKeyError,
    },
    /// A file or folder could not be made or changed.
    #[error("{operation} {path}")]
    Io {
        /// `create`, `write`…
        operation: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl VolumeError {
    /// Kubernetes' word for it, as an event has it.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        "FailedMount"
    }

    pub(super) fn io(operation: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { operation, path: path.to_owned(), source }
    }
}
