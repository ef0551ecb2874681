//! `keel agent`: puts the parts together, and takes them apart again.

mod end;
mod options;

pub(crate) use end::{Doors, End, until_the_end};

use crate::cadvisor::Scraper;
use crate::cluster::{self, SharedRecords, Sharing};
use crate::metrics::Metrics;
use crate::node::bindings::Bindings;
use crate::node::ending::Endings;
use crate::node::hardware;
use crate::node::network::{self, PodNetwork};
use crate::node::registration::{self, Machine};
use crate::node::{self, Node};
use crate::serve::{self, Api};
use crate::{announce, dns, ingress, overlay, policies, services, sync_metrics, systemd, telemetry};
use anyhow::Context as _;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use manifests::config::{AgentConfiguration, parse_configuration};
use manifests::diagnostic::render;
use manifests::parse::SourceFile;
use options::{facts, puller, runtime_options};
use reconciler::controllers::NodeRules as LostRules;
use reconciler::driver::Driver;
use reconciler::events::{EventWriter, Recorder, recorder};
use reconciler::heartbeats::Heartbeats;
use reconciler::store::Store;
use reconciler::sync::duty::{Duties, Holders};
use reconciler::sync::{SyncHandle, Syncer, syncer};
use runtime::pods::Runtime;
use runtime::token::TokenKey;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Reads and checks the configuration file; every mistake in it is on stderr
/// when this fails.
///
/// # Errors
/// An exit code: 1 if the file cannot be read or has mistakes.
pub(crate) fn load(path: &Path) -> Result<AgentConfiguration, ExitCode> {
    let content = std::fs::read(path).map_err(|error| {
        eprintln!("error: cannot read the configuration {}: {error}", path.display());
        ExitCode::FAILURE
    })?;
    let file = SourceFile { path: path.display().to_string(), content };
    parse_configuration(file).map_err(|diagnostics| {
        eprint!("{}", render(&diagnostics, std::io::IsTerminal::is_terminal(&std::io::stderr())));
        ExitCode::FAILURE
    })
}

