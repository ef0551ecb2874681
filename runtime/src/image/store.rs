//! The image store on disk:
//!
//! ```text
//! layers/<digest of the uncompressed archive>/fs   unpacked, never changed
//! references/<digest of the reference>.json        what it led to
//! blobs/sha256/<digest>                            as it came, if it is kept for peers
//! downloads/blobs/sha256/<digest>[.part]           compressed, on their way to layers
//! tmp/                                             unfinished; emptied at each start
//! ```
//!
//! A layer is unpacked in `tmp` and renamed when it is whole, verified and on
//! the disk, so that whatever is under `layers` can be used. Only root can
//! enter the store: images bring setuid programs and device nodes.

use super::blobs::Blobs;
use super::digest::{digest_of, hex_of};
use super::error::ImageError;
use super::known::Known;
use super::layer::{self, Limits};
use super::layout::{self, Description, LayerSource};
use super::record::{self, Record};
use super::{Image, ImageConfig, PullPolicy, docker};
use crate::plan::Rootfs;
use manifests::image::{Archive, Reference};
use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Unpacked layers, and what the references that led to them were.
#[derive(Debug)]
pub struct ImageStore {
    root: PathBuf,
    limits: Limits,
    /// Held while something is unpacked: two pods that want one image unpack it once.
    import: Mutex<()>,
    scratches: AtomicU64,
    /// Layers that a pull in the works has or is about to have.
    pub(super) pending: Mutex<Vec<String>>,
    /// What the records say, until one changes.
    pub(super) known: Known,
    /// What comes is kept as it came too.
    pub(super) keeps_blobs: bool,
}

