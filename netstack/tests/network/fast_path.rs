//! The fast path: what takes it, and what must not.

use crate::machine::{Pod, on_fresh_machine, options};
use crate::overlay::site::{Case, Ground, Node, VXLAN};
use crate::services::lab::{Lab, ask, here, is_silent, port, v6};
use netstack::policies::{News, Policies, Policy, PolicyName, PolicyPod};
use netstack::{Backend, FastPath, Flow, Namespace, Network, Rates};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, socket};
use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::time::{Duration, Instant};

/// How long connection tracking may take to see an end; reached only when a test fails.
const DEADLINE: Duration = Duration::from_secs(10);
/// How often both ends of a connection say something.
const ROUNDS: u32 = 300;

/// A connection between pods.
struct Talk {
    client: TcpStream,
    server: TcpStream,
}

impl Talk {
    fn open(from: &Pod, to: &Pod, address: IpAddr) -> Self {
        let any: IpAddr = if address.is_ipv4() { [0; 4].into() } else { [0_u16; 8].into() };
        let listener = to.run(move || TcpListener::bind((any, 0)).unwrap());
        let at = SocketAddr::new(address, listener.local_addr().unwrap().port());
        let client = from.run(move || TcpStream::connect(at).unwrap());
        Self { client, server: listener.accept().unwrap().0 }
    }

    fn exchange(&mut self) {
        for number in 0..ROUNDS {
            let mut heard = [0; 4];
            self.client.write_all(&number.to_be_bytes()).unwrap();
            self.server.read_exact(&mut heard).unwrap();
            assert_eq!(u32::from_be_bytes(heard), number);
            self.server.write_all(&heard).unwrap();
            self.client.read_exact(&mut heard).unwrap();
        }
    }

    /// How many packets of the client's and of the server's took the fast path.
    fn past(&self, fast_path: &FastPath) -> [u64; 2] {
        let (client, server) = (self.client.local_addr().unwrap(), self.client.peer_addr().unwrap());
        let flows = fast_path.flows().unwrap();
        [(client, server), (server, client)].map(|(source, destination)| {
            let is_it = |flow: &&Flow| (flow.source, flow.destination) == (source, destination);
            flows.iter().find(is_it).map_or(0, |flow| flow.packets)
        })
    }
}

/// Runs `test` as others, unless the kernel is from before what the fast path needs.
fn where_there_is_one<F>(test: F)
where
    F: AsyncFnOnce(Pod) + Send + 'static,
{
    let kernel = nix::sys::utsname::uname().unwrap().release().to_string_lossy().into_owned();
    let mut version = kernel.split(['.', '-']).map(|word| word.parse().unwrap_or(0));
    if (version.next(), version.next()) < (Some(5), Some(10)) {
        println!("SKIPPED: Linux {kernel} is older than 5.10");
        return;
    }
    on_fresh_machine(test);
}

fn of(network: &Network) -> FastPath {
    network.fast_path().cloned().unwrap_or_else(|| panic!("{:?}", network.warnings()))
}

/// Hears what of TCP comes to a pod over IPv4, with the packets' headers.
fn hear(pod: &Pod) -> OwnedFd {
    pod.run(|| {
        socket(AddressFamily::Inet, SockType::Raw, SockFlag::SOCK_NONBLOCK, SockProtocol::Tcp).unwrap()
    })
}

/// How far the packets that came could still have gone.
fn ages(heard: &OwnedFd) -> BTreeSet<u8> {
    let mut ages = BTreeSet::new();
    let mut packet = [0; 64];
    while let Ok(1..) = recv(heard.as_raw_fd(), &mut packet, MsgFlags::MSG_TRUNC) {
        ages.insert(packet[8]);
    }
    ages
}

/// Two pods on a node, and one on another.
async fn two_nodes(host: &Pod, backend: Backend, over_v6: bool) -> Vec<Node> {
    let mut nodes = Case { ground: Ground::Flat, backend, over_v6 }.nodes(host, 2).await;
    nodes[0].add_pod("q0").await;
    nodes
}

