//! Who gets which address of the pools.

use super::{CLASS, Pool};
use crate::controllers::Note;
use crate::controllers::service::{ServiceRules, all, reconcile};
use crate::store::Write;
use crate::testing::{Bench, key, object};
use manifests::config::IpRange;
use manifests::{Kind, Object};
use serde_json::{Value, json};

fn pool(name: &str, ranges: &[&str]) -> Pool {
    let ranges = ranges.iter().map(|text| IpRange::parse(text).unwrap()).collect();
    Pool { name: name.into(), ranges, auto_assign: true, avoid_buggy: false }
}

fn bench(pools: Vec<Pool>) -> Bench {
    let (v4, v6) = (Some(([10, 96, 0, 0].into(), 16)), Some(("fd96::".parse().unwrap(), 112)));
    Bench::new().with_services(ServiceRules { v4, v6, pools })
}

fn service(name: &str, spec: &Value, annotations: &Value) -> Object {
    let mut whole = json!({"type": "LoadBalancer", "ports": [{"port": 80, "protocol": "TCP"}]});
    for (field, value) in spec.as_object().unwrap() {
        whole[field] = value.clone();
    }
    object(Kind::Service, name, json!({"metadata": {"annotations": annotations}, "spec": whole}))
}

/// The addresses of a service, with spaces between; each is said to be one that nodes see.
fn addresses(bench: &Bench, name: &str) -> String {
    let object = bench.get(&key(Kind::Service, name)).unwrap().to_json().unwrap();
    let list = object["status"]["loadBalancer"]["ingress"].as_array().cloned().unwrap_or_default();
    assert!(list.iter().all(|ingress| ingress["ipMode"] == "VIP"), "{list:?}");
    let words: Vec<_> = list.iter().map(|ingress| ingress["ip"].as_str().unwrap()).collect();
    words.join(" ")
}

fn change(bench: &Bench, name: &str, change: impl FnOnce(&mut k8s_openapi::api::core::v1::Service)) {
    let mut object = (*bench.get(&key(Kind::Service, name)).unwrap()).clone();
    let Object::Service(service) = &mut object else { panic!("{object:?}") };
    change(service);
    bench.write(vec![Write::Update(object)]);
}

fn said(notes: &[Note], about: &str, reason: &str, words: &str) -> bool {
    notes.iter().any(|note| note.about.name == about && note.reason == reason && note.message.contains(words))
}

#[test]
fn each_gets_the_next_address_until_there_is_none() {
    let bench = bench(vec![pool("a", &["192.0.2.10-192.0.2.11"]), pool("b", &["192.0.2.20"])]);
    for name in ["s1", "s2", "s3", "s4"] {
        bench.create(service(name, &json!({}), &json!({})));
    }
    let notes = bench.settle(reconcile, &all());
    let given: Vec<_> = ["s1", "s2", "s3", "s4"].map(|name| addresses(&bench, name)).into();
    assert_eq!(given, ["192.0.2.10", "192.0.2.11", "192.0.2.20", ""]);
    assert!(said(&notes, "s1", "IPAllocated", "192.0.2.10"));
    assert!(said(&notes, "s4", "AllocationFailed", "no pool has an IPv4 address left"), "{notes:?}");
    // What is freed goes to who waits: by the end of a service, and by another type.
    bench.write(vec![Write::Delete { key: key(Kind::Service, "s2"), uid: None, grace_seconds: None }]);
    bench.settle(reconcile, &all());
    assert_eq!(addresses(&bench, "s4"), "192.0.2.11");
    change(&bench, "s3", |service| service.spec.as_mut().unwrap().type_ = Some("ClusterIP".into()));
    bench.create(service("s5", &json!({}), &json!({})));
    bench.settle(reconcile, &all());
    assert_eq!((addresses(&bench, "s3"), addresses(&bench, "s5")), (String::new(), "192.0.2.20".into()));
    assert!(bench.decide(reconcile, &all()).writes.is_empty());
}

