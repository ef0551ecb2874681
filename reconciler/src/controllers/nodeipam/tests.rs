//! Who gets which block.

use super::*;
use crate::store::Write;
use crate::testing::{Bench, key, node_with};
use serde_json::json;

fn net(text: &str) -> IpNetwork {
    IpNetwork::parse(text).unwrap()
}

/// Four blocks of IPv4.
fn few() -> PodNetworkRules {
    PodNetworkRules { v4: Some((net("10.244.0.0/22"), 24)), v6: None }
}

fn bench(rules: PodNetworkRules) -> Bench {
    Bench::new().with_pod_networks(rules)
}

fn add(bench: &Bench, name: &str, cidrs: &[&str]) {
    bench.create(node_with(name, json!({"spec": {"podCIDR": cidrs.first(), "podCIDRs": cidrs}})));
}

fn of(bench: &Bench, name: &str) -> Vec<String> {
    let object = bench.get(&key(Kind::Node, name)).unwrap();
    let node: &Node = (&*object).try_into().unwrap();
    let spec = node.spec.clone().unwrap_or_default();
    assert_eq!(spec.pod_cidr.as_ref(), spec.pod_cidrs.iter().flatten().next());
    spec.pod_cidrs.unwrap_or_default()
}

#[test]
fn every_node_gets_a_block_of_its_own_until_there_is_none_and_gives_it_back() {
    let bench = bench(few());
    for number in 0..5 {
        add(&bench, &format!("n{number}"), &[]);
    }
    let notes = bench.settle(reconcile, &all());
    for number in 0..4 {
        assert_eq!(of(&bench, &format!("n{number}")), [format!("10.244.{number}.0/24")]);
    }
    assert_eq!(of(&bench, "n4"), [""; 0]);
    let lacks: Vec<_> = notes.iter().filter(|note| note.warning).collect();
    assert!(!lacks.is_empty());
    for note in lacks {
        assert_eq!((note.reason, note.about.name.as_str()), ("CIDRNotAvailable", "n4"));
        assert_eq!(note.message, "no block of 10.244.0.0/22 with a prefix of 24 bits is free");
    }
    let gone = bench.get(&key(Kind::Node, "n2")).unwrap();
    bench.write(vec![Write::Remove { key: gone.key(), uid: Some(gone.uid().into()) }]);
    bench.settle(reconcile, &all());
    assert_eq!(of(&bench, "n4"), ["10.244.2.0/24"]);
    assert!(bench.decide(reconcile, &all()).writes.is_empty());
}

#[test]
fn what_a_node_has_it_keeps_and_others_get_what_is_left() {
    let bench = bench(few());
    // As old as one another, or not: the order is the same.
    add(&bench, "alone-once", &["10.99.0.0/16"]);
    add(&bench, "wide", &["10.244.0.0/23"]);
    add(&bench, "young", &[]);
    bench.settle(reconcile, &all());
    assert_eq!(of(&bench, "alone-once"), ["10.99.0.0/16"]);
    assert_eq!(of(&bench, "wide"), ["10.244.0.0/23"]);
    assert_eq!(of(&bench, "young"), ["10.244.2.0/24"], "past the wide one");
    // A cluster that learns IPv6 gives each a block of it, too.
    let both = PodNetworkRules { v6: Some((net("fd00:244::/48"), 64)), ..few() };
    let bench = bench.with_pod_networks(both);
    bench.settle(reconcile, &all());
    assert_eq!(of(&bench, "alone-once"), ["10.99.0.0/16", "fd00:244::/64"]);
    assert_eq!(of(&bench, "young"), ["10.244.2.0/24", "fd00:244:0:2::/64"]);
}

#[test]
fn of_two_with_the_same_network_the_younger_gets_another_but_not_if_its_owner_says_so() {
    let bench = bench(few());
    add(&bench, "a", &["10.99.0.0/16"]);
    add(&bench, "b", &["10.99.0.0/16"]);
    let fixed = json!({"metadata": {"annotations": {STATIC: ""}},
        "spec": {"podCIDR": "10.99.7.0/24", "podCIDRs": ["10.99.7.0/24"]}});
    bench.create(node_with("c", fixed));
    let used = |name: &str| bench.store.read(|state| networks_of(state, name));
    assert_eq!(used("a"), [net("10.99.0.0/16")]);
    assert_eq!(used("b"), [], "it waits for another");
    let notes = bench.settle(reconcile, &all());
    assert_eq!(
        (of(&bench, "a"), of(&bench, "c")),
        (vec!["10.99.0.0/16".into()], vec!["10.99.7.0/24".into()])
    );
    assert_eq!(of(&bench, "b"), ["10.244.0.0/24"]);
    assert_eq!(used("b"), [net("10.244.0.0/24")]);
    let of_c: Vec<_> = notes.iter().filter(|note| note.about.name == "c").collect();
    assert!(of_c.iter().all(|note| note.reason == "CIDRConflict") && !of_c.is_empty());
    assert_eq!(of_c[0].message, "its pod network 10.99.7.0/24 has addresses in common with that of a");
}

#[test]
fn without_rules_nobody_gets_anything() {
    let bench = bench(PodNetworkRules::default());
    add(&bench, "n", &[]);
    assert!(bench.settle(reconcile, &all()).is_empty());
    assert_eq!(of(&bench, "n"), [""; 0]);
}
