//! Why an image cannot be used.

use std::io;
use std::path::PathBuf;

/// An image could not be resolved.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// Not a reference.
    #[error("couldn't parse image name \"{reference}\": {problem}")]
    InvalidName {
        /// As in the manifest.
        reference: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A registry's image.
    #[error(
        "image \"{reference}\" is in a registry; this version reads host:, oci:, oci-archive: and docker-archive: only"
    )]
    Registry {
        /// As in the manifest.
        reference: String,
    },
    /// `imagePullPolicy: Never`, and the store does not have it.
    #[error("Container image \"{reference}\" is not present with pull policy of Never")]
    NotPresent {
        /// As in the manifest.
        reference: String,
    },
    /// A file could not be read or written.
    #[error("{operation} {path}")]
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
            Self::Registry { .. } | Self::Io { .. } => "ErrImagePull",
        }
    }

    /// True if trying again later can help although nothing is changed.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Io { .. })
    }
}
