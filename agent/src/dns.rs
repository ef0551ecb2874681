//! The node's name server: it knows what the node's own replica of the store knows, and needs nobody.

mod names;
mod view;

use crate::node::Node;
use manifests::config::AgentConfiguration;
use netstack::holder::{COMMAND, Holder};
use netstack::{
    Dns, DnsCounters, DnsError, DnsOptions, DnsSockets, Endpoint, Network, Policy, ServiceName, ServicePort,
    Target, Transport, Upstream,
};
use reconciler::store::Store;
use runtime::plan::ClusterDns;
use runtime::pods::OWN_PROGRAM;
use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use view::View;

/// After how long it is tried again where somebody else has the port.
const RETRY: Duration = Duration::from_secs(10);
/// Where names are asked for.
const PORT: u16 = 53;
/// The place of the name server among the services' addresses. Source: kubeadm.
const PLACE: u32 = 10;
/// What says whom the host asks.
const HOST_FILE: &str = "/etc/resolv.conf";

/// What the name server of this node is made from.
#[derive(Debug, Clone)]
struct Plan {
    options: DnsOptions,
    address: IpAddr,
    /// The node.
    me: String,
    /// Where the pods' folders are.
    pods: PathBuf,
    /// Where the sockets are had from that an agent before this one had.
    holder: PathBuf,
}

/// The service's address that leads to the name server, for those who know no other.
fn service_address(configuration: &AgentConfiguration) -> Option<Ipv4Addr> {
    let (network, prefix) = configuration.network.service_network()?;
    (prefix <= 28).then(|| Ipv4Addr::from(u32::from(network) + PLACE))
}

/// What pods are told of the name server, but for where it is; nothing if there is to be none.
pub(crate) fn of_pods(configuration: &AgentConfiguration) -> Option<ClusterDns> {
    let dns = &configuration.network.dns;
    dns.enabled.then(|| ClusterDns { servers: Vec::new(), domain: dns.cluster_domain.clone() })
}

/// Where the node's pods ask: an address of their bridge's.
pub(crate) fn address(network: &Network) -> Option<IpAddr> {
    network.gateways().first().copied()
}

/// What the configuration says of the name server; nothing if there is to be none.
fn plan(configuration: &AgentConfiguration, network: &Network) -> Option<Plan> {
    let dns = &configuration.network.dns;
    let address = address(network).filter(|_| dns.enabled)?;
    let services = manifests::config::networks(&configuration.network.service_cidr);
    let services = services.into_iter().map(|network| (network.address, network.prefix));
    let cluster = configuration.cluster.as_ref().map(|_| &configuration.network.cluster_cidr);
    let cluster = cluster.into_iter().flat_map(|text| manifests::config::networks(text));
    let cluster = cluster.map(|network| (network.address, network.prefix));
    let pods = network.pod_cidrs().subnets();
    let pods = pods.into_iter().map(|subnet| (subnet.gateway(), subnet.prefix()));
    let upstreams = dns.upstreams();
    let options = DnsOptions {
        domain: dns.cluster_domain.clone(),
        addresses: service_address(configuration).map(IpAddr::from).into_iter().collect(),
        networks: services.chain(cluster).chain(pods).collect(),
        hosts: dns.host_names(),
        upstream: if upstreams.is_empty() {
            Upstream::File(HOST_FILE.into())
        } else {
            Upstream::Servers(upstreams)
        },
        stub_domains: dns.stubs(),
        cache_entries: usize::try_from(dns.cache_size).unwrap_or(0),
        serve_stale: dns.stale_time(),
        autopath: dns.autopath,
        serial: u32::try_from(jiff::Timestamp::now().as_second()).unwrap_or(1),
    };
    let (me, pods) = (configuration.node_name.clone(), configuration.state_dir.join("pods"));
    let holder = configuration.run_dir.join("dns.sock");
    Some(Plan { options, address, me, pods, holder })
}

