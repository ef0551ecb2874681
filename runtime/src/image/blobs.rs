//! The files of an image: in a folder, or in a tar archive that is read where it lies.

use super::error::ImageError;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Descriptions of images are small; what is larger is no description.
const MAX_DESCRIPTION_BYTES: u64 = 4 << 20;
/// An archive of images has a file for each layer and a few for each image.
const MAX_ARCHIVE_ENTRIES: usize = 100_000;

/// Files by their name from the image's root.
pub(super) enum Blobs {
    Folder(PathBuf),
    Archive { path: PathBuf, file: Arc<File>, entries: BTreeMap<String, Place> },
}

/// Where a file is in an archive.
pub(super) enum Place {
    At {
        offset: u64,
        bytes: u64,
    },
    /// Another file, by its name from the root.
    Link(String),
}

impl Blobs {
    /// The files of the archive at `path`, which may be compressed as a whole;
    /// it is then unpacked into `scratch` first.
    ///
    /// # Errors
    /// If it cannot be read.
    pub(super) fn archive(path: &Path, scratch: &Path) -> Result<Self, ImageError> {
        let read = |source| ImageError::io("read", path, source);
        let mut file = File::open(path).map_err(read)?;
        if !file.metadata().map_err(read)?.is_file() {
            return Err(read(io::ErrorKind::InvalidInput.into()));
        }
        let compressed = super::layer::is_compressed(&file).map_err(read)?;
        if compressed {
            file = decompressed(file, scratch).map_err(read)?;
        }
        let entries = index(&file).map_err(read)?;
        Ok(Self::Archive { path: path.to_owned(), file: Arc::new(file), entries })
    }

    /// The file `name`, from its start, and its size.
    ///
    /// # Errors
    /// [`ImageError::MissingFile`] if it is not there.
    pub(super) fn open(&self, name: &str) -> Result<(Box<dyn Read + Send>, u64), ImageError> {
        let missing = || ImageError::MissingFile { file: name.to_owned() };
        match self {
            Self::Folder(folder) => {
                let path = folder.join(name);
                let file = match File::open(&path) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(missing()),
                    file => file.map_err(|source| ImageError::io("read", &path, source))?,
                };
                let metadata = file.metadata().map_err(|source| ImageError::io("read", &path, source))?;
                if !metadata.is_file() {
                    return Err(missing());
                }
                Ok((Box::new(BufReader::with_capacity(128 << 10, file)), metadata.len()))
            }
            Self::Archive { file, entries, path: _ } => {
                let mut place = entries.get(name);
                if let Some(Place::Link(target)) = place {
                    place = entries.get(target);
                }
                let Some(Place::At { offset, bytes }) = place else { return Err(missing()) };
                let section = Section { file: Arc::clone(file), at: *offset, left: *bytes };
                Ok((Box::new(BufReader::with_capacity(128 << 10, section)), *bytes))
            }
        }
    }

    /// All of the description `name`.
    ///
    /// # Errors
    /// If it is not there, or too large to be one.
    pub(super) fn description(&self, name: &str) -> Result<Vec<u8>, ImageError> {
        let (reader, bytes) = self.open(name)?;
        if bytes > MAX_DESCRIPTION_BYTES {
            let file = name.to_owned();
            return Err(ImageError::TooLarge { file, bytes, limit: MAX_DESCRIPTION_BYTES });
        }
        let mut content = Vec::new();
        let read = reader.take(MAX_DESCRIPTION_BYTES).read_to_end(&mut content);
        read.map_err(|source| ImageError::io("read", &self.path().join(name), source))?;
        Ok(content)
    }

    fn path(&self) -> &Path {
        match self {
            Self::Folder(path) | Self::Archive { path, .. } => path,
        }
    }
}

/// A part of a file, read without moving anybody's position in it.
struct Section {
    file: Arc<File>,
    at: u64,
    left: u64,
}

impl Read for Section {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.file.read_at(&mut buffer[..most], self.at)?;
        if count == 0 && most > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.at += count as u64;
        self.left -= count as u64;
        Ok(count)
    }
}

/// The content of a compressed archive, in a file of `scratch` that has no name.
fn decompressed(file: File, scratch: &Path) -> io::Result<File> {
    let mut plain = super::layer::decompress(Box::new(BufReader::new(file)))?;
    let path = scratch.join("archive");
    let mut out = File::options().read(true).write(true).create_new(true).open(&path)?;
    std::fs::remove_file(&path)?;
    let limit = super::layer::Limits::default().bytes;
    if io::copy(&mut plain.by_ref().take(limit), &mut out)? == limit {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "the archive is too large"));
    }
    out.rewind()?;
    Ok(out)
}

/// What is where in a tar archive.
fn index(file: &File) -> io::Result<BTreeMap<String, Place>> {
    let mut file = file;
    file.rewind()?;
    let mut archive = tar::Archive::new(file);
    let mut entries = BTreeMap::new();
    for entry in archive.entries_with_seek()? {
        let entry = entry?;
        if entries.len() >= MAX_ARCHIVE_ENTRIES {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "too many entries"));
        }
        let Some(name) = normal(&String::from_utf8_lossy(&entry.path_bytes())) else { continue };
        let kind = entry.header().entry_type();
        let place = if kind.is_file() {
            Place::At { offset: entry.raw_file_position(), bytes: entry.size() }
        } else if kind.is_symlink() || kind.is_hard_link() {
            let Some(target) = entry.link_name_bytes() else { continue };
            let target = String::from_utf8_lossy(&target).into_owned();
            let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
            let full = if kind.is_symlink() { format!("{folder}/{target}") } else { target };
            let Some(target) = normal(&full) else { continue };
            Place::Link(target)
        } else {
            continue;
        };
        entries.insert(name, place);
    }
    Ok(entries)
}

/// `path` without `.` and `..`; `None` if it leads out. Only a name to look up:
/// nothing is written by it.
fn normal(path: &str) -> Option<String> {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}
