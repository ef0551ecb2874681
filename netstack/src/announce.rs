//! Addresses that no link of the node has, and for which it answers on its links all the same: ARP and
//! neighbour discovery, so that packets for them come here, where `services` leads them on.
//!
//! `elect` says which node answers, `place` on which links, `frame` has the packets (all pure). Each
//! link has a task of its own (`post`); nothing is left of it in the kernel when it ends.

mod elect;
mod frame;
mod place;
mod post;

pub use elect::announcer;
pub use place::Placement;

use crate::sys::{address, link, socket};
use place::{Card, places};
use post::Post;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};

/// How often links and their addresses are looked at.
const LOOK: Duration = Duration::from_secs(5);

/// Why nobody is answered.
#[derive(Debug, thiserror::Error)]
pub enum AnnounceError {
    /// No netlink socket.
    #[error("cannot ask the kernel for links and addresses")]
    Socket(#[source] io::Error),
    /// The kernel did not say which links there are.
    #[error("cannot list links and addresses")]
    List(#[source] io::Error),
    /// Nothing came of a packet socket.
    #[error("cannot listen to neighbours on link {link}")]
    Listen {
        /// Its name.
        link: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// What is answered where.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answered {
    /// By the names of links, the addresses that are answered for there.
    pub links: BTreeMap<String, BTreeSet<IpAddr>>,
    /// Addresses for which no link is fit.
    pub nowhere: BTreeSet<IpAddr>,
}

struct Worker {
    card: Card,
    addresses: watch::Sender<BTreeSet<IpAddr>>,
    task: AbortHandle,
}

/// Answers for addresses. Nobody is answered after it is dropped.
pub struct Announcer {
    handle: rtnetlink::Handle,
    placement: Placement,
    wanted: BTreeSet<IpAddr>,
    workers: BTreeMap<u32, Worker>,
    tasks: JoinSet<()>,
    failures: (mpsc::Sender<AnnounceError>, mpsc::Receiver<AnnounceError>),
}

impl std::fmt::Debug for Announcer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Announcer").field("wanted", &self.wanted).finish_non_exhaustive()
    }
}

impl Announcer {
    /// Answers for nothing yet. Acts in the network namespace of the calling thread, and starts tasks on
    /// its tokio runtime. Needs `CAP_NET_ADMIN` and `CAP_NET_RAW`.
    ///
    /// # Errors
    /// The kernel's.
    pub async fn open(placement: Placement) -> Result<Self, AnnounceError> {
        let handle = socket::open().await.map_err(AnnounceError::Socket)?;
        let (workers, tasks, failures) = (BTreeMap::new(), JoinSet::new(), mpsc::channel(16));
        Ok(Self { handle, placement, wanted: BTreeSet::new(), workers, tasks, failures })
    }

    /// Answers for exactly these addresses. For those that are new, all neighbours are told at once, and
    /// some times after that.
    ///
    /// # Errors
    /// The kernel's. What is wanted is tried again with [`Announcer::look`].
    pub async fn set(&mut self, addresses: BTreeSet<IpAddr>) -> Result<Answered, AnnounceError> {
        self.wanted = addresses;
        self.look().await
    }

    /// The same addresses are answered for on the links as they are now.
    ///
    /// # Errors
    /// The kernel's.
    pub async fn look(&mut self) -> Result<Answered, AnnounceError> {
        if self.wanted.is_empty() && self.workers.is_empty() {
            return Ok(Answered::default());
        }
        let links = link::list(&self.handle).await.map_err(AnnounceError::List)?;
        let assigned = address::list(&self.handle).await.map_err(AnnounceError::List)?;
        let places = places(&self.placement, &links, &assigned, &self.wanted);
        let is_gone = |index: &u32, worker: &Worker| {
            worker.task.is_finished() || places.get(index).is_none_or(|(card, _)| *card != worker.card)
        };
        let gone: Vec<u32> =
            self.workers.iter().filter(|(index, worker)| is_gone(index, worker)).map(|(i, _)| *i).collect();
        for worker in gone.iter().filter_map(|index| self.workers.remove(index)) {
            worker.task.abort();
        }
        while self.tasks.try_join_next().is_some() {}
        let mut answered = Answered { nowhere: self.wanted.clone(), ..Answered::default() };
        answered.nowhere.retain(|address| !assigned.iter().any(|own| own.address == *address));
        let mut failed = None;
        for (index, (card, addresses)) in places {
            answered.nowhere.retain(|address| !addresses.contains(address));
            answered.links.insert(card.name.clone(), addresses.clone());
            match self.workers.get(&index) {
                Some(worker) => {
                    worker
                        .addresses
                        .send_if_modified(|held| std::mem::replace(held, addresses.clone()) != addresses);
                }
                // One link's failure is no other's.
                None => failed = failed.or(self.start(index, card, addresses).err()),
            }
        }
        failed.map_or(Ok(answered), Err)
    }

    fn start(&mut self, index: u32, card: Card, addresses: BTreeSet<IpAddr>) -> Result<(), AnnounceError> {
        let listen = |source| AnnounceError::Listen { link: card.name.clone(), source };
        let post = Post::open(index, card.mac).map_err(listen)?;
        let (addresses, told) = watch::channel(addresses);
        let (failures, link) = (self.failures.0.clone(), card.name.clone());
        let task = self.tasks.spawn(async move {
            if let Err(source) = post.run(told).await {
                // Who does not listen sees it at the next look.
                let _ = failures.try_send(AnnounceError::Listen { link, source });
            }
        });
        self.workers.insert(index, Worker { card, addresses, task });
        Ok(())
    }

    /// Ends when it is time to [`look`](Self::look) again: after some seconds, or when a link failed,
    /// which is told.
    ///
    /// # Cancel safety
    /// Nothing is lost when dropped.
    pub async fn disturbed(&mut self) -> Option<AnnounceError> {
        tokio::select! {
            biased;
            failure = self.failures.1.recv() => failure,
            () = tokio::time::sleep(LOOK) => None,
        }
    }
}