/// The service that leads to the name server from its usual address, unless somebody has made another.
pub(crate) fn service(
    configuration: &AgentConfiguration,
    network: &Network,
) -> Option<(ServiceName, Vec<ServicePort>)> {
    let dns = &configuration.network.dns;
    let at = address(network).filter(|at| dns.enabled && at.is_ipv4())?;
    let cluster_address = service_address(configuration)?;
    let port = |transport| ServicePort {
        transport,
        port: PORT,
        cluster_addresses: vec![cluster_address.into()],
        external_addresses: Vec::new(),
        balancer: netstack::Balancer::default(),
        node_port: None,
        affinity: None,
        internal: Policy::Cluster,
        external: Policy::Cluster,
        endpoints: vec![Endpoint::ready(Target { address: at, port: PORT })],
    };
    let name = ServiceName { namespace: "kube-system".into(), name: "kube-dns".into() };
    Some((name, vec![port(Transport::Udp), port(Transport::Tcp)]))
}

/// Answers the node's pods as its store knows it, until `stop`.
///
/// # Errors
/// Never: what the kernel refuses is said, and tried again.
pub(crate) async fn run(
    node: Arc<Node>,
    configuration: Arc<AgentConfiguration>,
    counters: Arc<DnsCounters>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let store = Arc::clone(&node.store);
    let Some(network) = stop.run_until_cancelled(node.network.opened()).await else { return Ok(()) };
    let Some(plan) = plan(&configuration, &network) else {
        stop.cancelled().await;
        return Ok(());
    };
    while !stop.is_cancelled() {
        if let Err(error) = serve(&store, &plan, &counters, &stop).await {
            let error = crate::chain::chain(&error);
            tracing::warn!(error, "pods of this node get no names; it is tried again");
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = tokio::time::sleep(RETRY) => {}
            }
        }
    }
    Ok(())
}

/// The sockets that an agent before this one had, in which questions wait; or new ones, that the next
/// one will find.
async fn sockets(plan: &Plan) -> Result<(Option<Holder>, DnsSockets), DnsError> {
    let (path, address) = (plan.holder.clone(), SocketAddr::new(plan.address, PORT));
    let find = move || match DnsSockets::find(&path, address) {
        Some((holder, sockets)) => Ok((Some(holder), sockets)),
        None => {
            let sockets = DnsSockets::bind(address)?;
            let program = [OsString::from(OWN_PROGRAM), OsString::from(COMMAND)];
            let holder = sockets.held(&path, &program);
            let holder = holder.inspect_err(|error| {
                let error = crate::chain::chain(error);
                tracing::warn!(error, "names are not answered while an agent gives way to the next");
            });
            Ok((holder.ok(), sockets))
        }
    };
    // It ends as it begins: in its own time, not in that of others.
    tokio::task::spawn_blocking(find).await.unwrap_or_else(|error| Err(DnsError::Start(error.into())))
}

async fn serve(
    store: &Store,
    plan: &Plan,
    counters: &Arc<DnsCounters>,
    stop: &CancellationToken,
) -> Result<(), DnsError> {
    let (_held, sockets) = sockets(plan).await?;
    let mut changes = store.changes();
    let (mut view, mut watch) = store.read_and_watch(None, |state| View::of(state, &plan.me, &plan.pods));
    let dns = Dns::start(&plan.options, view.names(), vec![sockets], Arc::clone(counters))?;
    tracing::debug!(address = %plan.address, "names are answered");
    loop {
        // Every arm is cancel-safe, and none awaits in its body.
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            changed = changes.changed() => if changed.is_err() { break },
        }
        changes.borrow_and_update();
        match view.follow(&mut watch) {
            Ok(touched) => {
                dns.change_services(view.some_services(touched.services));
                dns.change_pods(view.some_pods(touched.addresses));
            }
            Err(_expired) => {
                (view, watch) = store.read_and_watch(None, |state| View::of(state, &plan.me, &plan.pods));
                dns.replace(view.names());
            }
        }
    }
    dns.close().await;
    Ok(())
}
