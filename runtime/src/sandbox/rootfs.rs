//! The container's root: an overlay made inside its own mount namespace.

use super::Launch;
use super::error::{Failure, Step};
use super::users::{self, Users};
use crate::overlay::Overlay;
use crate::plan::Rootfs;
use rustix::fs::{CWD, Gid, Mode, Uid};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_string, fsmount, fsopen, move_mount, open_tree, unmount,
};
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The mount point of the root in a run's folder.
pub(super) const ROOT: &str = "root";

/// The overlay is mounted at [`ROOT`] in the launch's layer folder.
pub(super) fn mount(launch: &Launch<'_>) -> Result<(), Failure> {
    let layer = launch.layer();
    // Left by a supervisor that was killed: the writable layer is a fresh one each time.
    if layer.exists() {
        fs::remove_dir_all(&layer).step(|| format!("remove {}", layer.display()))?;
    }
    fs::create_dir_all(&layer).step(|| format!("make {}", layer.display()))?;
    let lowers = match &launch.container.rootfs {
        Rootfs::Layers(layers) => layers.clone(),
        Rootfs::Host { .. } => {
            // A writable layer below the root that it covers would be a loop.
            let tmpfs = new_filesystem("tmpfs", &[("mode", "755")], MountAttrFlags::empty())?;
            attach(&tmpfs, &layer)?;
            vec![PathBuf::from("/")]
        }
    };
    let [upper, work, root] = ["upper", "work", ROOT].map(|name| layer.join(name));
    for folder in [&upper, &work, &root] {
        match fs::create_dir(folder) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(error).step(|| format!("make {}", folder.display()));
            }
            Ok(()) | Err(_) => {}
        }
    }
    let lowers = match launch.users {
        Some(users) => owned(users, &lowers, &layer)?,
        None => lowers,
    };
    if let Some(top) = lowers.first() {
        copy_owner_and_mode(top, &upper)?;
    }
    let privileged = launch.container.security.privileged;
    let attributes = if privileged { MountAttrFlags::empty() } else { MountAttrFlags::MOUNT_ATTR_NODEV };
    Overlay { lowers: &lowers, upper: Some((&upper, &work)) }
        .mount(&root, attributes)
        .step(|| format!("mount the overlay of {} layers", lowers.len()))?;
    if let Rootfs::Host { hidden } = &launch.container.rootfs {
        hide(&root, hidden)?;
    }
    Ok(())
}

/// The layers as their files' owners are in the pod. What is written over them is written with
/// the host's ids of the pod's users, by whom the folder of this run is not kept.
fn owned(users: &Users, lowers: &[PathBuf], layer: &Path) -> Result<Vec<PathBuf>, Failure> {
    let mut all = Vec::new();
    for (number, lower) in lowers.iter().enumerate() {
        let step = || format!("give the layer {} to the pod's users", lower.display());
        let at = layer.join(format!("lower{number}"));
        fs::create_dir_all(&at).step(step)?;
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let tree = open_tree(CWD, lower, flags).step(step)?;
        users::own(Some(users), &tree, false).step(step)?;
        attach(&tree, &at)?;
        all.push(at);
    }
    Ok(all)
}

/// The container's `/` looks as the image's does: it is the upper folder that is shown.
fn copy_owner_and_mode(from: &Path, to: &Path) -> Result<(), Failure> {
    let seen = fs::metadata(from).step(|| format!("look at layer {}", from.display()))?;
    let step = || format!("prepare {}", to.display());
    let owner = (Uid::from_raw(seen.uid()), Gid::from_raw(seen.gid()));
    rustix::fs::chown(to, Some(owner.0), Some(owner.1)).step(step)?;
    fs::set_permissions(to, fs::Permissions::from_mode(seen.mode() & 0o7777)).step(step)
}

fn hide(root: &Path, hidden: &[PathBuf]) -> Result<(), Failure> {
    let root = super::target::Root::open(root)?;
    hidden.iter().try_for_each(|path| super::mounts::mask(&root, path))
}

/// A new filesystem of this type, mounted nowhere yet.
pub(super) fn new_filesystem(
    kind: &str,
    options: &[(&str, &str)],
    attributes: MountAttrFlags,
) -> Result<OwnedFd, Failure> {
    let make = || {
        let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
        for (key, value) in options {
            if value.is_empty() {
                rustix::mount::fsconfig_set_flag(context.as_fd(), *key)?;
            } else {
                fsconfig_set_string(context.as_fd(), *key, *value)?;
            }
        }
        fsconfig_create(context.as_fd())?;
        fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
    };
    make().step(|| format!("make a {kind} filesystem"))
}

/// Both ends of a `move_mount` are descriptors.
pub(super) fn both_empty() -> MoveMountFlags {
    MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH
}

fn attach(tree: &OwnedFd, at: &Path) -> Result<(), Failure> {
    move_mount(tree, "", CWD, at, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .step(|| format!("mount at {}", at.display()))
}

/// `/` is the container's root, and nothing of the host's is left in this mount namespace.
pub(super) fn enter(root: &Path) -> Result<(), Failure> {
    rustix::process::chdir(root).step(|| "enter the root".to_owned())?;
    // Stacks the old root on the new one, so that no folder in the image is needed for it.
    rustix::process::pivot_root(".", ".").step(|| "pivot into the root".to_owned())?;
    unmount(".", UnmountFlags::DETACH).step(|| "leave the host's root".to_owned())?;
    rustix::process::chdir("/").step(|| "enter the root".to_owned())
}

/// The mode of folders that have to be made.
pub(super) const FOLDER_MODE: Mode = Mode::from_raw_mode(0o755);
