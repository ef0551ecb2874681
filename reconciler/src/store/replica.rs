//! One member's part of the store, put together.

use super::aside::Aside;
use super::cluster::{Cluster, ClusterError, Leadership, Outside};
use super::command::SeededRandom;
use super::compaction;
use super::election::Elector;
use super::files::{Files, HostFiles};
use super::forward::{self, Forwarder};
use super::heard::Heard;
use super::log::{Facts, Folder, Hint, Identity, LogStore};
use super::machine::Machine;
use super::migrate;
use super::network::Network;
use super::packing;
use super::patience::held;
use super::proposer::{Proposer, Request};
use super::pulse::Pulser;
use super::raft::{Entry, LogId, Raft, settings};
use super::snapshot::{Head, Snapshots};
use super::watch::Ring;
use super::{OpenError, Shared, State, Store, Visible, voters};
use crate::peer::{NodeId, Peer, Transport};
use crate::random::{OsRandom, RandomSource};
use bytes::Bytes;
use jiff::Timestamp;
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// How a store that is not there yet comes to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Beginning {
    /// As a cluster of one.
    Found,
    /// As a member of a cluster that has given it this number.
    Join {
        /// The cluster's id.
        cluster: String,
        /// The member's number in it.
        node: NodeId,
    },
}

impl Beginning {
    /// Asks `members`, in turn, to take `me` in.
    ///
    /// # Errors
    /// What the last one said, if none does.
    pub async fn join(transport: &dyn Transport, members: &[Peer], me: &Peer) -> Result<Self, ClusterError> {
        let (cluster, node) = forward::admission(transport, members, me).await?;
        Ok(Self::Join { cluster, node })
    }
}

/// Tells the time for what writes are stamped with. Nothing is decided by it.
pub(super) type WallClock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// A log below this size is never cut, in bytes.
const LEAST_LOG_BYTES: u64 = 16 << 20;

/// What a store is made of.
#[derive(Clone)]
pub struct StoreOptions {
    /// Where its files are.
    pub dir: PathBuf,
    /// Who this node is to its peers.
    pub me: Peer,
    /// The way to peers; without it, there are none.
    pub transport: Option<Arc<dyn Transport>>,
    /// What to do where there is no store yet.
    pub beginning: Beginning,
    /// Chance, for who asks for votes first. A simulation fixes it.
    pub seed: u64,
    pub(super) files: Arc<dyn Files>,
    pub(super) clock: WallClock,
    pub(super) least_log_bytes: u64,
}

impl std::fmt::Debug for StoreOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoreOptions").field("dir", &self.dir).field("me", &self.me).finish_non_exhaustive()
    }
}

impl StoreOptions {
    /// True if there is a store in `dir` already: its beginning is behind it.
    #[must_use]
    pub fn has_begun(dir: &Path) -> bool {
        dir.join("store.redb").exists()
    }

    /// A store in `dir` without peers.
    #[must_use]
    pub fn alone(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
            me: Peer::default(),
            transport: None,
            beginning: Beginning::Found,
            seed: RandomSource::next(&mut OsRandom::new()),
            files: Arc::new(HostFiles),
            clock: Arc::new(Timestamp::now),
            least_log_bytes: LEAST_LOG_BYTES,
        }
    }
}

/// A member that is open, before it runs.
pub(super) struct Replica {
    pub(super) shared: Arc<Shared>,
    pub(super) changes: watch::Receiver<u64>,
    raft: Raft,
    log: LogStore,
    identity: Identity,
    options: StoreOptions,
    snapshots: Snapshots,
    applied: watch::Receiver<Head>,
    heard: watch::Sender<Heard>,
    leadership: watch::Sender<Leadership>,
    word: watch::Sender<Bytes>,
    queue: mpsc::Receiver<Vec<Request>>,
    closing: CancellationToken,
    is_threaded: bool,
}

/// Runs a store on the calling thread until it is closed.
pub(super) fn run(options: StoreOptions, opened: &std::sync::mpsc::SyncSender<Result<Store, OpenError>>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return drop(opened.send(Err(OpenError::Thread(error)))),
    };
    runtime.block_on(async {
        match Store::on(options, true).await {
            Ok((store, replica)) => {
                // Whoever opens it waits for it.
                drop(opened.send(Ok(store)));
                replica.run().await;
            }
            Err(error) => drop(opened.send(Err(error))),
        }
    });
}

