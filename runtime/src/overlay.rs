//! Folders laid over one another: an overlay, on every kernel that we run on.

use rustix::fs::{CWD, Mode, OFlags, open};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount,
};
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

/// What is written is gone with its container, so nobody has to wait until it is on the disk: else
/// the kernel writes all of the disk's filesystem out when the overlay goes. Linux 5.10.
const VOLATILE: &str = "volatile";

/// What mount(2) takes of options: a page, with its end.
const OPTIONS_MAX: usize = 4095;

/// What is laid over what.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Overlay<'a> {
    /// The uppermost first; two at least where nothing is written.
    pub(crate) lowers: &'a [PathBuf],
    /// Where changes go that last no longer than the mount, and an empty folder of the same
    /// filesystem for the kernel's own use.
    pub(crate) upper: Option<(&'a Path, &'a Path)>,
}

impl Overlay<'_> {
    /// It is mounted at `at`. Needs `CAP_SYS_ADMIN`. Source: the kernel's documentation of
    /// overlayfs.
    ///
    /// # Errors
    /// The kernel's errno.
    pub(crate) fn mount(&self, at: &Path, attributes: MountAttrFlags) -> io::Result<()> {
        match self.make(attributes) {
            Ok(tree) => Ok(move_mount(&tree, "", CWD, at, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?),
            // Before Linux 6.5 folders cannot be given one by one.
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => self.mount_by_options(at, attributes),
            Err(error) => Err(error.into()),
        }
    }

    fn make(&self, attributes: MountAttrFlags) -> rustix::io::Result<OwnedFd> {
        let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_set_string(context.as_fd(), "source", "overlay")?;
        for lower in self.lowers {
            fsconfig_set_string(context.as_fd(), "lowerdir+", lower)?;
        }
        if let Some((upper, work)) = self.upper {
            fsconfig_set_string(context.as_fd(), "upperdir", upper)?;
            fsconfig_set_string(context.as_fd(), "workdir", work)?;
            fsconfig_set_flag(context.as_fd(), VOLATILE)?;
        }
        fsconfig_create(context.as_fd())?;
        fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
    }

    fn mount_by_options(&self, at: &Path, attributes: MountAttrFlags) -> io::Result<()> {
        let mut options = self.options(self.lowers.iter().map(|lower| escape(lower)));
        let mut open_lowers = Vec::new();
        if options.len() > OPTIONS_MAX {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            for lower in self.lowers {
                open_lowers.push(open(lower, flags, Mode::empty())?);
            }
            options = self.options(open_lowers.iter().map(|fd| format!("/proc/self/fd/{}", fd.as_raw_fd())));
        }
        let options = CString::new(options)?;
        Ok(rustix::mount::mount("overlay", at, "overlay", flags(attributes), options.as_c_str())?)
    }

    fn options(&self, lowers: impl Iterator<Item = String>) -> String {
        let lowers: Vec<String> = lowers.collect();
        let mut options = format!("lowerdir={}", lowers.join(":"));
        if let Some((upper, work)) = self.upper {
            options += &format!(",upperdir={},workdir={},{VOLATILE}", escape(upper), escape(work));
        }
        options
    }
}

/// The same in the older call's words.
fn flags(attributes: MountAttrFlags) -> MountFlags {
    let pairs = [
        (MountAttrFlags::MOUNT_ATTR_RDONLY, MountFlags::RDONLY),
        (MountAttrFlags::MOUNT_ATTR_NOEXEC, MountFlags::NOEXEC),
        (MountAttrFlags::MOUNT_ATTR_NOSUID, MountFlags::NOSUID),
        (MountAttrFlags::MOUNT_ATTR_NODEV, MountFlags::NODEV),
    ];
    let set = pairs.into_iter().filter(|(attribute, _)| attributes.contains(*attribute));
    set.fold(MountFlags::empty(), |flags, (_, flag)| flags | flag)
}

/// A path as an overlay option: colons, commas and backslashes mean something there.
fn escape(path: &Path) -> String {
    let text = path.to_string_lossy();
    text.replace('\\', "\\\\").replace(':', "\\:").replace(',', "\\,")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn separators_in_layer_paths_are_escaped() {
        assert_eq!(escape(Path::new("/a:b,c\\d")), "/a\\:b\\,c\\\\d");
    }

    #[test]
    fn attributes_are_the_same_in_both_calls() {
        let some = MountAttrFlags::MOUNT_ATTR_RDONLY | MountAttrFlags::MOUNT_ATTR_NODEV;
        assert_eq!(flags(some), MountFlags::RDONLY | MountFlags::NODEV);
    }
}
