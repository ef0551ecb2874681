//! Images from registries: the OCI distribution protocol, mirrors, and resumed downloads.
//!
//! What is fetched lies in `downloads/blobs/sha256/`, so that it is described and unpacked
//! like an OCI layout on disk. A file that is not whole has the end `.part`, and is gone on
//! with after a broken connection or a restart. It is removed when its layer is unpacked, or kept
//! for peers. Who has peers asks them first (`swarm`): the registry only says what a reference means.

mod credentials;
mod download;
mod endpoint;
mod flights;
mod hunt;
mod manifest;
mod neighbours;
mod origin;
mod progress;
mod provenance;
mod serve;
mod swarm;

pub use credentials::{Credentials, CredentialsError};
pub use endpoint::{Endpoint, Registries, RegistryHost};
pub use neighbours::{
    Counts, Failure, Meaning, MeaningWanted, Neighbours, PART_BYTES, Part, PartWanted, ReadError, Sought,
    Source,
};
pub use progress::Progress;
pub use provenance::{Provenance, Share};

use super::error::ImageError;
use super::record::Record;
use super::{Image, ImageConfig, ImageStore, PullPolicy, digest};
use credentials::fingerprint;
use endpoint::Remote;
use flights::Flights;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use manifest::Found;
use manifests::image::{Reference, Registry};
use origin::Origin;
use provenance::Tally;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use swarm::{Acquaintance, Shunned, Swarm};
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
    /// One lock per reference, and per layer, that is being fetched.
    locks: Mutex<BTreeMap<String, Weak<tokio::sync::Mutex<()>>>>,
    progress: Mutex<BTreeMap<String, Arc<Progress>>>,
    /// What comes from registries now.
    flights: Flights,
    neighbours: Option<Arc<dyn Neighbours>>,
    shunned: Arc<Shunned>,
    counts: Arc<dyn Counts>,
}

/// What a registry, or a peer in its place, said of a reference.
struct Word {
    /// The reference, in full.
    name: String,
    /// Fingerprint of whom it said it to.
    access: String,
    /// Unix seconds.
    at: i64,
}

type Pulled = (Image, Provenance);

impl Puller {
    /// A puller into `store`, `at_once` images at a time.
    #[must_use]
    pub fn new(store: Arc<ImageStore>, registries: Registries, at_once: usize) -> Self {
        Self {
            store,
            registries,
            slots: Semaphore::new(at_once.max(1)),
            locks: Mutex::default(),
            progress: Mutex::default(),
            flights: Flights::default(),
            neighbours: None,
            shunned: Arc::default(),
            counts: Arc::new(()),
        }
    }

    /// Peers are asked for blobs before the registry is.
    #[must_use]
    pub fn among(mut self, neighbours: Arc<dyn Neighbours>) -> Self {
        self.neighbours = Some(neighbours);
        self
    }

    /// What comes and goes is counted by `counts`.
    #[must_use]
    pub fn counted_by(mut self, counts: Arc<dyn Counts>) -> Self {
        self.counts = counts;
        self
    }

    /// The store that it fills.
    #[must_use]
    pub const fn store(&self) -> &Arc<ImageStore> {
        &self.store
    }

