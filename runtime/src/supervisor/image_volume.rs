//! Images as volumes: their layers, mounted where only the pod is, for nobody to change.

use crate::overlay::Overlay;
use crate::plan::ImageVolume;
use crate::sys::mount::set_attributes;
use rustix::fs::CWD;
use rustix::mount::{MountAttrFlags, MoveMountFlags, OpenTreeFlags, move_mount, open_tree};
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

/// The volume is mounted at its place.
pub(super) fn mount(volume: &ImageVolume) -> io::Result<()> {
    fs::create_dir_all(&volume.path)?;
    match &volume.layers[..] {
        [] => Ok(()),
        // An overlay needs two.
        [only] => one(only, &volume.path),
        lowers => Overlay { lowers, upper: None }.mount(&volume.path, attributes()),
    }
}

fn attributes() -> MountAttrFlags {
    MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NOEXEC
        | MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
}

fn one(layer: &Path, at: &Path) -> io::Result<()> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = open_tree(CWD, layer, flags)?;
    set_attributes(tree.as_fd(), attributes(), false)?;
    Ok(move_mount(&tree, "", CWD, at, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?)
}
