use super::super::cache::Record;
use super::super::model::{NamedEndpoint, NamedPort, PodNames, ServiceNames};
use super::*;
use crate::services::{ServiceName, Transport};
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name as ProtoName, RecordType};

const POD: &str = "10.88.0.9";

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn wire(text: &str) -> Box<[u8]> {
    Name::parse(text).unwrap().into_wire()
}

fn port(name: &str, number: u16) -> NamedPort {
    NamedPort { name: name.into(), transport: Transport::Tcp, number }
}

fn endpoint(address: &str, hostname: Option<&str>) -> NamedEndpoint {
    let hostname = hostname.map(Into::into);
    NamedEndpoint { address: ip(address), hostname, ports: vec![port("https", 443)] }
}

/// The cluster of the specification's examples.
fn desk() -> Desk {
    let mut zone = Zone::new(Name::parse("cluster.local").unwrap(), &[ip("10.88.0.1")], 1);
    let mut set = |namespace: &str, name: &str, names: ServiceNames| {
        zone.set(ServiceName { namespace: namespace.into(), name: name.into() }, Some(&names));
    };
    let addresses = vec![ip("10.3.0.1"), ip("2001:db8::1")];
    set("default", "kubernetes", ServiceNames::Cluster { addresses, ports: vec![port("https", 443)] });
    let pets = vec![
        endpoint("10.3.0.100", Some("my-pet")),
        endpoint("10.3.0.101", Some("my-pet-2")),
        endpoint("10.3.0.102", None),
        endpoint("2001:db8::64", Some("my-pet")),
    ];
    set("default", "headless", ServiceNames::Headless(pets));
    set("default", "foo", ServiceNames::External("www.example.com".into()));
    set("default", "inner", ServiceNames::External("kubernetes.default.svc.cluster.local".into()));
    set("default", "loop", ServiceNames::External("loop.default.svc.cluster.local".into()));
    set("other", "db", ServiceNames::Cluster { addresses: vec![ip("10.3.0.2")], ports: Vec::new() });
    let domains = ["default.svc.cluster.local", "svc.cluster.local", "cluster.local", "corp.example"];
    let searches = domains.map(str::to_owned).into();
    zone.set_pods(ip(POD), vec![PodNames { namespace: "default".into(), searches }]);
    let hosts = [(ip("192.0.2.7"), vec!["Printer.lan".to_owned(), "printer".to_owned()])];
    let rules = Rules::new(&hosts, vec![(ip("10.3.0.0"), 16)], true);
    Desk::new(zone, rules, Cache::new(100, Duration::from_secs(3600)), Arc::default())
}

fn packet(name: &str, kind: RecordType, edns: Option<u16>) -> Vec<u8> {
    let mut message = Message::new(0, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(ProtoName::from_ascii(name).unwrap(), kind));
    if let Some(payload) = edns {
        let mut edns = Edns::new();
        edns.set_max_payload(payload);
        message.set_edns(edns);
    }
    message.to_vec().unwrap()
}

fn asked<'p>(packet: &'p [u8], from: &str, channel: Channel) -> Asked<'p> {
    Asked { packet, from: ip(from), channel, now: Instant::now(), again: false, searches: true }
}

/// The answer, or the name that others have to be asked for.
fn ask(desk: &Desk, name: &str, kind: RecordType) -> Result<Message, String> {
    let packet = packet(name, kind, None);
    let mut out = Vec::new();
    match desk.answer(asked(&packet, POD, Channel::Udp), &mut out) {
        Verdict::Answered => Ok(Message::from_vec(&out).unwrap()),
        Verdict::Ask(key, _) => Err(Name::of_wire(key.parts().0).to_string()),
        Verdict::Silence => panic!("no answer"),
    }
}

/// An answer as `dig` would show it: code, flags, and the records of each section.
fn shown(message: &Message) -> String {
    let meta = &message.metadata;
    let mut out = format!("{} aa={}", meta.response_code, meta.authoritative);
    let sections = [("", &message.answers), ("auth ", &message.authorities), ("add ", &message.additionals)];
    for (name, records) in sections {
        for record in records {
            out.push_str(&format!("\n{name}{record}"));
        }
    }
    out
}

fn look(name: &str, kind: RecordType) -> String {
    shown(&ask(&desk(), name, kind).unwrap())
}

/// Others have said this.
fn heard(desk: &Desk, name: &str, kind: u16, records: &[(&str, u16, &[u8])]) {
    let record = |(owner, kind, data): &(&str, u16, &[u8])| Record {
        owner: wire(owner),
        kind: *kind,
        ttl: 60,
        data: (*data).into(),
    };
    let code = if records.is_empty() { NAME_ERROR } else { NO_ERROR };
    let answers = records.iter().map(record).collect();
    let stored = Stored { code, answers, authority: Vec::new(), life: Duration::from_secs(60) };
    desk.cache().insert(Key::new(&wire(name), kind, false).bytes(), stored, Instant::now());
}