#[test]
fn a_wish_is_granted_if_it_can_be() {
    let closed = Pool { auto_assign: false, ..pool("closed", &["198.51.100.0/30"]) };
    let bench = bench(vec![pool("open", &["192.0.2.10-192.0.2.19"]), closed]);
    let wish = |name: &str, ip: &str| service(name, &json!({"loadBalancerIP": ip}), &json!({}));
    bench.create(wish("field", "192.0.2.15"));
    bench.create(service("note", &json!({}), &json!({"metallb.io/loadBalancerIPs": "192.0.2.16"})));
    bench.create(wish("closed", "198.51.100.3"));
    bench.create(service("pool", &json!({}), &json!({"metallb.universe.tf/address-pool": "closed"})));
    bench.create(wish("taken", "192.0.2.15"));
    bench.create(wish("outside", "203.0.113.1"));
    bench.create(wish("other", "2001:db8::1"));
    bench.create(service("nowhere", &json!({}), &json!({"evenkeel.dev/address-pool": "none"})));
    let notes = bench.settle(reconcile, &all());
    let has = |name: &str| addresses(&bench, name);
    assert_eq!((has("field").as_str(), has("note").as_str()), ("192.0.2.15", "192.0.2.16"));
    assert_eq!((has("closed").as_str(), has("pool").as_str()), ("198.51.100.3", "198.51.100.0"));
    assert_eq!((has("taken"), has("outside"), has("nowhere")), Default::default());
    assert_eq!(has("other"), "192.0.2.10", "a wish of another family leaves this one open");
    assert!(
        said(&notes, "taken", "AllocationFailed", "192.0.2.15 is that of Service default/field"),
        "{notes:?}"
    );
    assert!(said(&notes, "outside", "AllocationFailed", "203.0.113.1 is in no pool"));
    assert!(said(&notes, "other", "AllocationFailed", "no addresses of IPv6"));
    assert!(said(&notes, "nowhere", "AllocationFailed", "no pool `none`"));
    // A wish that changes moves it.
    change(&bench, "field", |s| s.spec.as_mut().unwrap().load_balancer_ip = Some("192.0.2.19".into()));
    bench.settle(reconcile, &all());
    assert_eq!((has("field").as_str(), has("taken").as_str()), ("192.0.2.19", "192.0.2.15"));
}

#[test]
fn two_families_have_an_address_each_from_one_pool() {
    let bench = bench(vec![
        pool("small", &["192.0.2.1"]),
        pool("both", &["192.0.2.8/29", "2001:db8::/126"]),
        pool("six", &["2001:db8:6::1"]),
    ]);
    let dual = json!({"ipFamilyPolicy": "PreferDualStack"});
    let named = json!({"metallb.io/address-pool": "both"});
    bench.create(service("dual", &dual, &named));
    bench.create(service("six", &json!({"ipFamilies": ["IPv6"]}), &json!({})));
    bench.create(service("half", &dual, &json!({"metallb.io/loadBalancerIPs": "192.0.2.9"})));
    bench.settle(reconcile, &all());
    assert_eq!(addresses(&bench, "dual"), "192.0.2.8 2001:db8::");
    assert_eq!(addresses(&bench, "half"), "192.0.2.9 2001:db8::1", "the other comes from the same pool");
    assert_eq!(addresses(&bench, "six"), "2001:db8::2");
}

#[test]
fn an_address_is_shared_only_by_those_who_agree() {
    let bench = bench(vec![pool("a", &["192.0.2.10-192.0.2.19"])]);
    let share = |name: &str, word: &str, port: u16, policy: &str| {
        let spec = json!({"ports": [{"port": port, "protocol": "TCP"}], "externalTrafficPolicy": policy,
            "selector": {"app": "x"}});
        service(name, &spec, &json!({"metallb.io/allow-shared-ip": word}))
    };
    bench.create(share("a", "web", 80, "Cluster"));
    bench.create(share("b", "web", 443, "Cluster"));
    bench.create(share("c", "web", 443, "Cluster"));
    bench.create(share("d", "mail", 25, "Cluster"));
    bench.create(share("e", "web", 8080, "Local"));
    bench.create(service("f", &json!({"loadBalancerIP": "192.0.2.10"}), &json!({})));
    bench.settle(reconcile, &all());
    let given: Vec<_> = ["a", "b", "c", "d", "e", "f"].map(|name| addresses(&bench, name)).into();
    assert_eq!(given, ["192.0.2.10", "192.0.2.10", "192.0.2.11", "192.0.2.12", "192.0.2.13", ""]);
}

