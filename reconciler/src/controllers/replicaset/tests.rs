//! What a ReplicaSet keeps up, in sentences.

use crate::controllers::pod;
use crate::controllers::world::{Dice, World, ready};
use crate::store::Write;
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Pod;
use manifests::{Kind, ObjectKey};
use serde_json::{Value, json};

fn replica_set(replicas: i32) -> Value {
    json!({
        "metadata": {"name": "web"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web", "tier": "front"}},
                "spec": {"containers": [{"name": "main", "image": "host:"}]}
            }
        }
    })
}

fn bare_pod(name: &str, labels: Value) -> Value {
    json!({"metadata": {"name": name, "labels": labels}, "spec": {"containers": []}})
}

fn active(world: &World) -> usize {
    world.pods().iter().filter(|pod| pod::is_active(pod)).count()
}

fn set_status(world: &mut World, pod: &Pod) {
    world.apply(&[Write::UpdateStatus(pod.clone().into())]).unwrap();
}

#[test]
fn pods_are_made_and_taken_away_until_the_number_is_right() {
    let mut world = World::new(1);
    for replicas in [3, 5, 0, 1] {
        let key = world.put(Kind::ReplicaSet, replica_set(replicas));
        world.rest();
        world.assert_silent();
        assert_eq!(active(&world), usize::try_from(replicas).unwrap());
        let status = &world.json(&key)["status"];
        for field in ["replicas", "readyReplicas", "availableReplicas", "fullyLabeledReplicas"] {
            assert_eq!(status[field], json!(replicas), "{field}: {status}");
        }
        assert_eq!(status["terminatingReplicas"], json!(0));
        assert_eq!(status["observedGeneration"], world.json(&key)["metadata"]["generation"]);
    }
}

#[test]
fn a_pod_names_its_owner_and_has_a_kubernetes_name() {
    let mut world = World::new(2);
    world.put(Kind::ReplicaSet, replica_set(1));
    world.rest();
    let pod = world.pods().remove(0);
    let owner = &pod.metadata.owner_references.as_ref().unwrap()[0];
    assert_eq!(
        (owner.kind.as_str(), owner.name.as_str(), owner.controller),
        ("ReplicaSet", "web", Some(true))
    );
    let suffix = pod::name(&pod).strip_prefix("web-").unwrap();
    assert_eq!(suffix.len(), 5);
    assert!(suffix.chars().all(|c| "bcdfghjklmnpqrstvwxz2456789".contains(c)), "{suffix}");
}

#[test]
fn matching_orphans_are_adopted_and_what_stops_to_match_is_let_go() {
    let mut world = World::new(3);
    world.put(Kind::Pod, bare_pod("stray", json!({"app": "web"})));
    world.put(Kind::Pod, bare_pod("other", json!({"app": "db"})));
    let key = world.put(Kind::ReplicaSet, replica_set(2));
    world.rest();
    world.assert_silent();
    assert_eq!(world.pods().len(), 3);
    assert_eq!(world.json(&key)["status"]["fullyLabeledReplicas"], json!(1));
    let stray = ObjectKey::new(Kind::Pod, "default", "stray");
    assert_eq!(world.json(&stray)["metadata"]["ownerReferences"][0]["name"], json!("web"));

    let mut pod = world.state.get(&stray).unwrap().as_ref().clone();
    pod.metadata_mut().labels.as_mut().unwrap().insert("app".into(), "debug".into());
    world.apply(&[Write::Update(pod)]).unwrap();
    world.rest();
    world.assert_silent();
    assert_eq!(world.pods().len(), 4);
    assert_eq!(world.json(&stray)["metadata"].get("ownerReferences"), None);
}

