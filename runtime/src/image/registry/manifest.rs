//! From the digest of what a reference leads to, to the manifest of the image for this machine.

use super::super::error::ImageError;
use super::super::kept::MAX_DESCRIPTION_BYTES;
use super::super::layout::{self, LayerSource};
use super::origin::{Origin, Small};
use oci_spec::image::{Descriptor, ImageConfiguration, ImageIndex, ImageManifest};
use serde_json::Value;

/// Indexes may point to indexes, but not for ever.
const MAX_NESTING: usize = 4;

/// What a reference leads to.
pub(super) struct Found {
    /// Of the configuration.
    pub(super) id: String,
    /// Of what the tag names: an index or a manifest.
    pub(super) digest: String,
    pub(super) config: ImageConfiguration,
    /// Lowest first.
    pub(super) layers: Vec<Layer>,
    /// Digests and contents of all that was read on the way.
    pub(super) descriptions: Vec<(String, Vec<u8>)>,
}

/// One layer, compressed.
pub(super) struct Layer {
    pub(super) digest: String,
    pub(super) size: u64,
    pub(super) source: LayerSource,
}

impl Found {
    /// The digests of all that the image came as.
    pub(super) fn blobs(&self) -> impl Iterator<Item = &String> {
        let descriptions = self.descriptions.iter().map(|(digest, _)| digest);
        descriptions.chain(self.layers.iter().map(|layer| &layer.digest))
    }

    /// The digests of its unpacked layers, lowest first.
    pub(super) fn diff_ids(&self) -> impl Iterator<Item = &String> {
        self.layers.iter().map(|layer| &layer.source.diff_id)
    }
}

/// The image of `top`, a manifest or an index, whose content may be known already.
pub(super) async fn describe(
    origin: &Origin<'_>,
    top: &str,
    mut content: Option<Vec<u8>>,
) -> Result<Found, ImageError> {
    let mut descriptions = Vec::new();
    let mut digest = top.to_owned();
    for _ in 0..MAX_NESTING {
        let content = match content.take() {
            Some(content) => content,
            None => origin.small(Small::Manifest, &digest, MAX_DESCRIPTION_BYTES).await?,
        };
        let value: Value = layout::parse(&digest, &content)?;
        if value.get("manifests").is_none() {
            let manifest: ImageManifest = layout::parse(&digest, &content)?;
            descriptions.push((digest, content));
            return image(origin, top, &manifest, descriptions).await;
        }
        let index: ImageIndex = layout::parse(&digest, &content)?;
        let chosen = layout::for_this_machine(index.manifests())?.digest().to_string();
        descriptions.push((std::mem::replace(&mut digest, chosen), content));
    }
    Err(ImageError::Inconsistent { problem: "has indexes in indexes without end" })
}

async fn image(
    origin: &Origin<'_>,
    top: &str,
    manifest: &ImageManifest,
    mut descriptions: Vec<(String, Vec<u8>)>,
) -> Result<Found, ImageError> {
    let id = manifest.config().digest().to_string();
    let content = configuration(origin, manifest.config()).await?;
    let config = layout::configuration(&id, &content)?;
    descriptions.push((id.clone(), content));
    let diff_ids = config.rootfs().diff_ids();
    layout::check_layers(manifest.layers().len(), diff_ids)?;
    let layers = manifest.layers().iter().zip(diff_ids).map(|(layer, diff_id)| {
        let digest = layer.digest().to_string();
        let blob = Some((digest.clone(), layer.size()));
        let source = LayerSource { file: layout::blob_name(&digest)?, blob, diff_id: diff_id.clone() };
        Ok(Layer { digest, size: layer.size(), source })
    });
    let layers = layers.collect::<Result<_, ImageError>>()?;
    Ok(Found { id, digest: top.to_owned(), config, layers, descriptions })
}

async fn configuration(origin: &Origin<'_>, descriptor: &Descriptor) -> Result<Vec<u8>, ImageError> {
    let wanted = descriptor.digest().to_string();
    if descriptor.size() > MAX_DESCRIPTION_BYTES {
        let (file, bytes) = (wanted, descriptor.size());
        return Err(ImageError::TooLarge { file, bytes, limit: MAX_DESCRIPTION_BYTES });
    }
    origin.small(Small::Configuration, &wanted, MAX_DESCRIPTION_BYTES).await
}