const NONE: &str =
    "auth cluster.local. 5 IN SOA ns.dns.cluster.local. hostmaster.cluster.local. 1 7200 1800 86400 5";

#[test]
fn the_examples_of_the_specification() {
    use RecordType::{A, AAAA, PTR, SRV, TXT};
    let long = "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa.";
    for (name, kind, wanted) in [
        ("dns-version.cluster.local.", TXT, "dns-version.cluster.local. 5 IN TXT 1.1.0"),
        ("kubernetes.default.svc.cluster.local.", A, "kubernetes.default.svc.cluster.local. 5 IN A 10.3.0.1"),
        (
            "kubernetes.default.svc.cluster.local.",
            AAAA,
            "kubernetes.default.svc.cluster.local. 5 IN AAAA 2001:db8::1",
        ),
        (
            "_https._tcp.kubernetes.default.svc.cluster.local.",
            SRV,
            "_https._tcp.kubernetes.default.svc.cluster.local. 5 IN SRV 0 100 443 kubernetes.default.svc.cluster.local.\n\
             add kubernetes.default.svc.cluster.local. 5 IN A 10.3.0.1\n\
             add kubernetes.default.svc.cluster.local. 5 IN AAAA 2001:db8::1",
        ),
        (
            "1.0.3.10.in-addr.arpa.",
            PTR,
            "1.0.3.10.in-addr.arpa. 5 IN PTR kubernetes.default.svc.cluster.local.",
        ),
        (long, PTR, &format!("{long} 5 IN PTR kubernetes.default.svc.cluster.local.")),
        (
            "headless.default.svc.cluster.local.",
            A,
            "headless.default.svc.cluster.local. 5 IN A 10.3.0.100\n\
             headless.default.svc.cluster.local. 5 IN A 10.3.0.101\n\
             headless.default.svc.cluster.local. 5 IN A 10.3.0.102",
        ),
        (
            "headless.default.svc.cluster.local.",
            AAAA,
            "headless.default.svc.cluster.local. 5 IN AAAA 2001:db8::64",
        ),
        (
            "my-pet.headless.default.svc.cluster.local.",
            A,
            "my-pet.headless.default.svc.cluster.local. 5 IN A 10.3.0.100",
        ),
        (
            "_https._tcp.headless.default.svc.cluster.local.",
            SRV,
            "_https._tcp.headless.default.svc.cluster.local. 5 IN SRV 0 100 443 my-pet.headless.default.svc.cluster.local.\n\
             _https._tcp.headless.default.svc.cluster.local. 5 IN SRV 0 100 443 my-pet-2.headless.default.svc.cluster.local.\n\
             _https._tcp.headless.default.svc.cluster.local. 5 IN SRV 0 100 443 10-3-0-102.headless.default.svc.cluster.local.\n\
             add my-pet.headless.default.svc.cluster.local. 5 IN A 10.3.0.100\n\
             add my-pet.headless.default.svc.cluster.local. 5 IN AAAA 2001:db8::64\n\
             add my-pet-2.headless.default.svc.cluster.local. 5 IN A 10.3.0.101\n\
             add 10-3-0-102.headless.default.svc.cluster.local. 5 IN A 10.3.0.102",
        ),
        (
            "100.0.3.10.in-addr.arpa.",
            PTR,
            "100.0.3.10.in-addr.arpa. 5 IN PTR my-pet.headless.default.svc.cluster.local.",
        ),
    ] {
        assert_eq!(look(name, kind), format!("No Error aa=true\n{wanted}"), "{name} {kind}");
    }
}

#[test]
fn no_such_name_is_told_from_no_such_record() {
    let name = |name: &str| look(name, RecordType::MX);
    for there in
        ["kubernetes.default.svc", "default.svc", "_tcp.kubernetes.default.svc", "svc", "pod", "default.pod"]
    {
        assert_eq!(name(&format!("{there}.cluster.local.")), format!("No Error aa=true\n{NONE}"), "{there}");
    }
    for none in ["none.other.svc", "none.svc", "none", "_udp.db.other.svc", "9-9-9-9.default.pod"] {
        let asked = format!("{none}.cluster.local.");
        assert_eq!(name(&asked), format!("Non-Existent Domain aa=true\n{NONE}"), "{none}");
    }
    let reverse = look("7.0.3.10.in-addr.arpa.", RecordType::PTR);
    assert!(reverse.starts_with("Non-Existent Domain aa=true\nauth in-addr.arpa. 5 IN SOA"), "{reverse}");
    assert_eq!(ask(&desk(), "7.7.7.7.in-addr.arpa.", RecordType::PTR).unwrap_err(), "7.7.7.7.in-addr.arpa.");
}

