//! Why an image cannot be used.

use oci_client::errors::{OciDistributionError, OciErrorCode};
use std::io;
use std::path::{Path, PathBuf};

/// An image could not be resolved.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// Not a reference.
    #[error("couldn't parse image name \"{reference}\": {problem}")]
    InvalidName {
        /// As in the manifest.
        reference: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A registry's image that is not in the store: [`super::registry::Puller`] fetches it.
    #[error("image \"{reference}\" was not fetched from its registry yet")]
    NotPulled {
        /// As in the manifest.
        reference: String,
    },
    /// The registry did not give it.
    #[error("cannot pull from {host}")]
    Pull {
        /// Who was asked.
        host: String,
        /// Why not.
        #[source]
        source: Box<oci_client::errors::OciDistributionError>,
    },
    /// The registry does not answer, and no peer gave it.
    #[error("the registry does not answer, and no peer gave {digest}")]
    NoPeer {
        /// What was wanted.
        digest: String,
    },
    /// The node's own credentials cannot be understood.
    #[error("cannot use the credentials in {path}")]
    Credentials {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: super::registry::CredentialsError,
    },
    /// A pod uses it.
    #[error("image \"{reference}\" is in use")]
    InUse {
        /// As asked.
        reference: String,
    },
    /// Nobody knows it.
    #[error("there is no image \"{reference}\"")]
    Unknown {
        /// As asked.
        reference: String,
    },
    /// `imagePullPolicy: Never`, and the store does not have it.
    #[error("Container image \"{reference}\" is not present with pull policy of Never")]
    NotPresent {
        /// As in the manifest.
        reference: String,
    },
    /// What the store noted of the image cannot be read.
    #[error("the store's record {path} is damaged")]
    DamagedRecord {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// The place has no image of that tag.
    #[error("no image is tagged \"{tag}\"; there are: {}", known.join(", "))]
    NoSuchTag {
        /// Wanted.
        tag: String,
        /// There.
        known: Vec<String>,
    },
    /// The place has several images, and the reference does not say which.
    #[error("several images are there, name one by its tag: {}", known.join(", "))]
    Ambiguous {
        /// Their tags.
        known: Vec<String>,
    },
    /// No image for this machine.
    #[error("no image for linux/{wanted} is there, only for {found}")]
    Platform {
        /// This machine's architecture, in Go's words.
        wanted: String,
        /// What is there.
        found: String,
    },
    /// A file that is no JSON, or not of its kind.
    #[error("{file} is malformed")]
    Malformed {
        /// Named from the image's root.
        file: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// A file that the image needs is not there.
    #[error("{file} is not in the image")]
    MissingFile {
        /// Named from the image's root.
        file: String,
    },
    /// A description larger than any that is meant well.
    #[error("{file} has {bytes} bytes, more than {limit}")]
    TooLarge {
        /// Named from the image's root.
        file: String,
        /// Its size.
        bytes: u64,
        /// The most that is read.
        limit: u64,
    },
    /// Not a digest that can be checked.
    #[error("\"{digest}\" is no sha256 digest")]
    BadDigest {
        /// As written.
        digest: String,
    },
    /// The content is not what its name says.
    #[error("{what} should have the digest {wanted}, but has {found}")]
    DigestMismatch {
        /// `blob`, `configuration`, `uncompressed layer`.
        what: &'static str,
        /// By its name.
        wanted: String,
        /// By its content.
        found: String,
    },
    /// The image's parts do not fit together.
    #[error("the image {problem}")]
    Inconsistent {
        /// Completes the sentence.
        problem: &'static str,
    },
    /// A layer could not be unpacked.
    #[error("cannot unpack layer {diff_id}")]
    Layer {
        /// The digest of its archive.
        diff_id: String,
        /// Why.
        #[source]
        source: LayerError,
    },
    /// A file could not be read or written.
    #[error("cannot {operation} {path}")]
    Io {
        /// `read`, `write`…
        operation: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl ImageError {
    /// Kubernetes' word for it.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::InvalidName { .. } => "InvalidImageName",
            Self::NotPresent { .. } => "ErrImageNeverPull",
            Self::DamagedRecord { .. } => "ImageInspectError",
            Self::NotPulled { .. }
            | Self::Pull { .. }
            | Self::NoPeer { .. }
            | Self::Credentials { .. }
            | Self::InUse { .. }
            | Self::Unknown { .. }
            | Self::NoSuchTag { .. }
            | Self::Ambiguous { .. }
            | Self::Platform { .. }
            | Self::Malformed { .. }
            | Self::MissingFile { .. }
            | Self::TooLarge { .. }
            | Self::BadDigest { .. }
            | Self::DigestMismatch { .. }
            | Self::Inconsistent { .. }
            | Self::Layer { .. }
            | Self::Io { .. } => "ErrImagePull",
        }
    }

    /// True if trying again later can help although nothing is changed.
    #[must_use]
    #[allow(clippy::wildcard_enum_match_arm, reason = "the others need somebody to change something")]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Io { .. } | Self::NoPeer { .. } | Self::Layer { source: LayerError::Write { .. }, .. } => {
                true
            }
            Self::Pull { source, .. } => matches!(
                **source,
                OciDistributionError::RequestError(_)
                    | OciDistributionError::IoError(_)
                    | OciDistributionError::ServerError { code: 429 | 500.., .. }
            ),
            _ => false,
        }
    }

    /// True if no answer of the registry came, whatever the reason.
    pub(super) fn is_silence(&self) -> bool {
        matches!(self, Self::Pull { .. }) && self.is_transient()
    }

    /// True if the registry knows who asks, or that nobody does, and will not.
    #[allow(clippy::wildcard_enum_match_arm, reason = "whatever else it is, it is no denial")]
    pub(super) fn is_denial(&self) -> bool {
        let Self::Pull { source, .. } = self else { return false };
        match &**source {
            OciDistributionError::UnauthorizedError { .. }
            | OciDistributionError::AuthenticationFailure(_)
            | OciDistributionError::ServerError { code: 401 | 403, .. } => true,
            OciDistributionError::RegistryError { envelope, .. } => envelope
                .errors
                .iter()
                .any(|error| matches!(error.code, OciErrorCode::Denied | OciErrorCode::Unauthorized)),
            _ => false,
        }
    }

    pub(super) fn io(operation: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { operation, path: path.to_owned(), source }
    }
}

/// A layer's archive could not be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// An entry that would reach out of the layer, or is not what an archive
    /// that is meant well has.
    #[error("entry {path:?} is refused: {problem}")]
    Refused {
        /// Its path, as in the archive.
        path: String,
        /// Why.
        problem: &'static str,
    },
    /// More entries than allowed.
    #[error("more than {limit} entries")]
    TooManyEntries {
        /// The most allowed.
        limit: u64,
    },
    /// More bytes than allowed.
    #[error("more than {limit} bytes when unpacked")]
    TooManyBytes {
        /// The most allowed.
        limit: u64,
    },
    /// The archive or its compression is broken.
    #[error("the archive cannot be read")]
    Read(#[source] io::Error),
    /// The disk did not take it.
    #[error("cannot write {path:?}")]
    Write {
        /// The entry's path.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}
