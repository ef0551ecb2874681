//! A pod's volumes as folders on the node, ready to be bound into containers.
//!
//! `emptyDir` is a folder (or the mount point of a tmpfs that the supervisor
//! makes); ConfigMaps, Secrets and the downward API are files that are swapped
//! all at once when their content changes, which running containers see.
//!
//! The content of Secrets stays on disk under the state directory, in folders
//! that only root can enter, until the pod is removed: the tmpfs of a pod is in
//! its supervisor's mount namespace, which does not exist yet when it is written.

mod atomic;
mod error;
pub mod etc;
mod host_path;
mod payload;
mod propagation;
mod resolver;
pub(crate) mod sub_path;

pub use error::VolumeError;

use crate::plan::{PodInput, bidirectional, sub_paths};
use k8s_openapi::api::core::v1::{EmptyDirVolumeSource, Volume};
use std::fs::{self, DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

/// Where a volume is on the node; `None` for kinds that are not supported.
pub(crate) fn path(pod_dir: &Path, volume: &Volume) -> Option<PathBuf> {
    let kind = match volume {
        Volume { host_path: Some(host), .. } => return Some(PathBuf::from(&host.path)),
        Volume { empty_dir: Some(_), .. } => "empty-dir",
        Volume { config_map: Some(_), .. } => "config-map",
        Volume { secret: Some(_), .. } => "secret",
        Volume { downward_api: Some(_), .. } => "downward-api",
        Volume { projected: Some(_), .. } => "projected",
        Volume { image: Some(_), .. } => "image",
        _ => return None,
    };
    Some(pod_dir.join("volumes").join(kind).join(&volume.name))
}

/// True for volumes that containers must not write to, whatever their mount says.
pub(crate) const fn is_read_only(volume: &Volume) -> bool {
    volume.image.is_some() || has_files(volume)
}

/// True for volumes whose files we write, and that follow what they show.
const fn has_files(volume: &Volume) -> bool {
    volume.config_map.is_some()
        || volume.secret.is_some()
        || volume.downward_api.is_some()
        || volume.projected.is_some()
}

/// Makes every volume of the pod, and the folders that its mounts' `subPath`s
/// name. What exists already is brought up to date; an `emptyDir` keeps its content.
///
/// The images of `input` are not looked at.
///
/// # Errors
/// The first volume that cannot be made.
pub fn prepare(input: &PodInput<'_>) -> Result<(), VolumeError> {
    let pod_dir = input.pod_dir();
    make_private(&pod_dir.join("volumes"))?;
    let fs_group = own_group(input)?;
    for volume in volumes(input) {
        let Some(path) = path(&pod_dir, volume) else {
            return Err(VolumeError::Unsupported { volume: volume.name.clone() });
        };
        if let Some(parent) = path.parent().filter(|_| volume.host_path.is_none()) {
            make_private(parent)?;
        }
        match volume {
            Volume { host_path: Some(host), .. } => host_path::ensure(&volume.name, host)?,
            // The supervisor mounts it there.
            Volume { image: Some(_), .. } => make_private(&path)?,
            Volume { empty_dir: Some(empty), .. } => make_empty_dir(volume, empty, &path, fs_group)?,
            _ => {
                payload::write(volume, &path, input, fs_group)?;
            }
        }
        if bidirectional(input, &volume.name) && !volume.empty_dir.as_ref().is_some_and(is_in_memory) {
            propagation::check(&volume.name, &path)?;
        }
    }
    make_sub_paths(input)
}

/// In the volumes that are folders on disk and writable; a tmpfs does not exist yet.
fn make_sub_paths(input: &PodInput<'_>) -> Result<(), VolumeError> {
    let wanted = sub_paths(input).map_err(|(volume, cause)| VolumeError::Missing { volume, cause })?;
    for (name, sub_path) in wanted {
        let Some(volume) = volumes(input).iter().find(|volume| volume.name == name) else { continue };
        let in_memory = volume.empty_dir.as_ref().is_some_and(is_in_memory);
        let Some(root) = path(&input.pod_dir(), volume).filter(|_| !in_memory && !is_read_only(volume))
        else {
            continue;
        };
        sub_path::ensure(&root, &sub_path)?;
    }
    Ok(())
}

/// Swaps in the new content of every ConfigMap, Secret, downward-API and
/// projected volume that has changed, and returns their names. Containers that
/// mount a whole volume see it at once, those that mount a `subPath` never.
///
/// # Errors
/// The first volume that cannot be written; the ones before it are done.
pub fn update(input: &PodInput<'_>) -> Result<Vec<String>, VolumeError> {
    let pod_dir = input.pod_dir();
    let fs_group = own_group(input)?;
    let mut changed = Vec::new();
    for volume in volumes(input).iter().filter(|volume| has_files(volume)) {
        let Some(path) = path(&pod_dir, volume) else { continue };
        if payload::write(volume, &path, input, fs_group)? {
            changed.push(volume.name.clone());
        }
    }
    Ok(changed)
}

fn volumes<'a>(input: &PodInput<'a>) -> &'a [Volume] {
    input.pod.spec.as_ref().and_then(|spec| spec.volumes.as_deref()).unwrap_or_default()
}

fn own_group(input: &PodInput<'_>) -> Result<Option<u32>, VolumeError> {
    fs_group(input).map_err(|id| VolumeError::BadGroup { id })
}

/// The pod's `fsGroup`, which is the group of the volumes that are its own.
///
/// # Errors
/// What is written there, if it is no group id.
pub(crate) fn fs_group(input: &PodInput<'_>) -> Result<Option<u32>, i64> {
    let group = input.spec().and_then(|spec| spec.security_context.as_ref()).and_then(|c| c.fs_group);
    group.map(|id| u32::try_from(id).map_err(|_| id)).transpose()
}

/// True for an `emptyDir` that the supervisor mounts: there is nothing of it on the host's disk.
pub(crate) fn is_in_memory(empty: &EmptyDirVolumeSource) -> bool {
    empty.medium.as_deref().is_some_and(|medium| medium == "Memory" || medium.starts_with("HugePages"))
}

/// The mode that an `emptyDir` asks for.
pub(crate) fn empty_dir_mode(empty: &EmptyDirVolumeSource) -> Option<u32> {
    empty.mode.and_then(|mode| u32::try_from(mode).ok()).filter(|mode| *mode <= 0o1777)
}

/// A folder that only root can enter: whoever has no business in the pod does
/// not reach its volumes by their path.
fn make_private(path: &Path) -> Result<(), VolumeError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|source| VolumeError::io("create", path, source))
}

fn make_empty_dir(
    volume: &Volume,
    empty: &EmptyDirVolumeSource,
    path: &Path,
    fs_group: Option<u32>,
) -> Result<(), VolumeError> {
    match empty.medium.as_deref() {
        None | Some("") => {}
        Some(_) if is_in_memory(empty) => {}
        Some(_) => return Err(VolumeError::Unsupported { volume: volume.name.clone() }),
    }
    if path.is_dir() {
        return Ok(());
    }
    fs::create_dir(path).map_err(|source| VolumeError::io("create", path, source))?;
    let asked = empty_dir_mode(empty).unwrap_or(0o777);
    let mode = if fs_group.is_some() { asked | 0o2770 } else { asked };
    if fs_group.is_some() {
        chown(path, None, fs_group).map_err(|source| VolumeError::io("change the group of", path, source))?;
    }
    // Not through mkdir's mode, which the umask would cut.
    fs::set_permissions(path, Permissions::from_mode(mode))
        .map_err(|source| VolumeError::io("change the mode of", path, source))
}

#[cfg(test)]
mod tests;
