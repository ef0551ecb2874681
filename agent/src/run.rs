//! `keel agent`: puts the parts together, and takes them apart again.

use crate::metrics::Metrics;
use crate::node::registration::{self, Machine};
use crate::node::{self, Node};
use crate::serve::{self, Api};
use crate::telemetry;
use anyhow::Context as _;
use manifests::config::{AgentConfiguration, parse_configuration};
use manifests::diagnostic::render;
use manifests::parse::SourceFile;
use netstack::{Network, NetworkOptions};
use reconciler::driver;
use reconciler::events::Recorder;
use reconciler::store::Store;
use reconciler::sync::SyncHandle;
use runtime::image::ImageStore;
use runtime::plan::NodeFacts;
use runtime::pods::{Runtime, RuntimeOptions};
use std::ffi::OsString;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};
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
fn node_name(configuration: &AgentConfiguration) -> String {
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
        builder.recursive(true).mode(mode).create(path).with_context(|| format!("cannot make {}", path.display()))?;
    }
    Ok(())
}

async fn run(mut configuration: AgentConfiguration) -> anyhow::Result<()> {
    let started_at = jiff::Timestamp::now();
    configuration.node_name = node_name(&configuration);
    make_folders(&configuration)?;
    // First of all: a second agent on the same folders must not touch anything.
    let listener = serve::listen(&serve::socket_path(&configuration))?;
    let metrics = Metrics::new(&configuration.node_name)?;
    let store = Arc::new(Store::open(&configuration.state_dir.join("store")).context("cannot open the store")?);
    let network = open_network(&configuration).await?;
    let warnings: Vec<String> = network.warnings().iter().map(ToString::to_string).collect();
    for warning in &warnings {
        tracing::warn!("{warning}");
    }
    let addresses = network.gateway_addresses();
    let machine = Machine::observe(configuration.node_name.clone(), addresses.clone());
    registration::register(&store, &machine, &configuration).await.context("cannot register the node")?;
    let facts = facts(&configuration, &machine);
    let recorder = Recorder::new(Arc::clone(&store), configuration.node_name.clone());
    let node = Arc::new(Node {
        runtime: Runtime::open(runtime_options(&configuration)).await.context("cannot open the runtime")?,
        images: ImageStore::open(&configuration.state_dir.join("images")).context("cannot open the image store")?,
        store: Arc::clone(&store),
        network,
        facts,
        recorder: recorder.clone(),
        metrics: metrics.clone(),
    });
    node.sweep().await;
    let stop = CancellationToken::new();
    let mut tasks: JoinSet<anyhow::Result<()>> = JoinSet::new();
    let sync = SyncHandle::start(&configuration, Arc::clone(&store), recorder.clone(), stop.clone(), &mut tasks)?;
    let api = Api {
        store: Arc::clone(&store),
        node: Arc::clone(&node),
        sync: sync.clone(),
        metrics: metrics.clone(),
        configuration: Arc::new(configuration.clone()),
        started_at,
        warnings: Arc::new(warnings),
    };
    spawn_all(&mut tasks, Parts { node, store, recorder, api, metrics, listener, sync }, &configuration, &stop);
    tracing::info!(node = %configuration.node_name, socket = %serve::socket_path(&configuration).display(), "agent started");
    // Outside systemd there is nobody to tell.
    let _told = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    until_the_end(tasks, stop).await
}
