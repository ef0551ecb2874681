//! What is to be copied, with the files open.

use super::CopyError;
use rustix::fs::{FileType, Mode, OFlags, fstat, open};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::SyncSender;

/// One thing below the source.
#[derive(Debug)]
pub(super) struct Found {
    /// Relative to the source; empty for the source itself. Plain names only.
    pub(super) path: PathBuf,
    pub(super) content: Content,
}

#[derive(Debug)]
pub(super) enum Content {
    /// With its mode.
    Folder(u32),
    /// With its mode, open.
    File(u32, File),
    Link(PathBuf),
    /// A socket, a pipe, a device.
    Special,
}

/// Tells all of `source`, folders before what is in them, until nobody listens any more. A
/// link is followed at the very beginning only.
///
/// # Errors
/// If something cannot be read.
pub(super) fn walk(source: &Path, sender: &SyncSender<Found>) -> Result<(), CopyError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source: io::Error| CopyError::Read { path, source }
    };
    let start = fs::canonicalize(source).map_err(failed(source))?;
    let mut pending = vec![PathBuf::new()];
    while let Some(path) = pending.pop() {
        let full = if path.as_os_str().is_empty() { start.clone() } else { start.join(&path) };
        let content = look(&full).map_err(failed(&full))?;
        if let Content::Folder(_) = content {
            let entries = fs::read_dir(&full).map_err(failed(&full))?;
            for entry in entries {
                pending.push(path.join(entry.map_err(failed(&full))?.file_name()));
            }
        }
        if sender.send(Found { path, content }).is_err() {
            return Ok(());
        }
    }
    Ok(())
}

fn look(path: &Path) -> io::Result<Content> {
    let metadata = fs::symlink_metadata(path)?;
    let mode = metadata.permissions().mode() & 0o777;
    let kind = metadata.file_type();
    if kind.is_dir() {
        return Ok(Content::Folder(mode));
    }
    if kind.is_symlink() {
        return Ok(Content::Link(fs::read_link(path)?));
    }
    if !kind.is_file() {
        return Ok(Content::Special);
    }
    // It may have become something else since; a pipe would block.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = open(path, flags, Mode::empty())?;
    if FileType::from_raw_mode(fstat(&file)?.st_mode) != FileType::RegularFile {
        return Ok(Content::Special);
    }
    Ok(Content::File(mode, file.into()))
}
