//! Images from registries: the OCI distribution protocol, mirrors, and resumed downloads.
//!
//! What is fetched lies in `downloads/blobs/sha256/`, so that it is described and unpacked
//! like an OCI layout on disk. A file that is not whole has the end `.part`, and is gone on
//! with after a broken connection or a restart. It is removed when its layer is unpacked.

mod credentials;
mod download;
mod endpoint;
mod manifest;
mod progress;

pub use credentials::{Credentials, CredentialsError};
pub use endpoint::{Endpoint, Registries, RegistryHost};
pub use progress::Progress;

use super::blobs::Blobs;
use super::error::ImageError;
use super::record::Record;
use super::{Image, ImageConfig, ImageStore, PullPolicy};
use download::Download;
use endpoint::Remote;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use manifest::Found;
use manifests::image::{Reference, Registry};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use tokio::sync::Semaphore;

/// Blobs of one image that are fetched at once.
const BLOBS_AT_ONCE: usize = 3;

/// Fetches images into the store, each once however many ask for it.
#[derive(Debug)]
pub struct Puller {
    store: Arc<ImageStore>,
    registries: Registries,
    /// Images that are fetched at once.
    slots: Semaphore,
    /// One lock per reference that is being fetched.
    locks: Mutex<BTreeMap<String, Weak<tokio::sync::Mutex<()>>>>,
    progress: Mutex<BTreeMap<String, Arc<Progress>>>,
}

impl Puller {
    /// A puller into `store`, `at_once` images at a time.
    #[must_use]
    pub fn new(store: Arc<ImageStore>, registries: Registries, at_once: usize) -> Self {
        let slots = Semaphore::new(at_once.max(1));
        Self { store, registries, slots, locks: Mutex::default(), progress: Mutex::default() }
    }

    /// The store that it fills.
    #[must_use]
    pub const fn store(&self) -> &Arc<ImageStore> {
        &self.store
    }

    /// The image of `reference` is in the store, as `policy` wants it. `secrets` are the
    /// credentials of whoever asks; the node's own come after them. True in the answer if
    /// the registry was asked.
    ///
    /// References that lead to no registry are resolved as [`ImageStore::resolve`] does.
    ///
    /// # Errors
    /// With the reason that a container's status shows.
    pub async fn pull(
        &self,
        reference: &str,
        policy: PullPolicy,
        secrets: &Credentials,
    ) -> Result<(Image, bool), ImageError> {
        let parsed = ImageStore::parse(reference)?;
        let Reference::Registry(registry) = &parsed else {
            return self.local(reference, policy).await.map(|image| (image, false));
        };
        let name = parsed.to_string();
        if policy != PullPolicy::Always
            && let Some(image) = self.store.pulled(&name)?
        {
            return Ok((image, false));
        }
        if policy == PullPolicy::Never {
            return Err(ImageError::NotPresent { reference: reference.to_owned() });
        }
        let lock = self.lock_of(&name);
        let _one_at_a_time = lock.lock().await;
        // Somebody else may have fetched it while we waited.
        if policy == PullPolicy::IfNotPresent
            && let Some(image) = self.store.pulled(&name)?
        {
            return Ok((image, false));
        }
        let _slot = self.slots.acquire().await;
        let progress = Arc::new(Progress::default());
        self.all_progress().insert(name.clone(), Arc::clone(&progress));
        let fetched = self.fetch(&name, registry, secrets, &progress).await;
        self.all_progress().remove(&name);
        fetched.map(|image| (image, true))
    }

    /// How far the pull of `reference` is, if there is one.
    #[must_use]
    pub fn progress(&self, reference: &str) -> Option<Arc<Progress>> {
        let name = ImageStore::parse(reference).ok()?.to_string();
        self.all_progress().get(&name).cloned()
    }

    /// Every pull that goes on, by its reference in full.
    #[must_use]
    pub fn pulls(&self) -> BTreeMap<String, Arc<Progress>> {
        self.all_progress().clone()
    }