impl ImageStore {
    /// The store in `root`, made if it is not there; what an earlier process
    /// left unfinished is removed. One process at a time may have it open.
    ///
    /// # Errors
    /// If a folder cannot be made or cleared.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self, ImageError> {
        let store = Self {
            root: root.into(),
            limits: Limits::default(),
            import: Mutex::new(()),
            scratches: AtomicU64::new(0),
            pending: Mutex::default(),
            known: Known::default(),
            keeps_blobs: false,
        };
        let tmp = store.root.join("tmp");
        match fs::remove_dir_all(&tmp) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(ImageError::io("remove", &tmp, source));
            }
            Ok(()) | Err(_) => {}
        }
        for folder in [&tmp, &store.layers(), &store.references(), &store.downloads()] {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
            made.map_err(|source| ImageError::io("create", folder, source))?;
        }
        Ok(store)
    }

    /// With other limits for what one layer may cost.
    #[must_use]
    pub const fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn layers(&self) -> PathBuf {
        self.root.join("layers")
    }

    pub(super) fn references(&self) -> PathBuf {
        self.root.join("references")
    }

    /// The meaning of `reference`.
    ///
    /// # Errors
    /// [`ImageError::InvalidName`].
    pub fn parse(reference: &str) -> Result<Reference, ImageError> {
        let invalid = |problem: manifests::image::ReferenceError| ImageError::InvalidName {
            reference: reference.to_owned(),
            problem: problem.to_string(),
        };
        Reference::parse(reference).map_err(invalid)
    }

    /// The image of `reference`, with every layer unpacked. Blocking. What a registry has is
    /// only looked for in the store: [`super::registry::Puller`] fetches it.
    ///
    /// `Never` takes what the store has, `IfNotPresent` too if it has it;
    /// `Always` looks whether the reference's file has changed, and reads it again then.
    ///
    /// # Errors
    /// With the reason that a container's status shows.
    pub fn resolve(&self, reference: &str, policy: PullPolicy) -> Result<Image, ImageError> {
        let invalid = |problem: String| ImageError::InvalidName { reference: reference.to_owned(), problem };
        let parsed = Self::parse(reference)?;
        let archive = match &parsed {
            Reference::Host => return Ok(host()),
            Reference::Registry(_) => {
                let missing = || match policy {
                    PullPolicy::Never => ImageError::NotPresent { reference: reference.to_owned() },
                    PullPolicy::Always | PullPolicy::IfNotPresent => {
                        ImageError::NotPulled { reference: reference.to_owned() }
                    }
                };
                return self.pulled(&parsed.to_string())?.ok_or_else(missing);
            }
            Reference::OciLayout(archive)
            | Reference::OciArchive(archive)
            | Reference::DockerArchive(archive) => archive,
        };
        if !archive.path.starts_with('/') {
            return Err(invalid(format!("the path {} must be absolute", archive.path)));
        }
        if let Some(image) = self.present(reference, &parsed, archive, policy)? {
            return Ok(image);
        }
        if policy == PullPolicy::Never {
            return Err(ImageError::NotPresent { reference: reference.to_owned() });
        }
        let _one_at_a_time = self.lock_import();
        // Somebody else may have had the lock for the same image.
        match self.present(reference, &parsed, archive, policy)? {
            Some(image) => Ok(image),
            None => self.import(reference, &parsed, archive),
        }
    }

    /// The image as the store has it, if `policy` allows that.
    fn present(
        &self,
        reference: &str,
        parsed: &Reference,
        archive: &Archive,
        policy: PullPolicy,
    ) -> Result<Option<Image>, ImageError> {
        let record = match record::read(&self.references(), reference) {
            // It can be made anew.
            Err(ImageError::DamagedRecord { .. }) if policy != PullPolicy::Never => return Ok(None),
            record => record?,
        };
        let Some(record) = record else { return Ok(None) };
        if policy == PullPolicy::Always && stamp(parsed, archive)? != record.stamp {
            return Ok(None);
        }
        self.whole(record)
    }

    /// The image of the record, unless a layer of it is gone.
    fn whole(&self, record: Record) -> Result<Option<Image>, ImageError> {
        let layers = self.layer_paths(&record.diff_ids)?;
        Ok(layers.iter().all(|layer| layer.is_dir()).then(|| image(record, layers)))
    }

    /// The image that was pulled as `name`, the full form of a reference.
    pub(super) fn pulled(&self, name: &str) -> Result<Option<Image>, ImageError> {
        match record::read(&self.references(), name) {
            // It can be pulled anew.
            Err(ImageError::DamagedRecord { .. }) | Ok(None) => Ok(None),
            Ok(Some(record)) => {
                if record::touch(&self.references(), name)? {
                    self.known.forget();
                }
                self.whole(record)
            }
            Err(error) => Err(error),
        }
    }

    /// Where unfinished downloads are.
    pub(super) fn downloads(&self) -> PathBuf {
        self.root.join("downloads")
    }

    pub(super) fn has_layer(&self, diff_id: &str) -> bool {
        hex_of(diff_id).is_ok_and(|hex| self.layers().join(hex).join("fs").is_dir())
    }

    /// The layer is in the store. Blocking. While it goes to the disk, another can be unpacked.
    pub(super) fn add_layer(&self, blobs: &Blobs, source: &LayerSource) -> Result<(), ImageError> {
        let scratch = self.scratch()?;
        {
            let _one_at_a_time = self.lock_import();
            if self.has_layer(&source.diff_id) {
                return Ok(());
            }
            self.extract(blobs, source, &scratch)?;
        }
        sync(&scratch)?;
        let _one_at_a_time = self.lock_import();
        self.keep(source, &scratch)
    }

    /// The store knows the image, whose layers it has. Blocking.
    pub(super) fn remember(&self, record: Record) -> Result<Image, ImageError> {
        self.write(&self.scratch()?, &record)?;
        self.image_of(record)
    }

    /// The record is on the disk.
    pub(super) fn write(&self, scratch: &Scratch, record: &Record) -> Result<(), ImageError> {
        let written = record::write(&self.references(), &scratch.0, record);
        self.known.forget();
        // Who has pulled an image asks for it next, and shall not wait for the disk.
        let _ = self.known.records(&self.references());
        written
    }

    /// Until the answer is dropped, none of the layers is removed as unneeded.
    pub(super) fn expect(&self, diff_ids: Vec<String>) -> Expected<'_> {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        pending.extend(diff_ids.iter().cloned());
        Expected { store: self, diff_ids }
    }

    /// Until the answer is dropped, no layer comes and none goes.
    pub(super) fn lock_import(&self) -> MutexGuard<'_, ()> {
        self.import.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The record as an image.
    pub(super) fn image_of(&self, record: Record) -> Result<Image, ImageError> {
        let layers = self.layer_paths(&record.diff_ids)?;
        Ok(image(record, layers))
    }

    pub(super) fn scratch(&self) -> Result<Scratch, ImageError> {
        Scratch::new(&self.root.join("tmp"), self.scratches.fetch_add(1, Ordering::Relaxed))
    }

    fn import(&self, reference: &str, parsed: &Reference, archive: &Archive) -> Result<Image, ImageError> {
        let scratch = self.scratch()?;
        let path = Path::new(&archive.path);
        // Taken before the content: a change in between is seen the next time.
        let stamp = stamp(parsed, archive)?;
        let blobs = if matches!(parsed, Reference::OciLayout(_)) {
            Blobs::Folder(path.to_owned())
        } else {
            Blobs::archive(path, &scratch.0)?
        };
        let tag = archive.tag.as_deref();
        let found = if matches!(parsed, Reference::DockerArchive(_)) {
            docker::describe(&blobs, tag)?
        } else {
            layout::describe(&blobs, tag)?
        };
        for layer in &found.layers {
            self.unpack(&blobs, layer, &scratch)?;
        }
        let Description { id, digest, config, layers } = found;
        let size = layers.iter().map(|layer| layer.blob.as_ref().map_or(0, |(_, size)| *size)).sum();
        let diff_ids = layers.into_iter().map(|layer| layer.diff_id).collect();
        let record = Record {
            reference: reference.to_owned(),
            stamp,
            id,
            digest,
            diff_ids,
            config,
            size,
            ..Record::default()
        };
        self.write(&scratch, &record)?;
        let layers = self.layer_paths(&record.diff_ids)?;
        Ok(image(record, layers))
    }

    /// Makes sure that the layer is in the store.
    pub(super) fn unpack(
        &self,
        blobs: &Blobs,
        source: &LayerSource,
        scratch: &Scratch,
    ) -> Result<(), ImageError> {
        if self.has_layer(&source.diff_id) {
            return Ok(());
        }
        self.extract(blobs, source, scratch)?;
        sync(scratch)?;
        self.keep(source, scratch)
    }

    /// The layer is whole and verified in the scratch folder.
    fn extract(&self, blobs: &Blobs, source: &LayerSource, scratch: &Scratch) -> Result<(), ImageError> {
        // Refused before anything is read by it.
        hex_of(&source.diff_id)?;
        let folder = scratch.layer().join("fs");
        let made = DirBuilder::new().recursive(true).mode(0o755).create(&folder);
        // A container's root must be open to its users, whatever our umask.
        let made = made.and_then(|()| fs::set_permissions(&folder, Permissions::from_mode(0o755)));
        made.map_err(|source| ImageError::io("create", &folder, source))?;
        layer::extract(blobs, source, &folder, self.limits)
    }

    /// The layer that is on the disk in the scratch folder is in the store, unless somebody else
    /// has brought it meanwhile.
    fn keep(&self, source: &LayerSource, scratch: &Scratch) -> Result<(), ImageError> {
        let layer = self.layers().join(hex_of(&source.diff_id)?);
        if self.has_layer(&source.diff_id) {
            return Ok(());
        }
        let renamed = fs::rename(scratch.layer(), &layer);
        let renamed = renamed.and_then(|()| File::open(self.layers())?.sync_all());
        renamed.map_err(|source| ImageError::io("rename", &layer, source))
    }

    /// Where the layers are, topmost first. A layer that an image has twice is
    /// named once: its upper place hides all of its lower one, and the kernel
    /// takes no folder twice.
    fn layer_paths(&self, diff_ids: &[String]) -> Result<Vec<PathBuf>, ImageError> {
        let mut seen = BTreeSet::new();
        let topmost_first = diff_ids.iter().rev().filter(|diff_id| seen.insert(diff_id.as_str()));
        topmost_first.map(|diff_id| Ok(self.layers().join(hex_of(diff_id)?).join("fs"))).collect()
    }
}

