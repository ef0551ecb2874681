//! The folders that `subPath`s name, made beneath their volume.

use super::VolumeError;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, fchmod, mkdirat, openat, openat2};
use rustix::io::Errno;
use std::os::fd::OwnedFd;
use std::path::Path;

/// Makes sure that `sub_path` is there in the volume at `root`: what is missing
/// of it becomes folders. Symbolic links in the volume, which a pod may have
/// made, cannot lead out of it.
///
/// # Errors
/// If a folder cannot be made.
pub(super) fn ensure(root: &Path, sub_path: &Path) -> Result<(), VolumeError> {
    let error = |errno: Errno| VolumeError::io("create", &root.join(sub_path), errno.into());
    let root_fd = openat(CWD, root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let mut parent = root_fd.map_err(error)?;
    let root_fd = rustix::io::fcntl_dupfd_cloexec(&parent, 0).map_err(error)?;
    let mut so_far = std::path::PathBuf::new();
    for part in sub_path.components() {
        so_far.push(part);
        parent = match beneath(&root_fd, &so_far) {
            Err(Errno::NOENT) => {
                match mkdirat(&parent, part.as_os_str(), Mode::from_raw_mode(0o750)) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(errno) => return Err(error(errno)),
                }
                let made = beneath(&root_fd, &so_far).map_err(error)?;
                open_to_all(&root_fd, &so_far).map_err(error)?;
                made
            }
            found => found.map_err(error)?,
        };
    }
    Ok(())
}

fn beneath(root: &OwnedFd, path: &Path) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    openat2(root, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve)
}

/// Gives a new folder the mode that the volume itself has for its pod.
fn open_to_all(root: &OwnedFd, path: &Path) -> Result<(), Errno> {
    let mode = Mode::from_raw_mode(rustix::fs::fstat(root)?.st_mode & 0o7777);
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let folder = openat2(root, path, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty(), resolve)?;
    fchmod(&folder, mode)
}
