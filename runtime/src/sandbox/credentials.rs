//! Secrets as files in memory that the container's user alone can read.

use super::Launch;
use super::error::{Failure, Step};
use super::user::Identity;
use crate::plan::CREDENTIALS;
use crate::sys::mount::set_attributes;
use rustix::fs::{Mode, OFlags, chown, open};
use rustix::mount::MountAttrFlags;
use std::fs;
use std::io::Write as _;
use std::os::fd::AsFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// The files are there, and nobody can change them. `/` is the container's root by now.
pub(super) fn write(launch: &Launch<'_>, identity: &Identity) -> Result<(), Failure> {
    let credentials = &launch.container.habits.credentials;
    if credentials.is_empty() {
        return Ok(());
    }
    let folder = Path::new(CREDENTIALS);
    let (uid, gid) = launch.owner(identity);
    let named = || format!("write credentials to {CREDENTIALS}");
    for credential in credentials {
        let path = folder.join(&credential.name);
        let mut file =
            fs::OpenOptions::new().write(true).create_new(true).mode(0o400).open(&path).step(named)?;
        file.write_all(&credential.value.0).step(named)?;
        chown(&path, Some(uid), Some(gid)).step(named)?;
    }
    fs::set_permissions(folder, fs::Permissions::from_mode(0o500)).step(named)?;
    chown(folder, Some(uid), Some(gid)).step(named)?;
    let root = open(folder, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).step(named)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY;
    set_attributes(root.as_fd(), attributes, false).step(named)
}