    async fn local(&self, reference: &str, policy: PullPolicy) -> Result<Image, ImageError> {
        let (store, reference) = (Arc::clone(&self.store), reference.to_owned());
        blocking(move || store.resolve(&reference, policy)).await
    }

    fn all_progress(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Progress>>> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_of(&self, name: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
        locks.retain(|_, lock| lock.strong_count() > 0);
        if let Some(lock) = locks.get(name).and_then(Weak::upgrade) {
            return lock;
        }
        let lock = Arc::default();
        locks.insert(name.to_owned(), Arc::downgrade(&lock));
        lock
    }

    /// Asks the mirrors in their order, then the registry itself. A broken mirror hides no image.
    async fn fetch(
        &self,
        name: &str,
        registry: &Registry,
        secrets: &Credentials,
        progress: &Arc<Progress>,
    ) -> Result<Image, ImageError> {
        let own = self.registries.credentials()?;
        let mut last: Option<ImageError> = None;
        for endpoint in self.registries.endpoints(&registry.host) {
            let auth = secrets.find(&endpoint.host, &registry.repository);
            let auth = auth.or_else(|| own.find(&endpoint.host, &registry.repository));
            let remote = Remote::connect(&endpoint, registry, auth)?;
            match self.fetch_from(name, &remote, progress).await {
                Ok(image) => return Ok(image),
                Err(error) => {
                    tracing::debug!(name, endpoint = endpoint.host, error = &error as &dyn std::error::Error);
                    // The registry's own word counts more than a mirror's; it comes last.
                    last = Some(error);
                }
            }
        }
        Err(last.unwrap_or(ImageError::NotPresent { reference: name.to_owned() }))
    }

    async fn fetch_from(
        &self,
        name: &str,
        remote: &Remote,
        progress: &Arc<Progress>,
    ) -> Result<Image, ImageError> {
        let found = manifest::find(remote).await?;
        if let Some(image) = self.store.pulled(name)?
            && image.digest == found.digest
        {
            return Ok(image);
        }
        let all = found.layers.iter().map(|layer| layer.source.diff_id.clone()).collect();
        let _expected = self.store.expect(all);
        let missing = |layer: &&manifest::Layer| !self.store.has_layer(&layer.source.diff_id);
        let layers: Vec<_> = found.layers.iter().filter(missing).collect();
        progress.begin(layers.iter().map(|layer| layer.size).sum());
        let mut fetches: Vec<BoxFuture<'_, Result<(), ImageError>>> = Vec::new();
        for layer in layers {
            fetches.push(self.layer(remote, layer, progress).boxed());
        }
        stream::iter(fetches).buffer_unordered(BLOBS_AT_ONCE).try_collect::<Vec<()>>().await?;
        self.remember(name, found).await
    }

    /// The layer is unpacked in the store, and its download gone.
    async fn layer(
        &self,
        remote: &Remote,
        layer: &manifest::Layer,
        progress: &Arc<Progress>,
    ) -> Result<(), ImageError> {
        let download = Download { folder: self.store.downloads(), digest: &layer.digest, size: layer.size };
        download.fetch(remote, progress).await?;
        let (store, source) = (Arc::clone(&self.store), layer.source.clone());
        let unpacked = blocking(move || store.add_layer(&Blobs::Folder(store.downloads()), &source)).await;
        // Unpacked or not what it should be: of no use either way.
        if !matches!(unpacked, Err(ImageError::Io { .. })) {
            download.forget();
        }
        unpacked
    }

    async fn remember(&self, name: &str, found: Found) -> Result<Image, ImageError> {
        let record = Record {
            reference: name.to_owned(),
            stamp: found.digest.clone(),
            id: found.id,
            digest: found.digest,
            diff_ids: found.layers.iter().map(|layer| layer.source.diff_id.clone()).collect(),
            config: ImageConfig::from(&found.config),
            size: found.layers.iter().map(|layer| layer.size).sum(),
        };
        let store = Arc::clone(&self.store);
        blocking(move || store.remember(record)).await
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ImageError> + Send + 'static,
) -> Result<T, ImageError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

#[cfg(test)]
mod tests;
