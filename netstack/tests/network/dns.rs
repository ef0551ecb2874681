//! The node's name server, asked by pods over the real network.

mod upstream;

use crate::machine::{Pod, on_fresh_machine, options};
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RecordType};
use netstack::{
    Dns, DnsCounters, DnsNames, DnsOptions, DnsSockets, NamedEndpoint, NamedPort, Network, PodNames,
    ServiceName, ServiceNames, Transport, Upstream,
};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::Duration;
use upstream::Server;

/// How long an answer may take; reached only when a test fails.
const DEADLINE: Duration = Duration::from_secs(20);
const HERE: &str = "10.88.0.1";

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn service(name: &str) -> ServiceName {
    ServiceName { namespace: "default".into(), name: name.into() }
}

fn cluster(address: &str) -> ServiceNames {
    let port = NamedPort { name: "http".into(), transport: Transport::Tcp, number: 80 };
    ServiceNames::Cluster { addresses: vec![ip(address)], ports: vec![port] }
}

fn dns_options(upstream: Upstream) -> DnsOptions {
    DnsOptions {
        domain: "cluster.local".into(),
        addresses: Vec::new(),
        networks: vec![(ip("10.88.0.0"), 24)],
        hosts: Vec::new(),
        upstream,
        stub_domains: Vec::new(),
        cache_entries: 1000,
        serve_stale: Duration::from_secs(3600),
        autopath: true,
        serial: 1,
    }
}

/// A node with a pod and a name server, whose upstream can be told what to say.
struct Lab {
    pod: Pod,
    _network: Network,
    dns: Dns,
    counters: Arc<DnsCounters>,
    server: Arc<Server>,
}

impl Lab {
    async fn new(host: &Pod) -> Self {
        let network = Network::open(options("keel0", "10.88.0.0/24")).await.unwrap();
        let pod = Pod::new();
        network.attach("a", pod.pid()).await.unwrap();
        let server = Server::start(host, "127.0.0.53:53");
        let counters = Arc::new(DnsCounters::default());
        let sockets = DnsSockets::bind(SocketAddr::new(ip(HERE), 53)).unwrap();
        let upstream = Upstream::Servers(vec![server.address()]);
        let domains = ["default.svc.cluster.local", "svc.cluster.local", "cluster.local"];
        let searches = domains.map(str::to_owned).into();
        let names = PodNames { namespace: "default".into(), searches };
        let services = BTreeMap::from([(service("web"), cluster("10.96.0.1"))]);
        let names = DnsNames { services, pods: BTreeMap::from([(ip("10.88.0.2"), vec![names])]) };
        let dns = Dns::start(&dns_options(upstream), names, vec![sockets], Arc::clone(&counters)).unwrap();
        Self { pod, _network: network, dns, counters, server }
    }

    fn ask(&self, name: &str, kind: RecordType) -> Message {
        ask_at(&self.pod, HERE, &question(name, kind))
    }

    /// Code, flag and records, as short as can be.
    fn said(&self, name: &str, kind: RecordType) -> String {
        shown(&self.ask(name, kind))
    }
}

