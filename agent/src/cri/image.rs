//! Images: pulled, listed, removed.

use super::sandbox::internal;
use super::{Cri, state, v1};
use crate::node::image_gc::in_use;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use runtime::image::registry::Credentials;
use runtime::image::{Image, ImageError, ImageStore, ImageSummary, PullPolicy};
use std::collections::HashMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tonic::Status;

fn wanted(image: Option<&v1::ImageSpec>) -> Result<&str, Status> {
    let wanted = image.map(|image| image.image.as_str()).filter(|image| !image.is_empty());
    wanted.ok_or_else(|| Status::invalid_argument("the image is missing"))
}

/// A failure in the words that a kubelet knows.
fn failed(error: &ImageError) -> Status {
    let text = crate::chain::chain(error);
    #[allow(clippy::wildcard_enum_match_arm, reason = "a client can tell only these apart")]
    match error {
        ImageError::InvalidName { .. } => Status::invalid_argument(text),
        ImageError::NotPresent { .. } | ImageError::NotPulled { .. } | ImageError::Unknown { .. } => {
            Status::not_found(text)
        }
        ImageError::InUse { .. } => Status::failed_precondition(text),
        _ => Status::unknown(text),
    }
}

/// The image in the interface's words. Archives and layouts have no tag: their reference stands for it.
fn item(summary: &ImageSummary) -> v1::Image {
    let is_digest = |reference: &&String| reference.contains("@sha256:");
    let tags = summary.references.iter().filter(|reference| !is_digest(reference));
    let user = summary.user.split(':').next().unwrap_or_default();
    let uid = user.parse().ok();
    v1::Image {
        id: summary.id.clone(),
        repo_tags: tags.cloned().collect(),
        repo_digests: summary.digests.clone(),
        size: summary.size_bytes,
        uid: uid.map(|value| v1::Int64Value { value }),
        username: if uid.is_some() { String::new() } else { user.to_owned() },
        spec: Some(v1::ImageSpec { image: summary.id.clone(), ..v1::ImageSpec::default() }),
        pinned: false,
    }
}

impl Cri {
    fn images(&self) -> Arc<ImageStore> {
        Arc::clone(self.node.images.store())
    }

    async fn with_store<T: Send + 'static>(
        &self,
        work: impl FnOnce(&ImageStore) -> Result<T, ImageError> + Send + 'static,
    ) -> Result<T, Status> {
        let store = self.images();
        let done = tokio::task::spawn_blocking(move || work(&store)).await;
        done.map_err(|error| internal(&error))?.map_err(|error| failed(&error))
    }

    async fn find_image(&self, wanted: &str) -> Result<Option<ImageSummary>, Status> {
        if let Some(found) = self.images().find_at_hand(wanted) {
            return Ok(found);
        }
        let wanted = wanted.to_owned();
        self.with_store(move |store| store.find(&wanted)).await
    }

    /// The image that a container wants, by whatever name, and what it is known as.
    pub(super) async fn image_for(&self, wanted: &str) -> Result<(Image, String), Status> {
        if let Some(summary) = self.find_image(wanted).await? {
            let image_ref = summary.digests.first().unwrap_or(&summary.id).clone();
            let reference = summary.references.first().cloned().unwrap_or_default();
            let image = self.with_store(move |store| store.resolve(&reference, PullPolicy::Never)).await?;
            return Ok((image, image_ref));
        }
        let wanted = wanted.to_owned();
        let image = self.with_store(move |store| store.resolve(&wanted, PullPolicy::IfNotPresent)).await?;
        let id = image.id.clone();
        Ok((image, id))
    }

    pub(super) async fn list_images(
        &self,
        wanted: Option<&v1::ImageFilter>,
    ) -> Result<Vec<v1::Image>, Status> {
        let name = wanted.and_then(|filter| filter.image.as_ref()).map(|image| image.image.clone());
        match name.filter(|name| !name.is_empty()) {
            Some(name) => Ok(self.find_image(&name).await?.iter().map(item).collect()),
            None => {
                let all = self.with_store(ImageStore::list).await?;
                Ok(all.iter().map(item).collect())
            }
        }
    }

    pub(super) async fn image_status(
        &self,
        request: &v1::ImageStatusRequest,
    ) -> Result<v1::ImageStatusResponse, Status> {
        let found = self.find_image(wanted(request.image.as_ref())?).await?;
        let info = found.as_ref().filter(|_| request.verbose).map(|summary| {
            let text = serde_json::json!({"usedAt": summary.used_at.to_string(), "user": summary.user});
            HashMap::from([("info".to_owned(), text.to_string())])
        });
        Ok(v1::ImageStatusResponse { image: found.as_ref().map(item), info: info.unwrap_or_default() })
    }

    /// The image is in the store; returns its id.
    pub(super) async fn pull_image(&self, request: &v1::PullImageRequest) -> Result<String, Status> {
        let reference = wanted(request.image.as_ref())?.to_owned();
        let secrets = match &request.auth {
            Some(auth) => credentials(&reference, auth)?,
            None => Credentials::default(),
        };
        let node = Arc::clone(&self.node);
        // A task: whoever asked may go away, the pull goes on.
        let pulled = tokio::spawn(async move {
            node.images.pull(&reference, PullPolicy::Always, &secrets).await.map(|(image, _)| image.id)
        });
        pulled.await.map_err(|error| internal(&error))?.map_err(|error| failed(&error))
    }

    /// The image is gone, with all of its names. One that is not known is.
    pub(super) async fn remove_image(&self, image: Option<&v1::ImageSpec>) -> Result<(), Status> {
        let wanted = wanted(image)?.to_owned();
        let used = in_use(&self.node);
        let store = self.images();
        let removed = tokio::task::spawn_blocking(move || match store.find(&wanted)? {
            Some(summary) => store.remove(&summary.id, &used).map(|_| ()),
            None => Ok(()),
        });
        match removed.await.map_err(|error| internal(&error))? {
            // Somebody else was faster.
            Ok(()) | Err(ImageError::Unknown { .. }) => Ok(()),
            Err(error) => Err(failed(&error)),
        }
    }

    pub(super) async fn image_fs_info(&self) -> Result<v1::ImageFsInfoResponse, Status> {
        let state_dir = self.node.facts.state_dir.clone();
        let measured = tokio::task::spawn_blocking(move || {
            [usage(&state_dir.join("images")), usage(&state_dir.join("pods"))]
        });
        let [images, containers] = measured.await.map_err(|error| internal(&error))?;
        Ok(v1::ImageFsInfoResponse {
            image_filesystems: vec![images],
            container_filesystems: vec![containers],
        })
    }
}

