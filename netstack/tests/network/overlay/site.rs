//! Several nodes with a network between them, each a network namespace with threads of its own.

use crate::machine::{Pod, link_index};
use netstack::{
    Backend, Balancer, Changed, Endpoint, Network, NetworkOptions, NodeView, Overlay, OverlayError,
    OverlayOptions, Peer, PodCidrs, Policy, PrivateKey, ServiceName, ServiceNetwork, ServicePort, Services,
    ServicesOptions, Target, Transport, path_mtu,
};
use rtnetlink::{LinkBridge, LinkUnspec, LinkVeth, RouteMessageBuilder};
use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

/// What the nodes are connected by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ground {
    /// One link.
    Flat,
    /// A router.
    Routed,
}

/// What is tried.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Case {
    pub(crate) ground: Ground,
    pub(crate) backend: Backend,
    /// Nodes know one another by their IPv6 addresses.
    pub(crate) over_v6: bool,
}

pub(crate) const VXLAN: Backend = Backend::Vxlan { vni: 1, port: 4789 };
/// How long a packet may take; reached only when a test fails.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);
/// The port of each node that leads to the service.
pub(crate) const NODE_PORT: u16 = 30080;
const SERVICE_V4: &str = "10.96.0.10";
const SERVICE_V6: &str = "fd96::10";
/// What a load balancer gave the service: in the networks of the nodes' link.
pub(crate) const BALANCED_V4: &str = "192.0.2.200";
pub(crate) const BALANCED_V6: &str = "fd02::200";
const PORT: u16 = 8080;

/// Keys of nodes, private and public, of X25519.
const KEYS: [([u8; 32], [u8; 32]); 3] = [
    (
        [1; 32],
        [
            164, 224, 146, 146, 182, 81, 194, 120, 185, 119, 44, 86, 159, 95, 169, 187, 19, 217, 6, 180, 106,
            182, 140, 157, 249, 220, 43, 68, 9, 248, 162, 9,
        ],
    ),
    (
        [2; 32],
        [
            206, 141, 58, 209, 204, 182, 51, 236, 123, 112, 193, 120, 20, 165, 199, 110, 205, 2, 150, 133, 5,
            13, 52, 71, 69, 186, 5, 135, 14, 88, 125, 89,
        ],
    ),
    (
        [3; 32],
        [
            93, 254, 221, 59, 107, 212, 127, 111, 162, 142, 225, 93, 150, 157, 91, 176, 234, 83, 119, 77, 72,
            139, 218, 249, 223, 28, 110, 1, 36, 179, 239, 34,
        ],
    ),
];

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn set(path: &str, value: &str) {
    std::fs::write(path, value).unwrap();
}

fn no_detection() {
    for place in ["all", "default"] {
        set(&format!("/proc/sys/net/ipv6/conf/{place}/accept_dad"), "0");
    }
}

/// One node.
pub(crate) struct Node {
    pub(crate) number: u8,
    pub(crate) place: Pod,
    runtime: Option<tokio::runtime::Runtime>,
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) cidrs: PodCidrs,
    pub(crate) network: Arc<Network>,
    pub(crate) overlay: Arc<tokio::sync::Mutex<Overlay>>,
    pub(crate) services: Arc<Services>,
    pub(crate) pods: Vec<(String, Pod, Vec<IpAddr>)>,
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// A link from here to a namespace, both ends up.
async fn wire(host: &Pod, name: &str, place: &Pod) {
    let pair = LinkVeth::new(name, "up0").up().build();
    host.handle.link().add(pair).execute().await.unwrap();
    let there = LinkUnspec::new_with_name("up0").setns_by_pid(u32::try_from(place.pid()).unwrap());
    host.handle.link().set(there.build()).execute().await.unwrap();
    for (end, name) in [(place, "lo"), (place, "up0"), (host, name)] {
        let index = link_index(&end.handle, name).await;
        let up = LinkUnspec::new_with_index(index).up().build();
        end.handle.link().set(up).execute().await.unwrap();
    }
}

impl Case {
    /// The addresses of node `number`, the one that others know it by first, and those of its router.
    fn addresses(self, number: u8) -> (Vec<IpAddr>, Vec<IpAddr>) {
        let (mut own, router) = match self.ground {
            Ground::Flat => (
                vec![ip(&format!("192.0.2.{}", 10 + number)), ip(&format!("fd02::{}", 10 + number))],
                vec![ip("192.0.2.1"), ip("fd02::1")],
            ),
            Ground::Routed => (
                vec![ip(&format!("192.0.{}.2", 10 + number)), ip(&format!("fd02:{number}::2"))],
                vec![ip(&format!("192.0.{}.1", 10 + number)), ip(&format!("fd02:{number}::1"))],
            ),
        };
        if self.over_v6 {
            own.reverse();
        }
        (own, router)
    }

    /// The addresses of who is outside, and leads from node to node where they are not on one link.
    pub(crate) fn outside(self) -> Vec<IpAddr> {
        (0..u8::try_from(KEYS.len()).unwrap()).flat_map(|number| self.addresses(number).1).collect()
    }