fn question(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(4711, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message
}

fn shown(message: &Message) -> String {
    let data: Vec<String> = message.answers.iter().map(|record| record.data.to_string()).collect();
    format!("{} {}", message.metadata.response_code, data.join(" "))
}

fn ask_at(pod: &Pod, server: &str, question: &Message) -> Message {
    let (packet, server) = (question.to_vec().unwrap(), SocketAddr::new(ip(server), 53));
    let answer = pod.run(move || {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.connect(server).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        socket.send(&packet).unwrap();
        let mut answer = vec![0; 4096];
        let length = socket.recv(&mut answer).unwrap();
        answer.truncate(length);
        answer
    });
    let answer = Message::from_vec(&answer).unwrap();
    assert_eq!((answer.metadata.id, &answer.queries), (question.metadata.id, &question.queries));
    answer
}

/// All of `questions` over one connection, before any answer is read.
fn ask_by_stream(pod: &Pod, questions: &[Message]) -> Vec<Message> {
    let packets: Vec<Vec<u8>> = questions.iter().map(|question| question.to_vec().unwrap()).collect();
    let answers = pod.run(move || {
        let mut stream = TcpStream::connect((HERE, 53)).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        for packet in &packets {
            stream.write_all(&u16::try_from(packet.len()).unwrap().to_be_bytes()).unwrap();
            stream.write_all(packet).unwrap();
        }
        let read = |_| {
            let mut length = [0; 2];
            stream.read_exact(&mut length).unwrap();
            let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
            stream.read_exact(&mut answer).unwrap();
            answer
        };
        packets.iter().map(read).collect::<Vec<_>>()
    });
    answers.iter().map(|answer| Message::from_vec(answer).unwrap()).collect()
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn a_pod_asks_and_is_answered_as_things_are() {
    on_fresh_machine(async |host| {
        let lab = Lab::new(&host).await;
        assert_eq!(lab.said("web.default.svc.cluster.local.", RecordType::A), "No Error 10.96.0.1");
        lab.dns.change_services(vec![(service("web"), None), (service("new"), Some(cluster("10.96.0.2")))]);
        assert_eq!(lab.said("web.default.svc.cluster.local.", RecordType::A), "Non-Existent Domain ");
        assert_eq!(lab.said("new.default.svc.cluster.local.", RecordType::A), "No Error 10.96.0.2");
        let many = (0..300).map(|n| NamedEndpoint {
            address: format!("10.99.{}.{}", n / 250, n % 250).parse().unwrap(),
            hostname: None,
            ports: Vec::new(),
        });
        let many = ServiceNames::Headless(many.collect());
        lab.dns.change_services(vec![(service("many"), Some(many))]);
        let all = question("many.default.svc.cluster.local.", RecordType::A);
        let cut = ask_at(&lab.pod, HERE, &all);
        assert!(cut.metadata.truncation && cut.answers.len() < 300);
        let answers =
            ask_by_stream(&lab.pod, &[all, question("new.default.svc.cluster.local.", RecordType::A)]);
        assert_eq!((answers[0].answers.len(), shown(&answers[1]).as_str()), (300, "No Error 10.96.0.2"));
        assert!(lab.counters.requests().iter().any(|one| one.protocol == "tcp" && one.count == 2));
        assert_eq!(lab.server.heard(), 1, "others only for the end of the pod's search path");
    });
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn others_are_asked_once_and_their_answers_kept() {
    on_fresh_machine(async |host| {
        let lab = Lab::new(&host).await;
        lab.server.knows("www.example.org.", "192.0.2.1");
        assert_eq!(lab.said("www.example.org.", RecordType::A), "No Error 192.0.2.1");
        assert_eq!(lab.said("WWW.example.org.", RecordType::A), "No Error 192.0.2.1");
        assert_eq!(lab.server.heard(), 1);
        assert_eq!(lab.said("gone.example.org.", RecordType::A), "Non-Existent Domain ");
        let none = lab.ask("gone.example.org.", RecordType::A);
        assert_eq!(none.authorities.len(), 1, "the SOA that says for how long");
        assert_eq!((lab.server.heard(), lab.counters.hits()), (2, (1, 1)));
        // A search path: one question of the pod, one of the node.
        assert_eq!(
            lab.said("www.example.org.default.svc.cluster.local.", RecordType::A),
            "No Error www.example.org. 192.0.2.1"
        );
        assert_eq!((lab.server.heard(), lab.counters.autopaths()), (2, 1));
        let mut wants_more = question("www.example.org.", RecordType::A);
        wants_more.set_edns(Edns::new());
        let answer = ask_at(&lab.pod, HERE, &wants_more);
        assert!(answer.edns.is_some(), "who speaks EDNS is answered so");
        // What does not fit their datagrams is fetched by TCP.
        lab.server.knows_much("long.example.org.");
        let answers = ask_by_stream(&lab.pod, &[question("long.example.org.", RecordType::TXT)]);
        assert_eq!(answers[0].answers.len(), 60);
        assert!(lab.ask("long.example.org.", RecordType::TXT).metadata.truncation);
    });
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn who_does_not_answer_is_done_without() {
    on_fresh_machine(async |host| {
        let lab = Lab::new(&host).await;
        lab.server.knows("www.example.org.", "192.0.2.1");
        lab.server.lets_live(1);
        assert_eq!(lab.said("www.example.org.", RecordType::A), "No Error 192.0.2.1");
        lab.server.refuses(true);
        // Its time ends: what was known is given on, and the cluster's names go on in any case.
        let old = crate::dns::until(|| {
            let answer = lab.ask("www.example.org.", RecordType::A);
            (lab.counters.stale() > 0).then_some(answer)
        });
        assert_eq!((shown(&old).as_str(), old.answers[0].ttl), ("No Error 192.0.2.1", 30));
        assert_eq!(lab.said("other.example.org.", RecordType::A), "Server Failure ");
        assert_eq!(lab.said("web.default.svc.cluster.local.", RecordType::A), "No Error 10.96.0.1");
        assert_eq!(
            lab.said("other.example.org.default.svc.cluster.local.", RecordType::A),
            "Non-Existent Domain ",
            "a search goes on by itself"
        );
    });
}

/// Looks until there is something.
fn until<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let start = std::time::Instant::now();
    while start.elapsed() < DEADLINE {
        if let Some(found) = look() {
            return found;
        }
    }
    panic!("it does not come")
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn what_is_asked_between_two_servers_is_answered_by_the_second() {
    on_fresh_machine(async |_| {
        let network = Network::open(options("keel0", "10.88.0.0/24")).await.unwrap();
        let pod = Pod::new();
        network.attach("a", pod.pid()).await.unwrap();
        let held = DnsSockets::bind(SocketAddr::new(ip(HERE), 53)).unwrap();
        let start = |address: &str| {
            let sockets = vec![held.try_clone().unwrap()];
            let upstream = Upstream::Servers(Vec::new());
            let names = DnsNames {
                services: BTreeMap::from([(service("web"), cluster(address))]),
                pods: BTreeMap::new(),
            };
            Dns::start(&dns_options(upstream), names, sockets, Arc::default()).unwrap()
        };
        let name = "web.default.svc.cluster.local.";
        let first = start("10.96.0.1");
        assert_eq!(shown(&ask_at(&pod, HERE, &question(name, RecordType::A))), "No Error 10.96.0.1");
        first.close().await;
        let packet = question(name, RecordType::A).to_vec().unwrap();
        let (client, mut stream) = pod.run(move || {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.connect((HERE, 53)).unwrap();
            socket.send(&packet).unwrap();
            let mut stream = TcpStream::connect((HERE, 53)).unwrap();
            stream.write_all(&u16::try_from(packet.len()).unwrap().to_be_bytes()).unwrap();
            stream.write_all(&packet).unwrap();
            (socket, stream)
        });
        let second = start("10.96.0.2");
        let mut answer = [0; 512];
        client.set_read_timeout(Some(DEADLINE)).unwrap();
        let length = client.recv(&mut answer).unwrap();
        assert_eq!(shown(&Message::from_vec(&answer[..length]).unwrap()), "No Error 10.96.0.2");
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.read_exact(&mut answer[..2]).unwrap();
        second.close().await;
    });
}