/// What the folder takes on its disk, as `du` counts it.
pub(super) fn usage(folder: &Path) -> v1::FilesystemUsage {
    let (mut bytes, mut inodes) = (0, 0);
    let mut left: Vec<PathBuf> = vec![folder.to_owned()];
    while let Some(folder) = left.pop() {
        // What goes meanwhile is not there.
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let Ok(found) = entry.metadata() else { continue };
            bytes += found.blocks() * 512;
            inodes += 1;
            if found.is_dir() {
                left.push(entry.path());
            }
        }
    }
    v1::FilesystemUsage {
        timestamp: state::nanoseconds(Timestamp::now()),
        fs_id: Some(v1::FilesystemIdentifier { mountpoint: folder.display().to_string() }),
        used_bytes: Some(v1::UInt64Value { value: bytes }),
        inodes_used: Some(v1::UInt64Value { value: inodes }),
    }
}

fn credentials(reference: &str, auth: &v1::AuthConfig) -> Result<Credentials, Status> {
    let host = match manifests::image::Reference::parse(reference) {
        Ok(manifests::image::Reference::Registry(registry)) => registry.host,
        Ok(_) | Err(_) => return Ok(Credentials::default()),
    };
    let token = [&auth.registry_token, &auth.identity_token].into_iter().find(|token| !token.is_empty());
    if let Some(token) = token {
        let text = serde_json::json!({"auths": {host: {"registrytoken": token}}}).to_string();
        return Credentials::from_config_json(text.as_bytes()).map_err(|error| internal(&error));
    }
    let (user, password) = if auth.auth.is_empty() {
        (auth.username.clone(), auth.password.clone())
    } else {
        let broken = || Status::invalid_argument("the credentials are not the base64 of USER:PASSWORD");
        let text = STANDARD.decode(auth.auth.trim()).map_err(|_| broken())?;
        let text = String::from_utf8(text).map_err(|_| broken())?;
        let (user, password) = text.split_once(':').ok_or_else(broken)?;
        (user.to_owned(), password.trim_end_matches('\0').to_owned())
    };
    if user.is_empty() && password.is_empty() {
        return Ok(Credentials::default());
    }
    Ok(Credentials::password(&host, &user, &password))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_come_in_either_form() {
        let auth = |auth: &str, username: &str, password: &str| v1::AuthConfig {
            auth: auth.into(),
            username: username.into(),
            password: password.into(),
            ..Default::default()
        };
        let expected = Credentials::password("registry.example.com", "ann", "secret");
        for auth in [auth(&STANDARD.encode("ann:secret"), "", ""), auth("", "ann", "secret")] {
            let read = credentials("registry.example.com/web:1", &auth).expect("credentials");
            assert!(read == expected);
        }
        assert!(credentials("registry.example.com/web:1", &auth("!", "", "")).is_err());
    }
}