    /// The node's place, connected.
    pub(crate) async fn connect(self, host: &Pod, number: u8) -> (Pod, Vec<IpAddr>) {
        let place = Pod::new();
        place.run(no_detection);
        let link = format!("to-{number}");
        wire(host, &link, &place).await;
        let (own, router) = self.addresses(number);
        for address in &own {
            place.add_address("up0", &address.to_string(), if address.is_ipv4() { 24 } else { 64 }).await;
        }
        if self.ground == Ground::Flat {
            let (lan, port) = (link_index(&host.handle, "lan").await, link_index(&host.handle, &link).await);
            let join = LinkUnspec::new_with_index(port).controller(lan).build();
            host.handle.link().set(join).execute().await.unwrap();
        } else {
            for address in &router {
                let prefix = if address.is_ipv4() { 24 } else { 64 };
                host.add_address(&link, &address.to_string(), prefix).await;
            }
        }
        for gateway in router {
            let route = match gateway {
                IpAddr::V4(gateway) => RouteMessageBuilder::<Ipv4Addr>::new().gateway(gateway).build(),
                IpAddr::V6(gateway) => RouteMessageBuilder::<Ipv6Addr>::new().gateway(gateway).build(),
            };
            place.handle.route().add(route).execute().await.unwrap();
        }
        (place, own)
    }

    pub(crate) fn options(self, number: u8, addresses: &[IpAddr]) -> OverlayOptions {
        OverlayOptions {
            bridge: "keel0".into(),
            backend: self.backend,
            own: cidrs(number),
            formers: Vec::new(),
            cluster: vec!["10.244.0.0/16".parse().unwrap(), "fd44::/48".parse().unwrap()],
            addresses: addresses.to_vec(),
            masquerade: true,
            mtu: 0,
            private_key: Some(PrivateKey(KEYS[usize::from(number)].0)),
            fast_path: None,
        }
    }

    /// What nodes are connected to, before there are any.
    pub(crate) async fn ground(self, host: &Pod) {
        host.run(|| {
            no_detection();
            set("/proc/sys/net/ipv4/ip_forward", "1");
            set("/proc/sys/net/ipv6/conf/all/forwarding", "1");
        });
        if self.ground == Ground::Flat {
            host.handle.link().add(LinkBridge::new("lan").up().build()).execute().await.unwrap();
            host.add_address("lan", "192.0.2.1", 24).await;
            host.add_address("lan", "fd02::1", 64).await;
        }
    }

    /// `count` nodes with a pod each, which know of one another and have a service whose endpoints
    /// are all pods.
    pub(crate) async fn nodes(self, host: &Pod, count: u8) -> Vec<Node> {
        self.ground(host).await;
        let mut nodes = Vec::new();
        for number in 0..count {
            let mut node = self.node(host, number).await;
            node.add_pod(&format!("p{number}")).await;
            nodes.push(node);
        }
        introduce(&nodes).await.into_iter().for_each(|told| drop(told.unwrap()));
        serve_all(&nodes).await;
        nodes
    }

    pub(crate) async fn node(self, host: &Pod, number: u8) -> Node {
        let (place, addresses) = self.connect(host, number).await;
        let build = || {
            let mut runtime = tokio::runtime::Builder::new_multi_thread();
            runtime.worker_threads(1).enable_all().build().unwrap()
        };
        let runtime = place.run(build);
        let (mut options, cidrs) = (self.options(number, &addresses), cidrs(number));
        let opened = runtime.spawn(async move {
            let mtu = path_mtu(options.backend, &options.addresses).await.unwrap();
            let bridge = options.bridge.clone();
            let network =
                NetworkOptions { bridge, pod_cidrs: cidrs, formers: Vec::new(), mtu, fast_path: true };
            let network = Network::open(network).await.unwrap();
            let source = |at: usize| Some(network.gateways()[at]);
            let networks = vec![
                ServiceNetwork { address: ip("10.96.0.0"), prefix: 16, source: source(0) },
                ServiceNetwork { address: ip("fd96::"), prefix: 112, source: source(1) },
            ];
            let services = ServicesOptions { bridge: options.bridge.clone(), networks };
            let services = Services::open(services).await.unwrap();
            options.fast_path = network.fast_path().cloned();
            (network, Overlay::open(options).await.unwrap(), services)
        });
        let (network, overlay, services) = opened.await.unwrap();
        Node {
            number,
            place,
            runtime: Some(runtime),
            addresses,
            cidrs,
            network: Arc::new(network),
            overlay: Arc::new(tokio::sync::Mutex::new(overlay)),
            services: Arc::new(services),
            pods: Vec::new(),
        }
    }
}

fn cidrs(number: u8) -> PodCidrs {
    format!("10.244.{number}.0/24,fd44:0:0:{number}::/64").parse().unwrap()
}

/// Every node is told of all others.
pub(crate) async fn introduce(nodes: &[Node]) -> Vec<Result<Changed, OverlayError>> {
    let mut told = Vec::new();
    for node in nodes {
        let others = nodes.iter().filter(|other| other.number != node.number).map(Node::as_peer).collect();
        told.push(node.tell(others).await);
    }
    told
}

