//! Hollow nodes: many nodes in one process, whose pods are there in memory only. All but the machine
//! is what an agent has: they register, are heard, take the pods that are bound to them, and report.

mod machine;

use crate::cluster::{self, Answers, Follower, SharedRecords};
use crate::metrics::Metrics;
use crate::node::bindings::{Binding, Bindings};
use crate::node::ending::Endings;
use crate::node::keeper::Keeper;
use crate::node::registration::{self, Machine};
use crate::overlay::HOLLOW;
use crate::run::{End, finished, node_name, until_the_end};
use anyhow::Context as _;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use machine::HollowMachine;
use manifests::config::{AgentConfiguration, TaintConfiguration};
use reconciler::controllers::NodeRules;
use reconciler::driver::Driver;
use reconciler::events::{EventWriter, Recorder, recorder};
use reconciler::heartbeats::Heartbeats;
use reconciler::store::Store;
use reconciler::sync::duty::{Duties, Holders, HollowNodes};
use reconciler::sync::syncer;
use std::net::Ipv4Addr;
use std::os::unix::fs::DirBuilderExt as _;
use std::sync::Arc;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// The first address that hollow nodes and their pods claim to have: shared address space (RFC 6598).
const FIRST_ADDRESS: u32 = u32::from_be_bytes([100, 64, 0, 0]);
/// Addresses of one node, its own among them.
const ADDRESSES: u32 = 256;
/// Nodes for which there are addresses.
pub(crate) const MOST: u32 = (1 << 22) / ADDRESSES;

const NO_CLUSTER: &str = "hollow nodes need a `cluster` in the configuration, to be nodes of";

/// How many, and of what size.
#[derive(Debug, Clone)]
pub(crate) struct HollowOptions {
    pub(crate) nodes: HollowNodes,
    pub(crate) cores: usize,
    pub(crate) memory_bytes: u64,
}

type Part = BoxFuture<'static, anyhow::Result<()>>;

/// Runs until SIGTERM or SIGINT. The Node objects stay.
///
/// # Errors
/// If there is no place in the cluster for this process, or a part of it ended.
pub(crate) async fn run(mut configuration: AgentConfiguration, options: HollowOptions) -> anyhow::Result<()> {
    anyhow::ensure!(configuration.cluster.is_some(), "{NO_CLUSTER}");
    configuration.node_name = node_name(&configuration);
    let mut folder = std::fs::DirBuilder::new();
    let made = folder.recursive(true).mode(0o700).create(&configuration.state_dir);
    made.with_context(|| format!("cannot make {}", configuration.state_dir.display()))?;
    let mut end = End::new()?;
    let stop = CancellationToken::new();
    let tasks = tokio::select! {
        tasks = start(configuration, options, &stop) => tasks?,
        () = end.asked() => return Ok(()),
    };
    tracing::info!("hollow nodes started");
    until_the_end(tasks, &mut end, None, &stop).await
}

