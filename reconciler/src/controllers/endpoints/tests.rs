//! Who is in which slice.

use super::{SERVICE_LABEL, keys, reconcile};
use crate::store::{Change, Event, Write};
use crate::testing::{Bench, key, node_with, object};
use manifests::k8s_openapi::api::discovery::v1::EndpointSlice;
use manifests::{Kind, Object};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;

fn service(spec: &Value) -> Object {
    let mut whole = json!({
        "type": "ClusterIP", "clusterIP": "10.96.0.1", "selector": {"app": "web"},
        "ports": [{"port": 80, "protocol": "TCP", "targetPort": 8080}],
    });
    for (field, value) in spec.as_object().unwrap() {
        whole[field] = value.clone();
    }
    object(Kind::Service, "web", json!({"metadata": {"labels": {"team": "blue"}}, "spec": whole}))
}

fn pod(number: usize, ready: bool) -> Object {
    let ip = format!("10.88.{}.{}", number / 250, number % 250 + 1);
    let condition = json!({"type": "Ready", "status": if ready { "True" } else { "False" }});
    object(
        Kind::Pod,
        &format!("p{number:03}"),
        json!({
            "metadata": {"labels": {"app": "web"}},
            "spec": {"nodeName": "n", "containers": [{
                "name": "c", "image": "host:",
                "ports": [{"name": "http", "containerPort": 9090, "protocol": "TCP"}],
            }]},
            "status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}, {"ip": format!("fd88::{number:x}")}],
                "conditions": [condition]},
        }),
    )
}

fn with_status(bench: &Bench, pod: Object) {
    let created = bench.create(pod.clone());
    let mut status = pod;
    *status.metadata_mut() = created.metadata().clone();
    bench.write(vec![Write::UpdateStatus(status)]);
}

fn slices(bench: &Bench) -> Vec<EndpointSlice> {
    let list = |state: &crate::store::State| -> Vec<Arc<Object>> {
        state.list(Kind::EndpointSlice, None).cloned().collect()
    };
    let objects = bench.store.read(list);
    objects.iter().map(|object| <&EndpointSlice>::try_from(&**object).unwrap().clone()).collect()
}

fn settled(bench: &Bench) -> Vec<EndpointSlice> {
    bench.settle(reconcile, &key(Kind::Service, "web"));
    slices(bench)
}

/// `ready serving terminating` of each address.
fn conditions(slices: &[EndpointSlice]) -> Vec<(String, [bool; 3])> {
    let endpoints = slices.iter().flat_map(|slice| slice.endpoints.iter().flatten());
    let mut all: Vec<_> = endpoints
        .map(|endpoint| {
            let conditions = endpoint.conditions.as_ref().unwrap();
            let is = [conditions.ready, conditions.serving, conditions.terminating].map(Option::unwrap);
            (endpoint.addresses[0].clone(), is)
        })
        .collect();
    all.sort();
    all
}

#[test]
fn a_slice_tells_who_answers_where_and_how_far_it_is() {
    let bench = Bench::new();
    bench.create(node_with("n", json!({"metadata": {"labels": {"topology.kubernetes.io/zone": "red"}}})));
    bench.create(service(&json!({"trafficDistribution": "PreferSameZone"})));
    let empty = settled(&bench);
    assert_eq!((empty.len(), empty[0].endpoints.as_ref().map_or(0, Vec::len)), (1, 0), "one, though empty");
    with_status(&bench, pod(1, true));
    with_status(&bench, pod(2, false));
    let own = settled(&bench);
    assert_eq!(own.len(), 1);
    let slice = &own[0];
    let labels = slice.metadata.labels.as_ref().unwrap();
    assert_eq!((labels[SERVICE_LABEL].as_str(), labels["team"].as_str()), ("web", "blue"));
    assert_eq!(labels["endpointslice.kubernetes.io/managed-by"], "endpointslice-controller.k8s.io");
    assert!(slice.metadata.name.as_ref().unwrap().starts_with("web-"));
    let port = &slice.ports.as_ref().unwrap()[0];
    assert_eq!(
        (port.name.as_deref(), port.port, port.protocol.as_deref()),
        (Some(""), Some(8080), Some("TCP"))
    );
    let endpoint = &slice.endpoints.as_ref().unwrap()[0];
    assert_eq!((endpoint.node_name.as_deref(), endpoint.zone.as_deref()), (Some("n"), Some("red")));
    assert_eq!(endpoint.hints.as_ref().unwrap().for_zones.as_ref().unwrap()[0].name, "red");
    assert_eq!(endpoint.target_ref.as_ref().unwrap().name.as_deref(), Some("p001"));
    let is = [("10.88.0.2".into(), [true, true, false]), ("10.88.0.3".into(), [false, false, false])];
    assert_eq!(conditions(&own), is);
    // One is asked to end: it serves until it does.
    let p1 = bench.get(&key(Kind::Pod, "p001")).unwrap();
    bench.write(vec![Write::Delete { key: p1.key(), uid: None, grace_seconds: None }]);
    assert_eq!(conditions(&settled(&bench))[0].1, [false, true, true]);
    bench.write(vec![Write::Remove { key: p1.key(), uid: None }]);
    assert_eq!(conditions(&settled(&bench)).len(), 1);
}

