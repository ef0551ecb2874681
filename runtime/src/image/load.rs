//! Images from an archive under a registry's name, as `docker load` and `ctr images import`.

use super::blobs::Blobs;
use super::error::ImageError;
use super::layout::{self, Description};
use super::record::Record;
use super::store::ImageStore;
use super::{Image, docker};
use manifests::image::Reference;
use std::path::Path;

impl ImageStore {
    /// The image of the archive (of Docker's or OCI's form) or the layout at `path` is in the
    /// store as `name`, and needs no registry. `tag` chooses one of several. Blocking.
    ///
    /// # Errors
    /// If the name is none of a registry's image, or the archive cannot be read.
    pub fn load(&self, path: &Path, tag: Option<&str>, name: &str) -> Result<Image, ImageError> {
        let parsed = Self::parse(name)?;
        let Reference::Registry(_) = &parsed else {
            let problem = "an imported image needs a name like `web:v1` or `registry.example.com/web:v1`";
            return Err(ImageError::InvalidName { reference: name.to_owned(), problem: problem.to_owned() });
        };
        let _one_at_a_time = self.lock_import();
        let scratch = self.scratch()?;
        let blobs =
            if path.is_dir() { Blobs::Folder(path.to_owned()) } else { Blobs::archive(path, &scratch.0)? };
        let found = match layout::describe(&blobs, tag) {
            Err(ImageError::MissingFile { .. }) => docker::describe(&blobs, tag)?,
            found => found?,
        };
        for layer in &found.layers {
            self.unpack(&blobs, layer, &scratch)?;
        }
        let Description { id, digest, config, layers } = found;
        let size = layers.iter().map(|layer| layer.blob.as_ref().map_or(0, |(_, size)| *size)).sum();
        let diff_ids = layers.into_iter().map(|layer| layer.diff_id).collect();
        let (reference, stamp) = (parsed.to_string(), digest.clone());
        let record = Record { reference, stamp, id, digest, diff_ids, config, size, ..Record::default() };
        self.write(&scratch, &record)?;
        self.image_of(record)
    }
}
