//! What was found, made anew elsewhere.

use super::CopyError;
use super::walk::{Content, Found};
use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, symlink};
use std::path::{Path, PathBuf};

/// Makes all of `entries` below `target`: in it under `name` if it is a folder, else as it.
/// Links only if `links`. Returns what was left out.
///
/// # Errors
/// At the first thing that cannot be made.
pub(super) fn build(
    target: &Path,
    name: Option<&OsStr>,
    entries: impl IntoIterator<Item = Found>,
    links: bool,
) -> Result<Vec<PathBuf>, CopyError> {
    let into_folder = target.is_dir() || target.as_os_str().as_encoded_bytes().ends_with(b"/");
    let start = match name {
        Some(name) if into_folder => target.join(name),
        // The root of a container has no name.
        Some(_) | None => target.to_owned(),
    };
    let mut left_out = Vec::new();
    for Found { path, content } in entries {
        let full = if path.as_os_str().is_empty() { start.clone() } else { start.join(path) };
        match content {
            Content::Folder(mode) => folder(&full, mode)?,
            Content::File(mode, file) => copy(&full, mode, file)?,
            Content::Link(to) if links => link(&full, &to)?,
            Content::Link(_) | Content::Special => left_out.push(full),
        }
    }
    Ok(left_out)
}

fn folder(path: &Path, mode: u32) -> Result<(), CopyError> {
    // Writable for us until all is in it: a folder that is not could not be filled.
    match DirBuilder::new().mode(mode | 0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            // A link to a folder would lead out of what is being made.
            let is_folder = fs::symlink_metadata(path).is_ok_and(|there| there.is_dir());
            if is_folder { Ok(()) } else { Err(in_the_way(path, "folder")) }
        }
        result => result.map_err(|source| CopyError::Write { path: path.to_owned(), source }),
    }
}

fn copy(path: &Path, mode: u32, mut from: File) -> Result<(), CopyError> {
    if fs::symlink_metadata(path).is_ok_and(|there| !there.is_file()) {
        return Err(in_the_way(path, "file"));
    }
    let mut write = || -> io::Result<()> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(mode).custom_flags(libc::O_NOFOLLOW);
        io::copy(&mut from, &mut options.open(path)?)?;
        Ok(())
    };
    write().map_err(|source| CopyError::Write { path: path.to_owned(), source })
}

fn link(path: &Path, to: &Path) -> Result<(), CopyError> {
    if let Ok(there) = fs::symlink_metadata(path) {
        if !there.is_symlink() {
            return Err(in_the_way(path, "link"));
        }
        // Else the new one is not made, which says why.
        let _ = fs::remove_file(path);
    }
    symlink(to, path).map_err(|source| CopyError::Write { path: path.to_owned(), source })
}

fn in_the_way(path: &Path, wanted: &'static str) -> CopyError {
    CopyError::InTheWay { path: path.to_owned(), wanted }
}

#[cfg(test)]
mod tests {
    use super::super::walk::walk;
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;
    use std::sync::mpsc;

    fn copied(from: &Path, to: &Path, links: bool) -> Result<Vec<PathBuf>, CopyError> {
        let (sender, receiver) = mpsc::sync_channel(64);
        walk(from, &sender)?;
        drop(sender);
        build(to, from.file_name(), receiver, links)
    }

    fn tree(root: &Path) -> PathBuf {
        let tree = root.join("tree");
        fs::create_dir_all(tree.join("a/empty")).unwrap();
        fs::write(tree.join("a/tool"), "run").unwrap();
        fs::set_permissions(tree.join("a/tool"), fs::Permissions::from_mode(0o755)).unwrap();
        symlink("/etc/passwd", tree.join("a/out")).unwrap();
        tree
    }

    #[test]
    fn a_tree_is_copied_into_a_folder_or_under_a_new_name() {
        let folder = tempfile::tempdir().unwrap();
        let tree = tree(folder.path());
        let there = folder.path().join("there");
        fs::create_dir(&there).unwrap();
        assert!(copied(&tree, &there, true).unwrap().is_empty());
        assert_eq!(fs::read_to_string(there.join("tree/a/tool")).unwrap(), "run");
        assert_eq!(fs::metadata(there.join("tree/a/tool")).unwrap().permissions().mode() & 0o777, 0o755);
        assert!(there.join("tree/a/empty").is_dir());
        assert_eq!(fs::read_link(there.join("tree/a/out")).unwrap(), Path::new("/etc/passwd"));
        let new = folder.path().join("new");
        assert_eq!(copied(&tree, &new, false).unwrap(), [new.join("a/out")]);
        assert!(new.join("a/tool").is_file() && !new.join("a/out").exists());
        // Once more, over what is there; and a single file.
        copied(&tree, &there, true).unwrap();
        copied(&tree.join("a/tool"), &there, true).unwrap();
        assert!(there.join("tool").is_file());
    }

    #[test]
    fn links_that_are_there_already_lead_nowhere() {
        let folder = tempfile::tempdir().unwrap();
        let tree = tree(folder.path());
        let (there, outside) = (folder.path().join("there"), folder.path().join("outside"));
        fs::create_dir_all(there.join("tree")).unwrap();
        fs::create_dir(&outside).unwrap();
        symlink(&outside, there.join("tree/a")).unwrap();
        assert!(matches!(copied(&tree, &there, true), Err(CopyError::InTheWay { .. })));
        fs::remove_file(there.join("tree/a")).unwrap();
        fs::create_dir(there.join("tree/a")).unwrap();
        symlink(outside.join("new"), there.join("tree/a/tool")).unwrap();
        assert!(matches!(copied(&tree, &there, true), Err(CopyError::InTheWay { .. })));
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    }
}
