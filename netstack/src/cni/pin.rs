//! Network namespaces that stay while nobody is in them, so that plugins can take back what they made
//! when the pod's processes are gone.
//!
//! As `ip netns` does it: mounts below one folder whose mounts are shared, so that whoever has taken a
//! copy of them, as each pod's supervisor has, loses them with us.

use rustix::fs::{FsWord, statfs};
use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_bind, mount_change, unmount};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Source: `linux/magic.h`.
const NSFS: FsWord = 0x6e73_6673;

/// A folder of such namespaces. Needs `CAP_SYS_ADMIN`.
#[derive(Debug)]
pub(super) struct Pins {
    folder: PathBuf,
    /// Held while namespaces come and go.
    changing: Mutex<()>,
}

impl Pins {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder, changing: Mutex::default() }
    }

    /// Where the namespace called `name` is, or would be.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Whether there is one.
    pub(super) fn holds(&self, name: &str) -> bool {
        statfs(self.path(name)).is_ok_and(|found| found.f_type == NSFS)
    }

    /// Whether it is that of process `pid`.
    pub(super) fn is_of(&self, name: &str, pid: i32) -> bool {
        let identity = |path: &Path| fs::metadata(path).map(|found| (found.dev(), found.ino()));
        let theirs = identity(&PathBuf::from(format!("/proc/{pid}/ns/net")));
        self.holds(name)
            && identity(&self.path(name)).is_ok_and(|own| theirs.is_ok_and(|theirs| own == theirs))
    }

    /// The namespace of process `pid` stays, under that name. There must be none yet.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn pin(&self, name: &str, pid: i32) -> io::Result<PathBuf> {
        let _alone = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        fs::create_dir_all(&self.folder)?;
        self.share()?;
        let path = self.path(name);
        fs::write(&path, "")?;
        if let Err(error) = mount_bind(format!("/proc/{pid}/ns/net"), &path) {
            let _ = fs::remove_file(&path);
            return Err(error.into());
        }
        Ok(path)
    }

    fn share(&self) -> io::Result<()> {
        match mount_change(&self.folder, MountPropagationFlags::SHARED) {
            // It is no mount yet.
            Err(Errno::INVAL) => {
                mount_bind(&self.folder, &self.folder)?;
                Ok(mount_change(&self.folder, MountPropagationFlags::SHARED)?)
            }
            changed => Ok(changed?),
        }
    }

    /// Nothing of that name is there, and no folder without any. Repeating is harmless.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn unpin(&self, name: &str) -> io::Result<()> {
        let _alone = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let path = self.path(name);
        while self.holds(name) {
            unmount(&path, UnmountFlags::DETACH)?;
        }
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        if fs::read_dir(&self.folder).is_ok_and(|mut left| left.next().is_none()) {
            // It need not have been a mount, nor does it harm.
            let _ = unmount(&self.folder, UnmountFlags::DETACH);
            let _ = fs::remove_dir(&self.folder);
        }
        Ok(())
    }
}
