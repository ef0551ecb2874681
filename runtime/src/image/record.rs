//! What the store remembers of a reference: one small file each.

use super::config::ImageConfig;
use super::digest::{digest_of, hex_of};
use super::error::ImageError;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// An image as it was when its reference was last read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// As in the manifest.
    pub(super) reference: String,
    /// What the reference's file was like; another value means that it changed.
    pub(super) stamp: String,
    pub(super) id: String,
    pub(super) digest: String,
    /// Digests of the uncompressed layers, lowest first.
    pub(super) diff_ids: Vec<String>,
    pub(super) config: ImageConfig,
    /// Bytes of the layers as they came.
    #[serde(default)]
    pub(super) size: u64,
    /// Digests of all that it came as: what leads to its manifest, its configuration and its layers.
    #[serde(default)]
    pub(super) blobs: Vec<String>,
    /// Whom the registry gave it to: fingerprints of credentials.
    #[serde(default)]
    pub(super) access: Vec<String>,
    /// Unix seconds at which the registry said so.
    #[serde(default)]
    pub(super) resolved_at: i64,
}

/// Where the record of `reference` is.
pub(super) fn path(folder: &Path, reference: &str) -> Result<PathBuf, ImageError> {
    Ok(folder.join(format!("{}.json", hex_of(&digest_of(reference.as_bytes()))?)))
}

/// The record of `reference`, if there is one.
///
/// # Errors
/// If it cannot be read.
pub(super) fn read(folder: &Path, reference: &str) -> Result<Option<Record>, ImageError> {
    let path = path(folder, reference)?;
    let content = match fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        content => content.map_err(|source| ImageError::io("read", &path, source))?,
    };
    serde_json::from_slice(&content).map(Some).map_err(|source| ImageError::DamagedRecord { path, source })
}

/// Keeps `record`; it is on the disk, whole, when this returns.
///
/// # Errors
/// If it cannot be written; the one before then stands.
pub(super) fn write(folder: &Path, scratch: &Path, record: &Record) -> Result<(), ImageError> {
    let path = path(folder, &record.reference)?;
    let next = scratch.join("record");
    let written = serde_json::to_vec(record).map_err(io::Error::other).and_then(|content| {
        let mut file = File::create(&next)?;
        file.write_all(&content)?;
        file.sync_all()?;
        fs::rename(&next, &path)?;
        File::open(folder)?.sync_all()
    });
    written.map_err(|source| ImageError::io("write", &path, source))
}

/// The record's file says that the image was used now; not more often than is of use. True if it
/// did not before.
///
/// # Errors
/// If the file is not there.
pub(super) fn touch(folder: &Path, reference: &str) -> Result<bool, ImageError> {
    const OFTEN_ENOUGH: Duration = Duration::from_secs(30);
    let path = path(folder, reference)?;
    let touched = File::open(&path).and_then(|file| {
        let age = file.metadata()?.modified()?.elapsed().unwrap_or(Duration::MAX);
        let is_due = age > OFTEN_ENOUGH;
        if is_due { file.set_modified(SystemTime::now()).map(|()| true) } else { Ok(false) }
    });
    touched.map_err(|source| ImageError::io("touch", &path, source))
}

/// Every record that can be read, and when it was last used.
///
/// # Errors
/// If the folder cannot be read.
pub(super) fn all(folder: &Path) -> Result<Vec<(Record, SystemTime)>, ImageError> {
    let fail = |source| ImageError::io("read", folder, source);
    let mut records = Vec::new();
    for entry in fs::read_dir(folder).map_err(fail)?.flatten() {
        let Ok(content) = fs::read(entry.path()) else { continue };
        let Ok(record) = serde_json::from_slice::<Record>(&content) else { continue };
        let used = entry.metadata().and_then(|found| found.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
        records.push((record, used));
    }
    Ok(records)
}

/// The store knows nothing of `reference`.
///
/// # Errors
/// If its file cannot be removed.
pub(super) fn remove(folder: &Path, reference: &str) -> Result<(), ImageError> {
    let path = path(folder, reference)?;
    match fs::remove_file(&path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(ImageError::io("remove", &path, source))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}
