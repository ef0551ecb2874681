//! Images as volumes: their layers, mounted where only the pod is, for nobody to change.

use crate::overlay::Overlay;
use crate::plan::ImageVolume;
use crate::sys::mount::set_attributes;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, open, openat2};
use rustix::mount::{
    MountAttrFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, move_mount, open_tree, unmount,
};
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

/// The volume is mounted at its place, and has what is wanted of it.
pub(super) fn mount(volume: &ImageVolume) -> io::Result<()> {
    fs::create_dir_all(&volume.path)?;
    match &volume.layers[..] {
        [] => {}
        // An overlay needs two.
        [only] => one(only, volume)?,
        lowers => Overlay { lowers, upper: None }.mount(&volume.path, attributes(volume))?,
    }
    volume.sub_paths.iter().try_for_each(|path| find(&volume.path, path))
}

/// None of the volumes is at its place any more. Who holds one keeps it.
pub(super) fn unmount_all(volumes: &[ImageVolume]) {
    for volume in volumes {
        // What is not mounted is gone.
        let _ = unmount(&volume.path, UnmountFlags::DETACH);
    }
}

fn find(root: &Path, path: &Path) -> io::Result<()> {
    let root = open(root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let found = openat2(&root, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve);
    let named = |error| io::Error::new(io::Error::from(error).kind(), format!("{}: {error}", path.display()));
    found.map(drop).map_err(named)
}

fn attributes(volume: &ImageVolume) -> MountAttrFlags {
    let usual = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV;
    if volume.executable { usual } else { usual | MountAttrFlags::MOUNT_ATTR_NOEXEC }
}

fn one(layer: &Path, volume: &ImageVolume) -> io::Result<()> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = open_tree(CWD, layer, flags)?;
    set_attributes(tree.as_fd(), attributes(volume), false)?;
    Ok(move_mount(&tree, "", CWD, &volume.path, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?)
}
