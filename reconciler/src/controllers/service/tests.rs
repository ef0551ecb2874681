//! Who gets which address and port.

use super::{ServiceRules, all, reconcile};
use crate::testing::{Bench, key, object};
use manifests::k8s_openapi::api::core::v1::ServiceSpec;
use manifests::{Kind, Object};
use serde_json::{Value, json};
use std::collections::BTreeSet;

fn service(name: &str, spec: &Value) -> Object {
    let mut whole = json!({"type": "ClusterIP", "ports": [{"port": 80, "protocol": "TCP"}]});
    for (field, value) in spec.as_object().unwrap() {
        whole[field] = value.clone();
    }
    object(Kind::Service, name, json!({ "spec": whole }))
}

fn spec(bench: &Bench, name: &str) -> ServiceSpec {
    let object = bench.get(&key(Kind::Service, name)).unwrap();
    let Object::Service(service) = &*object else { panic!("{object:?}") };
    service.spec.clone().unwrap()
}

fn small() -> ServiceRules {
    ServiceRules { v4: Some(([10, 96, 0, 0].into(), 29)), ..ServiceRules::default() }
}

#[test]
fn every_service_gets_an_address_of_its_own_until_there_is_none() {
    let bench = Bench::new().with_services(small());
    for number in 0..8 {
        bench.create(service(&format!("s{number}"), &json!({})));
    }
    let notes = bench.settle(reconcile, &all());
    let given: BTreeSet<String> =
        (0..8).filter_map(|number| spec(&bench, &format!("s{number}")).cluster_ip).collect();
    let wanted: BTreeSet<String> = (1..=6).map(|last| format!("10.96.0.{last}")).collect();
    assert_eq!(given, wanted, "neither the network's nor the last");
    let lacking: BTreeSet<_> = notes.iter().map(|note| (note.reason, note.about.name.as_str())).collect();
    assert_eq!(lacking.len(), 2, "{notes:?}");
    assert!(notes.iter().all(|note| note.reason == "NoAddress" && note.warning));
    // What is freed is given again.
    let free = spec(&bench, "s0").cluster_ip;
    let s0 = bench.get(&key(Kind::Service, "s0")).unwrap();
    bench.write(vec![crate::store::Write::Delete { key: s0.key(), uid: None, grace_seconds: None }]);
    bench.settle(reconcile, &all());
    let now: Vec<_> = (1..8).filter_map(|number| spec(&bench, &format!("s{number}")).cluster_ip).collect();
    assert!(now.contains(&free.unwrap()) && now.len() == 6);
}

#[test]
fn a_chosen_address_is_honoured_and_a_second_claim_is_told() {
    let bench = Bench::new().with_services(small());
    bench.create(service("chosen", &json!({"clusterIP": "10.96.0.3"})));
    for number in 0..5 {
        bench.create(service(&format!("s{number}"), &json!({})));
    }
    bench.settle(reconcile, &all());
    let chosen = spec(&bench, "chosen");
    assert_eq!(chosen.cluster_ips, Some(vec!["10.96.0.3".to_owned()]));
    assert_eq!(chosen.ip_families, Some(vec!["IPv4".to_owned()]));
    assert!((0..5).all(|n| spec(&bench, &format!("s{n}")).cluster_ip.as_deref() != Some("10.96.0.3")));
    bench.create(service("greedy", &json!({"clusterIP": "10.96.0.3"})));
    let notes = bench.settle(reconcile, &all());
    assert!(notes.iter().any(|note| note.reason == "AddressTaken" && note.about.name == "greedy"));
}

#[test]
fn headless_services_have_none_and_external_names_are_left_alone() {
    let bench = Bench::new().with_services(small());
    bench.create(service("headless", &json!({"clusterIP": "None"})));
    bench.create(service("away", &json!({"type": "ExternalName", "externalName": "example.com"})));
    bench.settle(reconcile, &all());
    assert_eq!(spec(&bench, "headless").cluster_ips, Some(vec!["None".to_owned()]));
    assert_eq!(spec(&bench, "away").cluster_ips, None);
}

#[test]
fn two_families_are_given_as_the_policy_says() {
    let both = ServiceRules { v6: Some(("fd96::".parse().unwrap(), 112)), ..small() };
    let families = |rules: &ServiceRules, policy: &str| {
        let bench = Bench::new().with_services(rules.clone());
        bench.create(service("s", &json!({"ipFamilyPolicy": policy})));
        let notes = bench.settle(reconcile, &all());
        (spec(&bench, "s").ip_families.unwrap_or_default().join(" "), notes.len())
    };
    assert_eq!(families(&both, "SingleStack"), ("IPv4".into(), 0));
    assert_eq!(families(&both, "PreferDualStack"), ("IPv4 IPv6".into(), 0));
    assert_eq!(families(&small(), "PreferDualStack"), ("IPv4".into(), 0));
    let (given, notes) = families(&small(), "RequireDualStack");
    assert_eq!((given.as_str(), notes > 0), ("IPv4", true));
    let bench = Bench::new().with_services(both);
    bench.create(service("s", &json!({"ipFamilies": ["IPv6"]})));
    bench.settle(reconcile, &all());
    assert!(spec(&bench, "s").cluster_ip.unwrap().starts_with("fd96::"));
}

#[test]
fn ports_of_the_nodes_are_given_once_and_taken_back() {
    let bench = Bench::new().with_services(small());
    let ports = json!([
        {"port": 80, "protocol": "TCP", "name": "a"},
        {"port": 81, "protocol": "TCP", "name": "b", "nodePort": 30_000},
    ]);
    bench.create(service("one", &json!({"type": "NodePort", "ports": ports})));
    bench.create(service("two", &json!({"type": "LoadBalancer"})));
    bench.create(service("bare", &json!({"type": "LoadBalancer", "allocateLoadBalancerNodePorts": false})));
    bench.settle(reconcile, &all());
    let numbers = |name: &str| -> Vec<_> {
        spec(&bench, name).ports.unwrap().iter().filter_map(|port| port.node_port).collect()
    };
    let given = [numbers("one"), numbers("two")].concat();
    assert_eq!(given.iter().collect::<BTreeSet<_>>().len(), 3);
    assert!(given.iter().all(|number| (30_000..=32_767).contains(number)) && given[1] == 30_000);
    assert!(numbers("bare").is_empty());
    let mut one = (*bench.get(&key(Kind::Service, "one")).unwrap()).clone();
    let Object::Service(inner) = &mut one else { panic!("{one:?}") };
    inner.spec.as_mut().unwrap().type_ = Some("ClusterIP".into());
    bench.write(vec![crate::store::Write::Update(one)]);
    bench.settle(reconcile, &all());
    assert!(numbers("one").is_empty());
}
