//! What pods take up on disk. Walks folders in which hostile programs are at work: no link is
//! followed, no mount entered, and no path of theirs is resolved from the host's root.

use super::Runtime;
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, openat, openat2, statat};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::ops::Add;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

/// A path longer than this begins anew at a descriptor: the kernel takes no more than 4096 bytes.
const LONG_PATH: usize = 3000;
/// The kernel counts in blocks of this size, in bytes.
const BLOCK: u64 = 512;

/// What files and folders take up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DiskUsage {
    /// Allocated, in bytes.
    pub bytes: u64,
    /// Files and folders.
    pub inodes: u64,
}

impl Add for DiskUsage {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            bytes: self.bytes.saturating_add(other.bytes),
            inodes: self.inodes.saturating_add(other.inodes),
        }
    }
}

/// What one container takes up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ContainerDisk {
    /// Its writable layer.
    pub layer: DiskUsage,
    /// Its logs, of every run.
    pub logs: DiskUsage,
}

/// What one pod takes up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodDisk {
    /// By the container's name.
    pub containers: BTreeMap<String, ContainerDisk>,
    /// The volumes that are its own, by name; those in memory are nothing here.
    pub volumes: BTreeMap<String, DiskUsage>,
}

impl PodDisk {
    /// All of it.
    #[must_use]
    pub fn total(&self) -> DiskUsage {
        let containers = self.containers.values().map(|one| one.layer + one.logs);
        containers.chain(self.volumes.values().copied()).fold(DiskUsage::default(), Add::add)
    }
}

impl Runtime {
    /// What the pod takes up now. Blocks while it looks at each of its files.
    #[must_use]
    pub fn disk(&self, uid: &str) -> PodDisk {
        let mut disk = PodDisk::default();
        let folder = self.shared.options.pod_folder(uid);
        for name in names(&folder.join("layers")) {
            disk.containers.entry(name.clone()).or_default().layer =
                measure(&folder.join("layers").join(&name));
        }
        if let Some(state) = self.shared.pods().get(uid).map(|pod| Arc::clone(&pod.state)) {
            let logs = self.shared.options.pod_logs(&state.namespace, &state.name, uid);
            for name in names(&logs) {
                disk.containers.entry(name.clone()).or_default().logs = measure(&logs.join(&name));
            }
        }
        let volumes = folder.join("volumes");
        for kind in names(&volumes) {
            for name in names(&volumes.join(&kind)) {
                let usage = measure(&volumes.join(&kind).join(&name));
                disk.volumes.insert(name, usage);
            }
        }
        disk
    }
}

/// The names in a folder of ours.
fn names(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

/// A walk through one tree.
struct Walk {
    usage: DiskUsage,
    /// Files with several names, which count once.
    linked: BTreeSet<(u64, u64)>,
    /// Folders that are still to be looked at, each beneath a descriptor.
    folders: Vec<(Rc<OwnedFd>, PathBuf)>,
}

/// What `root` and everything below it takes up. What cannot be seen is nothing.
fn measure(root: &Path) -> DiskUsage {
    let mut walk = Walk { usage: DiskUsage::default(), linked: BTreeSet::new(), folders: Vec::new() };
    let Ok(found) = statat(CWD, root, AtFlags::SYMLINK_NOFOLLOW) else { return walk.usage };
    walk.count(&found);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let Ok(root) = openat(CWD, root, flags, Mode::empty()) else { return walk.usage };
    walk.folders.push((Rc::new(root), PathBuf::from(".")));
    while let Some((base, path)) = walk.folders.pop() {
        walk.look(&base, &path);
    }
    walk.usage
}

impl Walk {
    fn count(&mut self, found: &Stat) {
        let is_folder = FileType::from_raw_mode(found.st_mode) == FileType::Directory;
        if !is_folder && found.st_nlink > 1 && !self.linked.insert((found.st_dev, found.st_ino)) {
            return;
        }
        let blocks = u64::try_from(found.st_blocks).unwrap_or(0);
        self.usage = self.usage + DiskUsage { bytes: blocks.saturating_mul(BLOCK), inodes: 1 };
    }

    fn look(&mut self, base: &Rc<OwnedFd>, path: &Path) {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        let Ok(folder) = openat2(base, path, flags, Mode::empty(), resolve) else { return };
        let Ok(mut entries) = Dir::read_from(&folder) else { return };
        let (base, path) = if path.as_os_str().len() > LONG_PATH {
            (Rc::new(folder), PathBuf::from("."))
        } else {
            (Rc::clone(base), path.to_owned())
        };
        while let Some(Ok(entry)) = entries.next() {
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name == "." || name == ".." {
                continue;
            }
            let Ok(at) = entries.fd() else { return };
            let Ok(found) = statat(at, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW) else { continue };
            self.count(&found);
            if FileType::from_raw_mode(found.st_mode) == FileType::Directory {
                self.folders.push((Rc::clone(&base), path.join(name)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn every_file_counts_once_and_no_link_leads_away() {
        let folder = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("big"), vec![1; 1 << 20]).unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("sub")).unwrap();
        let empty = measure(folder.path());
        assert_eq!(empty.inodes, 2);
        fs::write(at("sub/file"), vec![1; 64 << 10]).unwrap();
        fs::hard_link(at("sub/file"), at("again")).unwrap();
        symlink(outside.path(), at("out")).unwrap();
        let full = measure(folder.path());
        assert_eq!(full.inodes, 4);
        let grown = full.bytes - empty.bytes;
        assert!((64 << 10..128 << 10).contains(&grown), "{grown}");
        assert_eq!(measure(&at("none")), DiskUsage::default());
        assert_eq!(measure(&at("out")).inodes, 1, "the link itself");
    }

    #[test]
    fn depth_hides_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let mut at = openat(CWD, folder.path(), flags, Mode::empty()).unwrap();
        let name = "d".repeat(200);
        for _ in 0..50 {
            rustix::fs::mkdirat(&at, &name, Mode::RWXU).unwrap();
            at = openat(&at, &name, flags, Mode::empty()).unwrap();
        }
        assert_eq!(measure(folder.path()).inodes, 51);
    }
}
