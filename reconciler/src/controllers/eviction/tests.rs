//! Who has to go, when, and who may stay.

use super::*;
use crate::controllers::node::{NOT_READY, UNREACHABLE};
use crate::controllers::replicaset;
use crate::controllers::world::{Silence, World, ready};
use serde_json::{Value, json};

const EVERY: Silence = Silence(std::collections::BTreeMap::new());

fn taint(world: &mut World, status: &str, taints: Value) {
    let conditions = json!([{"type": "Ready", "status": status}]);
    world.put(
        Kind::Node,
        json!({"metadata": {"name": "node"}, "spec": {"taints": taints}, "status": {"conditions": conditions}}),
    );
}

fn ending(world: &World, key: &str) -> Value {
    json!([{"key": key, "effect": "NoExecute", "timeAdded": Time(world.now)}])
}

fn pod_with(world: &mut World, name: &str, more: Value) -> ObjectKey {
    let mut value = json!({"metadata": {"name": name, "namespace": "default"},
        "spec": {"nodeName": "node", "containers": []}, "status": {"phase": "Running"}});
    value["status"]["conditions"] = json!([ready(true, world.now)]);
    for (field, part) in more.as_object().unwrap() {
        for (key, inner) in part.as_object().unwrap() {
            value[field][key] = inner.clone();
        }
    }
    world.put(Kind::Pod, value)
}

fn tolerating(key: &str, seconds: Option<i64>) -> Value {
    let mut toleration = json!({"key": key, "operator": "Exists", "effect": "NoExecute"});
    if let Some(seconds) = seconds {
        toleration["tolerationSeconds"] = seconds.into();
    }
    json!({"spec": {"tolerations": [toleration]}})
}

fn is_leaving(world: &World, key: &ObjectKey) -> bool {
    world.state.get(key).is_none_or(|object| object.metadata().deletion_timestamp.is_some())
}

fn reason(world: &World, key: &ObjectKey, kind: &str) -> Value {
    let pod = world.json(key);
    let conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
    conditions.into_iter().find(|condition| condition["type"] == kind).unwrap_or_default()
}

/// After how many seconds `more` of a Pod makes it leave a node with the taint `key`; `None` if
/// never.
fn leaves_after(key: &str, more: Value) -> Option<i64> {
    let mut world = World::new(1);
    let pod = pod_with(&mut world, "p", more);
    world.now += SignedDuration::from_secs(1000);
    let taints = ending(&world, key);
    taint(&mut world, "True", taints);
    let start = world.now;
    for _ in 0..3 {
        let outcome = world.look(reconcile, &pod, &EVERY);
        if is_leaving(&world, &pod) {
            assert_eq!(reason(&world, &pod, "DisruptionTarget")["reason"], "DeletionByTaintManager");
            assert_eq!(reason(&world, &pod, "Ready")["status"], "False");
            assert_eq!(outcome.notes[0].message, "Marking for deletion Pod default/p");
            assert!(world.look(reconcile, &pod, &EVERY).writes.is_empty(), "once");
            return Some(world.now.duration_since(start).as_secs());
        }
        assert!(outcome.writes.is_empty());
        world.now = outcome.wake_at?;
    }
    panic!("woken for nothing");
}

#[test]
fn taints_end_pods_that_do_not_tolerate_them_in_the_time_that_they_do() {
    let daemon = json!({"metadata": {"ownerReferences": [{"apiVersion": "apps/v1", "kind": "DaemonSet",
        "name": "d", "uid": "d", "controller": true}]}});
    let mirror = json!({"metadata": {"annotations": {"kubernetes.io/config.mirror": "x"}}});
    let two = json!({"spec": {"tolerations": [
        {"key": "own", "operator": "Exists", "tolerationSeconds": 50}, {"operator": "Exists", "tolerationSeconds": 20}]}});
    for (key, more, after) in [
        ("own", json!({}), Some(0)),
        ("own", tolerating("own", None), None),
        ("own", tolerating("own", Some(60)), Some(60)),
        ("own", tolerating("own", Some(0)), Some(0)),
        ("own", tolerating("own", Some(-5)), Some(0)),
        ("own", tolerating("other", None), Some(0)),
        ("own", two, Some(20)),
        ("own", daemon.clone(), Some(0)),
        ("own", mirror, None),
        ("own", json!({"status": {"phase": "Succeeded"}}), None),
        (UNREACHABLE, json!({}), Some(300)),
        (NOT_READY, tolerating(NOT_READY, Some(7)), Some(7)),
        (UNREACHABLE, tolerating(NOT_READY, Some(7)), Some(300)),
        (UNREACHABLE, daemon, None),
    ] {
        assert_eq!(leaves_after(key, more.clone()), after, "{key} {more}");
    }
}

#[test]
fn a_younger_pod_counts_from_its_own_time_and_a_taint_that_goes_ends_nobody() {
    let mut world = World::new(1);
    let taints = ending(&world, "own");
    taint(&mut world, "True", taints);
    world.now += SignedDuration::from_secs(100);
    let pod = pod_with(&mut world, "p", tolerating("own", Some(60)));
    let outcome = world.look(reconcile, &pod, &EVERY);
    assert_eq!(outcome.wake_at, Some(world.now + SignedDuration::from_secs(60)));
    taint(&mut world, "True", json!([]));
    world.now += SignedDuration::from_secs(60);
    assert_eq!(world.look(reconcile, &pod, &EVERY), Outcome::default());
}

