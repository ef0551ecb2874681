//! The node's place in its cluster: its store, its peers and the cluster's records, put together.

mod follow;
mod records;
mod sources;

pub(crate) use follow::Follower;
pub(crate) use records::SharedRecords;
pub(crate) use sources::{Answers, Sources};

use crate::peers::Peers;
use anyhow::Context as _;
use manifests::config::AgentConfiguration;
use reconciler::store::{Beginning, Leadership, OpenError, Store, StoreOptions};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;

/// How long a locked store may stay so, and how often is looked.
const STORE_PATIENCE: Duration = Duration::from_secs(5);
const STORE_LOOK: Duration = Duration::from_millis(10);
/// The label of what fails together, which voters are spread over.
const ZONE: &str = "topology.kubernetes.io/zone";
/// Between two tries to be taken in.
const ADMISSION_RETRY: Duration = Duration::from_secs(1);

/// A node's peers, and the port on which it answers them.
pub(crate) type Port = (Arc<Peers>, TcpListener);

/// The node's peers, if it is to have any.
///
/// # Errors
/// If the port is taken, or the node can be no member.
pub(crate) async fn open_peers(
    configuration: &AgentConfiguration,
    records: Arc<SharedRecords>,
) -> anyhow::Result<Option<Port>> {
    let Some(cluster) = &configuration.cluster else { return Ok(None) };
    let zone = configuration.node_labels.get(ZONE).map_or("", String::as_str);
    let me = (cluster, configuration.node_name.as_str(), zone);
    let opened = Peers::open(me, &configuration.state_dir, records).await;
    let (peers, listener) = opened.context("the node cannot be a member of a cluster")?;
    tracing::info!(address = peers.me().address, cluster = peers.passport().cluster, "answering peers");
    Ok(Some((Arc::new(peers), listener)))
}

/// Where the node's store is.
pub(crate) fn store_folder(configuration: &AgentConfiguration) -> PathBuf {
    configuration.state_dir.join("store")
}

/// True if this node decides for its cluster now.
pub(crate) fn leads(store: &Store) -> bool {
    store.cluster().leadership() == Leadership::Leads
}

/// The store of the node, shared with its peers if it has any. A new one begins as a cluster
/// of one where the node made the cluster, and else as a member that was let in.
///
/// # Errors
/// If the store cannot be opened.
pub(crate) async fn open_store(
    configuration: &AgentConfiguration,
    peers: Option<&Peers>,
) -> anyhow::Result<Store> {
    let folder = store_folder(configuration);
    let mut options = StoreOptions::alone(&folder);
    if let Some(peers) = peers {
        options.me = peers.me().clone();
        options.transport = Some(peers.transport());
        if !StoreOptions::has_begun(&folder) && !peers.begins_alone() {
            options.beginning = admission(peers).await;
        }
    }
    let store = open_free(options).await?;
    if let Some(peers) = peers {
        peers.has_begun()?;
    }
    Ok(store)
}

/// What can be done about a store that cannot be opened as `error` says, on a node that has peers or not.
fn way_out(error: &OpenError, has_peers: bool) -> &'static str {
    match error {
        OpenError::Locked { .. } | OpenError::Newer { .. } | OpenError::Io { .. } | OpenError::Thread(_) => {
            ""
        }
        OpenError::Damaged { .. } | OpenError::Database { .. } | OpenError::Log(_) if has_peers => {
            "; `keel cluster reset --rejoin` puts it aside, to take the cluster's"
        }
        OpenError::Damaged { .. } | OpenError::Database { .. } | OpenError::Log(_) => {
            "; `keel cluster snapshot restore` puts it aside for a saved copy"
        }
    }
}

/// Asks the members until one lets this node in.
async fn admission(peers: &Peers) -> Beginning {
    loop {
        match Beginning::join(&*peers.transport(), &peers.members(), peers.me()).await {
            Ok(beginning) => return beginning,
            Err(error) => {
                let reason = crate::chain::chain(&error);
                tracing::warn!(reason, "no member takes this node in yet");
                tokio::time::sleep(ADMISSION_RETRY).await;
            }
        }
    }
}

/// The store, as soon as it is free: a child that a killed agent was about to start
/// holds its files until it runs its own program.
async fn open_free(options: StoreOptions) -> anyhow::Result<Store> {
    let deadline = tokio::time::Instant::now() + STORE_PATIENCE;
    loop {
        match Store::open_with(options.clone()) {
            Err(OpenError::Locked { .. }) if tokio::time::Instant::now() < deadline => {
                tokio::time::sleep(STORE_LOOK).await;
            }
            result => {
                let advise = |error: &OpenError| way_out(error, options.transport.is_some());
                let advice = result.as_ref().err().map_or("", advise);
                return result.with_context(|| format!("cannot open the store{advice}"));
            }
        }
    }
}
