//! From a reference to the manifest of the image for this machine.

use super::super::digest::digest_of;
use super::super::error::ImageError;
use super::super::layout::{self, LayerSource};
use super::endpoint::Remote;
use oci_client::manifest::{
    IMAGE_MANIFEST_LIST_MEDIA_TYPE, IMAGE_MANIFEST_MEDIA_TYPE, OCI_IMAGE_INDEX_MEDIA_TYPE,
    OCI_IMAGE_MEDIA_TYPE,
};
use oci_spec::image::{Descriptor, ImageConfiguration, ImageIndex, ImageManifest};
use serde_json::Value;

/// Indexes may point to indexes, but not for ever.
const MAX_NESTING: usize = 4;
/// What is larger is no configuration.
const MAX_CONFIG_BYTES: u64 = 4 << 20;

const ACCEPTED: [&str; 4] = [
    OCI_IMAGE_MEDIA_TYPE,
    OCI_IMAGE_INDEX_MEDIA_TYPE,
    IMAGE_MANIFEST_MEDIA_TYPE,
    IMAGE_MANIFEST_LIST_MEDIA_TYPE,
];

/// What a reference leads to.
pub(super) struct Found {
    /// Of the configuration.
    pub(super) id: String,
    /// Of what the tag names: an index or a manifest.
    pub(super) digest: String,
    pub(super) config: ImageConfiguration,
    /// Lowest first.
    pub(super) layers: Vec<Layer>,
}

/// One layer, compressed.
pub(super) struct Layer {
    pub(super) digest: String,
    pub(super) size: u64,
    pub(super) source: LayerSource,
}

/// Asks for the manifest, through indexes, and for the image's configuration.
pub(super) async fn find(remote: &Remote) -> Result<Found, ImageError> {
    let mut reference = remote.reference.clone();
    let mut digest = None;
    for _ in 0..MAX_NESTING {
        let pulled = remote.client.pull_manifest_raw(&reference, &remote.auth, &ACCEPTED).await;
        let (content, _) = pulled.map_err(|error| remote.failed(error))?;
        let found = digest_of(&content);
        if let Some(wanted) = reference.digest()
            && wanted.starts_with("sha256:")
            && wanted != found
        {
            return Err(ImageError::DigestMismatch { what: "manifest", wanted: wanted.to_owned(), found });
        }
        let digest = digest.get_or_insert(found.clone()).clone();
        let value: Value = layout::parse(&found, &content)?;
        if value.get("manifests").is_none() {
            let manifest: ImageManifest = layout::parse(&found, &content)?;
            return image(remote, digest, &manifest).await;
        }
        let index: ImageIndex = layout::parse(&found, &content)?;
        let chosen = layout::for_this_machine(index.manifests())?;
        reference = remote.reference.clone_with_digest(chosen.digest().to_string());
    }
    Err(ImageError::Inconsistent { problem: "has indexes in indexes without end" })
}

async fn image(remote: &Remote, digest: String, manifest: &ImageManifest) -> Result<Found, ImageError> {
    let id = manifest.config().digest().to_string();
    let content = configuration(remote, manifest.config()).await?;
    let config = layout::configuration(&id, &content)?;
    let diff_ids = config.rootfs().diff_ids();
    layout::check_layers(manifest.layers().len(), diff_ids)?;
    let layers = manifest.layers().iter().zip(diff_ids).map(|(layer, diff_id)| {
        let digest = layer.digest().to_string();
        let blob = Some((digest.clone(), layer.size()));
        let source = LayerSource { file: layout::blob_name(&digest)?, blob, diff_id: diff_id.clone() };
        Ok(Layer { digest, size: layer.size(), source })
    });
    let layers = layers.collect::<Result<_, ImageError>>()?;
    Ok(Found { id, digest, config, layers })
}

async fn configuration(remote: &Remote, descriptor: &Descriptor) -> Result<Vec<u8>, ImageError> {
    let wanted = descriptor.digest().to_string();
    if descriptor.size() > MAX_CONFIG_BYTES {
        let (file, bytes) = (wanted, descriptor.size());
        return Err(ImageError::TooLarge { file, bytes, limit: MAX_CONFIG_BYTES });
    }
    let mut content = Vec::new();
    let pulled = remote.client.pull_blob(&remote.reference, wanted.as_str(), &mut content).await;
    pulled.map_err(|error| remote.failed(error))?;
    let found = digest_of(&content);
    if found == wanted {
        Ok(content)
    } else {
        Err(ImageError::DigestMismatch { what: "configuration", wanted, found })
    }
}