async fn serve_all(nodes: &[Node]) {
    let endpoints: Vec<_> = nodes
        .iter()
        .flat_map(|node| node.pods.iter().map(move |pod| (node, pod)))
        .flat_map(|(node, (_, _, addresses))| {
            addresses.iter().map(|address| Endpoint {
                node: Some(format!("n{}", node.number)),
                ..Endpoint::ready(Target { address: *address, port: PORT })
            })
        })
        .collect();
    let port = ServicePort {
        transport: Transport::Tcp,
        port: 80,
        cluster_addresses: vec![ip(SERVICE_V4), ip(SERVICE_V6)],
        external_addresses: Vec::new(),
        balancer: Balancer { addresses: vec![ip(BALANCED_V4), ip(BALANCED_V6)], sources: Vec::new() },
        node_port: Some(NODE_PORT),
        affinity: None,
        internal: Policy::Cluster,
        external: Policy::Cluster,
        endpoints,
    };
    let name = ServiceName { namespace: "default".into(), name: "all".into() };
    for node in nodes {
        let view = NodeView { name: format!("n{}", node.number), zone: None };
        let (services, name, port) = (Arc::clone(&node.services), name.clone(), port.clone());
        let done = node.spawn(async move {
            services.replace(view, BTreeMap::from([(name, vec![port])])).await.map(drop)
        });
        done.await.unwrap().unwrap();
    }
}

impl Node {
    /// Runs on the node's own threads.
    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> tokio::task::JoinHandle<T> {
        self.runtime.as_ref().unwrap().spawn(future)
    }

    pub(crate) fn as_peer(&self) -> Peer {
        let name = format!("n{}", self.number);
        let public_key = Some(KEYS[usize::from(self.number)].1);
        Peer { name, addresses: self.addresses.clone(), pods: self.cidrs.subnets(), public_key }
    }

    pub(crate) async fn tell(&self, peers: Vec<Peer>) -> Result<Changed, OverlayError> {
        let overlay = Arc::clone(&self.overlay);
        self.spawn(async move { overlay.lock().await.replace(peers).await }).await.unwrap()
    }

    /// A pod that tells everybody who comes to its port which address it sees.
    pub(crate) async fn add_pod(&mut self, uid: &str) {
        let pod = Pod::new();
        pod.run(no_detection);
        let (network, name, pid) = (Arc::clone(&self.network), uid.to_owned(), pod.pid());
        let attached = self.spawn(async move { network.attach(&name, pid).await });
        let addresses = attached.await.unwrap().unwrap().addresses;
        pod.run(tell_all);
        self.pods.push((uid.to_owned(), pod, addresses));
    }

    /// Debian's `ip` or `nft`, on the node.
    pub(crate) fn command(&self, words: &str) -> String {
        let words: Vec<String> = words.split(' ').map(String::from).collect();
        self.place.run(move || {
            let output = std::process::Command::new(&words[0]).args(&words[1..]).output().unwrap();
            assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap()
        })
    }
}

/// Whoever connects is told the address that it is seen with, and the one that it has reached.
pub(crate) fn tell_all() {
    let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, PORT)).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let ends = stream.peer_addr().and_then(|peer| Ok((peer.ip(), stream.local_addr()?.ip())));
            // Who does not listen any more need not know.
            let _gone =
                ends.and_then(|(peer, own)| write!(stream, "{} {}", peer.to_canonical(), own.to_canonical()));
        }
    });
}

/// What whoever answers tells of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Answer {
    /// The address that it sees of who asks.
    pub(crate) seen: IpAddr,
    /// Its own.
    pub(crate) by: IpAddr,
}

/// What is answered at `to` within `patience`.
pub(crate) fn ask(from: &Pod, to: SocketAddr, patience: Duration) -> Result<Answer, String> {
    let asked = from.run(move || {
        let mut stream = TcpStream::connect_timeout(&to, patience)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        let mut text = String::new();
        stream.read_to_string(&mut text).map(|_| text)
    });
    let text = asked.map_err(|error| error.to_string())?;
    let mut words = text.split(' ').map(str::parse);
    match (words.next(), words.next()) {
        (Some(Ok(seen)), Some(Ok(by))) => Ok(Answer { seen, by }),
        (None | Some(_), None | Some(_)) => Err(format!("no addresses were said, but {text:?}")),
    }
}

/// The address that whoever answers at `to` sees of `from`.
pub(crate) fn seen_by(from: &Pod, to: IpAddr, port: u16) -> Result<IpAddr, String> {
    ask(from, SocketAddr::new(to, port), DEADLINE).map(|answer| answer.seen)
}

/// The addresses of the service.
pub(crate) fn service_addresses() -> [IpAddr; 2] {
    [ip(SERVICE_V4), ip(SERVICE_V6)]
}

/// Where pods and nodes answer.
pub(crate) const ANSWERS: u16 = PORT;
