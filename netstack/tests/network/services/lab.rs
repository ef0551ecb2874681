//! A node with pods, a machine outside and another node, who ask and answer.

use crate::machine::{Pod, link_index, options};
use netstack::{
    Endpoint, Network, NodeView, Policy, ServiceName, ServiceNetwork, ServicePort, Services, ServicesOptions,
    Target, Transport,
};
use rtnetlink::{LinkUnspec, LinkVeth, RouteMessageBuilder};
use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

/// How long an answer may take; reached only when a test fails.
const DEADLINE: Duration = Duration::from_secs(10);
/// How long somebody waits for an answer that must not come.
const SILENCE: Duration = Duration::from_millis(300);
/// What all servers listen on.
pub(crate) const PORT: u16 = 8080;

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub(crate) fn name(name: &str) -> ServiceName {
    ServiceName { namespace: "default".into(), name: name.into() }
}

/// A service's port 80 for TCP.
pub(crate) fn port(addresses: &[&str], endpoints: Vec<Endpoint>) -> ServicePort {
    ServicePort {
        transport: Transport::Tcp,
        port: 80,
        cluster_addresses: addresses.iter().map(|address| ip(address)).collect(),
        external_addresses: Vec::new(),
        balancer: netstack::Balancer::default(),
        node_port: None,
        affinity: None,
        internal: Policy::Cluster,
        external: Policy::Cluster,
        endpoints,
    }
}

/// The same for UDP.
pub(crate) fn udp(port: &ServicePort) -> ServicePort {
    ServicePort { transport: Transport::Udp, ..port.clone() }
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Who answered.
    pub(crate) who: String,
    /// As whom the client was seen.
    pub(crate) seen_as: IpAddr,
}

/// Answers at all addresses of `pod` with `who` and the client's address.
pub(crate) fn serve(pod: &Pod, who: &str) {
    let (tcp, udp) = pod.run(|| {
        let any = (Ipv6Addr::UNSPECIFIED, PORT);
        (TcpListener::bind(any).unwrap(), UdpSocket::bind(any).unwrap())
    });
    let text = |who: &str, from: SocketAddr| format!("{who} {}", from.ip().to_canonical());
    let name = who.to_owned();
    std::thread::spawn(move || {
        while let Ok((mut stream, from)) = tcp.accept() {
            let (text, name) = (text(&name, from), name.clone());
            // Says who it is, then repeats what it hears.
            std::thread::spawn(move || {
                let _ = stream.write_all(format!("{text}\n").as_bytes());
                let mut buffer = [0; 64];
                while let Ok(count @ 1..) = stream.read(&mut buffer) {
                    let _ = stream.write_all(&[name.as_bytes(), &buffer[..count]].concat());
                }
            });
        }
    });
    let name = who.to_owned();
    std::thread::spawn(move || {
        let mut buffer = [0; 64];
        while let Ok((_, from)) = udp.recv_from(&mut buffer) {
            let _ = udp.send_to(text(&name, from).as_bytes(), from);
        }
    });
}

fn parse(text: &str) -> Answer {
    let (who, seen_as) = text.trim().split_once(' ').unwrap();
    Answer { who: who.into(), seen_as: ip(seen_as) }
}

/// Connects, and hears who answers.
pub(crate) fn ask_within(from: &Pod, to: &str, port: u16, patience: Duration) -> Result<Answer, ErrorKind> {
    let to = SocketAddr::new(ip(to), port);
    from.run(move || {
        let mut stream = TcpStream::connect_timeout(&to, patience).map_err(|error| error.kind())?;
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut line = Vec::new();
        while line.last() != Some(&b'\n') {
            let mut byte = [0];
            stream.read_exact(&mut byte).map_err(|error| error.kind())?;
            line.push(byte[0]);
        }
        Ok(parse(&String::from_utf8(line).unwrap()))
    })
}

pub(crate) fn ask(from: &Pod, to: &str, port: u16) -> Result<Answer, ErrorKind> {
    ask_within(from, to, port, DEADLINE)
}

/// Nobody says anything, not even that nobody is there.
pub(crate) fn is_silent(from: &Pod, to: &str, port: u16) -> bool {
    let kind = ask_within(from, to, port, SILENCE).unwrap_err();
    matches!(kind, ErrorKind::TimedOut | ErrorKind::WouldBlock)
}

/// A socket that asks over UDP, always from the same port.
pub(crate) fn udp_client(from: &Pod, to: &str, port: u16) -> UdpSocket {
    let to = SocketAddr::new(ip(to), port);
    let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = from.run(move || UdpSocket::bind((any, 0)).unwrap());
    // The route is looked up where the socket is.
    socket.connect(to).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    socket
}

/// Asks until somebody answers or refuses.
pub(crate) fn ask_udp(socket: &UdpSocket) -> Result<Answer, ErrorKind> {
    let end = Instant::now() + DEADLINE;
    let mut buffer = [0; 128];
    loop {
        let answer = socket.send(b"?").and_then(|_| socket.recv(&mut buffer));
        match answer.map_err(|error| error.kind()) {
            Ok(count) => return Ok(parse(std::str::from_utf8(&buffer[..count]).unwrap())),
            Err(ErrorKind::TimedOut | ErrorKind::WouldBlock) if Instant::now() < end => {}
            Err(kind) => return Err(kind),
        }
    }
}

/// The node, and who is around.
pub(crate) struct Lab {
    pub(crate) host: Pod,
    pub(crate) network: Network,
    pub(crate) services: Services,
    pub(crate) node: NodeView,
}

