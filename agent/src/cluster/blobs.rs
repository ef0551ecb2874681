//! Peers serve one another's image blobs: who has an image is asked of a few members, parts of
//! blobs of those that have it.
//!
//! For each image, three members keep in mind who has it or is getting it (`keepers`, `ledger`), so
//! that in a large cluster few questions find it, and of many nodes that want a new image at once one
//! asks the registry. That knowledge is in memory only, and never relied on: who is not found there
//! is found by chance or not at all, and then the registry has it.

mod guests;
mod keepers;
mod ledger;
mod wire;

use crate::chain::chain;
use crate::peers::Peers;
use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::{BoxFuture, join_all};
use guests::Guests;
use ledger::Ledger;
use reconciler::peer::{Peer, Topic, Transport};
use runtime::image::registry::{
    Meaning, MeaningWanted, Neighbours, Part, PartWanted, Puller, ReadError, Sought,
};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use wire::{Asked, Have, Known, Means, Seek, Told, WireError};

/// So many members are asked at once who has an image: its keepers, and others by chance.
const ASKED: usize = 8;
/// So many are asked at most what a reference means.
const ASKED_IN_ALL: usize = 64;
/// A member that does not say in this time who has an image is not waited for.
const SEEK_PATIENCE: Duration = Duration::from_secs(2);
/// A part that does not come in this time comes too slowly.
const READ_PATIENCE: Duration = Duration::from_secs(10);
/// Members hear so often what this node has: a keeper forgets when it is started again.
const TELL_PERIOD: Duration = Duration::from_secs(30 * 60);

/// The node's part in sharing images with its peers.
#[derive(Debug, Clone)]
pub(crate) struct Sharing {
    me: String,
    transport: Arc<dyn Transport>,
    members: watch::Receiver<Vec<Peer>>,
    ledger: Arc<Mutex<Ledger>>,
}

/// A number that nobody can foresee; 0 where the kernel has none.
fn chance() -> usize {
    getrandom::u32().unwrap_or_default() as usize
}

impl Sharing {
    /// Nothing is known yet of who has what.
    pub(crate) fn new(peers: &Peers) -> Self {
        let me = peers.me().name.clone();
        Self { me, transport: peers.transport(), members: peers.membership(), ledger: Arc::default() }
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The other members, in an order by chance.
    fn others(&self) -> Vec<Peer> {
        let members = self.members.borrow();
        let mut others: Vec<_> = members.iter().filter(|peer| peer.name != self.me).cloned().collect();
        for left in (2..=others.len()).rev() {
            others.swap(left - 1, chance() % left);
        }
        others
    }

    fn keepers(&self, image: &str, others: &[Peer]) -> Vec<String> {
        let names: Vec<_> = others.iter().map(|peer| peer.name.clone()).chain([self.me.clone()]).collect();
        keepers::of(image, &names)
    }

    async fn ask(&self, peer: Peer, asked: Asked, within: Duration) -> Result<Option<Told>, ReadError> {
        let answer = self.transport.call(peer, Topic::Blob, wire::question(asked), within).await?;
        Ok(wire::told(answer)?)
    }

    async fn seek_now(self, image: String, can_fetch: bool) -> Sought {
        let others = self.others();
        let keepers = self.keepers(&image, &others);
        let (first, rest): (Vec<_>, Vec<_>) =
            others.into_iter().partition(|peer| keepers.contains(&peer.name));
        let asked = first.into_iter().chain(rest).take(ASKED).map(|peer| {
            let (this, name) = (self.clone(), peer.name.clone());
            let seek = Seek { image: image.clone(), can_fetch };
            async move {
                match this.ask(peer, Asked::Seek(seek), SEEK_PATIENCE).await {
                    Ok(Some(Told::Known(known))) => Some((name, known)),
                    Ok(_) => None,
                    Err(error) => {
                        tracing::debug!(peer = name, error, "a peer does not say who has an image");
                        None
                    }
                }
            }
        });
        let mut heard: BTreeMap<String, Known> = join_all(asked).await.into_iter().flatten().collect();
        if keepers.contains(&self.me) {
            let known = self.ledger().seek(&image, &self.me, can_fetch, Instant::now());
            heard.insert(self.me.clone(), known);
        }
        let mut sought = keepers::sought(&self.me, &keepers, &heard);
        let members = self.members.borrow();
        sought.peers.retain(|name| members.iter().any(|member| member.name == *name));
        sought
    }

    /// The keepers of these images hear that this node has them.
    async fn announce_now(self, images: Vec<String>) {
        let others = self.others();
        let mut by_keeper: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for image in images {
            for keeper in self.keepers(&image, &others) {
                by_keeper.entry(keeper).or_default().push(image.clone());
            }
        }
        for image in by_keeper.remove(&self.me).unwrap_or_default() {
            self.ledger().has(&image, &self.me, Instant::now());
        }
        let told = others.into_iter().filter_map(|peer| Some((by_keeper.remove(&peer.name)?, peer)));
        let told = told.map(|(images, peer)| self.ask(peer, Asked::Have(Have { images }), SEEK_PATIENCE));
        // Who does not hear it is told the next time.
        drop(join_all(told).await);
    }

    async fn meaning_now(self, wanted: MeaningWanted) -> Vec<(String, Meaning)> {
        let others = self.others();
        for wave in others[..others.len().min(ASKED_IN_ALL)].chunks(ASKED) {
            let answers = wave.iter().cloned().map(|peer| {
                let (this, asked) = (self.clone(), Asked::from(wanted.clone()));
                async move {
                    let name = peer.name.clone();
                    match this.ask(peer, asked, SEEK_PATIENCE).await {
                        Ok(Some(Told::Means(Means { digest, at, fingerprint }))) => {
                            Some((name, Meaning { digest, at, fingerprint }))
                        }
                        Ok(_) | Err(_) => None,
                    }
                }
            });
            let known: Vec<_> = join_all(answers).await.into_iter().flatten().collect();
            if !known.is_empty() {
                return known;
            }
        }
        Vec::new()
    }

    async fn read_now(self, peer: String, wanted: PartWanted) -> Result<Part, ReadError> {
        let found = self.members.borrow().iter().find(|member| member.name == peer).cloned();
        let peer = found.ok_or_else(|| format!("{peer} is no member any more"))?;
        let told = self.ask(peer, wanted.into(), READ_PATIENCE).await?;
        Ok(Part::try_from(told.ok_or(WireError::OffTopic)?)?)
    }
}

impl Neighbours for Sharing {
    fn seek(&self, image: String, can_fetch: bool) -> BoxFuture<'static, Sought> {
        self.clone().seek_now(image, can_fetch).boxed()
    }