#[test]
fn unready_pods_are_published_if_the_service_says_so() {
    let bench = Bench::new();
    bench.create(service(&json!({"publishNotReadyAddresses": true, "clusterIP": "None"})));
    with_status(&bench, pod(1, false));
    let slices = settled(&bench);
    assert_eq!(conditions(&slices)[0].1, [true, false, false]);
    assert!(slices[0].metadata.labels.as_ref().unwrap().contains_key("service.kubernetes.io/headless"));
}

#[test]
fn slices_hold_a_hundred_and_few_change() {
    let bench = Bench::new();
    bench.create(service(&json!({})));
    for number in 0..250 {
        with_status(&bench, pod(number, true));
    }
    let sizes = |slices: &[EndpointSlice]| -> Vec<usize> {
        let mut sizes: Vec<_> = slices.iter().map(|slice| slice.endpoints.as_ref().unwrap().len()).collect();
        sizes.sort_unstable();
        sizes
    };
    assert_eq!(sizes(&settled(&bench)), [50, 100, 100]);
    let gone = bench.get(&key(Kind::Pod, "p005")).unwrap();
    bench.write(vec![Write::Remove { key: gone.key(), uid: None }]);
    let outcome = bench.decide(reconcile, &key(Kind::Service, "web"));
    assert_eq!(outcome.writes.len(), 1, "{:?}", outcome.writes);
    bench.write(outcome.writes);
    with_status(&bench, pod(300, true));
    let slices = settled(&bench);
    assert_eq!(slices.iter().map(|slice| slice.endpoints.as_ref().unwrap().len()).sum::<usize>(), 250);
    assert_eq!(slices.len(), 3, "there was room");
    let addresses: BTreeSet<_> = conditions(&slices).into_iter().map(|(address, _)| address).collect();
    assert_eq!(addresses.len(), 250, "nobody twice");
}

#[test]
fn named_ports_and_families_make_slices_of_their_own() {
    let bench = Bench::new();
    let ports = json!([
        {"port": 80, "protocol": "TCP", "name": "web", "targetPort": "http"},
        {"port": 81, "protocol": "TCP", "name": "odd", "targetPort": "nobody-has-it"},
    ]);
    bench.create(service(&json!({"ports": ports, "ipFamilies": ["IPv4", "IPv6"]})));
    with_status(&bench, pod(1, true));
    let mut other = pod(2, true).to_json().unwrap();
    other["spec"]["containers"][0]["ports"][0]["containerPort"] = 7070.into();
    with_status(&bench, Object::from_json(Kind::Pod, other).unwrap());
    let found: BTreeSet<_> = settled(&bench)
        .iter()
        .map(|slice| {
            let ports = slice.ports.as_ref().unwrap();
            assert_eq!((ports.len(), ports[0].name.as_deref()), (1, Some("web")));
            (slice.address_type.clone(), ports[0].port.unwrap())
        })
        .collect();
    let wanted = [("IPv4", 7070), ("IPv4", 9090), ("IPv6", 7070), ("IPv6", 9090)];
    assert_eq!(found, wanted.map(|(family, port)| (family.to_owned(), port)).into());
}

#[test]
fn a_service_without_selector_is_left_alone() {
    let bench = Bench::new();
    bench.create(service(&json!({"selector": null})));
    with_status(&bench, pod(1, true));
    assert!(settled(&bench).is_empty());
}

#[test]
fn a_pod_wakes_the_services_that_select_it_or_did() {
    let bench = Bench::new();
    bench.create(service(&json!({})));
    with_status(&bench, pod(1, true));
    settled(&bench);
    let woken = |object: Object| {
        let event = Event { change: Change::Modified, object: Arc::new(object), revision: 0 };
        bench.store.read(|state| keys(state, &event))
    };
    assert_eq!(woken(pod(7, true)), [key(Kind::Service, "web")]);
    let mut left = pod(1, true);
    left.metadata_mut().labels = None;
    assert_eq!(woken(left), [key(Kind::Service, "web")]);
    let mut stranger = pod(7, true);
    stranger.metadata_mut().labels = None;
    assert!(woken(stranger).is_empty());
}
