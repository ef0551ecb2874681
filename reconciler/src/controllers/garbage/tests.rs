//! What is taken away, and what stays.

use super::*;
use crate::testing::{Bench, config_map, key, object, pod};
use serde_json::json;
use std::sync::Arc;

fn owned_by(owner: &Object, mut object: Object) -> Object {
    object.metadata_mut().owner_references = serde_json::from_value(json!([
        {"apiVersion": owner.kind().api_version(), "kind": owner.kind().as_str(), "name": owner.name(),
         "uid": owner.uid(), "controller": true}
    ]))
    .ok();
    object
}

fn deleted(object: &Arc<Object>) -> Event {
    Event { change: Change::Deleted, object: Arc::clone(object), revision: object.resource_version() }
}

#[test]
fn dependents_go_after_their_owner_and_not_before() {
    let bench = Bench::new();
    let owner = bench.create(config_map("owner", "1"));
    let dependent = bench.create(owned_by(&owner, config_map("dependent", "1")));
    bench.settle(reconcile, &dependent.key());
    assert!(bench.get(&dependent.key()).is_some());
    bench.write(vec![Write::Delete { key: owner.key(), uid: None, grace_seconds: None }]);
    let found = bench.store.read(|state| keys(state, &deleted(&owner)));
    assert_eq!(found, [dependent.key()]);
    bench.settle(reconcile, &dependent.key());
    assert_eq!(bench.get(&dependent.key()), None);
}

#[test]
fn an_owner_of_the_same_name_but_another_uid_is_none() {
    let bench = Bench::new();
    let owner = bench.create(config_map("owner", "1"));
    let dependent = bench.create(owned_by(&owner, config_map("dependent", "1")));
    bench.write(vec![
        Write::Delete { key: owner.key(), uid: None, grace_seconds: None },
        Write::Create(config_map("owner", "2")),
    ]);
    bench.settle(reconcile, &dependent.key());
    assert_eq!(bench.get(&dependent.key()), None);
}

#[test]
fn an_owner_of_a_kind_that_is_not_ours_holds() {
    let bench = Bench::new();
    let mut object = config_map("one", "1");
    object.metadata_mut().owner_references = serde_json::from_value(json!([
        {"apiVersion": "example.com/v1", "kind": "Thing", "name": "t", "uid": "u"}
    ]))
    .ok();
    let object = bench.create(object);
    assert_eq!(bench.decide(reconcile, &object.key()), Outcome::default());
}

#[test]
fn a_running_pod_is_asked_to_end_once() {
    let bench = Bench::new();
    let owner = bench.create(config_map("owner", "1"));
    let mut running = owned_by(&owner, pod("web"));
    let Object::Pod(inner) = &mut running else { panic!("a pod") };
    inner.spec.as_mut().unwrap().node_name = Some("n".into());
    let running = bench.create(running);
    bench.write(vec![Write::Delete { key: owner.key(), uid: None, grace_seconds: None }]);
    bench.settle(reconcile, &running.key());
    assert!(bench.get(&running.key()).unwrap().metadata().deletion_timestamp.is_some());
}

#[test]
fn a_deleted_namespace_takes_all_that_is_in_it() {
    let bench = Bench::new();
    let namespace = bench.create(object(Kind::Namespace, "shop", json!({})));
    let inside = object(Kind::ConfigMap, "one", json!({"metadata": {"namespace": "shop"}}));
    let inside = bench.create(inside);
    let outside = bench.create(config_map("one", "1"));
    bench.write(vec![Write::Delete { key: namespace.key(), uid: None, grace_seconds: None }]);
    let found = bench.store.read(|state| keys(state, &deleted(&namespace)));
    assert_eq!(found, [namespace.key()]);
    bench.settle(reconcile, &namespace.key());
    assert_eq!(bench.get(&inside.key()), None);
    assert_eq!(bench.get(&outside.key()), Some(outside));
}

#[test]
fn the_default_namespace_is_always_there() {
    let bench = Bench::new();
    let default = key(Kind::Namespace, "default");
    bench.settle(reconcile, &default);
    assert!(bench.get(&default).is_some());
    bench.write(vec![Write::Delete { key: default.clone(), uid: None, grace_seconds: None }]);
    bench.settle(reconcile, &default);
    assert!(bench.get(&default).is_some());
}

#[test]
fn an_event_goes_an_hour_after_it_last_happened() {
    let mut bench = Bench::new();
    let last = bench.now.to_string();
    let event = object(Kind::Event, "e", json!({"involvedObject": {}, "lastTimestamp": last}));
    let event = bench.create(event);
    let outcome = bench.decide(reconcile, &event.key());
    assert_eq!(outcome.writes, []);
    bench.now = outcome.wake_at.expect("it is looked at again");
    assert!(bench.now.duration_since(last.parse().unwrap()) <= EVENT_AGE);
    bench.settle(reconcile, &event.key());
    assert_eq!(bench.get(&event.key()), None);
}
