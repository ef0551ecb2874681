//! DNS: the names of the cluster, answered by the node itself, and all others passed on.
//!
//! `question` and `reply` read and write packets, `zone` has the cluster's names, `cache` what others
//! answered (all pure); `desk` makes an answer of them without waiting, or says what others have to be
//! asked, which `resolver` does. `datagrams` are threads of their own, so that nothing that the agent
//! does holds up an answer. What is known comes from outside; nothing here needs a leader or a network.

mod cache;
mod code;
mod counters;
mod datagrams;
mod desk;
mod exchange;
mod foreign;
#[cfg(any(test, fuzzing))]
mod fuzzing;
mod model;
mod name;
mod question;
mod reply;
mod resolver;
mod servers;
mod sockets;
mod streams;
mod tasks;
mod zone;

pub use counters::{Counters, RequestCount};
#[cfg(fuzzing)]
pub use fuzzing::{judge_answer, judge_question};
pub use model::{NamedEndpoint, NamedPort, Names, PodNames, ServiceNames};
pub use servers::Upstream;
pub use sockets::DnsSockets;

use crate::services::ServiceName;
use cache::Cache;
use datagrams::Threads;
use desk::{Desk, Rules};
use name::Name;
use resolver::Resolver;
use servers::Servers;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use zone::Zone;

/// How many questions may wait for other servers at once. Source: NodeLocal DNSCache's
/// `max_concurrent`.
const WAITING: usize = 1000;
/// How long those that wait for others have when the server ends.
const LAST_ANSWERS: Duration = Duration::from_secs(1);
/// Threads that read datagrams, at most.
const MOST_THREADS: usize = 4;

/// What a node's DNS is made from.
#[derive(Debug, Clone)]
pub struct DnsOptions {
    /// The cluster's domain, such as `cluster.local`.
    pub domain: String,
    /// The addresses at which it answers, beside those of its sockets.
    pub addresses: Vec<IpAddr>,
    /// Networks of the cluster: nobody else is asked for names of their addresses.
    pub networks: Vec<(IpAddr, u8)>,
    /// Names of the node's own, the first of each address is its.
    pub hosts: Vec<(IpAddr, Vec<String>)>,
    /// Who answers about all others.
    pub upstream: Upstream,
    /// Who answers about what is below these domains.
    pub stub_domains: Vec<(String, Vec<SocketAddr>)>,
    /// Answers of others that are kept, at most.
    pub cache_entries: usize,
    /// For how long after their time answers are given while nobody else answers.
    pub serve_stale: Duration,
    /// Search paths of pods are followed here.
    pub autopath: bool,
    /// Of the zone's SOA record.
    pub serial: u32,
}

/// Why there is no DNS.
#[derive(Debug, thiserror::Error)]
pub enum DnsError {
    /// Somebody else has the port, or the node does not have the address.
    #[error("cannot answer DNS at {address}")]
    Bind {
        /// Where.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No domain name.
    #[error("{0:?} is no domain")]
    Domain(String),
    /// No thread, or too many open files.
    #[error("cannot start to answer DNS")]
    Start(#[source] io::Error),
}

/// A server that answers.
#[derive(Debug)]
pub struct Dns {
    desk: Arc<Desk>,
    threads: Threads,
    streams: JoinSet<()>,
    room: Arc<Semaphore>,
}

impl Dns {
    /// Answers at `sockets` from `names`, and counts what it does. Starts threads, and tasks on the
    /// runtime of the caller.
    ///
    /// # Errors
    /// If the domain is none, or the kernel has no more threads or files.
    pub fn start(
        options: &DnsOptions,
        names: Names,
        sockets: Vec<DnsSockets>,
        counters: Arc<Counters>,
    ) -> Result<Self, DnsError> {
        let origin = Name::parse(&options.domain).ok_or_else(|| DnsError::Domain(options.domain.clone()))?;
        let mut own = options.addresses.clone();
        for socket in &sockets {
            own.push(socket.address().map_err(DnsError::Start)?.ip());
        }
        let mut zone = Zone::new(origin, &own, options.serial);
        // Questions wait in the sockets already: none may be told that nothing exists.
        zone.replace(names);
        let rules = Rules::new(&options.hosts, options.networks.clone(), options.autopath);
        let cache = Cache::new(options.cache_entries, options.serve_stale);
        let desk = Arc::new(Desk::new(zone, rules, cache, counters));
        let servers = Servers::new(options.upstream.clone(), &options.stub_domains, own);
        let resolver = Arc::new(Resolver::new(Arc::clone(&desk), servers));
        let room = Arc::new(Semaphore::new(WAITING));
        let (mut datagrams, mut streams) = (Vec::new(), JoinSet::new());
        for socket in sockets {
            datagrams.push(socket.udp);
            let listener = tokio::net::TcpListener::from_std(socket.tcp).map_err(DnsError::Start)?;
            streams.spawn(streams::serve(listener, Arc::clone(&resolver)));
        }
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let count = (cores / 2).clamp(1, MOST_THREADS);
        let threads = Threads::start(datagrams, count, &resolver, &room).map_err(DnsError::Start)?;
        Ok(Self { desk, threads, streams, room })
    }

    /// Exactly these services and pods exist.
    pub fn replace(&self, names: Names) {
        self.desk.change(|zone| zone.replace(names));
    }

    /// These services have these names, or are gone.
    pub fn change_services(&self, changes: Vec<(ServiceName, Option<ServiceNames>)>) {
        self.desk.change(|zone| changes.into_iter().for_each(|(name, names)| zone.set(name, names.as_ref())));
    }

    /// At these addresses are these pods, or none.
    pub fn change_pods(&self, changes: Vec<(IpAddr, Vec<PodNames>)>) {
        self.desk.change(|zone| changes.into_iter().for_each(|(address, pods)| zone.set_pods(address, pods)));
    }

    /// Reads no more questions, and answers those that it has read, if that does not take long. What
    /// comes from here on waits in the sockets, if somebody has them.
    pub async fn close(mut self) {
        self.threads.stop_reading();
        self.streams.abort_all();
        let all = u32::try_from(WAITING).unwrap_or(u32::MAX);
        let _late = tokio::time::timeout(LAST_ANSWERS, self.room.acquire_many(all)).await;
    }
}
