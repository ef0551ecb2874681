//! The files of ConfigMap, Secret, downward-API and projected volumes.

use super::{VolumeError, atomic};
use crate::plan::{
    Cause, PodInput, annotations_file, config_map_values, field_value, labels_file, resource_field,
    secret_values,
};
use k8s_openapi::api::core::v1::{DownwardAPIVolumeFile, KeyToPath, Volume, VolumeProjection};
use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

/// One file of a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct File {
    pub(super) data: Vec<u8>,
    pub(super) mode: u32,
}

/// Files by their path in the volume.
pub(super) type Files = BTreeMap<PathBuf, File>;

const DEFAULT_MODE: i32 = 0o644;

/// Brings the volume at `path` up to date; true if that changed it.
///
/// # Errors
/// If what it shows is missing, or cannot be written.
pub(super) fn write(
    volume: &Volume,
    path: &Path,
    input: &PodInput<'_>,
    fs_group: Option<u32>,
) -> Result<bool, VolumeError> {
    let files = Payload { volume: &volume.name, input, files: Files::new() }.collect(volume)?;
    atomic::write(path, files, fs_group)
}

/// Which keys of an object a volume shows, and how.
struct Selection<'a> {
    kind: &'static str,
    items: Option<&'a [KeyToPath]>,
    default_mode: Option<i32>,
    optional: bool,
}

struct Payload<'a> {
    volume: &'a str,
    input: &'a PodInput<'a>,
    files: Files,
}

impl<'a> Payload<'a> {
    fn collect(mut self, volume: &'a Volume) -> Result<Files, VolumeError> {
        if let Some(source) = &volume.config_map {
            self.config_map(
                &source.name,
                Selection {
                    kind: "config",
                    items: source.items.as_deref(),
                    default_mode: source.default_mode,
                    optional: source.optional == Some(true),
                },
            )?;
        }
        if let Some(source) = &volume.secret {
            self.secret(
                source.secret_name.as_deref().unwrap_or_default(),
                Selection {
                    kind: "secret",
                    items: source.items.as_deref(),
                    default_mode: source.default_mode,
                    optional: source.optional == Some(true),
                },
            )?;
        }
        if let Some(source) = &volume.downward_api {
            self.downward(source.items.as_deref(), source.default_mode)?;
        }
        if let Some(projected) = &volume.projected {
            for source in projected.sources.iter().flatten() {
                self.projection(source, projected.default_mode)?;
            }
        }
        Ok(self.files)
    }

    fn projection(&mut self, source: &'a VolumeProjection, mode: Option<i32>) -> Result<(), VolumeError> {
        match source {
            VolumeProjection { config_map: Some(source), .. } => self.config_map(
                &source.name,
                Selection {
                    kind: "config",
                    items: source.items.as_deref(),
                    default_mode: mode,
                    optional: source.optional == Some(true),
                },
            ),
            VolumeProjection { secret: Some(source), .. } => self.secret(
                &source.name,
                Selection {
                    kind: "secret",
                    items: source.items.as_deref(),
                    default_mode: mode,
                    optional: source.optional == Some(true),
                },
            ),
            VolumeProjection { downward_api: Some(source), .. } => {
                self.downward(source.items.as_deref(), mode)
            }
            _ => Err(VolumeError::Unsupported { volume: self.volume.to_owned() }),
        }
    }

    fn config_map(&mut self, name: &str, selection: Selection<'_>) -> Result<(), VolumeError> {
        match self.input.config_maps.get(name) {
            Some(map) => self.keys(&config_map_values(map), &selection),
            None if selection.optional => Ok(()),
            None => Err(self.missing(Cause::ConfigMapNotFound { name: name.to_owned() })),
        }
    }

    fn secret(&mut self, name: &str, selection: Selection<'_>) -> Result<(), VolumeError> {
        match self.input.secrets.get(name) {
            Some(secret) => self.keys(&secret_values(secret), &selection),
            None if selection.optional => Ok(()),
            None => Err(self.missing(Cause::SecretNotFound { name: name.to_owned() })),
        }
    }

    fn keys(&mut self, values: &BTreeMap<&str, &[u8]>, selection: &Selection<'_>) -> Result<(), VolumeError> {
        let Some(items) = selection.items.filter(|items| !items.is_empty()) else {
            for (key, value) in values {
                self.add(key, value.to_vec(), selection.default_mode)?;
            }
            return Ok(());
        };
        for item in items {
            match values.get(item.key.as_str()) {
                Some(value) => self.add(&item.path, value.to_vec(), item.mode.or(selection.default_mode))?,
                None if selection.optional => {}
                None => {
                    return Err(VolumeError::KeyNotFound {
                        volume: self.volume.to_owned(),
                        kind: selection.kind,
                        key: item.key.clone(),
                    });
                }
            }
        }
        Ok(())
    }

    fn downward(
        &mut self,
        items: Option<&[DownwardAPIVolumeFile]>,
        default_mode: Option<i32>,
    ) -> Result<(), VolumeError> {
        for item in items.unwrap_or_default() {
            let text = self.downward_text(item).map_err(|cause| self.missing(cause))?;
            self.add(&item.path, text.into_bytes(), item.mode.or(default_mode))?;
        }
        Ok(())
    }

    fn downward_text(&self, item: &DownwardAPIVolumeFile) -> Result<String, Cause> {
        if let Some(field) = &item.field_ref {
            return match field.field_path.as_str() {
                "metadata.labels" => Ok(labels_file(self.input.pod)),
                "metadata.annotations" => Ok(annotations_file(self.input.pod)),
                // Not known when the files are written, and none that Kubernetes has for a file.
                path if path.starts_with("status.") => Err(Cause::UnknownField { path: path.to_owned() }),
                path => field_value(path, self.input.pod, self.input.node),
            };
        }
        let Some(selector) = &item.resource_field_ref else {
            return Err(Cause::UnknownField { path: String::new() });
        };
        let name = selector.container_name.as_deref().unwrap_or_default();
        let unknown = || Cause::UnknownResource { resource: selector.resource.clone() };
        resource_field(selector, self.input.container(name).ok_or_else(unknown)?, self.input.node)
    }

    fn missing(&self, cause: Cause) -> VolumeError {
        VolumeError::Missing { volume: self.volume.to_owned(), cause }
    }

    /// Adds a file; a later one replaces an earlier one of the same path, as
    /// projected volumes have it.
    fn add(&mut self, path: &str, data: Vec<u8>, mode: Option<i32>) -> Result<(), VolumeError> {
        let bad_path = || VolumeError::BadPath { volume: self.volume.to_owned(), path: path.to_owned() };
        let relative = PathBuf::from(path);
        let normal = relative.components().all(|part| matches!(part, Component::Normal(_)));
        // `..` at the front is what the files' own bookkeeping uses.
        if path.is_empty() || !normal || path.starts_with("..") {
            return Err(bad_path());
        }
        let nested = |other: &PathBuf| {
            *other != relative && (other.starts_with(&relative) || relative.starts_with(other))
        };
        if self.files.keys().any(nested) {
            return Err(bad_path());
        }
        let mode = mode.unwrap_or(DEFAULT_MODE);
        let bits = u32::try_from(mode).ok().filter(|bits| *bits <= 0o777);
        let mode = bits.ok_or_else(|| VolumeError::BadMode { volume: self.volume.to_owned(), mode })?;
        self.files.insert(relative, File { data, mode });
        Ok(())
    }
}
