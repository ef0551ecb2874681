//! Images that a pod mounts as volumes.

use super::build::PodInput;
use super::error::Cause;
use super::{ImageVolume, Rootfs};
use crate::volume;

/// The key of a volume's image among those of its pod; no container can be called so.
#[must_use]
pub fn image_key(volume: &str) -> String {
    format!("volumes/{volume}")
}

/// The pod's image volumes.
///
/// # Errors
/// If an image has not been resolved, or is the host's own root.
pub(super) fn volumes(input: &PodInput<'_>) -> Result<Vec<ImageVolume>, Cause> {
    let volumes = input.spec().and_then(|spec| spec.volumes.as_deref()).unwrap_or_default();
    let mut all = Vec::new();
    for wanted in volumes.iter().filter(|wanted| wanted.image.is_some()) {
        let Some(path) = volume::path(&input.pod_dir(), wanted) else { continue };
        let image = input.images.get(&image_key(&wanted.name)).ok_or(Cause::ImageNotResolved)?;
        match &image.rootfs {
            Rootfs::Layers(layers) => {
                all.push(ImageVolume { path, layers: layers.clone(), ..ImageVolume::default() })
            }
            Rootfs::Host { .. } => {
                return Err(Cause::Unsupported { feature: "the host's root as a volume".to_owned() });
            }
        }
    }
    Ok(all)
}
