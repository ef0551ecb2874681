//! What came is kept as it came too, for peers: manifests, configurations, compressed layers.
//!
//! Nothing on this machine needs these files. They come with an image and go with it.

use super::ImageStore;
use super::digest::{digest_of, hex_of};
use super::error::ImageError;
use super::record;
use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::{Path, PathBuf};

/// What is larger is no description of an image.
pub(super) const MAX_DESCRIPTION_BYTES: u64 = 4 << 20;

/// A part of a blob.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stretch {
    pub(super) content: Vec<u8>,
    /// The whole blob's bytes.
    pub(super) size: u64,
}

impl ImageStore {
    /// Blobs are kept from here on, or none is any more: then those that were are gone.
    ///
    /// # Errors
    /// If their folder cannot be made, or cleared.
    pub fn keeping_blobs(mut self, keep: bool) -> Result<Self, ImageError> {
        self.keeps_blobs = keep;
        let folder = self.blobs();
        if keep {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(&folder);
            made.map_err(|source| ImageError::io("create", &folder, source))?;
            // A crash in a pull leaves some that belong to no image.
            let records = self.records()?;
            let needed = records.iter().flat_map(|(record, _)| &record.blobs);
            self.remove_blobs_but(&needed.filter_map(|digest| hex_of(digest).ok()).collect());
            return Ok(self);
        }
        match fs::remove_dir_all(&folder) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(ImageError::io("remove", &folder, source))
            }
            Ok(()) | Err(_) => Ok(self),
        }
    }

    /// True if what comes is kept for peers.
    #[must_use]
    pub const fn keeps_blobs(&self) -> bool {
        self.keeps_blobs
    }

    fn blobs(&self) -> PathBuf {
        self.root().join("blobs").join("sha256")
    }

    fn blob(&self, digest: &str) -> Result<PathBuf, ImageError> {
        Ok(self.blobs().join(hex_of(digest)?))
    }

    /// True if the blob is kept.
    pub(super) fn has_blob(&self, digest: &str) -> bool {
        self.blob(digest).is_ok_and(|path| path.is_file())
    }

    /// The description `digest`, if it is kept, and is what it should be.
    pub(super) fn kept_description(&self, digest: &str) -> Option<Vec<u8>> {
        let file = File::open(self.blob(digest).ok()?).ok()?;
        if file.metadata().ok()?.len() > MAX_DESCRIPTION_BYTES {
            return None;
        }
        let content = fs::read(self.blob(digest).ok()?).ok()?;
        (digest_of(&content) == digest).then_some(content)
    }

    /// The description is kept, if blobs are. It is not waited for the disk: whoever reads it checks it.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(super) fn keep_description(&self, digest: &str, content: &[u8]) -> Result<(), ImageError> {
        if !self.keeps_blobs || self.has_blob(digest) {
            return Ok(());
        }
        let (path, scratch) = (self.blob(digest)?, self.scratch()?);
        let next = scratch.0.join("blob");
        let written = fs::write(&next, content).and_then(|()| fs::rename(&next, &path));
        written.map_err(|source| ImageError::io("write", &path, source))
    }

    /// The download at `path`, whose content was verified as `digest`, is kept if blobs are, and gone
    /// if not.
    pub(super) fn keep_download(&self, path: &Path, digest: &str) {
        let kept = self.keeps_blobs && self.blob(digest).is_ok_and(|to| fs::rename(path, to).is_ok());
        if !kept {
            let _ = fs::remove_file(path);
        }
    }

    /// A part of the blob, at most `most` bytes from `offset` on; `None` if the blob is not kept.
    pub(super) fn kept_part(&self, digest: &str, offset: u64, most: usize) -> Option<Stretch> {
        stretch(&self.blob(digest).ok()?, offset, most)
    }

    /// Only the blobs with these digests, in hexadecimal digits, are kept still.
    pub(super) fn remove_blobs_but(&self, needed: &BTreeSet<&str>) {
        for entry in fs::read_dir(self.blobs()).into_iter().flatten().flatten() {
            if !entry.file_name().to_str().is_some_and(|name| needed.contains(name)) {
                // What stays is tried again the next time.
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    /// The record of `name` says that the registry gave the image to these credentials too.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(super) fn admit(&self, name: &str, fingerprint: &str) -> Result<(), ImageError> {
        let Some(mut record) = record::read(&self.references(), name)? else { return Ok(()) };
        if record.access.iter().any(|known| known == fingerprint) {
            return Ok(());
        }
        record.access.push(fingerprint.to_owned());
        self.write(&self.scratch()?, &record)
    }
}

/// At most `most` bytes of the file from `offset` on; `None` if it is not there.
pub(super) fn stretch(path: &Path, offset: u64, most: usize) -> Option<Stretch> {
    let file = File::open(path).ok()?;
    let size = file.metadata().ok()?.len();
    let left = usize::try_from(size.saturating_sub(offset)).unwrap_or(usize::MAX);
    let mut content = vec![0; most.min(left)];
    file.read_exact_at(&mut content, offset).ok()?;
    Some(Stretch { content, size })
}