#[test]
fn the_question_comes_back_as_it_was_sent() {
    let answer = ask(&desk(), "KuberNetes.Default.SVC.cluster.LOCAL.", RecordType::A).unwrap();
    assert_eq!(answer.queries[0].name().to_string(), "KuberNetes.Default.SVC.cluster.LOCAL.");
    assert_eq!(answer.answers[0].name.to_string(), "KuberNetes.Default.SVC.cluster.LOCAL.");
    let meta = &answer.metadata;
    assert!(meta.recursion_desired && meta.recursion_available && !meta.truncation);
}

#[test]
fn a_name_that_stands_for_another_is_followed_as_far_as_it_leads() {
    use RecordType::A;
    let desk = desk();
    assert_eq!(
        look("inner.default.svc.cluster.local.", A),
        "No Error aa=true\n\
         inner.default.svc.cluster.local. 5 IN CNAME kubernetes.default.svc.cluster.local.\n\
         kubernetes.default.svc.cluster.local. 5 IN A 10.3.0.1"
    );
    assert_eq!(ask(&desk, "foo.default.svc.cluster.local.", A).unwrap_err(), "www.example.com.");
    let alias = wire("cdn.example.net");
    heard(
        &desk,
        "www.example.com",
        1,
        &[
            ("www.example.com", 5, &alias),
            ("cdn.example.net", 1, &[192, 0, 2, 53]),
            ("cdn.example.net", 1, &[192, 0, 2, 54]),
        ],
    );
    assert_eq!(
        shown(&ask(&desk, "foo.default.svc.cluster.local.", A).unwrap()),
        "No Error aa=true\n\
         foo.default.svc.cluster.local. 5 IN CNAME www.example.com.\n\
         www.example.com. 60 IN CNAME cdn.example.net.\n\
         cdn.example.net. 60 IN A 192.0.2.53\n\
         cdn.example.net. 60 IN A 192.0.2.54"
    );
    assert!(look("loop.default.svc.cluster.local.", A).starts_with("Server Failure"));
    assert_eq!(
        look("foo.default.svc.cluster.local.", RecordType::CNAME),
        "No Error aa=true\nfoo.default.svc.cluster.local. 5 IN CNAME www.example.com."
    );
}

#[test]
fn a_pods_search_path_is_followed_at_its_first_question() {
    use RecordType::{A, AAAA};
    let desk = desk();
    let first = |short: &str, kind| ask(&desk, &format!("{short}.default.svc.cluster.local."), kind);
    assert_eq!(
        shown(&first("db.other", A).unwrap()),
        "No Error aa=true\n\
         db.other.default.svc.cluster.local. 5 IN CNAME db.other.svc.cluster.local.\n\
         db.other.svc.cluster.local. 5 IN A 10.3.0.2"
    );
    let no_v6 = shown(&first("db.other", AAAA).unwrap());
    let alias = "db.other.default.svc.cluster.local. 5 IN CNAME db.other.svc.cluster.local.";
    assert_eq!(no_v6, format!("No Error aa=true\n{alias}\n{NONE}"));
    assert_eq!(first("www.example.org", A).unwrap_err(), "www.example.org.corp.example.");
    heard(&desk, "www.example.org.corp.example", 1, &[]);
    assert_eq!(first("www.example.org", A).unwrap_err(), "www.example.org.");
    heard(&desk, "www.example.org", 1, &[("www.example.org", 1, &[192, 0, 2, 1])]);
    assert_eq!(
        shown(&first("www.example.org", A).unwrap()),
        "No Error aa=true\n\
         www.example.org.default.svc.cluster.local. 5 IN CNAME www.example.org.\n\
         www.example.org. 60 IN A 192.0.2.1"
    );
    assert_eq!(desk.counters().autopaths(), 3);
    for (name, code) in [
        ("gone.example.org.corp.example", None),
        ("gone.example.org", None),
        ("sick.corp.example", None),
        ("sick", Some(2)),
    ] {
        heard(&desk, name, 1, &[]);
        if code.is_some() {
            let key = Key::new(&wire(name), 1, false);
            desk.cache().insert(key.bytes(), Stored::failure(), Instant::now());
        }
    }
    for none in ["gone.example.org", "sick"] {
        let answer = shown(&first(none, A).unwrap());
        assert_eq!(
            answer,
            format!("Non-Existent Domain aa=true\n{NONE}"),
            "{none}: it has to go on by itself"
        );
    }
    // Only the first name of a path, and only for pods whose path is known.
    let second = shown(&ask(&desk, "db.other.cluster.local.", A).unwrap());
    assert!(second.starts_with("Non-Existent"), "{second}");
    let packet = packet("db.other.default.svc.cluster.local.", A, None);
    let mut out = Vec::new();
    assert!(matches!(desk.answer(asked(&packet, "10.88.0.77", Channel::Udp), &mut out), Verdict::Answered));
    assert!(shown(&Message::from_vec(&out).unwrap()).starts_with("Non-Existent"));
}