fn connections_go_past_netfilter(backend: Backend, over_v6: bool) {
    where_there_is_one(async move |host| {
        let nodes = two_nodes(&host, backend, over_v6).await;
        let [(_, from, own), (_, neighbour, near), ..] = &nodes[0].pods[..] else { panic!("two pods") };
        let (_, stranger, far) = &nodes[1].pods[0];
        for family in [0, 1] {
            let (heard_near, heard_far) = (hear(neighbour), hear(stranger));
            let mut to_near = Talk::open(from, neighbour, near[family]);
            let mut to_far = Talk::open(from, stranger, far[family]);
            to_near.exchange();
            to_far.exchange();
            let seen = [&to_near, &to_far].map(|talk| talk.server.peer_addr().unwrap().ip());
            assert_eq!(seen, [own[family]; 2]);
            let past = [
                to_near.past(&of(&nodes[0].network)),
                to_far.past(&of(&nodes[0].network)),
                to_far.past(&of(&nodes[1].network)),
            ];
            println!("{backend:?} {} of {ROUNDS}: {past:?}", own[family]);
            assert!(past.iter().flatten().all(|packets| *packets > 0), "{past:?}");
            if own[family].is_ipv4() {
                assert_eq!(ages(&heard_near), BTreeSet::from([64]), "not routed");
                assert_eq!(ages(&heard_far), BTreeSet::from([62]), "routed by both nodes, however fast");
            }
        }
    });
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn connections_go_past_netfilter_by_vxlan() {
    connections_go_past_netfilter(VXLAN, false);
    connections_go_past_netfilter(VXLAN, true);
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn connections_go_past_netfilter_by_routes() {
    connections_go_past_netfilter(Backend::HostGateway, false);
}

/// What connection tracking of the machine says of the connections to a port.
fn tracked(host: &Pod, port: u16) -> Vec<String> {
    let all = host.run(|| std::fs::read_to_string("/proc/thread-self/net/nf_conntrack").unwrap());
    let to = format!("dport={port} ");
    all.lines().filter(|line| line.contains(&to)).map(String::from).collect()
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn connection_tracking_knows_what_begins_and_what_ends() {
    where_there_is_one(async |host| {
        let lab = Lab::new(host).await;
        let ((from, _), (to, address)) = (lab.pod("a").await, lab.pod("b").await);
        for at in [address.into(), v6(address)] {
            let Talk { mut client, mut server } = Talk::open(&from, &to, at);
            let port = server.local_addr().unwrap().port();
            let known = tracked(&lab.host, port);
            assert!(known.len() == 1 && known[0].contains("ESTABLISHED"), "{known:?}");
            // More than any window: what connection tracking sees next is far ahead of what it saw last.
            let all: Vec<u8> = (0..64_u32 << 18).flat_map(u32::to_be_bytes).collect();
            let sent = all.clone();
            let sender = std::thread::spawn(move || client.write_all(&sent).map(|()| client).unwrap());
            let mut heard = vec![0; all.len()];
            server.read_exact(&mut heard).unwrap();
            assert!(heard == all, "every byte came as it was sent");
            let client = sender.join().unwrap();
            let talk = Talk { client, server };
            let past = talk.past(&of(&lab.network));
            assert!(past.iter().all(|packets| *packets > 0), "{past:?}");
            let Talk { client, mut server } = talk;
            drop(client);
            assert_eq!(server.read(&mut [0]).unwrap(), 0);
            drop(server);
            // The last segments are on their way.
            let open = |line: &String| line.contains("ESTABLISHED") || line.contains("FIN_WAIT");
            let end = Instant::now() + DEADLINE;
            while tracked(&lab.host, port).iter().any(open) {
                assert!(Instant::now() < end, "{:?}", tracked(&lab.host, port));
                std::thread::yield_now();
            }
        }
    });
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn what_is_translated_takes_the_long_way() {
    where_there_is_one(async |host| {
        let lab = Lab::new(host).await;
        let ((from, _), (to, address)) = (lab.pod("a").await, lab.server("b").await);
        lab.set("web", vec![port(&["10.96.0.10"], vec![here(address)])]).await;
        let converse = |at: SocketAddr| {
            let mut stream = from.run(move || TcpStream::connect(at).unwrap());
            let mut said = [0; 64];
            assert!(stream.read(&mut said).unwrap() > 0);
            for _ in 0..ROUNDS {
                stream.write_all(b"?").unwrap();
                stream.read_exact(&mut said[..2]).unwrap();
                assert_eq!(&said[..2], b"b?");
            }
            stream
        };
        let _service = converse("10.96.0.10:80".parse().unwrap());
        let flows = of(&lab.network).flows().unwrap();
        assert_eq!(flows, [], "a service's connection has other addresses at its ends");
        let _direct = converse(SocketAddr::new(address.into(), 8080));
        assert_eq!(of(&lab.network).flows().unwrap().len(), 2);
        drop(to);
    });
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn policies_hold_for_who_comes_while_others_go_past_them() {
    where_there_is_one(async |host| {
        let lab = Lab::new(host).await;
        let policies = Policies::open("keel0").await.unwrap();
        let ((from, _), (to, address)) = (lab.pod("a").await, lab.server("b").await);
        let mut talk = Talk::open(&from, &to, address.into());
        talk.exchange();
        assert!(talk.past(&of(&lab.network)).iter().all(|packets| *packets > 0));
        let pod = PolicyPod {
            namespace: "x".into(),
            addresses: vec![address.into()],
            here: true,
            ..PolicyPod::default()
        };
        let deny = Policy { ingress: Some(vec![]), ..Policy::default() };
        let name = PolicyName { namespace: "x".into(), name: "deny".into() };
        policies.replace(vec![News::Policy(name, Some(deny))]).await.unwrap();
        assert!(policies.admit("b".into(), pod).await.unwrap());
        assert!(is_silent(&from, &address.to_string(), 8080));
        talk.exchange();
        assert!(ask(&lab.host, &address.to_string(), 8080).is_ok(), "its own node may always");
    });
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn a_pod_that_is_told_how_fast_it_may_be_is_not_overtaken() {
    where_there_is_one(async |host| {
        let lab = Lab::new(host).await;
        let ((from, _), (to, address)) = (lab.pod("a").await, lab.pod("b").await);
        let place = Namespace::Process(to.pid());
        let shape = async |ingress| {
            let rates = Rates { ingress, egress: None };
            lab.network.shape("b", (&place, "eth0"), rates).await.unwrap();
        };
        shape(Some(1_000_000_000)).await;
        let mut talk = Talk::open(&from, &to, address.into());
        talk.exchange();
        let [there, back] = talk.past(&of(&lab.network));
        assert!(there == 0 && back > 0, "{there} {back}: only what it sends need not wait");
        // So it is for an agent that starts.
        let again = Network::open(options("keel0", "10.88.0.0/24")).await.unwrap();
        talk.exchange();
        let [there, back] = talk.past(&of(&again));
        assert!(there == 0 && back > 0, "{there} {back}");
        again.shape("b", (&place, "eth0"), Rates::default()).await.unwrap();
        talk.exchange();
        assert!(talk.past(&of(&again))[0] > 0, "nothing holds it any more");
    });
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn the_next_agent_takes_over_and_nothing_is_left_in_the_end() {
    where_there_is_one(async |host| {
        let liberal =
            || std::fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_tcp_be_liberal").unwrap();
        let lab = Lab::new(host).await;
        let ((from, _), (to, address)) = (lab.pod("a").await, lab.pod("b").await);
        let mut talk = Talk::open(&from, &to, address.into());
        talk.exchange();
        let before = of(&lab.network);
        let open = async |fast_path| {
            let options = netstack::NetworkOptions { fast_path, ..options("keel0", "10.88.0.0/24") };
            Network::open(options).await.unwrap()
        };
        let next = open(true).await;
        let past = talk.past(&before);
        talk.exchange();
        assert_eq!(talk.past(&before), past, "nobody asks those of before");
        assert!(talk.past(&of(&next)).iter().all(|packets| *packets > 0));
        assert_eq!(liberal().trim(), "1");

        let without = open(false).await;
        assert!(without.fast_path().is_none() && without.warnings().is_empty(), "{:?}", without.warnings());
        let past = talk.past(&of(&next));
        talk.exchange();
        assert_eq!(talk.past(&of(&next)), past, "switched off");
        assert!(!lab.nft("list tables").contains("keel0-fast"));

        let last = open(true).await;
        talk.exchange();
        assert!(talk.past(&of(&last)).iter().all(|packets| *packets > 0));
        last.remove().await.unwrap();
        assert!(!lab.nft("list tables").contains("keel0-fast"));
        assert_eq!(liberal().trim(), "0", "as it was");
    });
}