#[test]
fn taints_that_keep_away_end_nobody() {
    let mut world = World::new(1);
    taint(
        &mut world,
        "True",
        json!([{"key": "own", "effect": "NoSchedule"}, {"key": "b", "effect": "PreferNoSchedule"}]),
    );
    let pod = pod_with(&mut world, "p", json!({}));
    assert_eq!(world.look(reconcile, &pod, &EVERY), Outcome::default());
}

#[test]
fn pods_of_a_lost_node_are_not_ready_and_a_change_of_the_node_looks_at_them() {
    let mut world = World::new(1);
    taint(&mut world, "Unknown", json!([]));
    let pod = pod_with(&mut world, "p", json!({}));
    let looked = world.look(reconcile, &ObjectKey::new(Kind::Node, "", "node"), &EVERY);
    assert_eq!(looked.look, std::slice::from_ref(&pod));
    assert_eq!(world.look(reconcile, &pod, &EVERY).notes[0].reason, "NodeNotReady");
    assert_eq!(reason(&world, &pod, "Ready")["status"], "False");
    assert_eq!(world.look(reconcile, &pod, &EVERY), Outcome::default());
}

#[test]
fn pods_of_a_node_that_is_gone_fail_and_then_go_when_they_are_counted() {
    let mut world = World::new(1);
    let pod = pod_with(&mut world, "p", json!({}));
    let outcome = world.look(reconcile, &pod, &EVERY);
    assert_eq!(outcome.wake_at, Some(world.now + SignedDuration::from_secs(40)));
    world.now += SignedDuration::from_secs(40);
    world.look(reconcile, &pod, &EVERY);
    assert_eq!(world.json(&pod)["status"]["phase"], "Failed");
    assert_eq!(reason(&world, &pod, "DisruptionTarget")["reason"], "DeletionByPodGC");
    world.look(reconcile, &pod, &EVERY);
    assert!(world.state.get(&pod).is_none());
    // Somebody counts it first, as long as that is there.
    let job = world.put(
        Kind::Job,
        json!({"metadata": {"name": "j"}, "spec": {"template": {"spec": {"containers": []}}}}),
    );
    let uid = world.state.get(&job).unwrap().uid().to_owned();
    let owner =
        json!([{"apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": uid, "controller": true}]);
    let counted = json!({"metadata": {"ownerReferences": owner, "finalizers": ["batch.kubernetes.io/job-tracking"]},
        "status": {"phase": "Failed"}});
    let pod = pod_with(&mut world, "q", counted);
    world.now += SignedDuration::from_secs(40);
    assert_eq!(world.look(reconcile, &pod, &EVERY), Outcome::default());
    world.apply(&[Write::Remove { key: job, uid: None }]).unwrap();
    world.look(reconcile, &pod, &EVERY);
    assert!(world.state.get(&pod).is_none());
}

#[test]
fn what_ends_on_a_node_that_is_out_of_service_is_taken_away() {
    for (status, gone) in [("Unknown", true), ("False", true), ("True", false)] {
        let mut world = World::new(1);
        let mut taints = ending(&world, OUT_OF_SERVICE);
        taints[0]["value"] = "nodeshutdown".into();
        taint(&mut world, status, taints);
        let pod = pod_with(&mut world, "p", json!({}));
        for _ in 0..3 {
            if world.state.get(&pod).is_some() {
                world.look(reconcile, &pod, &EVERY);
            }
        }
        assert_eq!(world.state.get(&pod).is_none(), gone, "{status}");
        assert!(gone || is_leaving(&world, &pod));
    }
}

#[test]
fn of_too_many_pods_that_ended_the_oldest_go() {
    let mut world = World::new(1);
    taint(&mut world, "True", json!([]));
    for at in 0..5 {
        pod_with(
            &mut world,
            &format!("p{at}"),
            json!({"status": {"phase": if at % 2 == 0 { "Failed" } else { "Succeeded" }}}),
        );
        world.now += SignedDuration::from_secs(1);
    }
    world.look(reconcile, &ended(), &EVERY);
    let left: Vec<_> = world.state.list(Kind::Pod, None).map(|pod| pod.name().to_owned()).collect();
    assert_eq!(left, ["p2", "p3", "p4"]);
    assert_eq!(world.look(reconcile, &ended(), &EVERY), Outcome::default());
}

#[test]
fn a_replica_set_replaces_what_was_evicted() {
    let mut world = World::new(1);
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": []}});
    world.put(
        Kind::ReplicaSet,
        json!({"metadata": {"name": "s"},
        "spec": {"replicas": 3, "selector": {"matchLabels": {"a": "b"}}, "template": template}}),
    );
    world.rest();
    let before: Vec<_> = world.state.list(Kind::Pod, None).map(|pod| pod.key()).collect();
    let taints = ending(&world, UNREACHABLE);
    taint(&mut world, "Unknown", taints);
    world.now += SignedDuration::from_secs(300);
    for key in &before {
        world.look(reconcile, key, &EVERY);
    }
    let set = ObjectKey::new(Kind::ReplicaSet, "default", "s");
    while world
        .look(replicaset::reconcile, &set, &EVERY)
        .writes
        .iter()
        .any(|write| matches!(write, Write::Create(_)))
    {}
    let active: Vec<_> = world.pods().into_iter().filter(pod::is_active).collect();
    assert_eq!(active.len(), 3);
    assert!(active.iter().all(|pod| before.iter().all(|key| key.name != pod::name(pod))));
}