impl Replica {
    /// The member in the options' folder, made if it is missing.
    pub(super) async fn open(
        options: StoreOptions,
        is_threaded: bool,
        queue: mpsc::Receiver<Vec<Request>>,
        closing: CancellationToken,
    ) -> Result<Self, OpenError> {
        let folder = Folder::open(&options.dir, Arc::clone(&options.files))?;
        let folder = folder.of_segments(options.least_log_bytes);
        prepare(&folder, &options)?;
        let (journal, facts, entries) = folder.load()?;
        let snapshots = options.dir.join("snapshots");
        let snapshots = Snapshots::open(Arc::clone(&options.files), snapshots, is_threaded)?;
        let (head, state) = start_state(&snapshots, &facts, &options.dir)?;
        let hint = Hint::open(&*options.files, &options.dir);
        let identity = facts.identity.clone();
        known_is_there(&hint, &facts, &entries, &head).map_err(|what| journal.damaged(what))?;
        let log = LogStore::new(journal, facts, entries, hint, is_threaded).map_err(OpenError::Thread)?;
        let revision = state.revision();
        let shared = Arc::new(Shared(RwLock::new(Visible { state, ring: Ring::new(revision) })));
        let (changed, changes) = watch::channel(revision);
        let machine = Machine::new(Arc::clone(&shared), changed, head, snapshots.clone(), closing.clone());
        let applied = machine.applied();
        let transport = options.transport.clone().unwrap_or_else(|| Arc::new(Nobody));
        let network = Network { transport, cluster: identity.cluster.clone() };
        let raft = Raft::new(identity.node, Arc::new(settings()), network, log.clone(), machine).await;
        let raft = raft.map_err(|error| OpenError::Log(crate::chain(&error)))?;
        let replica = Self {
            shared,
            changes,
            raft,
            log,
            identity,
            options,
            snapshots,
            applied,
            heard: watch::Sender::new(Heard::default()),
            leadership: watch::Sender::new(Leadership::Nobody),
            word: watch::Sender::new(Bytes::new()),
            queue,
            closing,
            is_threaded,
        };
        replica.settle().await?;
        Ok(replica)
    }

    /// A cluster of one leads, and has applied all that it has, before anybody sees it.
    async fn settle(&self) -> Result<(), OpenError> {
        let refused = |error: &dyn std::error::Error| OpenError::Log(crate::chain(error));
        let me = self.identity.node;
        // Asked of Raft itself: its metrics come later.
        let looked = self.raft.with_raft_state(move |state| {
            let voters: Vec<_> = state.membership_state.effective().voter_ids().collect();
            voters == [me]
        });
        if !looked.await.map_err(|error| refused(&error))? {
            return Ok(());
        }
        if self.raft.current_leader().await != Some(me) {
            self.raft.trigger().elect().await.map_err(|error| refused(&error))?;
        }
        let leads = |metrics: &openraft::RaftMetrics<NodeId, Peer>| {
            metrics.current_leader == Some(me)
                && metrics.last_applied.map(|id| id.index) >= metrics.last_log_index
                && metrics.last_applied.is_some_and(|id| id.leader_id.term == metrics.current_term)
        };
        self.raft.wait(None).metrics(leads, "to lead alone").await.map_err(|error| refused(&error))?;
        self.leadership.send_replace(Leadership::Leads);
        Ok(())
    }

    /// What others are told of this member.
    pub(super) fn cluster(&self, requests: mpsc::WeakSender<Vec<Request>>) -> Cluster {
        Cluster::new(
            self.raft.clone(),
            self.identity.clone(),
            self.log.clone(),
            self.applied.clone(),
            Outside {
                heard: self.heard.clone(),
                leadership: self.leadership.subscribe(),
                requests,
                transport: self.options.transport.clone(),
                word: self.word.clone(),
            },
        )
    }

