//! Clients from outside: ports of the node, external addresses, and whose address is seen.

use super::lab::{
    Lab, ask, ask_udp, default_route, elsewhere, here, ip, is_silent, port, serve, udp, udp_client,
};
use crate::machine::{Pod, on_fresh_machine};
use netstack::{Policy, ServicePort};
use std::collections::BTreeSet;
use std::io::ErrorKind;

const NODE_PORT: u16 = 30_080;
const EXTERNAL: &str = "203.0.113.7";
const NODE: &str = "192.0.2.1";

/// A service that has everything, by TCP and UDP.
fn open_to_all(endpoints: Vec<netstack::Endpoint>, external: Policy) -> Vec<ServicePort> {
    let tcp = ServicePort {
        external_addresses: vec![ip(EXTERNAL)],
        balancer: netstack::Balancer::default(),
        node_port: Some(NODE_PORT),
        external,
        ..port(&["10.96.0.10"], endpoints)
    };
    vec![udp(&tcp), tcp]
}

async fn around(lab: &Lab) -> (Pod, Pod) {
    let outside = lab.neighbour("out", "192.0.2").await;
    default_route(&outside, NODE).await;
    default_route(&lab.host, "192.0.2.2").await;
    // It knows no way but to its neighbour.
    let there = lab.neighbour("there", "198.51.100").await;
    serve(&there, "there");
    (outside, there)
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn outside_clients_get_all_endpoints_and_only_far_ones_see_the_node() {
    on_fresh_machine(async |host| {
        let lab = Lab::new(host).await;
        let (outside, _there) = around(&lab).await;
        let (client, at) = lab.pod("client").await;
        let (_a, at_a) = lab.server("a").await;
        let endpoints = vec![here(at_a), elsewhere(ip("198.51.100.2"))];
        lab.set("web", open_to_all(endpoints, Policy::Cluster)).await;
        for (to, port) in [(NODE, NODE_PORT), (EXTERNAL, 80)] {
            let mut seen = BTreeSet::new();
            while seen.len() < 2 {
                let answer = ask(&outside, to, port).unwrap();
                seen.insert((answer.who, answer.seen_as));
            }
            let wanted = [("a".into(), ip("192.0.2.2")), ("there".into(), ip("198.51.100.1"))];
            assert_eq!(seen, BTreeSet::from(wanted), "{to}:{port}");
            let mut seen = BTreeSet::new();
            while seen.len() < 2 {
                seen.insert(ask_udp(&udp_client(&outside, to, port)).unwrap().who);
            }
            // Pods and the node come from inside.
            let mut seen = BTreeSet::new();
            while !seen.contains("a") {
                let answer = ask(&lab.host, to, port).unwrap();
                seen.insert(answer.who);
            }
        }
        lab.set("web", open_to_all(vec![here(at_a)], Policy::Cluster)).await;
        for (to, port) in [("10.88.0.1", NODE_PORT), (NODE, NODE_PORT), (EXTERNAL, 80)] {
            let answer = ask(&client, to, port).unwrap();
            assert_eq!((answer.who.as_str(), answer.seen_as), ("a", at.into()), "{to}:{port}");
        }
        lab.set("web", open_to_all(vec![], Policy::Cluster)).await;
        for (to, port) in [(NODE, NODE_PORT), (EXTERNAL, 80)] {
            assert_eq!(ask(&outside, to, port), Err(ErrorKind::ConnectionRefused));
        }
        assert_eq!(ask(&outside, NODE, NODE_PORT + 1), Err(ErrorKind::ConnectionRefused), "nobody's");
    });
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn a_local_policy_keeps_outside_clients_here_and_their_address() {
    on_fresh_machine(async |host| {
        let lab = Lab::new(host).await;
        let (outside, _there) = around(&lab).await;
        let (client, _) = lab.pod("client").await;
        let (_a, at_a) = lab.server("a").await;
        let far = elsewhere(ip("198.51.100.2"));
        lab.set("web", open_to_all(vec![here(at_a), far.clone()], Policy::Local)).await;
        for (to, port) in [(NODE, NODE_PORT), (EXTERNAL, 80)] {
            for _ in 0..20 {
                let answer = ask(&outside, to, port).unwrap();
                assert_eq!((answer.who.as_str(), answer.seen_as), ("a", ip("192.0.2.2")));
            }
        }
        lab.set("web", open_to_all(vec![far], Policy::Local)).await;
        for (to, port) in [(NODE, NODE_PORT), (EXTERNAL, 80)] {
            assert!(is_silent(&outside, to, port), "{to}: somebody could answer, but not here");
            assert_eq!(ask(&lab.host, to, port).unwrap().who, "there", "the node itself is not bound");
        }
        assert!(is_silent(&client, "198.51.100.2", super::lab::PORT), "it knows no way back to pods");
    });
}
