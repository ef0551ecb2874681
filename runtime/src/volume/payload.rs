//! The files of ConfigMap, Secret, downward-API and projected volumes.

use super::{VolumeError, atomic};
use crate::plan::{
    Cause, PodInput, annotations_file, config_map_values, field_value, labels_file, resource_field,
    secret_values, service_account,
};
use crate::token::{Claims, ISSUER, Subject};
use k8s_openapi::api::core::v1::{
    DownwardAPIVolumeFile, KeyToPath, ProjectedVolumeSource, ServiceAccountTokenProjection, Volume,
    VolumeProjection,
};
use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

/// One file of a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct File {
    pub(super) data: Vec<u8>,
    pub(super) mode: u32,
    /// Its owner, if it is not whoever writes it.
    pub(super) user: Option<u32>,
}

/// Files by their path in the volume.
pub(super) type Files = BTreeMap<PathBuf, File>;

const DEFAULT_MODE: i32 = 0o644;
/// What a token lives for, in seconds, as the API server has it.
const TOKEN_SECONDS: i64 = 3600;
const MIN_TOKEN_SECONDS: i64 = 600;

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
    let files = Payload { volume: &volume.name, root: path, input, files: Files::new() }.collect(volume)?;
    atomic::write(path, files, fs_group)
}

/// Which keys of an object a volume shows, and how.
struct Selection<'a> {
    kind: &'static str,
    items: Option<&'a [KeyToPath]>,
    default_mode: Option<i32>,
    default_user: Option<i64>,
    optional: bool,
}

/// Mode and owner of a file, as a manifest has them.
#[derive(Debug, Clone, Copy)]
struct Access {
    mode: Option<i32>,
    user: Option<i64>,
}

struct Payload<'a> {
    volume: &'a str,
    /// Where it is, and what it showed before.
    root: &'a Path,
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
                    default_user: source.default_user,
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
                    default_user: source.default_user,
                    optional: source.optional == Some(true),
                },
            )?;
        }
        if let Some(source) = &volume.downward_api {
            self.downward(source.items.as_deref(), source.default_mode, source.default_user)?;
        }
        if let Some(projected) = &volume.projected {
            for source in projected.sources.iter().flatten() {
                self.projection(source, projected)?;
            }
        }
        Ok(self.files)
    }

    fn projection(
        &mut self,
        source: &'a VolumeProjection,
        projected: &'a ProjectedVolumeSource,
    ) -> Result<(), VolumeError> {
        let (mode, user) = (projected.default_mode, projected.default_user);
        match source {
            VolumeProjection { config_map: Some(source), .. } => self.config_map(
                &source.name,
                Selection {
                    kind: "config",
                    items: source.items.as_deref(),
                    default_mode: mode,
                    default_user: user,
                    optional: source.optional == Some(true),
                },
            ),
            VolumeProjection { secret: Some(source), .. } => self.secret(
                &source.name,
                Selection {
                    kind: "secret",
                    items: source.items.as_deref(),
                    default_mode: mode,
                    default_user: user,
                    optional: source.optional == Some(true),
                },
            ),
            VolumeProjection { downward_api: Some(source), .. } => {
                self.downward(source.items.as_deref(), mode, user)
            }
            VolumeProjection { service_account_token: Some(source), .. } => {
                self.token(source, Access { mode, user: source.user.or(user) })
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
                let access = Access { mode: selection.default_mode, user: selection.default_user };
                self.add(key, value.to_vec(), access)?;
            }
            return Ok(());
        };
        for item in items {
            match values.get(item.key.as_str()) {
                Some(value) => {
                    let user = item.user.or(selection.default_user);
                    let access = Access { mode: item.mode.or(selection.default_mode), user };
                    self.add(&item.path, value.to_vec(), access)?;
                }
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
        default_user: Option<i64>,
    ) -> Result<(), VolumeError> {
        for item in items.unwrap_or_default() {
            let text = self.downward_text(item).map_err(|cause| self.missing(cause))?;
            let access = Access { mode: item.mode.or(default_mode), user: item.user.or(default_user) };
            self.add(&item.path, text.into_bytes(), access)?;
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

    /// A token for the pod's account: the one that is there, until it is worn.
    fn token(&mut self, source: &ServiceAccountTokenProjection, access: Access) -> Result<(), VolumeError> {
        let account = self.input.spec().map_or("default", service_account);
        let volume = || self.volume.to_owned();
        let Some(identity) = self.input.identity else {
            return Err(VolumeError::NoAccount { volume: volume(), account: account.to_owned() });
        };
        let subject = Subject {
            namespace: self.input.namespace(),
            account,
            account_uid: identity.account_uid,
            pod: self.input.name(),
            pod_uid: self.input.uid(),
            node: &self.input.node.node_name,
        };
        let audience = source.audience.as_deref().filter(|audience| !audience.is_empty()).unwrap_or(ISSUER);
        let seconds = source.expiration_seconds.unwrap_or(TOKEN_SECONDS).max(MIN_TOKEN_SECONDS);
        let claims = Claims { subject, issuer: ISSUER, audience, seconds };
        let before = std::fs::read_to_string(self.root.join(&source.path)).ok();
        let token = identity.key.renew(before.as_deref(), &claims, identity.now);
        let token = token.map_err(|source| VolumeError::Token { volume: volume(), source })?;
        self.add(&source.path, token.into_bytes(), self.token_access(access))
    }

    /// As the kubelet has it: where it is known who runs in the pod, nobody else reads the token.
    fn token_access(&self, access: Access) -> Access {
        let context = self.input.spec().and_then(|spec| spec.security_context.as_ref());
        let group = context.and_then(|context| context.fs_group);
        match (access.user.or_else(|| self.only_user()), group) {
            (None, None) => access,
            (user, _) => Access { mode: Some(0o600), user },
        }
    }

    /// The one user that all containers of the pod are told to run as.
    fn only_user(&self) -> Option<i64> {
        let spec = self.input.spec()?;
        let of_pod = spec.security_context.as_ref().and_then(|context| context.run_as_user);
        let containers = spec.init_containers.iter().flatten().chain(&spec.containers);
        let mut users = containers.map(|container| {
            let own = container.security_context.as_ref().and_then(|context| context.run_as_user);
            own.or(of_pod)
        });
        let first = users.next()??;
        users.all(|user| user == Some(first)).then_some(first)
    }

    fn missing(&self, cause: Cause) -> VolumeError {
        VolumeError::Missing { volume: self.volume.to_owned(), cause }
    }

    /// Adds a file; a later one replaces an earlier one of the same path, as
    /// projected volumes have it.
    fn add(&mut self, path: &str, data: Vec<u8>, access: Access) -> Result<(), VolumeError> {
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
        let mode = access.mode.unwrap_or(DEFAULT_MODE);
        let bits = u32::try_from(mode).ok().filter(|bits| *bits <= 0o777);
        let mode = bits.ok_or_else(|| VolumeError::BadMode { volume: self.volume.to_owned(), mode })?;
        let no_user = |id| VolumeError::BadUser { volume: self.volume.to_owned(), id };
        let user = access.user.map(|id| u32::try_from(id).map_err(|_| no_user(id))).transpose()?;
        self.files.insert(relative, File { data, mode, user });
        Ok(())
    }
}
