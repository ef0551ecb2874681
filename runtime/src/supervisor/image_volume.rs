//! Images as volumes: their layers, mounted where only the pod is, for nobody to change.

use crate::plan::ImageVolume;
use crate::sys::mount::set_attributes;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_string, fsmount, fsopen, move_mount, open_tree, unmount,
};
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

/// The volume is mounted at its place.
pub(super) fn mount(volume: &ImageVolume) -> io::Result<()> {
    fs::create_dir_all(&volume.path)?;
    let attributes = attributes(volume);
    let tree = match &volume.layers[..] {
        [] => return Ok(()),
        // An overlay needs two.
        [only] => one(only, attributes)?,
        layers => overlay(layers, attributes)?,
    };
    volume.sub_paths.iter().try_for_each(|path| find(&tree, path))?;
    Ok(move_mount(&tree, "", CWD, &volume.path, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?)
}

/// None of the volumes is at its place any more. Who holds one keeps it.
pub(super) fn unmount_all(volumes: &[ImageVolume]) {
    for volume in volumes {
        // What is not mounted is gone.
        let _ = unmount(&volume.path, UnmountFlags::DETACH);
    }
}

fn find(tree: &OwnedFd, path: &Path) -> io::Result<()> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let found = openat2(tree, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve);
    let named = |error| io::Error::new(io::Error::from(error).kind(), format!("{}: {error}", path.display()));
    found.map(drop).map_err(named)
}

fn attributes(volume: &ImageVolume) -> MountAttrFlags {
    let usual = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV;
    if volume.executable { usual } else { usual | MountAttrFlags::MOUNT_ATTR_NOEXEC }
}

fn one(layer: &Path, attributes: MountAttrFlags) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = open_tree(CWD, layer, flags)?;
    set_attributes(tree.as_fd(), attributes, false)?;
    Ok(tree)
}

/// Linux 6.5.
fn overlay(layers: &[PathBuf], attributes: MountAttrFlags) -> io::Result<OwnedFd> {
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(context.as_fd(), "source", "overlay")?;
    for layer in layers {
        fsconfig_set_string(context.as_fd(), "lowerdir+", layer)?;
    }
    fsconfig_create(context.as_fd())?;
    Ok(fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}