#[test]
fn what_is_of_others_is_left_alone() {
    let bench = bench(vec![pool("a", &["192.0.2.10-192.0.2.12"])]);
    bench.create(service("theirs", &json!({"loadBalancerClass": "example.com/lb"}), &json!({})));
    bench.create(service("ours", &json!({"loadBalancerClass": CLASS}), &json!({})));
    let external = json!({"type": "ClusterIP", "externalIPs": ["192.0.2.11"]});
    bench.create(service("external", &external, &json!({})));
    let mut theirs = (*bench.get(&key(Kind::Service, "theirs")).unwrap()).clone();
    let Object::Service(inner) = &mut theirs else { panic!("{theirs:?}") };
    inner.status = serde_json::from_value(json!({"loadBalancer": {"ingress": [
        {"ip": "192.0.2.12", "ipMode": "VIP"}]}}))
    .unwrap();
    bench.write(vec![Write::UpdateStatus(theirs)]);
    bench.create(service("next", &json!({}), &json!({})));
    bench.settle(reconcile, &all());
    assert_eq!(addresses(&bench, "theirs"), "192.0.2.12");
    let ours = [addresses(&bench, "next"), addresses(&bench, "ours")];
    assert_eq!(ours, ["192.0.2.10", "192.0.2.12"], "not what somebody names as external");
}

#[test]
fn an_address_stays_while_a_pool_has_it_and_is_left_when_none_does() {
    let old = bench(vec![Pool { avoid_buggy: true, ..pool("a", &["192.0.2.0/24"]) }]);
    old.create(service("s", &json!({}), &json!({})));
    old.settle(reconcile, &all());
    assert_eq!(addresses(&old, "s"), "192.0.2.1", "0 is avoided");
    let rules = |pools| ServiceRules { pools, ..ServiceRules::default() };
    let closed = Pool { auto_assign: false, ..pool("a", &["192.0.2.0/24"]) };
    let closed = old.with_services(rules(vec![closed]));
    closed.settle(reconcile, &all());
    assert_eq!(addresses(&closed, "s"), "192.0.2.1");
    let moved = closed.with_services(rules(vec![pool("a", &["198.51.100.7"])]));
    moved.settle(reconcile, &all());
    assert_eq!(addresses(&moved, "s"), "198.51.100.7");
    let none = moved.with_services(rules(vec![]));
    none.create(service("late", &json!({}), &json!({})));
    let notes = none.settle(reconcile, &all());
    assert_eq!(addresses(&none, "s"), "198.51.100.7", "who has no pools decides nothing");
    assert!(said(&notes, "late", "AllocationFailed", "there is no pool"));
}

#[test]
fn a_port_for_health_is_given_where_endpoints_of_the_node_count() {
    let bench = bench(vec![pool("a", &["192.0.2.10-192.0.2.19"])]);
    bench.create(service("s", &json!({"externalTrafficPolicy": "Local"}), &json!({})));
    bench.create(service(
        "chosen",
        &json!({"externalTrafficPolicy": "Local", "healthCheckNodePort": 31_999}),
        &json!({}),
    ));
    bench.settle(reconcile, &all());
    let health = |name: &str| {
        let object = bench.get(&key(Kind::Service, name)).unwrap();
        let Object::Service(service) = &*object else { panic!("{object:?}") };
        service.spec.clone().unwrap().health_check_node_port
    };
    assert!((30_000..=32_767).contains(&health("s").unwrap()));
    assert_eq!(health("chosen"), Some(31_999));
    change(&bench, "s", |s| s.spec.as_mut().unwrap().external_traffic_policy = Some("Cluster".into()));
    bench.settle(reconcile, &all());
    assert_eq!(health("s"), None);
}
