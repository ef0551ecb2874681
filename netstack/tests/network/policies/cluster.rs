//! Namespaces x, y and z with pods a, b and c, who all listen, and a way to see whom packets reach.
//!
//! Nothing is decided by waiting. The kernel itself notes, in sets of a table beside the policies',
//! which connections it is about to judge and which it has let through.

use super::api::{IpBlock, Labels, NamedPort, Peer, Policy, PolicyName, PolicyPod, Ports, Protocol, Rule};
use crate::machine::Pod;
use crate::services::lab::{Lab, ip, serve, v6};
use netstack::policies::{Applied, Attempt, News, Policies, Requirement, Selector, World};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, connect, sendto, socket,
};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

/// How long the kernel may take; reached only when a test fails.
const DEADLINE: Duration = Duration::from_secs(20);
const PORTS: [u16; 2] = [80, 81];
const PROTOCOLS: [Protocol; 2] = [Protocol::Tcp, Protocol::Udp];

/// Pods of the policy's namespace with that label.
pub(crate) fn pods(key: &str, value: &str) -> Peer {
    Peer::Pods { namespaces: None, pods: labelled(key, value) }
}

/// Pods with that label of namespaces with that label.
pub(crate) fn of_namespace(key: &str, value: &str, pod_key: &str, pod_value: &str) -> Peer {
    Peer::Pods { namespaces: Some(labelled(key, value)), pods: labelled(pod_key, pod_value) }
}

/// Everything that has that label; everything at all, if the label is empty.
pub(crate) fn labelled(key: &str, value: &str) -> Selector {
    let requirement = Requirement::In(key.into(), vec![value.into()]);
    Selector(if key.is_empty() { vec![] } else { vec![requirement] })
}

pub(crate) fn network(text: &str) -> (IpAddr, u8) {
    let (address, prefix) = text.split_once('/').unwrap();
    (ip(address), prefix.parse().unwrap())
}

pub(crate) fn block(whole: &str, except: &[&str]) -> Peer {
    Peer::Block(IpBlock {
        network: network(whole),
        except: except.iter().map(|text| network(text)).collect(),
    })
}

pub(crate) fn allow(peers: Vec<Peer>, ports: Vec<Ports>) -> Rule {
    Rule { peers, ports }
}

/// Of the pods called so.
pub(crate) fn policy(pod: &str, ingress: Option<Vec<Rule>>, egress: Option<Vec<Rule>>) -> Policy {
    Policy { pods: labelled("pod", pod), ingress, egress }
}

/// A connection is asked for, and one more packet is dropped before it is there.
pub(crate) async fn is_dropped(policies: &Policies, from: &Pod, to: &str, port: u16) -> bool {
    let count = async || {
        let dropped = policies.dropped().await.unwrap();
        dropped.ingress + dropped.egress
    };
    let before = count().await;
    let to = SocketAddr::new(ip(to), port);
    let tried = from.run(move || TcpStream::connect_timeout(&to, Duration::from_millis(50)));
    if tried.is_ok() {
        return false;
    }
    let end = Instant::now() + DEADLINE;
    while count().await == before {
        assert!(Instant::now() < end, "{tried:?}, and nothing was dropped");
    }
    true
}

pub(crate) struct Cluster {
    pub(crate) lab: Lab,
    pub(crate) policies: Policies,
    world: World,
    pods: BTreeMap<(String, String), (Pod, IpAddr)>,
    /// How many attempts were compared with the model.
    pub(crate) compared: usize,
}