/// Runs the agent until SIGTERM or SIGINT. Pods go on running after it.
pub(crate) fn agent(path: &Path) -> ExitCode {
    let configuration = match load(path) {
        Ok(configuration) => configuration,
        Err(code) => return code,
    };
    match start(configuration) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(configuration: AgentConfiguration) -> anyhow::Result<()> {
    telemetry::start()?;
    if !rustix::process::geteuid().is_root() {
        anyhow::bail!("`keel agent` makes namespaces, mounts and cgroups: it needs to be started by root");
    }
    let threads = std::thread::available_parallelism().map_or(2, std::num::NonZero::get).clamp(2, 4);
    let tokio = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .thread_stack_size(1 << 20)
        .enable_all()
        .build()
        .context("cannot start threads")?;
    tokio.block_on(run(configuration))
}

/// The name of this node: as configured, or the host's.
pub(crate) fn node_name(configuration: &AgentConfiguration) -> String {
    if configuration.node_name.is_empty() {
        return rustix::system::uname().nodename().to_string_lossy().to_lowercase();
    }
    configuration.node_name.clone()
}

fn make_folders(configuration: &AgentConfiguration) -> anyhow::Result<()> {
    for (path, mode) in
        [(&configuration.state_dir, 0o700), (&configuration.run_dir, 0o755), (&configuration.log_dir, 0o755)]
    {
        let mut builder = std::fs::DirBuilder::new();
        builder
            .recursive(true)
            .mode(mode)
            .create(path)
            .with_context(|| format!("cannot make {}", path.display()))?;
    }
    Ok(())
}

async fn run(mut configuration: AgentConfiguration) -> anyhow::Result<()> {
    configuration.node_name = node_name(&configuration);
    make_folders(&configuration)?;
    // First of all: a second agent on the same folders must not touch anything.
    let listener = serve::listen(&serve::socket_path(&configuration))?;
    let cri_socket = configuration.cri.socket.clone();
    let cri = cri_socket.as_deref().map(crate::cri::listen).transpose()?;
    let socket = serve::socket_path(&configuration);
    let mut end = End::new()?;
    // Whoever waits for a cluster to let it in can be told to end.
    let parts = tokio::select! {
        parts = assemble(configuration) => parts?,
        () = end.asked() => return Ok(()),
    };
    let stop = CancellationToken::new();
    let doors = parts.doors.clone();
    let tasks = parts.spawn(listener, cri, &stop);
    tracing::info!(socket = %socket.display(), "agent started");
    // Outside systemd there is nobody to tell.
    let _told = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    let result = until_the_end(tasks, &mut end, Some(&doors), &stop).await;
    let _told = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    // A socket that nobody answers on would only confuse.
    for socket in cri_socket.iter().chain([&socket]) {
        let _gone = std::fs::remove_file(socket);
    }
    tracing::info!("agent stopped; pods go on running");
    result
}

/// The parts of a running agent.
struct Parts {
    configuration: Arc<AgentConfiguration>,
    store: Arc<Store>,
    node: Arc<Node>,
    recorder: Recorder,
    events: EventWriter,
    sync: SyncHandle,
    syncer: Syncer,
    holders: watch::Sender<Holders>,
    metrics: Metrics,
    warnings: Arc<Vec<String>>,
    peers: Option<cluster::Port>,
    records: Arc<SharedRecords>,
    /// None if images are not shared with peers.
    sharing: Option<Sharing>,
    /// Until the store's Node object says what this machine is: no leader takes it yet.
    unregistered: Option<Machine>,
    /// Where pods that wait for their policies come out.
    line: policies::Line,
    /// Of Ingresses.
    doors: Doors,
    started_at: jiff::Timestamp,
}

async fn assemble(configuration: AgentConfiguration) -> anyhow::Result<Parts> {
    let started_at = jiff::Timestamp::now();
    let metrics = Metrics::new(&configuration.node_name)?;
    let records = Arc::new(SharedRecords::default());
    let peers = cluster::open_peers(&configuration, Arc::clone(&records)).await?;
    let store = cluster::open_store(&configuration, peers.as_ref().map(|(peers, _)| &**peers)).await?;
    let store = Arc::new(store);
    records.open(Arc::clone(&store));
    let cidrs = network::known(&store, &configuration);
    let alone = cidrs.and_then(|cidrs| cidrs.gateways().first().copied());
    let machine = machine(&configuration, peers.as_ref(), alone);
    let network = PodNetwork::of(&configuration, &store, &machine.addresses).await?;
    let warnings = told(&network);
    let registered = registered(&store, &machine, &configuration).await?;
    let (recorder, events) = recorder(&configuration.node_name);
    let sharing = sharing(&configuration, peers.as_ref());
    let (gate, line) = policies::Gate::new();
    let node = Arc::new(Node {
        runtime: Runtime::open_beside(runtime_options(&configuration), systemd::manager().await)
            .await
            .context("cannot open the runtime")?,
        images: Arc::new(puller(&configuration, sharing.as_ref(), &metrics)?),
        store: Arc::clone(&store),
        network,
        gate,
        facts: facts(&configuration, &machine),
        tokens: TokenKey::open(&configuration.state_dir.join("service-account.key"))?,
        recorder: recorder.clone(),
        metrics: metrics.clone(),
        endings: Endings::default(),
        closing: watch::Sender::new(false),
        announced: watch::Sender::default(),
    });
    node.sweep().await;
    node.republish().await;
    let holders = watch::Sender::default();
    let duties = duties(&configuration, peers.is_some(), &holders);
    let clones = configuration.state_dir.join("git");
    let (sync, syncer) = syncer(&store, &recorder, &configuration.sources, &clones, &duties);
    let (configuration, warnings) = (Arc::new(configuration), Arc::new(warnings));
    Ok(Parts {
        configuration,
        store,
        node,
        recorder,
        events,
        sync,
        syncer,
        holders,
        metrics,
        warnings,
        peers,
        records,
        sharing,
        unregistered: (!registered).then_some(machine),
        line,
        doors: Doors::default(),
        started_at,
    })
}

/// Whether the store's Node object says what this machine is: only a leader can have it say so by itself.
async fn registered(
    store: &Store,
    machine: &Machine,
    configuration: &AgentConfiguration,
) -> anyhow::Result<bool> {
    let leads = cluster::leads(store);
    if leads {
        registration::register(store, machine, configuration).await.context("cannot register the node")?;
    }
    Ok(leads)
}

/// What `network` has to say of the machine; the log has it, too.
fn told(network: &PodNetwork) -> Vec<String> {
    let warnings = network.warnings();
    warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    warnings
}

/// The node's part in sharing images, if it has peers and shares any.
fn sharing(configuration: &AgentConfiguration, peers: Option<&cluster::Port>) -> Option<Sharing> {
    let (peers, _) = peers.filter(|_| configuration.images.share_with_peers)?;
    Some(Sharing::new(peers))
}

/// This machine, with its addresses towards others.
fn machine(
    configuration: &AgentConfiguration,
    peers: Option<&cluster::Port>,
    alone: Option<IpAddr>,
) -> Machine {
    let alone = alone.unwrap_or(Ipv4Addr::LOCALHOST.into());
    let addresses = peers.map_or_else(
        || hardware::addresses(alone),
        |(peers, _)| hardware::addresses_with(&peers.me().address, alone),
    );
    Machine::observe(configuration.node_name.clone(), addresses, &configuration.state_dir)
}

/// Which sources this node looks at: as the cluster decides, or all.
fn duties(configuration: &AgentConfiguration, shared: bool, holders: &watch::Sender<Holders>) -> Duties {
    if shared {
        return Duties { me: configuration.node_name.clone(), holders: holders.subscribe() };
    }
    Duties::alone(configuration.sources.iter().map(|source| source.name.clone()))
}

impl Parts {
    /// Every task of the agent, running. The first that ends, ends the agent.
    fn spawn(
        self,
        listener: UnixListener,
        cri: Option<UnixListener>,
        stop: &CancellationToken,
    ) -> JoinSet<anyhow::Result<()>> {
        let mut tasks = JoinSet::new();
        let retry = Arc::new(tokio::sync::Notify::new());
        let pods = Arc::new(Scraper::new(Arc::clone(&self.node)));
        let api = Api {
            store: Arc::clone(&self.store),
            node: Arc::clone(&self.node),
            sources: self.sources(),
            metrics: self.metrics.clone(),
            peers: self.peers.as_ref().map(|(peers, _)| Arc::clone(peers)),
            pods: Arc::clone(&pods),
            configuration: Arc::clone(&self.configuration),
            started_at: self.started_at,
            warnings: Arc::clone(&self.warnings),
        };
        let image_rules = self.configuration.images.clone();
        let image_folder = self.configuration.state_dir.join("images");
        let (view, sync, images) = (self.store.cluster().clone(), self.sync.clone(), self.giver());
        let mut add = |part| drop(tasks.spawn(part));
        for part in self.shared_work(stop) {
            add(part);
        }
        let mut bindings = Bindings::default();
        let keeper = self.node.keeper(bindings.of(&self.configuration.node_name));
        add(finished(bindings.run(Arc::clone(&self.store), stop.clone())).boxed());
        add(keeper.run(Arc::clone(&retry), stop.clone()).boxed());
        let configuration = Arc::clone(&self.configuration);
        add(network::run(Arc::clone(&self.node), configuration, Arc::clone(&retry), stop.clone()).boxed());
        add(node::config_volumes::run(Arc::clone(&self.node), retry, stop.clone()).boxed());
        add(node::resize::run(Arc::clone(&self.node), stop.clone()).boxed());
        let bridge = self.configuration.network.bridge.clone();
        add(policies::run(Arc::clone(&self.node), self.line, bridge, stop.clone()).boxed());
        add(node::ephemeral::run(Arc::clone(&self.node), stop.clone()).boxed());
        add(node::image_gc::run(Arc::clone(&self.node), image_rules, image_folder, stop.clone()).boxed());
        for part in care(&self.node, &self.configuration, stop) {
            add(part);
        }
        add(finished(systemd::report(Arc::clone(&self.node), stop.clone())).boxed());
        add(crate::rest::run(Arc::clone(&self.store), stop.clone()).boxed());
        add(finished(self.events.run(Arc::clone(&self.store), stop.clone())).boxed());
        add(sync_metrics::run(self.store, self.sync, self.metrics.clone(), stop.clone()).boxed());
        add(finished(self.syncer.run(stop.clone())).boxed());
        add(serve::control(listener, api, stop.clone())
            .map(|result| result.context("the control socket"))
            .boxed());
        if let Some(giver) = images.clone() {
            add(finished(giver.tell(stop.clone())).boxed());
        }
        if let Some((peers, listener)) = self.peers {
            let expiration = self.metrics.certificate_expiration.clone();
            let answers = cluster::Answers { cluster: view, peers: Arc::clone(&peers), sync, images };
            add(peers.run(listener, Arc::new(answers), expiration, stop.clone()).boxed());
        }
        if let Some(listener) = cri {
            add(crate::cri::run(listener, self.node, stop.clone()).boxed());
        }
        let address = self.configuration.metrics_address.clone();
        if !address.is_empty() {
            add(serve::scrape(address, (self.metrics, pods), stop.clone()).map(|result| Ok(result?)).boxed());
        }
        tasks
    }

    /// What peers get of this node's images, if they do.
    fn giver(&self) -> Option<cluster::Giver> {
        let sharing = self.sharing.clone()?;
        Some(cluster::Giver::new(sharing, Arc::clone(&self.node.images)))
    }

    /// The sources, as the API reaches them.
    fn sources(&self) -> cluster::Sources {
        cluster::Sources {
            me: self.configuration.node_name.clone(),
            store: Arc::clone(&self.store),
            peers: self.peers.as_ref().map(|(peers, _)| Arc::clone(peers)),
            sync: self.sync.clone(),
            holders: self.holders.subscribe(),
        }
    }

    /// When a silent node counts as lost.
    fn lost_rules(&self) -> LostRules {
        let rules = LostRules::default();
        let grace = self.configuration.cluster.as_ref().map_or(rules.grace, |cluster| cluster.grace());
        LostRules { grace, ..rules }
    }

    /// What the node does for its cluster: it is a member, and runs the controllers while it leads.
    fn shared_work(&self, stop: &CancellationToken) -> Vec<Part> {
        let reconcile = self.metrics.reconcile.clone();
        let heartbeats = Arc::new(Heartbeats::new(tokio::time::Instant::now()));
        let follower = cluster::Follower {
            me: self.configuration.node_name.clone(),
            store: Arc::clone(&self.store),
            peers: self.peers.as_ref().map(|(peers, _)| Arc::clone(peers)),
            records: Arc::clone(&self.records),
            heartbeats: Arc::clone(&heartbeats),
            sync: self.sync.clone(),
            holders: self.holders.clone(),
            hollow: None,
            disk_stuck: self.metrics.disk_stuck.clone(),
        };
        let driver = Driver::new(Arc::clone(&self.store), self.recorder.clone())
            .listening_to(heartbeats, self.lost_rules())
            .with_services(services::rules(&self.configuration))
            .with_pod_networks(overlay::rules(&self.configuration))
            .observed_by(move |name, took| reconcile.with_label_values(&[name]).observe(took.as_secs_f64()));
        let mut parts = vec![follower.run(stop.clone()).boxed(), finished(driver.run(stop.clone())).boxed()];
        let place = || (Arc::clone(&self.node), Arc::clone(&self.configuration));
        let (node, configuration) = place();
        parts.push(services::run(node, configuration, stop.clone()).boxed());
        let (node, configuration) = place();
        parts.push(announce::run(node, configuration, stop.clone()).boxed());
        let (node, configuration) = place();
        parts.push(overlay::run(node, configuration, stop.clone()).boxed());
        let (node, configuration) = place();
        parts.push(ingress::run(node, configuration, self.doors.clone()).boxed());
        let (node, configuration) = place();
        let counters = Arc::clone(&self.metrics.dns);
        parts.push(dns::run(node, configuration, counters, stop.clone()).boxed());
        if let Some(machine) = self.unregistered.clone() {
            let (store, configuration) = (Arc::clone(&self.store), Arc::clone(&self.configuration));
            parts.push(registration::run(store, machine, configuration, stop.clone()).boxed());
        }
        parts
    }
}

type Part = BoxFuture<'static, anyhow::Result<()>>;

/// What keeps the node itself alive, and brings it down in good order.
fn care(node: &Arc<Node>, configuration: &Arc<AgentConfiguration>, stop: &CancellationToken) -> [Part; 4] {
    let (period, graces) = (configuration.node.measure_period(), configuration.node.shutdown_graces());
    [
        node::storage::run(Arc::clone(node), period, stop.clone()).boxed(),
        node::pressure::run(Arc::clone(node), Arc::clone(configuration), stop.clone()).boxed(),
        node::shutdown::run(Arc::clone(node), graces, stop.clone()).boxed(),
        node::plugins::run(Arc::clone(node), stop.clone()).boxed(),
    ]
}

pub(crate) async fn finished(part: impl Future<Output = ()>) -> anyhow::Result<()> {
    part.await;
    Ok(())
}
