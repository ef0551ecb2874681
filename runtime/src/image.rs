//! Images by reference: what a container's root is made of, and what it runs
//! unless its pod says otherwise.
//!
//! The store holds unpacked layers by the digest of their uncompressed tar
//! archive, each once whatever the number of images that have it.

mod blobs;
mod config;
mod digest;
mod docker;
mod error;
mod inventory;
mod kept;
mod known;
mod layer;
mod layout;
mod load;
mod record;
pub mod registry;
mod store;
mod unpack;

pub use config::ImageConfig;
pub use error::{ImageError, LayerError};
pub use inventory::{ImageSummary, Removed};
pub use layer::Limits;
pub use store::ImageStore;

use crate::plan::Rootfs;

/// An image that is ready to be a container's root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The digest of its configuration, or the reference for `host:`.
    pub id: String,
    /// The digest of its manifest, or the reference for `host:`; the
    /// configuration's for archives without manifests.
    pub digest: String,
    /// Its layers.
    pub rootfs: Rootfs,
    /// What it runs.
    pub config: ImageConfig,
}

/// `imagePullPolicy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are Kubernetes' own")]
pub enum PullPolicy {
    Always,
    IfNotPresent,
    Never,
}

impl PullPolicy {
    /// The policy that a manifest names; `IfNotPresent` for none.
    #[must_use]
    pub fn from_manifest(text: Option<&str>) -> Self {
        match text {
            Some("Always") => Self::Always,
            Some("Never") => Self::Never,
            _ => Self::IfNotPresent,
        }
    }
}

#[cfg(test)]
mod tests;

/// Unpacks a layer's archive into the folder `into`, for the fuzzer.
///
/// # Errors
/// As a pull would say it.
#[cfg(fuzzing)]
pub fn unpack_layer(
    reader: impl std::io::Read,
    into: &std::path::Path,
    limits: Limits,
) -> Result<(), LayerError> {
    unpack::unpack(reader, into, limits)
}
