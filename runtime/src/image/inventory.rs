//! What the store has, and what of it can go.

use super::error::ImageError;
use super::known::Records;
use super::record::{self, Record};
use super::store::Scratch;
use super::{ImageStore, digest};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::PoisonError;
use std::time::{Duration, SystemTime};

/// One image of the store, whatever the number of names that it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageSummary {
    /// The digest of its configuration.
    pub id: String,
    /// The full references that led to it: `docker.io/library/nginx:1.27`.
    pub references: Vec<String>,
    /// `docker.io/library/nginx@sha256:…`, for what came from a registry.
    pub digests: Vec<String>,
    /// Bytes of its layers as they came, compressed or not.
    pub size_bytes: u64,
    /// `user[:group]` that it runs as; empty for root.
    pub user: String,
    /// When a pod last wanted it.
    pub used_at: Timestamp,
}

/// What was removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Removed {
    /// Full references.
    pub references: Vec<String>,
    /// Unpacked layers.
    pub layers: usize,
}

impl ImageStore {
    /// Every image, by its first reference. Blocking.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn list(&self) -> Result<Vec<ImageSummary>, ImageError> {
        Ok(summaries(&self.records()?))
    }

    pub(super) fn records(&self) -> Result<Records, ImageError> {
        self.known.records(&self.references())
    }

    /// The image that `wanted` means: a reference, an id, or the beginning of an id.
    /// Blocking.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn find(&self, wanted: &str) -> Result<Option<ImageSummary>, ImageError> {
        Ok(meant(self.list()?, wanted))
    }

    /// As [`ImageStore::find`], from what is in memory; `None` if the store has to be read for it.
    #[must_use]
    pub fn find_at_hand(&self, wanted: &str) -> Option<Option<ImageSummary>> {
        Some(meant(summaries(&self.known.at_hand()?), wanted))
    }

    /// The reference is forgotten, or with an id all references of the image; then what no
    /// image needs any more is removed, its files a little later. `in_use` are the ids of the images that pods have.
    /// Blocking.
    ///
    /// # Errors
    /// [`ImageError::Unknown`], [`ImageError::InUse`], or if something cannot be removed.
    pub fn remove(&self, wanted: &str, in_use: &BTreeSet<String>) -> Result<Removed, ImageError> {
        let reference = || wanted.to_owned();
        let image = self.find(wanted)?.ok_or_else(|| ImageError::Unknown { reference: reference() })?;
        if in_use.contains(&image.id) {
            return Err(ImageError::InUse { reference: reference() });
        }
        let name = full_name(wanted);
        let by_name = image.references.iter().find(|known| **known == name || *known == wanted).cloned();
        let references = by_name.map_or(image.references, |one| vec![one]);
        let _nothing_is_added = self.lock_import();
        for one in &references {
            self.forget(one)?;
        }
        let unneeded = self.set_unneeded_layers_aside(in_use)?;
        let layers = unneeded.len();
        // Thousands of files may be, and wait for what else goes to the disk. Without a thread they
        // go now.
        let _ = std::thread::Builder::new().name("layers".to_owned()).spawn(move || drop(unneeded));
        Ok(Removed { references, layers })
    }

    /// Images that no pod has and none wanted for `min_age` are gone, those that were not
    /// wanted for longest first, until `enough` says so. Blocking.
    ///
    /// # Errors
    /// If something cannot be removed.
    pub fn prune(
        &self,
        in_use: &BTreeSet<String>,
        min_age: Duration,
        mut enough: impl FnMut() -> bool,
    ) -> Result<Removed, ImageError> {
        let _nothing_is_added = self.lock_import();
        let mut records = self.records()?.to_vec();
        records.sort_by_key(|(_, used)| *used);
        let mut removed = Removed::default();
        for (record, used) in records {
            let age = SystemTime::now().duration_since(used).unwrap_or_default();
            if in_use.contains(&record.id) || age < min_age {
                continue;
            }
            if enough() {
                break;
            }
            self.forget(&record.reference)?;
            removed.references.push(record.reference);
            removed.layers += self.set_unneeded_layers_aside(in_use)?.len();
        }
        removed.layers += self.set_unneeded_layers_aside(in_use)?.len();
        self.remove_old_downloads(min_age);
        Ok(removed)
    }

    fn forget(&self, reference: &str) -> Result<(), ImageError> {
        let removed = record::remove(&self.references(), reference);
        self.known.forget();
        removed
    }

    /// Layers that no record names, no pod has and no pull fetches are out of the store, each of
    /// them at once, so that none is ever there in part; dropping what is returned removes their
    /// files.
    fn set_unneeded_layers_aside(&self, in_use: &BTreeSet<String>) -> Result<Vec<Scratch>, ImageError> {
        let pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let records = self.records()?;
        let known: BTreeSet<&str> = records.iter().map(|(record, _)| record.id.as_str()).collect();
        if !in_use.iter().all(|id| id.ends_with(':') || known.contains(id.as_str())) {
            // A pod has an image whose record is lost: which layers it has, nobody can say.
            return Ok(Vec::new());
        }
        let recorded = records.iter().flat_map(|(record, _)| record.diff_ids.iter().chain(&record.blobs));
        let needed = recorded.chain(&pending).filter_map(|diff_id| digest::hex_of(diff_id).ok());
        let needed: BTreeSet<&str> = needed.collect();
        self.remove_blobs_but(&needed);
        let folder = self.layers();
        let entries = fs::read_dir(&folder).map_err(|source| ImageError::io("read", &folder, source))?;
        let unneeded = entries.flatten().filter(|entry| {
            let name = entry.file_name();
            !name.to_str().is_some_and(|name| needed.contains(name))
        });
        unneeded.map(|entry| self.set_aside(&entry.path())).collect()
    }

    fn set_aside(&self, layer: &Path) -> Result<Scratch, ImageError> {
        let scratch = self.scratch()?;
        let aside = fs::rename(layer, scratch.layer());
        aside.map_err(|source| ImageError::io("remove", layer, source))?;
        Ok(scratch)
    }

    fn remove_old_downloads(&self, min_age: Duration) {
        let folder = self.downloads().join("blobs").join("sha256");
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if age(&entry.path()) >= min_age.max(Duration::from_secs(3600)) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

/// Every image, by its first reference.
fn summaries(records: &[(Record, SystemTime)]) -> Vec<ImageSummary> {
    let mut images: BTreeMap<&str, ImageSummary> = BTreeMap::new();
    for (record, used) in records {
        let used_at = Timestamp::try_from(*used).unwrap_or(Timestamp::UNIX_EPOCH);
        let image = images.entry(&record.id).or_insert_with(|| ImageSummary {
            id: record.id.clone(),
            references: Vec::new(),
            digests: Vec::new(),
            size_bytes: record.size,
            user: record.config.user.clone(),
            used_at,
        });
        image.used_at = image.used_at.max(used_at);
        image.digests.extend(repo_digest(record));
        image.references.push(record.reference.clone());
    }
    let mut images: Vec<_> = images.into_values().collect();
    for image in &mut images {
        image.references.sort_unstable();
        image.digests.sort_unstable();
        image.digests.dedup();
    }
    images.sort_by(|a, b| a.references.cmp(&b.references));
    images
}

/// The image of `all` that `wanted` means: a reference, an id, or the beginning of an id.
fn meant(all: Vec<ImageSummary>, wanted: &str) -> Option<ImageSummary> {
    let name = full_name(wanted);
    let hex = wanted.strip_prefix("sha256:").unwrap_or(wanted);
    let is_id = hex.len() >= 6 && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
    let fits = |image: &ImageSummary| {
        image.references.iter().any(|reference| *reference == name || reference == wanted)
            || image.digests.contains(&name)
            || (is_id && image.id.strip_prefix("sha256:").is_some_and(|id| id.starts_with(hex)))
    };
    all.into_iter().find(fits)
}

fn full_name(wanted: &str) -> String {
    ImageStore::parse(wanted).map_or_else(|_| wanted.to_owned(), |parsed| parsed.to_string())
}

/// How long ago the path was changed; nothing if that cannot be said.
fn age(path: &Path) -> Duration {
    let changed = fs::symlink_metadata(path).and_then(|found| found.modified());
    changed.ok().and_then(|at| at.elapsed().ok()).unwrap_or_default()
}

fn repo_digest(record: &Record) -> Option<String> {
    match ImageStore::parse(&record.reference).ok()? {
        manifests::image::Reference::Registry(registry) => {
            Some(format!("{}/{}@{}", registry.host, registry.repository, record.digest))
        }
        manifests::image::Reference::Host
        | manifests::image::Reference::OciLayout(_)
        | manifests::image::Reference::OciArchive(_)
        | manifests::image::Reference::DockerArchive(_) => None,
    }
}