#[test]
fn what_serves_least_goes_first() {
    let mut world = World::new(4);
    let key = world.put(Kind::ReplicaSet, replica_set(5));
    world.reconcile(&key);
    let mut pods = world.pods();
    // In the order in which they should go: not bound, pending, not ready, cheap, then the rest.
    for pod in &mut pods[1..] {
        pod.spec.as_mut().unwrap().node_name = Some("node".into());
        world.apply(&[Write::Update(pod.clone().into())]).unwrap();
        *pod = world.pods().into_iter().find(|stored| pod::uid(stored) == pod::uid(pod)).unwrap();
    }
    for (at, pod) in pods.iter_mut().enumerate().skip(2) {
        pod.status.as_mut().unwrap().phase = Some("Running".into());
        pod.status.as_mut().unwrap().conditions = Some(vec![ready(at > 2, world.now)]);
        set_status(&mut world, pod);
    }
    let cost = "controller.kubernetes.io/pod-deletion-cost".to_owned();
    let mut cheap =
        world.state.get(&ObjectKey::new(Kind::Pod, "default", pod::name(&pods[3]))).unwrap().as_ref().clone();
    cheap.metadata_mut().annotations.get_or_insert_default().insert(cost, "-5".into());
    world.apply(&[Write::Update(cheap)]).unwrap();
    for left in (0..5).rev() {
        world.put(Kind::ReplicaSet, replica_set(left));
        let outcome = world.decide(&key);
        let gone: Vec<_> = outcome
            .writes
            .iter()
            .filter_map(|write| match write {
                Write::Delete { key, .. } => Some(key.name.clone()),
                Write::Create(_) | Write::Update(_) | Write::UpdateStatus(_) | Write::Remove { .. } => None,
            })
            .collect();
        let at = usize::try_from(4 - left).unwrap();
        assert_eq!(gone, [pod::name(&pods[at])], "to {left}");
        world.apply(&outcome.writes).unwrap();
    }
}

#[test]
fn a_failed_pod_is_replaced_at_once_and_then_later_and_later() {
    let mut world = World::new(5);
    world.put(Kind::ReplicaSet, replica_set(1));
    world.rest();
    for wait in [0, 10, 20, 40] {
        let mut pod = world.pods().remove(0);
        world.end(&mut pod, true);
        world.rest();
        if wait > 0 {
            assert_eq!(active(&world), 0, "the failed pod keeps its place");
            assert_eq!(world.pods().len(), 1);
            world.run_for(wait - 1);
            assert_eq!(active(&world), 0, "{wait} s are not over");
            world.run_for(1);
        }
        assert_eq!((active(&world), world.pods().len()), (1, 1), "after {wait} s");
        world.assert_silent();
    }
}

#[test]
fn a_pod_is_available_when_it_was_ready_for_long_enough() {
    let mut world = World::new(6);
    let mut value = replica_set(2);
    value["spec"]["minReadySeconds"] = json!(30);
    let key = world.put(Kind::ReplicaSet, value);
    world.run_for(29);
    assert_eq!(world.json(&key)["status"]["readyReplicas"], json!(2));
    assert_eq!(world.json(&key)["status"]["availableReplicas"], json!(0));
    world.run_for(1);
    assert_eq!(world.json(&key)["status"]["availableReplicas"], json!(2));
    world.assert_silent();
}

#[test]
fn whatever_happens_it_ends_with_the_right_number_and_in_silence() {
    for seed in 0..60 {
        let mut world = World::new(seed);
        let mut dice = Dice::new(seed ^ 0xabcd);
        let mut replicas = 3;
        world.put(Kind::ReplicaSet, replica_set(replicas));
        let mut old = world.state.clone();
        for step in 0..150 {
            if dice.percent(5) {
                replicas = i32::try_from(dice.below(6)).unwrap();
                world.put(Kind::ReplicaSet, replica_set(replicas));
            }
            if dice.percent(5)
                && let Some(pod) =
                    world.pods().iter_mut().find(|pod| pod::is_ready(pod) && pod::is_active(pod))
            {
                world.end(pod, true);
            }
            if step % 7 == 0 {
                old = world.state.clone();
            }
            world.step(&old);
        }
        world.run_until(world.now + SignedDuration::from_hours(1));
        world.assert_silent();
        assert_eq!(active(&world), usize::try_from(replicas).unwrap(), "seed {seed}");
        assert_eq!(world.pods().len(), active(&world), "nothing piles up, seed {seed}");
    }
}
