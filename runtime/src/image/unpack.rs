//! A layer's tar archive as the lower folder of an overlay.
//!
//! The archive is nobody's friend: every path is resolved by the kernel beneath
//! the layer's own folder (`openat2` with `RESOLVE_BENEATH`), so that neither
//! `..` nor an absolute path, nor a link that the archive made itself, leads
//! out of it. OCI's whiteouts become overlayfs' own: a character device 0:0 for
//! a file, the `trusted.overlay.opaque` attribute for a folder.

mod content;
mod name;
mod tree;

use super::error::LayerError;
use super::layer::Limits;
use content::Metadata;
use name::Name;
use rustix::io::Errno;
use std::cell::Cell;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use tar::{Archive, Entry, EntryType};
use tree::Tree;

/// The most that the headers of one entry may have: long names and attributes.
const MAX_HEADER_BYTES: u64 = 4 << 20;
const OPAQUE: &[u8] = b".wh..wh..opq";
const WHITEOUT: &[u8] = b".wh.";
/// Files that aufs kept for itself.
const AUFS: &[u8] = b".wh..wh.";

/// Unpacks the archive `reader` into the folder `into`.
///
/// # Errors
/// If the archive is refused, broken, or too large, or the disk does not take it.
pub(super) fn unpack(reader: impl Read, into: &Path, limits: Limits) -> Result<(), LayerError> {
    let allowance = Cell::new(u64::MAX);
    let mut archive = Archive::new(Metered { inner: reader, allowance: &allowance });
    let tree = Tree::open(into).map_err(|source| LayerError::Write { path: String::new(), source })?;
    let mut unpacker = Unpacker {
        tree,
        limits,
        entries: 0,
        bytes: 0,
        folder_times: Vec::new(),
        buffer: vec![0; content::CHUNK_BYTES],
    };
    let mut entries = archive.entries().map_err(LayerError::Read)?;
    loop {
        allowance.set(MAX_HEADER_BYTES);
        let Some(entry) = entries.next() else { break };
        allowance.set(u64::MAX);
        let mut entry = entry.map_err(LayerError::Read)?;
        unpacker.entry(&mut entry)?;
        // What is left of it must not count as the next one's header.
        io::copy(&mut entry, &mut io::sink()).map_err(LayerError::Read)?;
    }
    unpacker.finish()
}

/// Ends with an error when more is read at once than was allowed: the archive's
/// reader keeps whole headers in memory, however large they claim to be.
struct Metered<'a, R> {
    inner: R,
    allowance: &'a Cell<u64>,
}

impl<R: Read> Read for Metered<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        let left = self.allowance.get().checked_sub(count as u64);
        let left = left.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "a header is too large"))?;
        self.allowance.set(left);
        Ok(count)
    }
}

struct Unpacker {
    tree: Tree,
    limits: Limits,
    entries: u64,
    bytes: u64,
    /// Set at the end, as each file made in a folder changes the folder's.
    folder_times: Vec<(PathBuf, Metadata)>,
    buffer: Vec<u8>,
}

impl Unpacker {
    fn entry<R: Read>(&mut self, entry: &mut Entry<'_, R>) -> Result<(), LayerError> {
        let kind = entry.header().entry_type();
        if matches!(kind, EntryType::XGlobalHeader) {
            return Ok(());
        }
        self.count(entry.size())?;
        let raw = entry.path_bytes().into_owned();
        let shown = String::from_utf8_lossy(&raw).into_owned();
        let refuse = |problem| LayerError::Refused { path: shown.clone(), problem };
        let name = Name::parse(&raw).map_err(refuse)?;
        let metadata = Metadata::of(entry).map_err(refuse)?;
        let Some(last) = name.last() else {
            // The layer's own folder.
            let is_folder = kind.is_dir();
            return if is_folder { self.root(metadata, &shown) } else { Err(refuse("it is the root")) };
        };
        let write = |source: io::Error| match Errno::from_io_error(&source) {
            // What `RESOLVE_BENEATH` says to a path that leads out.
            Some(Errno::XDEV) => refuse("it leads out of the layer"),
            Some(Errno::LOOP) => refuse("its links lead in a circle"),
            Some(Errno::NOTDIR) => refuse("a file is in its way"),
            _ => LayerError::Write { path: shown.clone(), source },
        };
        let parent = self.tree.parent(&name).map_err(write)?;
        if last.starts_with(WHITEOUT) {
            return match last {
                OPAQUE => tree::make_opaque(&parent).map_err(write),
                last if last.starts_with(AUFS) => Ok(()),
                last => {
                    let hidden = Name::whiteout(&last[WHITEOUT.len()..]).map_err(refuse)?;
                    tree::hide(&parent, hidden).map_err(write)
                }
            };
        }
        #[allow(clippy::wildcard_enum_match_arm, reason = "all that is not known is refused")]
        match kind {
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                let made = content::file(&parent, last, entry, &metadata, &mut self.buffer);
                made.map_err(|error| error.in_layer(write))
            }
            EntryType::Directory => {
                tree::folder(&parent, last, &metadata).map_err(write)?;
                self.folder_times.push((name.path().to_owned(), metadata));
                Ok(())
            }
            EntryType::Symlink => {
                let target = entry.link_name_bytes().unwrap_or_default().into_owned();
                tree::symlink(&parent, last, &target, &metadata).map_err(write)
            }
            EntryType::Link => {
                let target = entry.link_name_bytes().unwrap_or_default().into_owned();
                let target = Name::parse(&target).map_err(|_| refuse("it links out of the layer"))?;
                self.tree.hard_link(&parent, last, &target).map_err(write)
            }
            EntryType::Char | EntryType::Block | EntryType::Fifo => {
                let device = content::device(entry).map_err(refuse)?;
                tree::node(&parent, last, device, &metadata).map_err(write)
            }
            _ => Err(refuse("it is of an unknown type")),
        }
    }

    fn count(&mut self, bytes: u64) -> Result<(), LayerError> {
        self.entries += 1;
        self.bytes = self.bytes.saturating_add(bytes);
        if self.entries > self.limits.entries {
            return Err(LayerError::TooManyEntries { limit: self.limits.entries });
        }
        if self.bytes > self.limits.bytes {
            return Err(LayerError::TooManyBytes { limit: self.limits.bytes });
        }
        Ok(())
    }

    fn root(&mut self, metadata: Metadata, shown: &str) -> Result<(), LayerError> {
        let write = |source| LayerError::Write { path: shown.to_owned(), source };
        metadata.apply(self.tree.root()).map_err(write)?;
        self.folder_times.push((PathBuf::new(), metadata));
        Ok(())
    }

    fn finish(self) -> Result<(), LayerError> {
        for (path, metadata) in self.folder_times.iter().rev() {
            let write = |source| LayerError::Write { path: path.display().to_string(), source };
            // What replaced the folder later, if anything did, is no folder any more.
            if let Some(folder) = self.tree.folder(path).map_err(write)? {
                metadata.apply_times(&folder).map_err(write)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
