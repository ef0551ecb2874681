//! Where the blobs of one image come from: peers, and the registry or a mirror of it.

use super::super::blobs::Blobs;
use super::super::error::ImageError;
use super::download::Download;
use super::endpoint::Remote;
use super::flights::Flight;
use super::manifest::Layer;
use super::provenance::Tally;
use super::swarm::Swarm;
use super::{Progress, Puller, blocking};
use std::collections::BTreeSet;
use std::sync::Arc;

/// One pull's sources.
pub(super) struct Origin<'a> {
    pub(super) puller: &'a Puller,
    /// None if the registry does not answer.
    pub(super) remote: Option<&'a Remote>,
    /// None if there are no peers.
    pub(super) swarm: Option<Swarm>,
    pub(super) tally: Tally,
}

/// The kinds of small blobs, which a registry has in different places.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Small {
    Manifest,
    Configuration,
}

impl Origin<'_> {
    /// If others wait for this node, they hear that these blobs are on their way while the answer lives.
    pub(super) fn plan<'d>(&self, digests: impl Iterator<Item = &'d String>) -> Vec<Arc<Flight>> {
        if !self.swarm.as_ref().is_some_and(|swarm| swarm.first) {
            return Vec::new();
        }
        digests.map(|digest| self.puller.flights.join(digest)).collect()
    }

    /// A small blob of at most `limit` bytes, checked: the store's, a peer's or the registry's.
    ///
    /// # Errors
    /// If nobody gives it.
    pub(super) async fn small(&self, kind: Small, digest: &str, limit: u64) -> Result<Vec<u8>, ImageError> {
        if let Some(content) = self.puller.store.kept_description(digest) {
            return Ok(content);
        }
        if let Some(swarm) = &self.swarm
            && let Some(content) = swarm.small(digest, limit, &self.tally).await
        {
            return Ok(content);
        }
        let Some(remote) = self.remote else { return Err(ImageError::NoPeer { digest: digest.to_owned() }) };
        let content = match kind {
            Small::Manifest => remote.manifest(digest).await?,
            Small::Configuration => remote.configuration(digest).await?,
        };
        self.tally.registry(&remote.host, 1, content.len() as u64);
        Ok(content)
    }

    /// The layer is unpacked in the store, and its download kept for peers or gone.
    ///
    /// # Errors
    /// If nobody gives it, or it is not what it should be.
    pub(super) async fn layer(&self, layer: &Layer, progress: &Arc<Progress>) -> Result<(), ImageError> {
        let store = &self.puller.store;
        let download = Download { folder: store.downloads(), digest: &layer.digest, size: layer.size };
        self.download(&download, progress).await?;
        let (unpacker, source) = (Arc::clone(store), layer.source.clone());
        let unpacked =
            blocking(move || unpacker.add_layer(&Blobs::Folder(unpacker.downloads()), &source)).await;
        match &unpacked {
            Ok(()) => store.keep_download(&download.path()?, &layer.digest),
            // It can be unpacked later.
            Err(ImageError::Io { .. }) => {}
            Err(_) => download.forget(),
        }
        unpacked
    }

    /// The blob is whole on the disk. What peers gave of it is checked; what came from the registry
    /// alone is when it is unpacked.
    async fn download(&self, download: &Download<'_>, progress: &Progress) -> Result<(), ImageError> {
        let had = download.have()?;
        progress.add(had);
        // What is left of an earlier try, nobody is to blame for.
        let mut is_ours = had == 0;
        let mut givers = BTreeSet::new();
        while let Some(swarm) = &self.swarm
            && !download.is_whole()?
        {
            givers = download.hunt(swarm, progress, &self.tally).await?;
            if !download.is_whole()? || self.is_right(download, (&givers, is_ours), progress).await? {
                break;
            }
            // Each round that ends with a lie is one with fewer peers.
            (is_ours, givers) = (true, BTreeSet::new());
        }
        if download.is_whole()? {
            return Ok(());
        }
        let missing = || ImageError::NoPeer { digest: download.digest.to_owned() };
        let remote = self.remote.ok_or_else(missing)?;
        self.fetch(download, remote, progress).await?;
        if !self.is_right(download, (&givers, is_ours), progress).await? {
            self.fetch(download, remote, progress).await?;
        }
        Ok(())
    }

    /// False if peers gave what is not the blob: then nothing of it is left, and they are asked for
    /// nothing any more if `is_ours` says that nobody else gave any of it.
    async fn is_right(
        &self,
        download: &Download<'_>,
        (givers, is_ours): (&BTreeSet<String>, bool),
        progress: &Progress,
    ) -> Result<bool, ImageError> {
        if givers.is_empty() || download.verify().await? {
            return Ok(true);
        }
        if let Some(swarm) = self.swarm.as_ref().filter(|_| is_ours) {
            swarm.shun(givers, download.digest);
        }
        progress.take_back(download.size);
        download.forget();
        Ok(false)
    }

    /// The rest of the blob is fetched from the registry, and peers may have it meanwhile.
    async fn fetch(
        &self,
        download: &Download<'_>,
        remote: &Remote,
        progress: &Progress,
    ) -> Result<(), ImageError> {
        let flight = self.puller.flights.join(download.digest);
        let had = download.have()?;
        download.fetch(remote, progress, &flight).await?;
        self.tally.registry(&remote.host, 1, download.size.saturating_sub(had));
        Ok(())
    }
}
