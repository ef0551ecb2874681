//! The layer's folder: what is made in it, by descriptor.

use super::content::Metadata;
use super::name::Name;
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, XattrFlags, chownat, linkat, mkdirat, mknodat,
    openat, openat2, setxattr, statat, symlinkat, unlinkat,
};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

const OPAQUE_XATTR: &str = "trusted.overlay.opaque";

/// The folder that an archive is unpacked into.
pub(super) struct Tree {
    root: OwnedFd,
}

impl Tree {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let root = openat(CWD, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Self { root })
    }

    pub(super) const fn root(&self) -> &OwnedFd {
        &self.root
    }

    /// The folder that `name` is in; what is missing of it is made.
    pub(super) fn parent(&self, name: &Name) -> io::Result<OwnedFd> {
        let parent = name.parent();
        match self.beneath(parent) {
            Ok(folder) => return Ok(folder),
            Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
        let mut so_far = std::path::PathBuf::new();
        let mut folder = self.beneath(Path::new(""))?;
        for part in parent.components() {
            so_far.push(part);
            folder = match self.beneath(&so_far) {
                Err(Errno::NOENT) => {
                    // A link that leads nowhere exists, and is refused by this.
                    mkdirat(&folder, part.as_os_str(), Mode::from_raw_mode(0o755))
                        .map_err(|errno| if errno == Errno::EXIST { Errno::NOTDIR } else { errno })?;
                    self.beneath(&so_far)?
                }
                found => found?,
            };
        }
        Ok(folder)
    }

    /// The folder `path`, if it still is one.
    pub(super) fn folder(&self, path: &Path) -> io::Result<Option<OwnedFd>> {
        match self.beneath(path) {
            Ok(folder) => Ok(Some(folder)),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::XDEV | Errno::LOOP) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn beneath(&self, path: &Path) -> Result<OwnedFd, Errno> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        openat2(&self.root, path, flags, Mode::empty(), resolve)
    }

    /// Makes `name` in `parent` another name of `target`.
    pub(super) fn hard_link(&self, parent: &OwnedFd, name: &[u8], target: &Name) -> io::Result<()> {
        let from = self.beneath(target.parent())?;
        let last = target.last().ok_or(Errno::ISDIR)?;
        if statat(&from, last, AtFlags::SYMLINK_NOFOLLOW).and_then(|found| {
            statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)
                .map(|there| (found.st_dev, found.st_ino) == (there.st_dev, there.st_ino))
        }) == Ok(true)
        {
            return Ok(());
        }
        clear(parent, name)?;
        Ok(linkat(&from, last, parent, name, AtFlags::empty())?)
    }
}

/// Removes `name` from `parent`, with all that is in it.
pub(super) fn clear(parent: &OwnedFd, name: &[u8]) -> io::Result<()> {
    match unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        // Follows no link on its way down.
        Err(Errno::ISDIR) => std::fs::remove_dir_all(by_descriptor(parent).join(OsStr::from_bytes(name))),
        Err(error) => Err(error.into()),
    }
}

/// A path that means the open folder itself, for calls that take no descriptor.
fn by_descriptor(folder: &OwnedFd) -> std::path::PathBuf {
    format!("/proc/self/fd/{}", folder.as_raw_fd()).into()
}

fn kind(parent: &OwnedFd, name: &[u8]) -> io::Result<Option<(FileType, u64)>> {
    match statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(found) => Ok(Some((FileType::from_raw_mode(found.st_mode), found.st_rdev))),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Makes the folder `name`, or gives it new metadata if it is there.
pub(super) fn folder(parent: &OwnedFd, name: &[u8], metadata: &Metadata) -> io::Result<()> {
    let before = kind(parent, name)?;
    if !matches!(before, Some((FileType::Directory, _))) {
        clear(parent, name)?;
        mkdirat(parent, name, Mode::from_raw_mode(0o700))?;
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let made = openat(parent, name, flags, Mode::empty())?;
    // The lower layers' folder was hidden before: it stays so under the new one.
    if matches!(before, Some((FileType::CharacterDevice, 0))) {
        make_opaque(&made)?;
    }
    metadata.apply(&made)
}

/// Hides what lower layers have in `folder`.
pub(super) fn make_opaque(folder: &OwnedFd) -> io::Result<()> {
    Ok(setxattr(by_descriptor(folder), OPAQUE_XATTR, b"y", XattrFlags::empty())?)
}

/// Hides what lower layers have as `name`. What this layer itself has there stays.
pub(super) fn hide(parent: &OwnedFd, name: &[u8]) -> io::Result<()> {
    match kind(parent, name)? {
        None => Ok(mknodat(parent, name, FileType::CharacterDevice, Mode::empty(), 0)?),
        Some((FileType::Directory, _)) => {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            make_opaque(&openat(parent, name, flags, Mode::empty())?)
        }
        Some(_) => Ok(()),
    }
}

/// Makes a symbolic link; where it points is the container's matter.
pub(super) fn symlink(parent: &OwnedFd, name: &[u8], target: &[u8], metadata: &Metadata) -> io::Result<()> {
    clear(parent, name)?;
    symlinkat(target, parent, name)?;
    own(parent, name, metadata)?;
    metadata.apply_link_times(parent, name)
}

/// Makes a device node or a FIFO.
pub(super) fn node(
    parent: &OwnedFd,
    name: &[u8],
    (kind, device): (FileType, u64),
    metadata: &Metadata,
) -> io::Result<()> {
    clear(parent, name)?;
    mknodat(parent, name, kind, Mode::from_raw_mode(metadata.mode), device)?;
    own(parent, name, metadata)?;
    // Past the umask; the name was just made and is no link.
    rustix::fs::chmodat(parent, name, Mode::from_raw_mode(metadata.mode), AtFlags::empty())?;
    metadata.apply_link_times(parent, name)
}

fn own(parent: &OwnedFd, name: &[u8], metadata: &Metadata) -> io::Result<()> {
    let (user, group) = metadata.owner();
    Ok(chownat(parent, name, user, group, AtFlags::SYMLINK_NOFOLLOW)?)
}
