use super::super::code::SRV;
use super::super::model::{NamedEndpoint, NamedPort};
use super::*;
use crate::services::Transport;
use proptest::prelude::*;

fn zone() -> Zone {
    Zone::new(Name::parse("cluster.local").unwrap(), &["10.88.0.1".parse().unwrap()], 1)
}

fn service(name: &str) -> ServiceName {
    ServiceName { namespace: "default".into(), name: name.into() }
}

fn labels(text: &str) -> Box<[u8]> {
    let whole = Name::parse(text).unwrap();
    whole.wire()[..whole.wire().len() - 1].into()
}

fn found(zone: &Zone, text: &str) -> Option<usize> {
    match zone.find(&labels(text)) {
        Found::Records(records) => Some(records.len()),
        Found::NoName => None,
    }
}

fn port(name: &str) -> NamedPort {
    NamedPort { name: name.into(), transport: Transport::Tcp, number: 443 }
}

fn headless(endpoints: &[(&str, Option<&str>)]) -> ServiceNames {
    let made = endpoints.iter().map(|(address, hostname)| NamedEndpoint {
        address: address.parse().unwrap(),
        hostname: hostname.map(Into::into),
        ports: vec![port("https")],
    });
    ServiceNames::Headless(made.collect())
}

#[test]
fn names_above_a_service_exist_as_long_as_it_does() {
    let mut zone = zone();
    let names =
        ServiceNames::Cluster { addresses: vec!["10.96.0.1".parse().unwrap()], ports: vec![port("https")] };
    assert_eq!(found(&zone, "default.svc"), None);
    zone.set(service("web"), Some(&names));
    zone.set(service("db"), Some(&names));
    for (name, count) in [
        ("web.default.svc", 1),
        ("default.svc", 0),
        ("_tcp.web.default.svc", 0),
        ("_https._tcp.web.default.svc", 1),
    ] {
        assert_eq!(found(&zone, name), Some(count), "{name}");
    }
    assert_eq!(found(&zone, "a.web.default.svc"), None);
    zone.set(service("web"), None);
    assert_eq!((found(&zone, "web.default.svc"), found(&zone, "default.svc")), (None, Some(0)));
    zone.set(service("db"), None);
    assert_eq!((found(&zone, "default.svc"), found(&zone, "svc").is_some()), (None, true));
    assert!(zone.find_address("10.96.0.1".parse().unwrap()).is_empty());
    assert_eq!(zone.nodes.len(), super::tests::zone().nodes.len(), "nothing is left");
}

#[test]
fn a_service_without_ready_endpoints_does_not_exist() {
    let mut zone = zone();
    zone.set(service("pets"), Some(&headless(&[])));
    assert_eq!(found(&zone, "pets.default.svc"), None);
    zone.set(service("pets"), Some(&headless(&[("10.88.0.2", Some("rex")), ("10.88.0.3", None)])));
    assert_eq!(found(&zone, "pets.default.svc"), Some(2));
    assert_eq!(
        (found(&zone, "rex.pets.default.svc"), found(&zone, "10-88-0-3.pets.default.svc")),
        (Some(1), Some(1))
    );
    let Found::Records(led) = zone.find(&labels("_https._tcp.pets.default.svc")) else { panic!("no ports") };
    assert!(led.len() == 2 && led.iter().all(|datum| datum.kind == SRV));
    let named = |address: &str| zone.find_address(address.parse().unwrap()).len();
    assert_eq!((named("10.88.0.2"), named("10.88.0.3")), (1, 0), "only who has a name of its own");
}

#[test]
fn pods_have_names_while_they_are_there() {
    let mut zone = zone();
    let address = "10.88.0.2".parse().unwrap();
    let pod = PodNames { namespace: "default".into(), searches: Vec::new() };
    assert_eq!(found(&zone, "10-88-0-2.default.pod"), None);
    zone.set_pods(address, vec![pod.clone()]);
    assert_eq!(found(&zone, "10-88-0-2.default.pod"), Some(1));
    assert_eq!(found(&zone, "default.pod"), Some(0));
    for none in ["10-88-0-2.other.pod", "10-88-0-3.default.pod", "other.pod", "a.10-88-0-2.default.pod"] {
        assert_eq!(found(&zone, none), None, "{none}");
    }
    zone.set_pods("2001:db8::1".parse().unwrap(), vec![pod]);
    assert_eq!(found(&zone, "2001-db8-0-0-0-0-0-1.default.pod"), Some(1));
    assert_eq!(found(&zone, "2001-db8--1.default.pod"), Some(1));
    zone.set_pods(address, Vec::new());
    assert_eq!(found(&zone, "10-88-0-2.default.pod"), None);
}

proptest! {
    #[test]
    fn whatever_comes_and_goes_leaves_what_is_there(
        steps in proptest::collection::vec((0..4_u8, 0..5_u8), 0..60),
    ) {
        let mut walked = zone();
        let mut last = std::collections::BTreeMap::new();
        for (name, what) in steps {
            let names = match what {
                0 => None,
                1 => Some(headless(&[("10.88.0.2", Some("rex")), ("10.88.0.3", None)])),
                2 => Some(headless(&[("10.88.0.3", Some("rex"))])),
                3 => Some(ServiceNames::External("example.org".into())),
                _ => Some(ServiceNames::Cluster {
                    addresses: vec!["10.96.0.9".parse().unwrap()],
                    ports: vec![port("https"), port("http")],
                }),
            };
            // A service's name can be that of another's endpoint, one floor higher.
            let name = ["web", "rex", "_tcp", "pets"][usize::from(name)];
            walked.set(service(name), names.as_ref());
            last.insert(name, names);
        }
        let mut direct = zone();
        for (name, names) in last {
            direct.set(service(name), names.as_ref());
        }
        let all = |zone: &Zone| {
            let nodes = zone.nodes.iter().map(|(labels, node)| (labels.to_vec(), node.records.len(), node.below));
            let mut nodes: Vec<_> = nodes.collect();
            nodes.sort();
            (nodes, zone.reverse.values().map(Vec::len).sum::<usize>())
        };
        prop_assert_eq!(all(&walked), all(&direct));
    }
}
