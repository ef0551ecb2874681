//! What an entry holds: its metadata, and a file's bytes.

use super::tree::clear;
use crate::image::error::LayerError;
use crate::image::layer::fill;
use crate::sys::writeback;
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags, fchmod, fchown, fsetxattr,
    ftruncate, futimens, makedev, openat, utimensat,
};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, OwnedFd};
use tar::Entry;

/// Written at once; a run of zeros this long becomes a hole.
pub(super) const CHUNK_BYTES: usize = 64 << 10;
/// Files from this size on go to the disk while the next ones are unpacked; the layer is on the
/// disk sooner. Smaller ones go there better together.
const EARLY_BYTES: u64 = 256 << 10;

/// Mode, owner, time and attributes of an entry.
#[derive(Debug)]
pub(super) struct Metadata {
    /// Permissions with setuid, setgid and sticky.
    pub(super) mode: u32,
    uid: u32,
    gid: u32,
    modified: Timespec,
    xattrs: Vec<(String, Vec<u8>)>,
}

impl Metadata {
    /// # Errors
    /// What is wrong with the entry's header.
    pub(super) fn of<R: Read>(entry: &mut Entry<'_, R>) -> Result<Self, &'static str> {
        let header = entry.header();
        let id = |id: io::Result<u64>| {
            let id = id.ok().and_then(|id| u32::try_from(id).ok());
            id.filter(|&id| id != u32::MAX).ok_or("its owner is no user or group id")
        };
        let (uid, gid) = (id(header.uid())?, id(header.gid())?);
        let mode = header.mode().map_err(|_| "its mode is malformed")? & 0o7777;
        let seconds = header.mtime().ok().and_then(|seconds| i64::try_from(seconds).ok()).unwrap_or(0);
        let mut metadata =
            Self { mode, uid, gid, modified: Timespec { tv_sec: seconds, tv_nsec: 0 }, xattrs: Vec::new() };
        metadata.read_extensions(entry)?;
        Ok(metadata)
    }

    fn read_extensions<R: Read>(&mut self, entry: &mut Entry<'_, R>) -> Result<(), &'static str> {
        const MALFORMED: &str = "its extended header is malformed";
        let Some(extensions) = entry.pax_extensions().map_err(|_| MALFORMED)? else { return Ok(()) };
        for extension in extensions {
            let extension = extension.map_err(|_| MALFORMED)?;
            let Ok(key) = extension.key() else { continue };
            if let Some(name) = key.strip_prefix("SCHILY.xattr.") {
                if is_kept(name) {
                    self.xattrs.push((name.to_owned(), extension.value_bytes().to_vec()));
                }
            } else if key == "mtime" {
                self.modified = extension.value().ok().and_then(time).ok_or("its time is malformed")?;
            } else if key.starts_with("GNU.sparse.") {
                return Err("it is sparse in a form that is not supported");
            }
        }
        Ok(())
    }

    pub(super) fn owner(&self) -> (Option<Uid>, Option<Gid>) {
        (Some(Uid::from_raw(self.uid)), Some(Gid::from_raw(self.gid)))
    }

    /// Owner, mode and attributes; in this order, as a change of the owner
    /// takes setuid and capabilities away.
    pub(super) fn apply(&self, to: &impl AsFd) -> io::Result<()> {
        let (user, group) = self.owner();
        fchown(to, user, group)?;
        fchmod(to, Mode::from_raw_mode(self.mode))?;
        for (name, value) in &self.xattrs {
            fsetxattr(to, name.as_str(), value, XattrFlags::empty())?;
        }
        Ok(())
    }

    pub(super) fn apply_times(&self, to: &impl AsFd) -> io::Result<()> {
        Ok(futimens(to, &self.times())?)
    }

    pub(super) fn apply_link_times(&self, parent: &OwnedFd, name: &[u8]) -> io::Result<()> {
        Ok(utimensat(parent, name, &self.times(), AtFlags::SYMLINK_NOFOLLOW)?)
    }

    const fn times(&self) -> Timestamps {
        Timestamps { last_access: self.modified, last_modification: self.modified }
    }
}

/// The attributes that an image may bring. Overlayfs' own are not among them:
/// they would change what other layers show.
fn is_kept(name: &str) -> bool {
    name == "security.capability"
        || name.starts_with("system.posix_acl_")
        || (name.starts_with("user.") && !name.starts_with("user.overlay."))
}

/// A PAX time: seconds since 1970, with a fraction.
fn time(text: &str) -> Option<Timespec> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let tv_sec: i64 = seconds.parse().ok()?;
    let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    let tv_nsec: i64 = digits.parse().ok()?;
    if !seconds.starts_with('-') || tv_nsec == 0 {
        return Some(Timespec { tv_sec, tv_nsec });
    }
    Some(Timespec { tv_sec: tv_sec.checked_sub(1)?, tv_nsec: 1_000_000_000 - tv_nsec })
}

/// A file could not be copied out of the archive.
pub(super) enum FileError {
    Read(io::Error),
    Write(io::Error),
}

impl FileError {
    /// What that means for the layer; `write` says it of a file that could not be written.
    pub(super) fn in_layer(self, write: impl FnOnce(io::Error) -> LayerError) -> LayerError {
        match self {
            Self::Read(source) => LayerError::Read(source),
            Self::Write(source) => write(source),
        }
    }
}

/// Makes the file `name` with what `entry` holds; runs of zeros as long as `buffer` become holes.
pub(super) fn file<R: Read>(
    parent: &OwnedFd,
    name: &[u8],
    entry: &mut Entry<'_, R>,
    metadata: &Metadata,
    buffer: &mut [u8],
) -> Result<(), FileError> {
    clear(parent, name).map_err(FileError::Write)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let made = openat(parent, name, flags, Mode::from_raw_mode(0o600));
    let mut out = File::from(made.map_err(|errno| FileError::Write(errno.into()))?);
    let wanted = entry.size();
    let bytes = copy(entry, &mut out, buffer)?;
    if bytes != wanted {
        return Err(FileError::Read(io::ErrorKind::UnexpectedEof.into()));
    }
    let finish = ftruncate(&out, bytes).map_err(io::Error::from).and_then(|()| metadata.apply(&out));
    finish.and_then(|()| metadata.apply_times(&out)).map_err(FileError::Write)?;
    if bytes >= EARLY_BYTES {
        writeback::begin(&out);
    }
    Ok(())
}

fn copy(from: &mut impl Read, to: &mut File, buffer: &mut [u8]) -> Result<u64, FileError> {
    let mut bytes = 0;
    loop {
        let count = fill(from, buffer).map_err(FileError::Read)?;
        let chunk = &buffer[..count];
        let is_hole = count == buffer.len() && chunk.iter().all(|&byte| byte == 0);
        let written = match i64::try_from(count) {
            Ok(count) if is_hole => to.seek(SeekFrom::Current(count)).map(|_| ()),
            _ => to.write_all(chunk),
        };
        written.map_err(FileError::Write)?;
        bytes += count as u64;
        if count < buffer.len() {
            return Ok(bytes);
        }
    }
}

/// What node an entry is.
///
/// # Errors
/// What is wrong with its header.
pub(super) fn device<R: Read>(entry: &Entry<'_, R>) -> Result<(FileType, u64), &'static str> {
    let header = entry.header();
    let number = |number: io::Result<Option<u32>>| number.map_err(|_| "its device number is malformed");
    let kind = header.entry_type();
    let kind = if kind.is_character_special() {
        FileType::CharacterDevice
    } else if kind.is_block_special() {
        FileType::BlockDevice
    } else {
        return Ok((FileType::Fifo, 0));
    };
    let major = number(header.device_major())?.unwrap_or(0);
    let minor = number(header.device_minor())?.unwrap_or(0);
    Ok((kind, makedev(major, minor)))
}