    /// Does a member's work until the store is closed and every write is answered.
    pub(super) async fn run(self) {
        let mut tasks = JoinSet::new();
        let Self { raft, log, identity, options, heard, leadership, word, is_threaded, .. } = self;
        let applied = self.applied.clone();
        let flushing = log.flushing();
        tasks.spawn(held(report(raft.clone(), leadership.clone())));
        tasks.spawn(held(packing::run(self.shared, self.changes)));
        let cut = (self.snapshots, options.least_log_bytes);
        tasks.spawn(held(compaction::run(raft.clone(), log.clone(), self.applied, cut)));
        let follows = leadership.subscribe();
        let forwarder = options.transport.clone().map(|transport| Forwarder {
            raft: raft.clone(),
            transport,
            cluster: identity.cluster.clone(),
            leadership: leadership.subscribe(),
        });
        let mut aside = None;
        if let Some(transport) = options.transport {
            let elector = Elector {
                raft: raft.clone(),
                log: log.clone(),
                transport: Arc::clone(&transport),
                identity: identity.clone(),
                heard: heard.clone(),
                chance: SeededRandom::new([options.seed, identity.node]),
            };
            tasks.spawn(held(elector.run()));
            let voters = voters::run(raft.clone(), identity.node, heard.subscribe(), leadership.subscribe());
            tasks.spawn(held(voters));
            let (flushing, word) = (flushing.clone(), word.subscribe());
            let raft = raft.clone();
            let pulser = Pulser { raft, transport, identity, heard, leadership, flushing, word };
            aside = Aside::run(is_threaded, &mut tasks, held(pulser.run()));
        }
        let forwarder = forwarder.map(|way| (way, applied));
        let proposer = Proposer::new(raft.clone(), self.queue, (flushing, follows), forwarder, options.clock);
        let closing = self.closing;
        tasks.spawn(async move {
            closing.cancelled().await;
            log.give_up();
            std::future::pending::<()>().await;
        });
        // Ends when nobody can ask for writes any more.
        proposer.run().await;
        tasks.shutdown().await;
        drop(aside);
        if let Err(error) = raft.shutdown().await {
            tracing::error!(%error, "a part of the store ended badly");
        }
    }
}

/// Says when Raft has ended by itself: this member does nothing more until it is started again.
async fn report(raft: Raft, leadership: watch::Sender<Leadership>) {
    let mut metrics = raft.metrics();
    let ended = metrics.wait_for(|metrics| metrics.running_state.is_err()).await;
    let why = ended.ok().and_then(|metrics| metrics.running_state.clone().err());
    leadership.send_replace(Leadership::Nobody);
    match why {
        None | Some(openraft::error::Fatal::Stopped) => {}
        Some(error @ (openraft::error::Fatal::StorageError(_) | openraft::error::Fatal::Panicked)) => {
            let error = crate::chain(&error);
            tracing::error!(error, "the store failed, and takes nothing more until keel is started again");
        }
    }
}

/// There is a store of today's format in `folder` after.
fn prepare(folder: &Folder, options: &StoreOptions) -> Result<(), OpenError> {
    let fresh = || Identity { cluster: new_cluster_id(), node: 1 };
    if folder.is_filled()? {
        folder.firm()?;
        return migrate::migrate(folder, &fresh(), &options.me);
    }
    match &options.beginning {
        Beginning::Found => migrate::begin(folder, &fresh(), &options.me, &State::default()),
        Beginning::Join { cluster, node } => {
            let identity = Identity { cluster: cluster.clone(), node: *node };
            folder.create(&Facts { identity, ..Facts::default() }, Vec::new())
        }
    }
}

pub(super) fn new_cluster_id() -> String {
    let mut chance = OsRandom::new();
    super::apply::uuid(&mut chance)
}

/// The state of the newest snapshot, which must reach as far as the log was cut.
pub(super) fn start_state(
    snapshots: &Snapshots,
    facts: &Facts,
    dir: &Path,
) -> Result<(Head, State), OpenError> {
    let (head, state) = snapshots.load()?.unwrap_or_default();
    if head.last < facts.purged {
        let path = dir.join("snapshots");
        let what = "the snapshot that the log continues is missing".into();
        return Err(OpenError::Damaged { path, what });
    }
    Ok((head, state))
}

/// The log and the snapshot reach as far as is known to be committed: a file that was cut short where
/// a write ended looks whole by itself.
fn known_is_there(
    (_, committed): &(Hint, Option<LogId>),
    facts: &Facts,
    entries: &[Entry],
    head: &Head,
) -> Result<(), String> {
    let last = entries.last().map(|entry| entry.log_id).max(facts.purged).max(head.last);
    if *committed > last {
        return Err("its end is missing, which was known to be committed".into());
    }
    Ok(())
}

/// The transport of a node without peers.
#[derive(Debug)]
struct Nobody;

impl Transport for Nobody {
    fn call(
        &self,
        peer: Peer,
        _: crate::peer::Topic,
        _: bytes::Bytes,
        _: std::time::Duration,
    ) -> futures::future::BoxFuture<'static, Result<bytes::Bytes, crate::peer::CallError>> {
        let source = "this node was started without peers".into();
        Box::pin(async move { Err(crate::peer::CallError::Unreachable { peer: peer.name, source }) })
    }
}
