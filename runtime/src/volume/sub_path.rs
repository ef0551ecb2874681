//! The folders that `subPath`s name, made and opened beneath their volume. A pod may have put
//! symbolic links there: none leads out of the volume.

use super::VolumeError;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, fchmod, fstat, mkdirat, openat, openat2};
use rustix::io::Errno;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// How often a walk is begun that a rename disturbs: the pod's own containers may be at work, and
/// must not be able to hold us for ever.
const WALKS: usize = 128;

/// Makes sure that `sub_path` is there in the volume at `root`: what is missing
/// of it becomes folders.
///
/// # Errors
/// If a folder cannot be made.
pub(super) fn ensure(root: &Path, sub_path: &Path) -> Result<(), VolumeError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(CWD, root, flags, Mode::empty())
        .and_then(|volume| make(&volume, sub_path))
        .map_err(|errno| VolumeError::io("create", &root.join(sub_path), errno.into()))
}

/// What is missing of `sub_path` in `volume` becomes folders, with the mode that the volume
/// itself has for its pod.
///
/// # Errors
/// The kernel's errno; `EEXIST` or `ENOENT` if a link to nowhere is in the way.
pub(crate) fn make(volume: &OwnedFd, sub_path: &Path) -> Result<(), Errno> {
    let mode = Mode::from_raw_mode(fstat(volume)?.st_mode & 0o7777);
    let mut parent = open(volume, Path::new("."))?;
    let mut so_far = PathBuf::new();
    for part in sub_path.components() {
        so_far.push(part);
        parent = match open(volume, &so_far) {
            Err(Errno::NOENT) => {
                match mkdirat(&parent, part.as_os_str(), Mode::from_raw_mode(0o750)) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(errno) => return Err(errno),
                }
                // Not through mkdir's mode, which the umask would cut.
                fchmod(beneath(volume, &so_far, OFlags::DIRECTORY | OFlags::NOFOLLOW)?, mode)?;
                open(volume, &so_far)?
            }
            found => found?,
        };
    }
    Ok(())
}

/// What is at `sub_path` in `volume`, as a descriptor that only names it.
///
/// # Errors
/// The kernel's errno.
pub(crate) fn open(volume: &OwnedFd, sub_path: &Path) -> Result<OwnedFd, Errno> {
    let sub_path = if sub_path.as_os_str().is_empty() { Path::new(".") } else { sub_path };
    beneath(volume, sub_path, OFlags::PATH)
}

fn beneath(volume: &OwnedFd, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    for _ in 1..WALKS {
        match openat2(volume, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Err(Errno::AGAIN) => {}
            other => return other,
        }
    }
    openat2(volume, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve)
}
