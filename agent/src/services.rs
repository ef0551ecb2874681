//! The services of the cluster, in force on this node: needs its own replica of the store, and nobody.

mod health;
mod objects;
mod view;

use crate::node::Node;
use health::HealthPorts;
use manifests::config::{AgentConfiguration, IpNetwork};
use netstack::{Applied, ServiceNetwork, Services, ServicesError, ServicesOptions};
pub(crate) use objects::{endpoints, ports, transport};
use reconciler::controllers::ServiceRules;
use reconciler::controllers::service::balancer::Pool;
use reconciler::store::Store;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use view::{Own, Touched, View};

/// After how long it is tried again where the kernel lacks something.
const RETRY: Duration = Duration::from_secs(30);

/// Where the addresses of services are from, as the configuration says.
pub(crate) fn rules(configuration: &AgentConfiguration) -> ServiceRules {
    ServiceRules {
        v4: configuration.network.service_network(),
        v6: configuration.network.service_network_v6(),
        pools: configuration.network.load_balancer.pools.iter().map(Pool::of).collect(),
    }
}

/// What services are made from on this node; nothing if there are to be none.
fn options(configuration: &AgentConfiguration, gateways: &[IpAddr]) -> Option<ServicesOptions> {
    let network = |network: IpNetwork| {
        let source = gateways.iter().find(|own| own.is_ipv4() == network.address.is_ipv4()).copied();
        // Who has no address to ask from has nobody to ask.
        source.map(|_| ServiceNetwork { address: network.address, prefix: network.prefix, source })
    };
    let networks = manifests::config::networks(&configuration.network.service_cidr);
    let networks: Vec<_> = networks.into_iter().filter_map(network).collect();
    let bridge = configuration.network.bridge.clone();
    (!networks.is_empty()).then_some(ServicesOptions { bridge, networks })
}

/// Keeps the services of the store in force on the node until `stop`. They stay so after it.
///
/// # Errors
/// Never: what the kernel refuses is said, and tried again.
pub(crate) async fn run(
    node: Arc<Node>,
    configuration: Arc<AgentConfiguration>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let (store, me) = (Arc::clone(&node.store), configuration.node_name.clone());
    let Some(network) = stop.run_until_cancelled(node.network.opened()).await else { return Ok(()) };
    let own = crate::dns::service(&configuration, &network);
    let Some(options) = options(&configuration, &network.gateways()) else {
        stop.cancelled().await;
        return Ok(());
    };
    while !stop.is_cancelled() {
        if let Err(error) = follow(&store, (&options, &own), &me, &stop).await {
            let error = crate::chain::chain(&error);
            tracing::warn!(error, "services are not in force on this node; it is tried again");
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = tokio::time::sleep(RETRY) => {}
            }
        }
    }
    Ok(())
}

async fn follow(
    store: &Store,
    (options, own): (&ServicesOptions, &Own),
    me: &str,
    stop: &CancellationToken,
) -> Result<(), ServicesError> {
    let services = Services::open(options.clone()).await?;
    let (mut changes, mut repairs) = (store.changes(), services.repairs());
    let (mut view, mut watch) = store.read_and_watch(None, |state| View::of(state, me, own));
    let mut health = HealthPorts::default();
    tell(&services.replace(view.node(), view.all()).await?);
    health.replace(&view.health());
    loop {
        // Every arm is cancel-safe, and none awaits in its body.
        tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(()),
            changed = changes.changed() => {
                if changed.is_err() {
                    return Ok(());
                }
            }
            repaired = repairs.changed() => {
                if repaired.is_err() {
                    return Err(ServicesError::Ended);
                }
                tracing::warn!("somebody else changed the rules of services; they are put back");
            }
        }
        changes.borrow_and_update();
        let done = match view.follow(&mut watch) {
            Ok(Touched::Services(names)) if names.is_empty() => continue,
            Ok(Touched::Services(names)) => {
                names.iter().for_each(|name| health.set(name, view.health_of(name)));
                services.change(view.some(names)).await
            }
            Ok(Touched::Node) => services.replace(view.node(), view.all()).await,
            Err(_expired) => {
                (view, watch) = store.read_and_watch(None, |state| View::of(state, me, own));
                health.replace(&view.health());
                services.replace(view.node(), view.all()).await
            }
        };
        match done {
            Ok(applied) => tell(&applied),
            // It is known what is wanted, and tried again from there.
            Err(error) => {
                let error = crate::chain::chain(&error);
                tracing::warn!(error, "a change of services is not in force yet");
            }
        }
    }
}

fn tell(applied: &Applied) {
    let Applied { removed, added, rebuilt, forgotten, without } = applied;
    tracing::debug!(removed, added, rebuilt, forgotten, "services are in force");
    for taken in without {
        let (service, address, port) = (&taken.service, taken.address, taken.port);
        tracing::warn!(%service, %address, port, "another service has this address and port");
    }
}