async fn start(
    configuration: AgentConfiguration,
    options: HollowOptions,
    stop: &CancellationToken,
) -> anyhow::Result<JoinSet<anyhow::Result<()>>> {
    let records = Arc::new(SharedRecords::default());
    let (peers, listener) =
        cluster::open_peers(&configuration, Arc::clone(&records)).await?.context(NO_CLUSTER)?;
    let store = Arc::new(cluster::open_store(&configuration, Some(&peers)).await?);
    records.open(Arc::clone(&store));
    let metrics = Metrics::new(&configuration.node_name)?;
    let (notes, events) = recorder(&configuration.node_name);
    let holders = watch::Sender::<Holders>::default();
    let duties = Duties { me: configuration.node_name.clone(), holders: holders.subscribe() };
    // It looks at no source, for it may be away from them all.
    let (sync, syncer) = syncer(&store, &notes, &[], &configuration.state_dir.join("git"), &duties);
    let heartbeats = Arc::new(Heartbeats::new(tokio::time::Instant::now()));
    let follower = Follower {
        me: configuration.node_name.clone(),
        store: Arc::clone(&store),
        peers: Some(Arc::clone(&peers)),
        records,
        heartbeats: Arc::clone(&heartbeats),
        sync: sync.clone(),
        holders,
        hollow: Some(options.nodes.clone()),
        disk_stuck: metrics.disk_stuck.clone(),
    };
    let view = store.cluster().clone();
    let answers = Arc::new(Answers { cluster: view, sync, peers: Arc::clone(&peers), images: None });
    let expiration = metrics.certificate_expiration.clone();
    // A member may be elected, and then it decides for all.
    let driver = Driver::new(Arc::clone(&store), notes)
        .listening_to(heartbeats, NodeRules::default())
        .with_pod_networks(crate::overlay::rules(&configuration));
    let mut bindings = Bindings::default();
    let shared = Shared { store: Arc::clone(&store), configuration, metrics, options };
    let mut tasks = JoinSet::new();
    for (number, name) in (0..).zip(shared.options.nodes.names()) {
        for part in shared.node(number, &name, bindings.of(&name), stop) {
            tasks.spawn(part);
        }
    }
    let rest: [Part; 6] = [
        follower.run(stop.clone()).boxed(),
        peers.run(listener, answers, expiration, stop.clone()).boxed(),
        finished(driver.run(stop.clone())).boxed(),
        finished(syncer.run(stop.clone())).boxed(),
        finished(events.run(Arc::clone(&store), stop.clone())).boxed(),
        finished(bindings.run(store, stop.clone())).boxed(),
    ];
    for part in rest {
        tasks.spawn(part);
    }
    Ok(tasks)
}

/// What all nodes of the process have in common.
struct Shared {
    store: Arc<Store>,
    configuration: AgentConfiguration,
    metrics: Metrics,
    options: HollowOptions,
}

impl Shared {
    /// The parts of node `number`.
    fn node(&self, number: u32, name: &str, binding: Binding, stop: &CancellationToken) -> [Part; 3] {
        let first = Ipv4Addr::from_bits(FIRST_ADDRESS + number * ADDRESSES);
        let address = Ipv4Addr::from_bits(first.to_bits() + 1);
        let configuration = Arc::new(self.configuration_of(name, first));
        let observed = Machine::observe(name.to_owned(), vec![address.into()], &configuration.state_dir);
        let machine =
            Machine { cores: self.options.cores, memory_bytes: self.options.memory_bytes, ..observed };
        let (recorder, events) = recorder(name);
        let keeper = self.keeper(binding, address, recorder);
        let store = || Arc::clone(&self.store);
        let write = |events: EventWriter| finished(events.run(store(), stop.clone()));
        [
            registration::run(store(), machine, configuration, stop.clone()).boxed(),
            keeper.run(Arc::new(Notify::new()), stop.clone()).boxed(),
            write(events).boxed(),
        ]
    }

    fn keeper(&self, binding: Binding, address: Ipv4Addr, recorder: Recorder) -> Keeper<HollowMachine> {
        Keeper {
            store: Arc::clone(&self.store),
            binding,
            host_ips: vec![address.to_string()],
            recorder,
            metrics: self.metrics.clone(),
            endings: Endings::default(),
            closing: watch::Sender::new(false),
            hands: Arc::new(HollowMachine::new(address)),
        }
    }

    fn configuration_of(&self, name: &str, first: Ipv4Addr) -> AgentConfiguration {
        let mut configuration = self.configuration.clone();
        name.clone_into(&mut configuration.node_name);
        configuration.network.backend = "none".to_owned();
        configuration.network.pod_cidr = format!("{first}/24");
        configuration.node_labels.insert(HOLLOW.to_owned(), "true".to_owned());
        let (key, effect) = (HOLLOW.to_owned(), "NoSchedule".to_owned());
        configuration.register_with_taints.push(TaintConfiguration { key, value: String::new(), effect });
        configuration
    }
}
