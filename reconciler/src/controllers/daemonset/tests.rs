//! What a DaemonSet keeps up, in sentences.

use crate::controllers::pod;
use crate::controllers::world::World;
use k8s_openapi::api::core::v1::Pod;
use manifests::{Kind, ObjectKey};
use serde_json::{Value, json};
use std::collections::BTreeSet;

fn daemon_set(image: &str, strategy: Value) -> Value {
    json!({
        "metadata": {"name": "watch"},
        "spec": {
            "selector": {"matchLabels": {"app": "watch"}},
            "updateStrategy": strategy,
            "template": {
                "metadata": {"labels": {"app": "watch"}},
                "spec": {"containers": [{"name": "main", "image": image}]}
            }
        }
    })
}

fn rolling(surge: Value, unavailable: Value) -> Value {
    json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}})
}

fn with_nodes(seed: u64, count: usize) -> World {
    let mut world = World::new(seed);
    for at in 0..count {
        world.put(
            Kind::Node,
            json!({"metadata": {"name": format!("n{at}"), "labels": {"at": at.to_string()}}}),
        );
    }
    world
}

fn nodes(pods: impl Iterator<Item = Pod>) -> Vec<String> {
    let mut nodes: Vec<_> = pods.map(|pod| pod::node_name(&pod).to_owned()).collect();
    nodes.sort();
    nodes
}

fn active(world: &World) -> Vec<Pod> {
    world.pods().into_iter().filter(pod::is_active).collect()
}

fn images(world: &World) -> BTreeSet<String> {
    let image = |pod: Pod| pod.spec.unwrap().containers[0].image.clone().unwrap();
    active(world).into_iter().map(image).collect()
}

#[test]
fn every_fitting_node_has_one_pod() {
    let mut world = with_nodes(1, 3);
    let mut value = daemon_set("v1", rolling(json!(0), json!(1)));
    let key = world.put(Kind::DaemonSet, value.clone());
    world.rest();
    world.assert_silent();
    assert_eq!(nodes(active(&world).into_iter()), ["n0", "n1", "n2"]);
    let status = &world.json(&key)["status"];
    for field in [
        "desiredNumberScheduled",
        "currentNumberScheduled",
        "numberReady",
        "numberAvailable",
        "updatedNumberScheduled",
    ] {
        assert_eq!(status[field], json!(3), "{field}");
    }
    assert_eq!(status["numberUnavailable"], json!(0));

    world.put(Kind::Node, json!({"metadata": {"name": "n3"}}));
    world.rest();
    assert_eq!(active(&world).len(), 4);
    value["spec"]["template"]["spec"]["nodeSelector"] = json!({"at": "1"});
    world.put(Kind::DaemonSet, value);
    world.rest();
    world.assert_silent();
    assert_eq!(nodes(active(&world).into_iter()), ["n1"]);
}

#[test]
fn a_failed_pod_is_made_again_with_back_off() {
    let mut world = with_nodes(1, 1);
    world.put(Kind::DaemonSet, daemon_set("v1", rolling(json!(0), json!(1))));
    world.rest();
    for wait in [0, 10, 20] {
        let mut pod = world.pods().remove(0);
        world.end(&mut pod, true);
        world.rest();
        if wait > 0 {
            assert!(active(&world).is_empty());
            world.run_for(wait - 1);
            assert!(active(&world).is_empty(), "{wait} s are not over");
            world.run_for(1);
        }
        assert_eq!((active(&world).len(), world.pods().len()), (1, 1), "after {wait} s");
        world.assert_silent();
    }
}

#[test]
fn with_on_delete_only_deleted_pods_become_new() {
    let mut world = with_nodes(1, 2);
    world.put(Kind::DaemonSet, daemon_set("v1", json!({"type": "OnDelete"})));
    world.rest();
    let key = world.put(Kind::DaemonSet, daemon_set("v2", json!({"type": "OnDelete"})));
    world.rest();
    world.assert_silent();
    assert_eq!(images(&world), BTreeSet::from(["v1".to_owned()]));
    assert_eq!(world.json(&key)["status"]["updatedNumberScheduled"], json!(0));
    for pod in active(&world) {
        let key = ObjectKey::new(Kind::Pod, "default", pod::name(&pod));
        world.apply(&[crate::store::Write::Delete { key, uid: None, grace_seconds: None }]).unwrap();
    }
    world.rest();
    assert_eq!(images(&world), BTreeSet::from(["v2".to_owned()]));
}

#[test]
fn an_update_keeps_as_many_nodes_served_as_it_must() {
    let shares = [
        (json!(0), json!(1), 1),
        (json!(0), json!("50%"), 2),
        (json!(1), json!(0), 0),
        (json!("100%"), json!(0), 0),
    ];
    for seed in 0..25 {
        for (surge, unavailable, missing) in &shares {
            let strategy = rolling(surge.clone(), unavailable.clone());
            let mut world = with_nodes(seed, 4);
            world.put(Kind::DaemonSet, daemon_set("v1", strategy.clone()));
            world.rest();
            for version in ["v2", "v3"] {
                world.put(Kind::DaemonSet, daemon_set(version, strategy.clone()));
                let mut old = world.state.clone();
                for step in 0..80 {
                    if step % 6 == 0 {
                        old = world.state.clone();
                    }
                    world.step(&old);
                    let serving: BTreeSet<_> =
                        nodes(active(&world).into_iter().filter(pod::is_ready)).into_iter().collect();
                    let case = format!("seed {seed}, step {step}, surge {surge}, unavailable {unavailable}");
                    assert!(serving.len() + missing >= 4, "only {serving:?} are served; {case}");
                }
            }
            world.run_for(100);
            world.assert_silent();
            assert_eq!(images(&world), BTreeSet::from(["v3".to_owned()]), "seed {seed}");
            assert_eq!(nodes(active(&world).into_iter()), ["n0", "n1", "n2", "n3"], "seed {seed}");
        }
    }
}

#[test]
fn with_surge_a_new_pod_that_fails_backs_off_beside_the_old_one() {
    let mut world = with_nodes(1, 1);
    let strategy = rolling(json!(1), json!(0));
    world.put(Kind::DaemonSet, daemon_set("v1", strategy.clone()));
    world.rest();
    world.put(Kind::DaemonSet, daemon_set("v2", strategy));
    for key in world.controlled() {
        world.reconcile(&key);
    }
    let new = |world: &World| {
        active(world)
            .into_iter()
            .find(|pod| pod.spec.as_ref().unwrap().containers[0].image.as_deref() == Some("v2"))
    };
    for wait in [0, 10, 20] {
        let mut pod = new(&world).unwrap();
        world.end(&mut pod, true);
        let look = |world: &mut World| {
            for key in world.controlled() {
                while world.reconcile(&key) {}
            }
        };
        look(&mut world);
        assert_eq!(new(&world).is_some(), wait == 0);
        world.now += jiff::SignedDuration::from_secs(wait);
        look(&mut world);
        assert!(new(&world).is_some(), "after {wait} s");
        assert_eq!(active(&world).len(), 2, "the old one serves");
    }
    world.rest();
    world.assert_silent();
    assert_eq!(images(&world), BTreeSet::from(["v2".to_owned()]));
}