fn set(path: &str, value: &str) {
    std::fs::write(path, value).unwrap();
}

impl Lab {
    /// A node with two networks for services, and no service.
    pub(crate) async fn new(host: Pod) -> Self {
        for family in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
            set(&format!("/proc/sys/net/{family}"), "1");
        }
        no_detection();
        let network = Network::open(options("keel0", "10.88.0.0/24")).await.unwrap();
        host.run(|| set("/proc/sys/net/ipv6/conf/keel0/accept_dad", "0"));
        host.add_address("keel0", "fd88::1", 64).await;
        let node = NodeView { name: "here".into(), zone: Some("red".into()) };
        let services = Services::open(Self::options()).await.unwrap();
        services.replace(node.clone(), BTreeMap::new()).await.unwrap();
        Self { host, network, services, node }
    }

    pub(crate) fn options() -> ServicesOptions {
        let network =
            |address, prefix, source: Option<IpAddr>| ServiceNetwork { address: ip(address), prefix, source };
        ServicesOptions {
            bridge: "keel0".into(),
            networks: vec![network("10.96.0.0", 16, Some(ip("10.88.0.1"))), network("fd96::", 112, None)],
        }
    }

    /// A pod `10.88.0.n` and `fd88::n`, by the order of their making from 2 on.
    pub(crate) async fn pod(&self, uid: &str) -> (Pod, Ipv4Addr) {
        let pod = Pod::new();
        pod.run(no_detection);
        let at = self.network.attach(uid, pod.pid()).await.unwrap();
        let IpAddr::V4(address) = at.addresses[0] else { panic!("{at:?}") };
        pod.run(|| set("/proc/sys/net/ipv6/conf/eth0/accept_dad", "0"));
        pod.add_address("eth0", &format!("fd88::{}", address.octets()[3]), 64).await;
        default_route(&pod, "fd88::1").await;
        (pod, address)
    }

    /// A pod that answers with its name.
    pub(crate) async fn server(&self, uid: &str) -> (Pod, Ipv4Addr) {
        let (pod, address) = self.pod(uid).await;
        serve(&pod, uid);
        (pod, address)
    }

    /// A machine that is wired to the node: `NET.2`, the node's end being `NET.1`.
    pub(crate) async fn neighbour(&self, link: &str, net: &str) -> Pod {
        let pod = Pod::new();
        let peer = format!("{link}p");
        let links = self.host.handle.link();
        links.add(LinkVeth::new(link, &peer).up().build()).execute().await.unwrap();
        let there = LinkUnspec::new_with_name(&peer).setns_by_pid(u32::try_from(pod.pid()).unwrap());
        self.host.handle.link().set(there.build()).execute().await.unwrap();
        self.host.add_address(link, &format!("{net}.1"), 24).await;
        let up = LinkUnspec::new_with_name(&peer).up().build();
        pod.handle.link().set(up).execute().await.unwrap();
        pod.add_address(&peer, &format!("{net}.2"), 24).await;
        pod
    }

    /// One service, with these ports.
    pub(crate) async fn set(&self, service: &str, ports: Vec<ServicePort>) -> netstack::Applied {
        self.services.change(vec![(name(service), ports)]).await.unwrap()
    }

    /// Runs Debian's `nft` on the node.
    pub(crate) fn nft(&self, command: &str) -> String {
        let words: Vec<String> = command.split(' ').map(String::from).collect();
        self.host.run(move || {
            let output = std::process::Command::new("nft").args(words).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap()
        })
    }
}

impl Lab {
    /// Nobody but who is returned can change that table, as long as it lives.
    pub(crate) fn hold_table(&self, table: &str) -> std::process::Child {
        let command = format!("add table inet {table} {{ flags owner ; }}\nlist tables\n");
        self.host.run(move || {
            use std::io::BufRead as _;
            use std::process::{Command, Stdio};
            let mut nft = Command::new("nft");
            let mut nft = nft.arg("-i").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
            nft.stdin.as_mut().unwrap().write_all(command.as_bytes()).unwrap();
            let said = std::io::BufReader::new(nft.stdout.as_mut().unwrap()).lines();
            assert!(said.map_while(Result::ok).any(|line| line.contains("-policies")));
            nft
        })
    }
}

fn no_detection() {
    for place in ["all", "default"] {
        set(&format!("/proc/sys/net/ipv6/conf/{place}/accept_dad"), "0");
    }
}

pub(crate) async fn default_route(pod: &Pod, gateway: &str) {
    let route = match ip(gateway) {
        IpAddr::V4(gateway) => RouteMessageBuilder::<Ipv4Addr>::new().gateway(gateway).build(),
        IpAddr::V6(gateway) => RouteMessageBuilder::<Ipv6Addr>::new().gateway(gateway).build(),
    };
    pod.handle.route().add(route).execute().await.unwrap();
    let _ = link_index(&pod.handle, "lo").await;
}

/// An endpoint on this node.
pub(crate) fn here(address: impl Into<IpAddr>) -> Endpoint {
    Endpoint { node: Some("here".into()), ..elsewhere(address) }
}

/// An endpoint on another node.
pub(crate) fn elsewhere(address: impl Into<IpAddr>) -> Endpoint {
    let target = Target { address: address.into(), port: PORT };
    Endpoint { node: Some("there".into()), ..Endpoint::ready(target) }
}

/// The same pod's other address.
pub(crate) fn v6(address: Ipv4Addr) -> IpAddr {
    ip(&format!("fd88::{}", address.octets()[3]))
}