/// See [`ImageStore::expect`].
pub(super) struct Expected<'a> {
    store: &'a ImageStore,
    diff_ids: Vec<String>,
}

impl Drop for Expected<'_> {
    fn drop(&mut self) {
        let mut pending = self.store.pending.lock().unwrap_or_else(PoisonError::into_inner);
        for diff_id in &self.diff_ids {
            if let Some(at) = pending.iter().position(|one| one == diff_id) {
                pending.swap_remove(at);
            }
        }
    }
}

/// What is in the scratch folder is on the disk.
fn sync(scratch: &Scratch) -> Result<(), ImageError> {
    let folder = scratch.layer();
    let synced = File::open(&folder).and_then(|folder| Ok(rustix::fs::syncfs(folder)?));
    synced.map_err(|source| ImageError::io("write", &folder, source))
}

/// A folder for unfinished work, removed when it is done or given up.
pub(super) struct Scratch(pub(super) PathBuf);

impl Scratch {
    fn new(tmp: &Path, number: u64) -> Result<Self, ImageError> {
        let path = tmp.join(number.to_string());
        fs::create_dir(&path).map_err(|source| ImageError::io("create", &path, source))?;
        Ok(Self(path))
    }

    /// Where a layer is unpacked, or goes when it is not needed any more.
    pub(super) fn layer(&self) -> PathBuf {
        self.0.join("layer")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What stays is removed when the store is next opened.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn image(record: Record, layers: Vec<PathBuf>) -> Image {
    Image { id: record.id, digest: record.digest, rootfs: Rootfs::Layers(layers), config: record.config }
}

/// What tells a changed file from the same one: a layout's index by its digest,
/// an archive by its inode, size and time.
fn stamp(parsed: &Reference, archive: &Archive) -> Result<String, ImageError> {
    let path = Path::new(&archive.path);
    if matches!(parsed, Reference::OciLayout(_)) {
        return Ok(digest_of(&Blobs::Folder(path.to_owned()).description("index.json")?));
    }
    let found = fs::metadata(path).map_err(|source| ImageError::io("read", path, source))?;
    let (seconds, nanos) = (found.mtime(), found.mtime_nsec());
    Ok(format!("{}:{}:{}:{seconds}.{nanos:09}", found.dev(), found.ino(), found.size()))
}

/// The host's own root.
fn host() -> Image {
    let nixos = "/run/current-system/sw/bin";
    let env = if Path::new(nixos).is_dir() {
        vec![format!("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:{nixos}")]
    } else {
        Vec::new()
    };
    Image {
        id: "host:".to_owned(),
        digest: "host:".to_owned(),
        rootfs: Rootfs::Host { hidden: Vec::new() },
        config: ImageConfig { env, ..ImageConfig::default() },
    }
}