#[test]
fn names_of_the_nodes_own_come_first() {
    use RecordType::{A, PTR};
    assert_eq!(look("printer.LAN.", A), "No Error aa=true\nprinter.LAN. 5 IN A 192.0.2.7");
    assert_eq!(look("printer.", A), "No Error aa=true\nprinter. 5 IN A 192.0.2.7");
    assert_eq!(look("printer.lan.", RecordType::AAAA), "No Error aa=true");
    assert_eq!(
        look("7.2.0.192.in-addr.arpa.", PTR),
        "No Error aa=true\n7.2.0.192.in-addr.arpa. 5 IN PTR printer.lan."
    );
    assert_eq!(look("localhost.", A), "No Error aa=true\nlocalhost. 5 IN A 127.0.0.1");
}

#[test]
fn others_answers_are_given_with_the_time_that_is_left() {
    let desk = desk();
    heard(&desk, "www.example.org", 1, &[("www.example.org", 1, &[192, 0, 2, 1])]);
    let packet = packet("WWW.example.org.", RecordType::A, None);
    let answer = |after: u64| {
        let now = Instant::now() + Duration::from_secs(after);
        let mut out = Vec::new();
        let asked = Asked { now, ..asked(&packet, POD, Channel::Udp) };
        match desk.answer(asked, &mut out) {
            Verdict::Answered => Some(shown(&Message::from_vec(&out).unwrap())),
            Verdict::Ask(..) | Verdict::Silence => None,
        }
    };
    assert_eq!(answer(0).unwrap(), "No Error aa=false\nWWW.example.org. 60 IN A 192.0.2.1");
    assert!(answer(50).unwrap().contains(" 10 IN A"));
    assert_eq!(answer(61), None);
    let key = Key::new(&wire("www.example.org"), 1, false);
    assert!(desk.cache().revive(key.bytes(), Instant::now() + Duration::from_secs(60)));
    assert!(answer(61).unwrap().contains(" 30 IN A"), "too old, but all that there is");
    assert_eq!((desk.counters().hits(), desk.counters().stale()), ((3, 0), 1));
}

#[test]
fn what_does_not_fit_a_datagram_is_cut_and_says_so() {
    let desk = desk();
    let all: Vec<_> = (0..200).map(|n| endpoint(&format!("10.3.1.{n}"), Some(&format!("pod-{n}")))).collect();
    let name = ServiceName { namespace: "default".into(), name: "many".into() };
    desk.change(|zone| zone.set(name, Some(&ServiceNames::Headless(all))));
    let answer = |edns, channel| {
        let packet = packet("many.default.svc.cluster.local.", RecordType::A, edns);
        let mut out = Vec::new();
        assert!(matches!(desk.answer(asked(&packet, POD, channel), &mut out), Verdict::Answered));
        let message = Message::from_vec(&out).unwrap();
        assert_eq!(message.edns.is_some(), edns.is_some());
        (out.len(), message.answers.len(), message.metadata.truncation)
    };
    for (edns, limit) in [(None, 512), (Some(100), 512), (Some(800), 800), (Some(4096), 1232)] {
        let (length, count, truncated) = answer(edns, Channel::Udp);
        assert!(length <= limit && length + 16 > limit && truncated, "{length} {edns:?}");
        assert!(count > 25);
    }
    let (_, count, truncated) = answer(None, Channel::Tcp);
    assert_eq!((count, truncated), (200, false));
}

#[test]
fn what_cannot_be_answered_gets_its_reason() {
    let desk = desk();
    let good = packet("a.", RecordType::A, Some(1232));
    let code = |change: &dyn Fn(&mut Vec<u8>)| {
        let (mut packet, mut out) = (good.clone(), Vec::new());
        change(&mut packet);
        match desk.answer(asked(&packet, POD, Channel::Udp), &mut out) {
            Verdict::Answered => Some(u16::from(Message::from_vec(&out).unwrap().metadata.response_code)),
            Verdict::Ask(..) => panic!("to be asked"),
            Verdict::Silence => None,
        }
    };
    assert_eq!(code(&|packet| packet[5] = 0), Some(1));
    assert_eq!(code(&|packet| packet[2] = 0x28), Some(4));
    assert_eq!(code(&|packet| packet[16] = 252), Some(5));
    let version = good.len() - 5;
    assert_eq!(code(&|packet| packet[version] = 9), Some(16), "of EDNS");
    assert_eq!(code(&|packet| packet[2] = 0x81), None);
    let mut out = Vec::new();
    assert!(matches!(desk.give_up(&good, &mut out), Verdict::Answered));
    assert_eq!(shown(&Message::from_vec(&out).unwrap()), "Server Failure aa=false");
}
