//! Images as volumes: their layers, mounted where only the pod is, for nobody to change.

use crate::plan::ImageVolume;
use crate::sys::mount::set_attributes;
use rustix::fs::CWD;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

/// The volume is mounted at its place.
pub(super) fn mount(volume: &ImageVolume) -> io::Result<()> {
    fs::create_dir_all(&volume.path)?;
    let tree = match &volume.layers[..] {
        [] => return Ok(()),
        // An overlay needs two.
        [only] => one(only)?,
        layers => overlay(layers)?,
    };
    Ok(move_mount(&tree, "", CWD, &volume.path, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?)
}

fn attributes() -> MountAttrFlags {
    MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NOEXEC
        | MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
}

fn one(layer: &Path) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = open_tree(CWD, layer, flags)?;
    set_attributes(tree.as_fd(), attributes(), false)?;
    Ok(tree)
}

/// Linux 6.5.
fn overlay(layers: &[PathBuf]) -> io::Result<OwnedFd> {
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(context.as_fd(), "source", "overlay")?;
    for layer in layers {
        fsconfig_set_string(context.as_fd(), "lowerdir+", layer)?;
    }
    fsconfig_create(context.as_fd())?;
    Ok(fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes())?)
}