    /// The image of `reference` is in the store, as `policy` wants it. `secrets` are the
    /// credentials of whoever asks; the node's own come after them. Says where what was fetched
    /// came from, if the registry was asked.
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
    ) -> Result<(Image, Option<Provenance>), ImageError> {
        let parsed = ImageStore::parse(reference)?;
        let Reference::Registry(registry) = &parsed else {
            return self.local(reference, policy).await.map(|image| (image, None));
        };
        let name = parsed.to_string();
        if policy != PullPolicy::Always
            && let Some(image) = self.store.pulled(&name)?
        {
            return Ok((image, None));
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
            return Ok((image, None));
        }
        let _slot = self.slots.acquire().await;
        let progress = Arc::new(Progress::default());
        self.all_progress().insert(name.clone(), Arc::clone(&progress));
        let fetched = self.fetch(&name, registry, secrets, &progress).await;
        self.all_progress().remove(&name);
        fetched.map(|(image, provenance)| (image, Some(provenance)))
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

    /// Asks the mirrors in their order, then the registry itself. A broken mirror hides no image. If
    /// the registry does not answer, a peer may know what it said.
    async fn fetch(
        &self,
        name: &str,
        registry: &Registry,
        secrets: &Credentials,
        progress: &Arc<Progress>,
    ) -> Result<Pulled, ImageError> {
        let own = self.registries.credentials()?;
        let mut last: Option<ImageError> = None;
        let (mut fingerprints, mut is_denied) = (Vec::new(), false);
        for endpoint in self.registries.endpoints(&registry.host) {
            let auth = secrets.find(&endpoint.host, &registry.repository);
            let auth = auth.or_else(|| own.find(&endpoint.host, &registry.repository));
            let access = fingerprint(&registry.host, auth.as_ref());
            let remote = Remote::connect(&endpoint, registry, auth)?;
            match self.fetch_from(name, &remote, access.clone(), progress).await {
                Ok(pulled) => return Ok(pulled),
                Err(error) => {
                    tracing::debug!(name, endpoint = endpoint.host, error = &error as &dyn std::error::Error);
                    fingerprints.push(access);
                    is_denied |= error.is_denial();
                    // The registry's own word counts more than a mirror's; it comes last.
                    last = Some(error);
                }
            }
        }
        let error = last.unwrap_or(ImageError::NotPresent { reference: name.to_owned() });
        if is_denied || !error.is_silence() {
            return Err(error);
        }
        self.fetch_by_word(name, fingerprints, progress).await?.ok_or(error)
    }

    /// Asks the registry what the reference means, and fetches that from peers, and from the registry
    /// what they do not give.
    async fn fetch_from(
        &self,
        name: &str,
        remote: &Remote,
        access: String,
        progress: &Arc<Progress>,
    ) -> Result<Pulled, ImageError> {
        let known = self.acquaintance();
        let asked = if known.is_some() { Some(remote.digest().await?) } else { None };
        let (digest, content) = match asked.filter(|digest| digest::hex_of(digest).is_ok()) {
            Some(digest) => (digest, None),
            None => remote.top().await.map(|(digest, content)| (digest, Some(content)))?,
        };
        if let Some(image) = self.store.pulled(name)?
            && image.digest == digest
        {
            self.store.admit(name, &access)?;
            return Ok((image, Provenance::default()));
        }
        // Before anybody can hear of it: who is told to wait for this node finds that there is what for.
        let flight = self.flights.join(&digest);
        let swarm = match known {
            Some(known) => Some(Swarm::seek(known, &digest, true).await),
            None => None,
        };
        let _flight = swarm.as_ref().filter(|swarm| swarm.first).map(|_| flight);
        let tally = Tally::new(None, Arc::clone(&self.counts));
        if let Some(content) = &content {
            tally.registry(&remote.host, 1, content.len() as u64);
        }
        let origin = Origin { puller: self, remote: Some(remote), swarm, tally };
        let word = Word { name: name.to_owned(), access, at: Timestamp::now().as_second() };
        let image = self.bring(&origin, (&digest, content), word, progress).await?;
        Ok((image, origin.tally.provenance()))
    }

    /// Fetches the image from peers, as the newest that a registry is known to have given to one of
    /// these credentials; `None` if no peer knows any.
    async fn fetch_by_word(
        &self,
        name: &str,
        fingerprints: Vec<String>,
        progress: &Arc<Progress>,
    ) -> Result<Option<Pulled>, ImageError> {
        let Some(known) = self.acquaintance() else { return Ok(None) };
        let wanted = MeaningWanted { reference: name.to_owned(), fingerprints };
        let meanings = known.neighbours.meaning(wanted).await;
        let Some((peer, meaning)) = neighbours::newest(&meanings).cloned() else { return Ok(None) };
        if let Some(image) = self.store.pulled(name)?
            && image.digest == meaning.digest
        {
            return Ok(Some((image, Provenance { word_of: Some(peer), ..Provenance::default() })));
        }
        let same = meanings.into_iter().filter(|(_, other)| other.digest == meaning.digest);
        let peers = same.map(|(peer, _)| peer).collect();
        let swarm = Swarm::seek(known, &meaning.digest, false).await.with(peers);
        let tally = Tally::new(Some(peer), Arc::clone(&self.counts));
        let origin = Origin { puller: self, remote: None, swarm: Some(swarm), tally };
        let word = Word { name: name.to_owned(), access: meaning.fingerprint, at: meaning.at };
        let image = self.bring(&origin, (&meaning.digest, None), word, progress).await?;
        Ok(Some((image, origin.tally.provenance())))
    }

    fn acquaintance(&self) -> Option<Acquaintance> {
        let neighbours = Arc::clone(self.neighbours.as_ref()?);
        let (shunned, counts) = (Arc::clone(&self.shunned), Arc::clone(&self.counts));
        Some(Acquaintance { neighbours, shunned, counts })
    }

    /// The image of the manifest or index `digest` is in the store, as `word` says.
    async fn bring(
        &self,
        origin: &Origin<'_>,
        (digest, content): (&String, Option<Vec<u8>>),
        word: Word,
        progress: &Arc<Progress>,
    ) -> Result<Image, ImageError> {
        let found = manifest::describe(origin, digest, content).await?;
        let _expected = self.store.expect(found.diff_ids().chain(found.blobs()).cloned().collect());
        let planned = origin.plan(found.blobs());
        for (digest, content) in &found.descriptions {
            self.store.keep_description(digest, content)?;
        }
        for (flight, (_, content)) in planned.iter().zip(&found.descriptions) {
            flight.send_replace(content.len() as u64);
        }
        let missing = |layer: &&manifest::Layer| !self.store.has_layer(&layer.source.diff_id);
        let layers: Vec<_> = found.layers.iter().filter(missing).collect();
        progress.begin(layers.iter().map(|layer| layer.size).sum());
        let mut fetches: Vec<BoxFuture<'_, Result<(), ImageError>>> = Vec::new();
        for layer in layers {
            fetches.push(self.layer(origin, layer, progress).boxed());
        }
        stream::iter(fetches).buffer_unordered(BLOBS_AT_ONCE).try_collect::<Vec<()>>().await?;
        let image = self.remember(found, word).await?;
        if let Some(swarm) = &origin.swarm {
            swarm.announce().await;
        }
        Ok(image)
    }

    /// The layer is in the store. Whoever else fetches it for another image is waited for.
    async fn layer(
        &self,
        origin: &Origin<'_>,
        layer: &manifest::Layer,
        progress: &Arc<Progress>,
    ) -> Result<(), ImageError> {
        let lock = self.lock_of(&layer.source.diff_id);
        let _one_at_a_time = lock.lock().await;
        if self.store.has_layer(&layer.source.diff_id) {
            progress.add(layer.size);
            return Ok(());
        }
        origin.layer(layer, progress).await
    }

    async fn remember(&self, found: Found, word: Word) -> Result<Image, ImageError> {
        let record = Record {
            reference: word.name,
            stamp: found.digest.clone(),
            diff_ids: found.diff_ids().cloned().collect(),
            blobs: if self.store.keeps_blobs { found.blobs().cloned().collect() } else { Vec::new() },
            config: ImageConfig::from(&found.config),
            size: found.layers.iter().map(|layer| layer.size).sum(),
            id: found.id,
            digest: found.digest,
            access: vec![word.access],
            resolved_at: word.at,
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
