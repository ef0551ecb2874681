//! Addresses that a load balancer gave: who may ask there, and what is not there.

use super::lab::{
    Lab, ask, ask_udp, default_route, here, ip, is_silent, name, port, serve, udp, udp_client, v6,
};
use crate::machine::{Pod, on_fresh_machine};
use netstack::{Applied, Balancer, Endpoint, ServicePort, Services, ServicesInForce, Target, Transport};
use std::collections::BTreeMap;
use std::io::ErrorKind;

const GIVEN: &str = "203.0.113.7";
const GIVEN_V6: &str = "2001:db8:7::7";
const NODE: &str = "192.0.2.1";

fn balanced(endpoints: Vec<Endpoint>, sources: &[(&str, u8)]) -> Vec<ServicePort> {
    let balancer = Balancer {
        addresses: vec![ip(GIVEN), ip(GIVEN_V6)],
        sources: sources.iter().map(|(address, prefix)| (ip(address), *prefix)).collect(),
    };
    let tcp = ServicePort {
        external_addresses: vec![ip("203.0.113.8")],
        balancer,
        node_port: Some(30_080),
        ..port(&["10.96.0.10", "fd96::10"], endpoints)
    };
    vec![udp(&tcp), tcp]
}

/// A client of both families that knows no way but by the node.
async fn outside(lab: &Lab) -> Pod {
    let outside = lab.neighbour("out", "192.0.2").await;
    default_route(&outside, NODE).await;
    for (pod, link, last) in [(&lab.host, "out", 1), (&outside, "outp", 2)] {
        let accept = format!("/proc/sys/net/ipv6/conf/{link}/accept_dad");
        pod.run(move || std::fs::write(accept, "0").unwrap());
        pod.add_address(link, &format!("2001:db8::{last}"), 64).await;
    }
    default_route(&outside, "2001:db8::1").await;
    outside
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn a_load_balancers_address_leads_to_endpoints_and_nothing_else_answers_there() {
    on_fresh_machine(async |host| {
        let lab = Lab::new(host).await;
        let outside = outside(&lab).await;
        let (client, _) = lab.pod("client").await;
        let (_a, at) = lab.server("a").await;
        lab.set("web", balanced(vec![here(at), here(v6(at))], &[])).await;
        for to in [GIVEN, GIVEN_V6] {
            for from in [&outside, &client] {
                assert_eq!(ask(from, to, 80).unwrap().who, "a", "{to}");
                assert_eq!(ask_udp(&udp_client(from, to, 80)).unwrap().who, "a", "{to}");
                // Else it would be led on to whoever led it here.
                assert_eq!(ask(from, to, 81), Err(ErrorKind::ConnectionRefused), "{to}: nobody's port");
            }
        }
        lab.set("web", balanced(vec![], &[])).await;
        assert_eq!(ask(&outside, GIVEN, 80), Err(ErrorKind::ConnectionRefused), "no endpoint");
        // An address of the node's own has others who answer.
        lab.host.add_address("lo", "203.0.113.9", 32).await;
        serve(&lab.host, "node");
        let own = Balancer { addresses: vec![ip("203.0.113.9")], sources: vec![] };
        let web = ServicePort { balancer: own, ..port(&["10.96.0.10"], vec![here(at)]) };
        lab.set("web", vec![web]).await;
        assert_eq!(ask(&outside, "203.0.113.9", 80).unwrap().who, "a");
        assert_eq!(ask(&outside, "203.0.113.9", super::lab::PORT).unwrap().who, "node");
    });
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn only_clients_of_the_source_ranges_are_answered() {
    on_fresh_machine(async |host| {
        let lab = Lab::new(host).await;
        let outside = outside(&lab).await;
        let (_a, at) = lab.server("a").await;
        let endpoints = || vec![here(at), here(v6(at))];
        let open = [("198.51.100.0", 24), ("192.0.2.0", 30), ("2001:db8::2", 128)];
        let applied = lab.set("web", balanced(endpoints(), &open)).await;
        assert!(!applied.rebuilt);
        for to in [GIVEN, GIVEN_V6] {
            assert_eq!(ask(&outside, to, 80).unwrap().who, "a", "{to}");
        }
        // One range more is one element more, but of another fence.
        let shut = [("198.51.100.0", 24), ("192.0.2.4", 30), ("2001:db8::3", 128)];
        lab.set("web", balanced(endpoints(), &shut)).await;
        for to in [GIVEN, GIVEN_V6] {
            assert!(is_silent(&outside, to, 80), "{to}");
            assert!(ask_udp_once(&outside, to), "{to}");
        }
        let seen = lab.host.run(|| ServicesInForce::read("keel0").unwrap());
        let at = |port| (Transport::Tcp, Target { address: ip(GIVEN), port });
        assert!(seen.keeps_out(ip("192.0.2.2"), at(80)) && !seen.keeps_out(ip("192.0.2.5"), at(80)));
        assert!(!seen.keeps_out(ip("192.0.2.2"), at(81)));
        // Ranges are about the load balancer's addresses alone.
        for (to, port) in [("203.0.113.8", 80), (NODE, 30_080), ("10.96.0.10", 80)] {
            assert_eq!(ask(&outside, to, port).unwrap().who, "a", "{to}");
        }
        // Of a family without a range, nobody.
        lab.set("web", balanced(endpoints(), &[("192.0.2.2", 32)])).await;
        assert_eq!(ask(&outside, GIVEN, 80).unwrap().who, "a");
        assert!(is_silent(&outside, GIVEN_V6, 80));
        lab.set("web", balanced(endpoints(), &[])).await;
        assert_eq!(ask(&outside, GIVEN_V6, 80).unwrap().who, "a");
    });
}

/// True if nobody answers.
fn ask_udp_once(from: &Pod, to: &str) -> bool {
    let socket = udp_client(from, to, 80);
    socket.send(b"?").and_then(|_| socket.recv(&mut [0; 64])).is_err()
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn ranges_are_kept_through_a_restart_and_put_back() {
    on_fresh_machine(async |host| {
        let lab = Lab::new(host).await;
        let outside = outside(&lab).await;
        let (_a, at) = lab.server("a").await;
        let web = balanced(vec![here(at)], &[("192.0.2.0", 25), ("198.51.100.0", 24)]);
        lab.set("web", web.clone()).await;
        let services = Services::open(Lab::options()).await.unwrap();
        let all = BTreeMap::from([(name("web"), web)]);
        assert_eq!(services.replace(lab.node.clone(), all).await.unwrap(), Applied::default());
        drop(services);
        let mut repairs = lab.services.repairs();
        for command in [
            "flush set ip keel0-services sources",
            "flush map ip keel0-services fences",
            "flush set ip keel0-services balanced",
        ] {
            repairs.mark_unchanged();
            let before = lab.nft("list table ip keel0-services").len();
            lab.nft(command);
            let repaired = tokio::time::timeout(std::time::Duration::from_secs(20), repairs.changed()).await;
            repaired.unwrap_or_else(|_| panic!("not put back: {command}")).unwrap();
            assert_eq!(lab.nft("list table ip keel0-services").len(), before, "{command}");
            assert_eq!(ask(&outside, GIVEN, 80).unwrap().who, "a", "{command}");
        }
    });
}