/// As the kernel tells them.
type Seen = BTreeSet<(IpAddr, IpAddr, &'static str, u16)>;

impl Cluster {
    pub(crate) async fn new(host: Pod) -> Self {
        let lab = Lab::new(host).await;
        let mut world = World::default();
        let mut all = BTreeMap::new();
        for namespace in ["x", "y", "z"] {
            world.namespaces.insert(namespace.into(), label("ns", namespace));
            for name in ["a", "b", "c"] {
                let uid = format!("{namespace}/{name}");
                let (pod, address) = lab.pod(&uid).await;
                serve(&pod, &uid);
                listen(&pod);
                let port =
                    |protocol, word, port| NamedPort { name: format!("serve-{port}-{word}"), protocol, port };
                let ports = PORTS
                    .into_iter()
                    .flat_map(|n| [port(Protocol::Tcp, "tcp", n), port(Protocol::Udp, "udp", n)]);
                let told = PolicyPod {
                    namespace: namespace.into(),
                    labels: label("pod", name),
                    addresses: vec![address.into(), v6(address)],
                    ports: ports.collect(),
                    here: true,
                    order: 0,
                };
                world.pods.insert(uid, told);
                all.insert((namespace.to_owned(), name.to_owned()), (pod, address.into()));
            }
        }
        watch(&lab);
        let policies = Policies::open("keel0").await.unwrap();
        let cluster = Self { lab, policies, world, pods: all, compared: 0 };
        cluster.policies.replace(cluster.all()).await.unwrap();
        cluster
    }

    fn all(&self) -> Vec<News> {
        let world = self.world.clone();
        let namespaces =
            world.namespaces.into_iter().map(|(name, labels)| News::Namespace(name, Some(labels)));
        let policies = world.policies.into_iter().map(|(name, policy)| News::Policy(name, Some(policy)));
        let pods = world.pods.into_iter().map(|(uid, pod)| News::Pod(uid, Some(pod)));
        namespaces.chain(policies).chain(pods).collect()
    }

    pub(crate) fn pod(&self, namespace: &str, name: &str) -> &Pod {
        &self.pods[&(namespace.to_owned(), name.to_owned())].0
    }

    pub(crate) fn address(&self, namespace: &str, name: &str) -> IpAddr {
        self.pods[&(namespace.to_owned(), name.to_owned())].1
    }

    /// One policy more, or less.
    pub(crate) async fn put(&mut self, namespace: &str, name: &str, policy: Option<Policy>) {
        let name = PolicyName { namespace: namespace.into(), name: name.into() };
        match &policy {
            Some(policy) => drop(self.world.policies.insert(name.clone(), policy.clone())),
            None => drop(self.world.policies.remove(&name)),
        }
        self.policies.change(vec![News::Policy(name, policy)]).await.unwrap();
    }

    /// These policies instead of those that were there, all at once.
    pub(crate) async fn put_all(&mut self, policies: Vec<(PolicyName, Policy)>) {
        let gone = std::mem::take(&mut self.world.policies).into_keys().map(|name| News::Policy(name, None));
        let new = policies.iter().map(|(name, policy)| News::Policy(name.clone(), Some(policy.clone())));
        self.policies.change(gone.chain(new).collect()).await.unwrap();
        self.world.policies = policies.into_iter().collect();
    }

    pub(crate) async fn label_pod(&mut self, namespace: &str, name: &str, value: &str) {
        let uid = format!("{namespace}/{name}");
        let pod = self.world.pods.get_mut(&uid).unwrap();
        pod.labels = label("pod", value);
        let news = News::Pod(uid, Some(pod.clone()));
        self.policies.change(vec![news]).await.unwrap();
    }

    pub(crate) async fn label_namespace(&mut self, namespace: &str, value: &str) {
        self.world.namespaces.insert(namespace.into(), label("ns", value));
        self.policies
            .change(vec![News::Namespace(namespace.into(), Some(label("ns", value)))])
            .await
            .unwrap();
    }

    /// It is no longer known, but goes on.
    pub(crate) async fn remove_pod(&mut self, namespace: &str, name: &str) {
        let uid = format!("{namespace}/{name}");
        self.world.pods.remove(&uid);
        self.policies.change(vec![News::Pod(uid, None)]).await.unwrap();
    }

    /// Another agent takes over.
    pub(crate) async fn restart(&mut self) -> Applied {
        self.policies = Policies::open("keel0").await.unwrap();
        self.policies.replace(self.all()).await.unwrap()
    }

    /// Every pod asks every other at every port, and the node asks all. What differs from the model.
    pub(crate) async fn differences(&mut self, also_v6: bool) -> Vec<String> {
        self.lab.nft("flush set inet watch seen4 ; flush set inet watch seen6 ; flush set inet watch passed4 ; flush set inet watch passed6");
        let mut attempts = Vec::new();
        let mut sockets = Vec::new();
        for (from, at) in self.pods.values() {
            let others = self.pods.values().map(|(_, to)| *to).filter(|to| to != at);
            let mut own: Vec<Attempt> = Vec::new();
            for to in others {
                for (protocol, port) in PROTOCOLS.into_iter().flat_map(|p| PORTS.map(|port| (p, port))) {
                    own.push(Attempt { from: *at, to, protocol, port });
                    if also_v6 {
                        own.push(Attempt { from: long(*at), to: long(to), protocol, port });
                    }
                }
            }
            attempts.extend(own.iter().copied());
            let started = from.run(move || own.into_iter().map(start).collect::<Vec<_>>());
            sockets.extend(started);
        }
        let wanted: Seen = attempts.iter().copied().map(told).collect();
        let end = Instant::now() + DEADLINE;
        while !self.noted("seen").is_superset(&wanted) {
            assert!(Instant::now() < end, "not all were judged");
        }
        // What was noted is on its way through the rules at most this long.
        self.lab.host.run(wait_for_packets);
        let passed = self.noted("passed");
        let mut differences = Vec::new();
        for (attempt, socket) in attempts.iter().zip(&sockets) {
            let allowed = self.world.allows(*attempt);
            if passed.contains(&told(*attempt)) != allowed {
                differences
                    .push(format!("{attempt:?} should be {}", if allowed { "allowed" } else { "dropped" }));
            } else if attempt.protocol == Protocol::Tcp && is_connected(socket, allowed) != allowed {
                differences.push(format!("{attempt:?} connects only if it is not allowed"));
            }
        }
        self.compared += attempts.len();
        for (uid, pod) in &self.world.pods {
            let to = SocketAddr::new(pod.addresses[0], 80);
            let met = self.lab.host.run(move || TcpStream::connect_timeout(&to, DEADLINE).is_ok());
            if !met {
                differences.push(format!("the node does not reach {uid}"));
            }
        }
        differences
    }

    /// What the kernel has noted in the sets called so.
    fn noted(&self, set: &str) -> Seen {
        let mut noted = Seen::new();
        for family in [4, 6] {
            let listed = self.lab.nft(&format!("-n list set inet watch {set}{family}"));
            let Some((_, elements)) = listed.split_once("elements = {") else { continue };
            for element in elements.split('}').next().unwrap().split(',') {
                let parts: Vec<&str> = element.split(" . ").map(str::trim).collect();
                let [from, to, protocol, port] = parts[..] else { panic!("{element}") };
                let protocol = match protocol {
                    "6" | "tcp" => "tcp",
                    "17" | "udp" => "udp",
                    _ => continue,
                };
                noted.insert((ip(from), ip(to), protocol, port.parse().unwrap()));
            }
        }
        noted
    }
}

fn label(key: &str, value: &str) -> Labels {
    Labels::from([(key.to_owned(), value.to_owned())])
}

/// The same pod's other address.
fn long(address: IpAddr) -> IpAddr {
    let IpAddr::V4(address) = address else { panic!("{address}") };
    v6(address)
}

fn told(attempt: Attempt) -> (IpAddr, IpAddr, &'static str, u16) {
    let protocol = if attempt.protocol == Protocol::Tcp { "tcp" } else { "udp" };
    (attempt.from, attempt.to, protocol, attempt.port)
}

/// Takes all that comes, and answers nothing.
fn listen(pod: &Pod) {
    for port in PORTS {
        let (tcp, udp) = pod.run(move || {
            let any = (Ipv6Addr::UNSPECIFIED, port);
            (TcpListener::bind(any).unwrap(), UdpSocket::bind(any).unwrap())
        });
        std::thread::spawn(move || while tcp.accept().is_ok() {});
        // Its buffer may fill; whether something arrives is seen before that.
        std::mem::forget(udp);
    }
}

/// Sets that note new connections before and after policies have judged them.
fn watch(lab: &Lab) {
    lab.nft("add table inet watch");
    for (chain, priority) in [("seen", -10), ("passed", 10)] {
        lab.nft(&format!(
            "add chain inet watch {chain} {{ type filter hook forward priority {priority} ; }}"
        ));
        for (family, ip, address) in [(4, "ip", "ipv4_addr"), (6, "ip6", "ipv6_addr")] {
            let set = format!("{chain}{family}");
            lab.nft(&format!(
                "add set inet watch {set} {{ type {address} . {address} . inet_proto . inet_service ; \
                 flags dynamic ; size 65535 ; }}"
            ));
            lab.nft(&format!(
                "add rule inet watch {chain} ct state new meta nfproto ipv{family} meta l4proto {{ 6, 17 }} \
                 add @{set} {{ {ip} saddr . {ip} daddr . meta l4proto . th dport }}"
            ));
        }
    }
}

/// Asks, and does not wait.
fn start(attempt: Attempt) -> OwnedFd {
    let family = if attempt.to.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let kind = if attempt.protocol == Protocol::Tcp { SockType::Stream } else { SockType::Datagram };
    let socket = socket(family, kind, SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC, None).unwrap();
    let to = SockaddrStorage::from(SocketAddr::new(attempt.to, attempt.port));
    let sent = match attempt.protocol {
        Protocol::Tcp => connect(socket.as_raw_fd(), &to),
        Protocol::Udp | Protocol::Sctp => {
            sendto(socket.as_raw_fd(), b"?", &to, MsgFlags::empty()).map(|_| ())
        }
    };
    assert!(matches!(sent, Ok(()) | Err(nix::errno::Errno::EINPROGRESS)), "{sent:?}");
    socket
}

/// Whether it is; waits for it if it should be.
fn is_connected(socket: &OwnedFd, should: bool) -> bool {
    let patience = if should { 20_000_u16 } else { 0 };
    let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)];
    let ready = poll(&mut fds, PollTimeout::from(patience)).unwrap();
    let failed = PollFlags::POLLERR | PollFlags::POLLHUP;
    ready > 0 && fds[0].revents().is_some_and(|events| !events.intersects(failed))
}

/// All packets that are being judged on any processor have been: the kernel waits for them before
/// it lets go of a socket that sees packets.
fn wait_for_packets() {
    let flags = SockFlag::SOCK_CLOEXEC;
    drop(socket(AddressFamily::Packet, SockType::Raw, flags, SockProtocol::EthAll).unwrap());
}