    fn announce(&self, image: String) -> BoxFuture<'static, ()> {
        self.clone().announce_now(vec![image]).boxed()
    }

    fn read(&self, peer: String, wanted: PartWanted) -> BoxFuture<'static, Result<Part, ReadError>> {
        self.clone().read_now(peer, wanted).boxed()
    }

    fn meaning(&self, wanted: MeaningWanted) -> BoxFuture<'static, Vec<(String, Meaning)>> {
        self.clone().meaning_now(wanted).boxed()
    }
}

/// Gives peers what this node has.
#[derive(Debug, Clone)]
pub(crate) struct Giver {
    sharing: Sharing,
    images: Arc<Puller>,
    guests: Arc<Mutex<Guests>>,
}

impl Giver {
    /// Of the images of `images`.
    pub(crate) fn new(sharing: Sharing, images: Arc<Puller>) -> Self {
        Self { sharing, images, guests: Arc::default() }
    }

    /// The answer to the member `name`.
    ///
    /// # Errors
    /// In words for the member, if it is not understood.
    pub(crate) async fn answer(&self, name: &str, body: Bytes) -> Result<Bytes, String> {
        let now = Instant::now();
        let told = match wire::asked(body).map_err(|error| chain(&error))? {
            Asked::Seek(Seek { image, can_fetch }) => {
                let known = self.sharing.ledger().seek(&image, name, can_fetch, now);
                Some(Told::Known(Known { has: self.images.has_image(&image), ..known }))
            }
            Asked::Have(Have { images }) => {
                let mut ledger = self.sharing.ledger();
                images.iter().for_each(|image| ledger.has(image, name, now));
                None
            }
            Asked::Read(read) => {
                let admitted = self.guests.lock().unwrap_or_else(PoisonError::into_inner).admit(name, now);
                let part = if admitted { self.images.part(&read.into()).await } else { Part::Busy };
                Some(part.into())
            }
            Asked::Meaning(wire::Reference { reference, fingerprints }) => {
                self.images.meaning(&MeaningWanted { reference, fingerprints }).map(Told::from)
            }
        };
        Ok(wire::answer(told))
    }

    /// Members hear what this node has, now and then, until `stop`.
    pub(crate) async fn tell(self, stop: CancellationToken) {
        let mut told_at: Option<Instant> = None;
        let mut members = self.sharing.members.clone();
        loop {
            members.borrow_and_update();
            let is_due = told_at.is_none_or(|at| Instant::now() >= at + TELL_PERIOD);
            if is_due && !self.sharing.others().is_empty() {
                self.sharing.clone().announce_now(self.images.images()).await;
                told_at = Some(Instant::now());
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                changed = members.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(TELL_PERIOD) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests;
