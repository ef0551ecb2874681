//! OCI image layouts: from the index to one image for this machine.

use super::blobs::Blobs;
use super::config::ImageConfig;
use super::digest::{digest_of, hex_of};
use super::error::ImageError;
use oci_spec::image::{Arch, Descriptor, ImageConfiguration, ImageIndex, ImageManifest, Os};
use serde::de::DeserializeOwned;

/// An image as it is described, before its layers are unpacked.
#[derive(Debug)]
pub(super) struct Description {
    /// Digest of the configuration.
    pub(super) id: String,
    /// Digest of the manifest.
    pub(super) digest: String,
    pub(super) config: ImageConfig,
    /// Lowest first.
    pub(super) layers: Vec<LayerSource>,
}

/// Where a layer is.
#[derive(Debug, Clone)]
pub(super) struct LayerSource {
    /// Its file, from the image's root.
    pub(super) file: String,
    /// Digest and size of the file; archives of `docker save` have none.
    pub(super) blob: Option<(String, u64)>,
    /// Digest of the uncompressed archive.
    pub(super) diff_id: String,
}

const REF_NAME: &str = "org.opencontainers.image.ref.name";
const MAX_NESTING: usize = 4;
/// The kernel's own limit of an overlay.
const MAX_LAYERS: usize = 500;

/// The image tagged `tag`, or the only one, that is for this machine.
///
/// # Errors
/// If there is none, or anything on the way to it is broken.
pub(super) fn describe(blobs: &Blobs, tag: Option<&str>) -> Result<Description, ImageError> {
    let index: ImageIndex = parse("index.json", &blobs.description("index.json")?)?;
    let mut chosen = choose(index.manifests(), tag)?.clone();
    for _ in 0..MAX_NESTING {
        let content = blob(blobs, &chosen)?;
        if !is_index(&chosen) {
            return image(blobs, &chosen, &content);
        }
        let index: ImageIndex = parse(chosen.digest().as_ref(), &content)?;
        chosen = for_this_machine(index.manifests())?.clone();
    }
    Err(ImageError::Inconsistent { problem: "has indexes in indexes without end" })
}

/// The one of several images that runs here.
///
/// # Errors
/// [`ImageError::Platform`] if there is none.
pub(super) fn for_this_machine(all: &[Descriptor]) -> Result<&Descriptor, ImageError> {
    all.iter().find(|one| fits(one).unwrap_or(false)).ok_or_else(|| no_platform(all))
}

fn is_index(descriptor: &Descriptor) -> bool {
    let media_type = descriptor.media_type().as_ref();
    media_type.ends_with(".image.index.v1+json") || media_type.ends_with(".manifest.list.v2+json")
}

/// The descriptor that `tag` names; without one, the only one for this machine.
fn choose<'a>(all: &'a [Descriptor], tag: Option<&str>) -> Result<&'a Descriptor, ImageError> {
    let name = |one: &Descriptor| one.annotations().as_ref().and_then(|all| all.get(REF_NAME)).cloned();
    let known = || all.iter().filter_map(name).collect::<Vec<_>>();
    let tagged: Vec<_> = match tag {
        Some(tag) => {
            // Some write the whole name there, some only the tag.
            let is_it = |name: &str| name == tag || name.rsplit(':').next() == Some(tag);
            all.iter().filter(|one| name(one).is_some_and(|name| is_it(&name))).collect()
        }
        None => all.iter().collect(),
    };
    match (tagged.as_slice(), tag) {
        ([one], _) => return Ok(one),
        ([], Some(tag)) => return Err(ImageError::NoSuchTag { tag: tag.to_owned(), known: known() }),
        ([], None) => return Err(ImageError::Inconsistent { problem: "index is empty" }),
        _ => {}
    }
    let possible: Vec<_> = tagged.into_iter().filter(|one| fits(one) != Some(false)).collect();
    match possible.as_slice() {
        [one] => Ok(one),
        [] => Err(no_platform(all)),
        _ => Err(ImageError::Ambiguous { known: known() }),
    }
}

/// Whether an image is for this machine, if its descriptor says.
fn fits(descriptor: &Descriptor) -> Option<bool> {
    let platform = descriptor.platform().as_ref()?;
    Some(*platform.os() == Os::Linux && *platform.architecture() == Arch::default())
}

fn no_platform(all: &[Descriptor]) -> ImageError {
    let platforms = all.iter().filter_map(|one| one.platform().as_ref());
    let found: Vec<_> = platforms.map(|one| format!("{}/{}", one.os(), one.architecture())).collect();
    ImageError::Platform { wanted: Arch::default().to_string(), found: found.join(", ") }
}

pub(super) fn blob_name(digest: &str) -> Result<String, ImageError> {
    Ok(format!("blobs/sha256/{}", hex_of(digest)?))
}

/// The content of a description, checked against its digest.
fn blob(blobs: &Blobs, descriptor: &Descriptor) -> Result<Vec<u8>, ImageError> {
    let wanted = descriptor.digest().to_string();
    let content = blobs.description(&blob_name(&wanted)?)?;
    let found = digest_of(&content);
    if found == wanted {
        Ok(content)
    } else {
        Err(ImageError::DigestMismatch { what: "blob", wanted, found })
    }
}

fn image(blobs: &Blobs, descriptor: &Descriptor, content: &[u8]) -> Result<Description, ImageError> {
    let digest = descriptor.digest().to_string();
    let manifest: ImageManifest = parse(&digest, content)?;
    let id = manifest.config().digest().to_string();
    let config = configuration(&id, &blob(blobs, manifest.config())?)?;
    let diff_ids = config.rootfs().diff_ids();
    check_layers(manifest.layers().len(), diff_ids)?;
    let layers = manifest.layers().iter().zip(diff_ids).map(|(layer, diff_id)| {
        let blob = layer.digest().to_string();
        Ok(LayerSource {
            file: blob_name(&blob)?,
            blob: Some((blob, layer.size())),
            diff_id: diff_id.clone(),
        })
    });
    let layers = layers.collect::<Result<_, ImageError>>()?;
    Ok(Description { id, digest, config: ImageConfig::from(&config), layers })
}

/// The configuration of an image that this machine can run.
///
/// # Errors
/// If it is malformed, or for another machine.
pub(super) fn configuration(file: &str, content: &[u8]) -> Result<ImageConfiguration, ImageError> {
    let config: ImageConfiguration = parse(file, content)?;
    if *config.os() == Os::Linux && *config.architecture() == Arch::default() {
        return Ok(config);
    }
    let found = format!("{}/{}", config.os(), config.architecture());
    Err(ImageError::Platform { wanted: Arch::default().to_string(), found })
}

/// As many layers as the configuration says, at least one, and each with a proper digest.
///
/// # Errors
/// Otherwise.
pub(super) fn check_layers(layers: usize, diff_ids: &[String]) -> Result<(), ImageError> {
    let problem = match layers {
        _ if layers != diff_ids.len() => "has another number of layers than its configuration says",
        0 => "has no layers",
        layers if layers > MAX_LAYERS => "has more layers than the kernel can stack",
        _ => return diff_ids.iter().try_for_each(|diff_id| hex_of(diff_id).map(|_| ())),
    };
    Err(ImageError::Inconsistent { problem })
}

/// Reads JSON.
///
/// # Errors
/// [`ImageError::Malformed`].
pub(super) fn parse<T: DeserializeOwned>(file: &str, content: &[u8]) -> Result<T, ImageError> {
    serde_json::from_slice(content).map_err(|source| ImageError::Malformed { file: file.to_owned(), source })
}
