//! What the node keeps of its membership, in `<stateDir>/pki`:
//!
//! - `node.key`: its key; made first, never replaced.
//! - `ca.crt`, `members.json`: whom it believes, and where they are.
//! - `node.crt`: its certificate and that of its authority; written last, so that with it all is
//!   there.
//! - `authority.pem`: the authority with its key, on nodes that sign.
//! - `rejoins`: while it is there, the node begins no cluster of its own.

use reconciler::peer::Peer;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

const NODE_KEY: &str = "node.key";
const NODE_CERTIFICATE: &str = "node.crt";
const AUTHORITIES: &str = "ca.crt";
const AUTHORITY: &str = "authority.pem";
const MEMBERS: &str = "members.json";
const REJOINS: &str = "rejoins";

/// The folder. Every file in it is whole, or not there.
#[derive(Debug, Clone)]
pub(crate) struct Folder(PathBuf);

/// A file of the folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FolderError {
    /// The folder cannot be made.
    #[error("cannot make {}", .path.display())]
    Make {
        /// It.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file cannot be read.
    #[error("cannot read {}", .path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {}", .path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file holds something else than it should.
    #[error("{} is not what keel wrote", .path.display())]
    Members {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}

/// What makes a node a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Membership {
    /// The node's certificate and its authority's, PEM.
    pub(crate) certificates: String,
    /// All authorities of the cluster, PEM.
    pub(crate) authorities: String,
}

/// The file holds `content`, or what it held before, whatever happens meanwhile; root's only.
///
/// # Errors
/// If it cannot be written.
pub(super) fn write_whole(path: &Path, content: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.as_file().set_permissions(std::fs::Permissions::from_mode(0o600))?;
    file.write_all(content)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    std::fs::File::open(folder)?.sync_all()
}

impl Folder {
    /// The folder under `state_dir`, made if it was not there, for root only.
    ///
    /// # Errors
    /// If it cannot be made.
    pub(crate) fn open(state_dir: &Path) -> Result<Self, FolderError> {
        let path = state_dir.join("pki");
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&path);
        match made {
            Ok(()) => Ok(Self(path)),
            Err(source) => Err(FolderError::Make { path, source }),
        }
    }

    fn read(&self, name: &str) -> Result<Option<String>, FolderError> {
        let path = self.0.join(name);
        match std::fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(FolderError::Read { path, source }),
        }
    }

    fn write(&self, name: &str, text: &str) -> Result<(), FolderError> {
        let path = self.0.join(name);
        write_whole(&path, text.as_bytes()).map_err(|source| FolderError::Write { path, source })
    }

    /// The node's key, PEM, if it was made.
    ///
    /// # Errors
    /// If it cannot be read.
    pub(crate) fn node_key(&self) -> Result<Option<String>, FolderError> {
        self.read(NODE_KEY)
    }

    /// Keeps the node's key.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(crate) fn set_node_key(&self, pem: &str) -> Result<(), FolderError> {
        self.write(NODE_KEY, pem)
    }

    /// The authority with its key, PEM, if this node has it.
    ///
    /// # Errors
    /// If it cannot be read.
    pub(crate) fn authority(&self) -> Result<Option<String>, FolderError> {
        self.read(AUTHORITY)
    }

    /// Keeps the authority.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(crate) fn set_authority(&self, pem: &str) -> Result<(), FolderError> {
        self.write(AUTHORITY, pem)
    }

    /// The membership, if the node has become a member.
    ///
    /// # Errors
    /// If it cannot be read.
    pub(crate) fn membership(&self) -> Result<Option<Membership>, FolderError> {
        let Some(certificates) = self.read(NODE_CERTIFICATE)? else { return Ok(None) };
        let authorities = self.read(AUTHORITIES)?.unwrap_or_default();
        Ok(Some(Membership { certificates, authorities }))
    }

    /// The node is a member from here on.
    ///
    /// # Errors
    /// If it cannot be written; then it is not, or is what it was before.
    pub(crate) fn set_membership(&self, membership: &Membership) -> Result<(), FolderError> {
        self.write(AUTHORITIES, &membership.authorities)?;
        self.write(NODE_CERTIFICATE, &membership.certificates)
    }

    /// True if the node is to take the cluster's objects, also where it knows of no other member.
    pub(crate) fn rejoins(&self) -> bool {
        self.0.join(REJOINS).exists()
    }

    /// The node is to do so at its next start, or has done so.
    ///
    /// # Errors
    /// If that cannot be kept.
    pub(crate) fn set_rejoins(&self, rejoins: bool) -> Result<(), FolderError> {
        if rejoins {
            return self.write(REJOINS, "");
        }
        let path = self.0.join(REJOINS);
        match std::fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(FolderError::Write { path, source })
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// The members that were last known.
    ///
    /// # Errors
    /// If they cannot be read.
    pub(crate) fn members(&self) -> Result<Vec<Peer>, FolderError> {
        let Some(text) = self.read(MEMBERS)? else { return Ok(Vec::new()) };
        let path = self.0.join(MEMBERS);
        serde_json::from_str(&text).map_err(|source| FolderError::Members { path, source })
    }

    /// Keeps the members for a start without any other word of them.
    ///
    /// # Errors
    /// If they cannot be written.
    pub(crate) fn set_members(&self, members: &[Peer]) -> Result<(), FolderError> {
        let path = self.0.join(MEMBERS);
        let text =
            serde_json::to_string_pretty(members).map_err(|source| FolderError::Members { path, source })?;
        self.write(MEMBERS, &text)
    }
}
