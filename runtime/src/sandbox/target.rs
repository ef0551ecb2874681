//! Paths inside the container's root, resolved so that no link in the image leads out of it.

use super::error::{Failure, Step};
use super::rootfs::FOLDER_MODE;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, mkdirat, open, openat2};
use rustix::io::Errno;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

/// The container's root, held open.
pub(super) struct Root(OwnedFd);

impl Root {
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .step(|| format!("open the root {}", path.display()))
            .map(Self)
    }

    /// What is at `path`, if anything is.
    pub(super) fn existing(&self, path: &Path) -> Option<OwnedFd> {
        self.resolve(&inside(path), OFlags::PATH).ok()
    }

    /// The text of the file at `path`, if there is one.
    pub(super) fn read(&self, path: &Path) -> std::io::Result<String> {
        let file = self.resolve(&inside(path), OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?;
        std::io::read_to_string(std::fs::File::from(file))
    }

    /// The folder at `path`, made if it is not there.
    pub(super) fn folder(&self, path: &Path) -> Result<OwnedFd, Failure> {
        let path = inside(path);
        self.ensure_folder(&path).step(|| format!("make the folder /{}", path.display()))
    }

    /// The file at `path`, made empty if nothing is there; a folder there is refused.
    pub(super) fn file(&self, path: &Path) -> Result<OwnedFd, Failure> {
        let path = inside(path);
        self.ensure_file(&path).step(|| format!("make the file /{}", path.display()))
    }

    fn ensure_folder(&self, path: &Path) -> rustix::io::Result<OwnedFd> {
        match self.resolve(path, OFlags::PATH | OFlags::DIRECTORY) {
            Err(Errno::NOENT) => {}
            other => return other,
        }
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(Errno::NOENT);
        };
        let parent = self.ensure_folder(parent)?;
        match mkdirat(&parent, name, FOLDER_MODE) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error),
        }
        self.resolve(path, OFlags::PATH | OFlags::DIRECTORY)
    }

    fn ensure_file(&self, path: &Path) -> rustix::io::Result<OwnedFd> {
        match self.resolve(path, OFlags::PATH) {
            Err(Errno::NOENT) => {}
            other => return other,
        }
        if let Some(parent) = path.parent() {
            self.ensure_folder(parent)?;
        }
        self.resolve(path, OFlags::CREATE | OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?;
        self.resolve(path, OFlags::PATH)
    }

    fn resolve(&self, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let mode = if flags.contains(OFlags::CREATE) { Mode::from_raw_mode(0o644) } else { Mode::empty() };
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        loop {
            match openat2(&self.0, path, flags | OFlags::CLOEXEC, mode, resolve) {
                // A rename raced with the walk.
                Err(Errno::AGAIN) => {}
                other => return other,
            }
        }
    }
}

/// The path below the root, without `.`; `..` stops at the root as it would inside.
fn inside(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    clean
}

/// The tree at a path of the host, as a descriptor.
pub(super) fn host(path: &Path) -> rustix::io::Result<OwnedFd> {
    rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn dots_never_lead_above_the_root() {
        assert_eq!(inside(Path::new("/a/./b/../../../c")), Path::new("c"));
        assert_eq!(inside(Path::new("/..")), Path::new(""));
    }

    #[test]
    fn links_to_the_hosts_root_stay_inside() {
        let outside = tempfile::tempdir().expect("a folder");
        let image = tempfile::tempdir().expect("a folder");
        symlink("/", image.path().join("slash")).expect("link");
        symlink(outside.path(), image.path().join("out")).expect("link");
        symlink("../../../../../../..", image.path().join("up")).expect("link");
        let root = Root::open(image.path()).expect("root");
        root.folder(Path::new("/slash/made")).expect("folder");
        root.file(Path::new("/up/file")).expect("file");
        assert!(image.path().join("made").is_dir());
        assert!(image.path().join("file").is_file());
        // A link to a place that the image lacks is not followed out, nor made.
        assert!(root.folder(Path::new("/out/x")).is_err());
        assert_eq!(std::fs::read_dir(outside.path()).expect("read").count(), 0);
    }

    #[test]
    fn what_exists_is_not_touched() {
        let image = tempfile::tempdir().expect("a folder");
        std::fs::write(image.path().join("file"), "text").expect("write");
        let root = Root::open(image.path()).expect("root");
        root.file(Path::new("/file")).expect("file");
        assert_eq!(std::fs::read_to_string(image.path().join("file")).expect("read"), "text");
        assert!(root.existing(Path::new("/none")).is_none());
    }
}
