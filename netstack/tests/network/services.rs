//! Services against the real kernel, each test on a machine of its own: a fresh network
//! namespace, with pods and neighbours in namespaces of theirs.

mod affinity;
mod balanced;
pub(crate) mod lab;
mod many;
mod outside;
mod repair;

use crate::machine::on_fresh_machine;
use lab::{Lab, ask, ask_udp, here, ip, port, udp, udp_client, v6};
use netstack::{Endpoint, Policy};
use std::collections::BTreeSet;
use std::io::ErrorKind;

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn a_services_address_leads_to_all_its_endpoints() {
    on_fresh_machine(async |host| {
        let lab = Lab::new(host).await;
        let (client, at) = lab.pod("client").await;
        let (_a, at_a) = lab.server("a").await;
        let (_b, at_b) = lab.server("b").await;
        let endpoints = vec![here(at_a), here(at_b), here(v6(at_a)), here(v6(at_b))];
        let tcp = port(&["10.96.0.10", "fd96::10"], endpoints);
        lab.set("web", vec![udp(&tcp), tcp]).await;
        for (to, seen_as) in [("10.96.0.10", at.into()), ("fd96::10", v6(at))] {
            let mut who = BTreeSet::new();
            while who.len() < 2 {
                let answer = ask(&client, to, 80).unwrap();
                assert_eq!(answer.seen_as, seen_as, "the client's own address is seen");
                who.insert(answer.who);
            }
            let mut who = BTreeSet::new();
            while who.len() < 2 {
                let answer = ask_udp(&udp_client(&client, to, 80)).unwrap();
                assert_eq!(answer.seen_as, seen_as);
                who.insert(answer.who);
            }
        }
        // The node itself, from the bridge's address.
        assert_eq!(ask(&lab.host, "10.96.0.10", 80).unwrap().seen_as, ip("10.88.0.1"));
        assert_eq!(ask(&lab.host, "fd96::10", 80).unwrap().seen_as, ip("fd88::1"));
        assert!(ask_udp(&udp_client(&lab.host, "10.96.0.10", 80)).is_ok());
    });
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn where_nobody_answers_that_is_said_at_once() {
    on_fresh_machine(async |host| {
        let lab = Lab::new(host).await;
        let (client, _) = lab.pod("client").await;
        let (_a, at_a) = lab.server("a").await;
        let empty = port(&["10.96.0.10", "fd96::10"], vec![]);
        lab.set("empty", vec![udp(&empty), empty]).await;
        for from in [&client, &lab.host] {
            for to in ["10.96.0.10", "fd96::10"] {
                assert_eq!(ask(from, to, 80), Err(ErrorKind::ConnectionRefused), "no endpoint: {to}");
                // Who is refused on the node itself may hear it from the call that sends.
                let refused = ask_udp(&udp_client(from, to, 80)).unwrap_err();
                let words = [ErrorKind::ConnectionRefused, ErrorKind::PermissionDenied];
                assert!(words.contains(&refused), "{to}: {refused}");
                assert_eq!(ask(from, to, 81), Err(ErrorKind::ConnectionRefused), "no such port: {to}");
            }
            assert_eq!(ask(from, "10.96.7.7", 80), Err(ErrorKind::ConnectionRefused), "no such service");
        }
        // What is not ready is not asked; it is the next packet that sees a change.
        let unready = Endpoint { ready: false, serving: false, ..here(at_a) };
        lab.set("empty", vec![port(&["10.96.0.10"], vec![unready])]).await;
        assert_eq!(ask(&client, "10.96.0.10", 80), Err(ErrorKind::ConnectionRefused));
        lab.set("empty", vec![port(&["10.96.0.10"], vec![here(at_a)])]).await;
        assert_eq!(ask(&client, "10.96.0.10", 80).unwrap().who, "a");
        let ending = Endpoint { ready: false, terminating: true, ..here(at_a) };
        lab.set("empty", vec![port(&["10.96.0.10"], vec![ending])]).await;
        assert_eq!(ask(&client, "10.96.0.10", 80).unwrap().who, "a", "it ends, and there is nobody else");
        lab.set("empty", vec![]).await;
        assert_eq!(ask(&client, "10.96.0.10", 80), Err(ErrorKind::ConnectionRefused));
    });
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn a_pod_that_asks_its_own_service_gets_itself() {
    on_fresh_machine(async |host| {
        let lab = Lab::new(host).await;
        let (a, at_a) = lab.server("a").await;
        let tcp = port(&["10.96.0.10", "fd96::10"], vec![here(at_a), here(v6(at_a))]);
        lab.set("web", vec![udp(&tcp), tcp]).await;
        let answer = ask(&a, "10.96.0.10", 80).unwrap();
        assert_eq!((answer.who.as_str(), answer.seen_as), ("a", ip("10.88.0.1")));
        let answer = ask(&a, "fd96::10", 80).unwrap();
        assert_eq!((answer.who.as_str(), answer.seen_as), ("a", ip("fd88::1")));
        assert_eq!(ask_udp(&udp_client(&a, "10.96.0.10", 80)).unwrap().who, "a");
    });
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn local_clients_of_a_local_service_get_this_nodes_endpoints() {
    on_fresh_machine(async |host| {
        let lab = Lab::new(host).await;
        let (client, _) = lab.pod("client").await;
        let (_a, at_a) = lab.server("a").await;
        let there = lab.neighbour("there", "198.51.100").await;
        lab::serve(&there, "there");
        let far = lab::elsewhere(ip("198.51.100.2"));
        let local =
            |endpoints| netstack::ServicePort { internal: Policy::Local, ..port(&["10.96.0.10"], endpoints) };
        lab.set("web", vec![local(vec![here(at_a), far.clone()])]).await;
        for _ in 0..20 {
            assert_eq!(ask(&client, "10.96.0.10", 80).unwrap().who, "a");
        }
        lab.set("web", vec![local(vec![far])]).await;
        assert!(lab::is_silent(&client, "10.96.0.10", 80), "somebody could answer, but not here");
        lab.set("web", vec![local(vec![])]).await;
        assert_eq!(ask(&client, "10.96.0.10", 80), Err(ErrorKind::ConnectionRefused));
    });
}

#[test]
#[cfg_attr(not(root), ignore = "needs root")]
fn hints_keep_clients_in_their_zone() {
    on_fresh_machine(async |host| {
        let lab = Lab::new(host).await;
        let (client, _) = lab.pod("client").await;
        let (_a, at_a) = lab.server("a").await;
        let (_b, at_b) = lab.server("b").await;
        let zone = |endpoint: Endpoint, zone: &str| Endpoint { zones: vec![zone.into()], ..endpoint };
        let endpoints = vec![zone(here(at_a), "red"), zone(here(at_b), "blue")];
        lab.set("web", vec![port(&["10.96.0.10"], endpoints)]).await;
        for _ in 0..20 {
            assert_eq!(ask(&client, "10.96.0.10", 80).unwrap().who, "a");
        }
    });
}
