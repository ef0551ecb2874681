//! What a Deployment does, in sentences, and what it never does.

use crate::controllers::pod;
use crate::controllers::world::World;
use jiff::SignedDuration;
use k8s_openapi::api::apps::v1::ReplicaSet;
use manifests::{Kind, ObjectKey};
use serde_json::{Value, json};

fn deployment(replicas: i32, image: &str, strategy: Value) -> Value {
    json!({
        "metadata": {"name": "web"},
        "spec": {
            "replicas": replicas,
            "progressDeadlineSeconds": 600,
            "revisionHistoryLimit": 10,
            "strategy": strategy,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "main", "image": image}]}
            }
        }
    })
}

fn rolling(surge: Value, unavailable: Value) -> Value {
    json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}})
}

fn quarter() -> Value {
    rolling(json!("25%"), json!("25%"))
}

fn sets(world: &World) -> Vec<ReplicaSet> {
    let sets = world.state.list(Kind::ReplicaSet, None);
    sets.filter_map(|object| <&ReplicaSet>::try_from(object.as_ref()).ok().cloned()).collect()
}

fn image(set: &ReplicaSet) -> String {
    let spec = set.spec.template.as_ref().unwrap().spec.as_ref().unwrap();
    spec.containers[0].image.clone().unwrap()
}

fn size(set: &ReplicaSet) -> i32 {
    set.spec.replicas.unwrap()
}

fn sizes(world: &World) -> Vec<(String, i32)> {
    let mut sizes: Vec<_> = sets(world).iter().map(|set| (image(set), size(set))).collect();
    sizes.sort();
    sizes
}

fn active(world: &World) -> usize {
    world.pods().iter().filter(|pod| pod::is_active(pod)).count()
}

fn available(world: &World) -> usize {
    world.pods().iter().filter(|pod| pod::is_active(pod) && pod::is_available(pod, 0, world.now)).count()
}

fn condition(world: &World, key: &ObjectKey, kind: &str) -> (String, String) {
    let status = world.json(key)["status"].clone();
    let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
    let found = conditions.iter().find(|condition| condition["type"] == kind).unwrap_or(&Value::Null);
    let text = |field: &str| found[field].as_str().unwrap_or_default().to_owned();
    (text("status"), text("reason"))
}

fn assert_complete(world: &mut World, key: &ObjectKey, replicas: i32, wanted_image: &str) {
    world.assert_silent();
    let status = &world.json(key)["status"];
    for field in ["replicas", "updatedReplicas", "readyReplicas", "availableReplicas"] {
        assert_eq!(status[field], json!(replicas), "{field}: {status}");
    }
    assert_eq!(status["unavailableReplicas"], json!(0));
    for set in sets(world) {
        assert_eq!(size(&set), if image(&set) == wanted_image { replicas } else { 0 });
    }
    let yes = |reason: &str| ("True".to_owned(), reason.to_owned());
    assert_eq!(condition(world, key, "Progressing"), yes("NewReplicaSetAvailable"));
    assert_eq!(condition(world, key, "Available"), yes("MinimumReplicasAvailable"));
}

#[test]
fn a_rollout_never_has_too_few_available_nor_too_many_pods() {
    let shares = [json!(0), json!(1), json!(2), json!("25%"), json!("100%")];
    let mut seed = 0;
    for replicas in [1, 2, 3, 5] {
        for surge in &shares {
            for unavailable in &shares {
                seed += 1;
                one_rollout(seed, replicas, surge, unavailable);
            }
        }
    }
}

fn one_rollout(seed: u64, replicas: i32, surge: &Value, unavailable: &Value) {
    let share = |value: &Value, up: i64| match value.as_str() {
        Some(text) => (text.trim_end_matches('%').parse::<i64>().unwrap() * i64::from(replicas) + up) / 100,
        None => value.as_i64().unwrap(),
    };
    let (most, mut fewer) = (share(surge, 99), share(unavailable, 0).min(i64::from(replicas)));
    if most == 0 && fewer == 0 {
        fewer = 1;
    }
    let most = usize::try_from(i64::from(replicas) + most).unwrap();
    let least = usize::try_from(i64::from(replicas) - fewer).unwrap();
    let strategy = rolling(surge.clone(), unavailable.clone());
    let mut world = World::new(seed);
    let key = world.put(Kind::Deployment, deployment(replicas, "v1", strategy.clone()));
    world.rest();
    assert_complete(&mut world, &key, replicas, "v1");
    for version in ["v2", "v3", "v1"] {
        world.put(Kind::Deployment, deployment(replicas, version, strategy.clone()));
        let mut old = world.state.clone();
        for step in 0..60 {
            if step % 5 == 0 {
                old = world.state.clone();
            }
            world.step(&old);
            let case = format!("seed {seed} step {step}: {replicas} surge {surge} unavailable {unavailable}");
            assert!(active(&world) <= most, "{} pods, at most {most}; {case}", active(&world));
            assert!(available(&world) >= least, "{} available, at least {least}; {case}", available(&world));
        }
        if world.dice.percent(50) {
            world.run_for(3600);
            assert_complete(&mut world, &key, replicas, version);
        }
    }
    world.run_for(3600);
    assert_complete(&mut world, &key, replicas, "v1");
}

#[test]
fn recreate_never_has_pods_of_two_templates() {
    for seed in 0..30 {
        let mut world = World::new(seed);
        let strategy = json!({"type": "Recreate"});
        world.put(Kind::Deployment, deployment(3, "v1", strategy.clone()));
        world.rest();
        let key = world.put(Kind::Deployment, deployment(3, "v2", strategy));
        let old = world.state.clone();
        for _ in 0..150 {
            world.step(&old);
            let images: std::collections::BTreeSet<_> = world
                .pods()
                .iter()
                .map(|pod| pod.spec.as_ref().unwrap().containers[0].image.clone().unwrap())
                .collect();
            assert!(images.len() <= 1, "{images:?}, seed {seed}");
        }
        world.rest();
        assert_complete(&mut world, &key, 3, "v2");
    }
}

#[test]
fn going_back_takes_the_old_replica_set_again_under_a_new_revision() {
    let mut world = World::new(1);
    for version in ["v1", "v2", "v1"] {
        let key = world.put(Kind::Deployment, deployment(2, version, quarter()));
        world.rest();
        assert_complete(&mut world, &key, 2, version);
    }
    let sets = sets(&world);
    assert_eq!(sets.len(), 2);
    let back = sets.iter().find(|set| image(set) == "v1").unwrap();
    let annotations = back.metadata.annotations.as_ref().unwrap();
    assert_eq!(annotations["deployment.kubernetes.io/revision"], "3");
    assert_eq!(annotations["deployment.kubernetes.io/revision-history"], "1");
    let key = ObjectKey::new(Kind::Deployment, "default", "web");
    assert_eq!(world.json(&key)["metadata"]["annotations"]["deployment.kubernetes.io/revision"], "3");
}

#[test]
fn a_paused_deployment_scales_but_does_not_roll() {
    let mut world = World::new(1);
    world.put(Kind::Deployment, deployment(2, "v1", quarter()));
    world.rest();
    let mut paused = deployment(4, "v2", quarter());
    paused["spec"]["paused"] = json!(true);
    let key = world.put(Kind::Deployment, paused);
    world.rest();
    world.assert_silent();
    assert_eq!(sizes(&world), [("v1".to_owned(), 4)]);
    assert_eq!(condition(&world, &key, "Progressing").1, "DeploymentPaused");
    world.put(Kind::Deployment, deployment(4, "v2", quarter()));
    world.rest();
    assert_complete(&mut world, &key, 4, "v2");
}

#[test]
fn scaling_in_the_middle_of_a_rollout_gives_each_set_its_share() {
    let mut world = World::new(1);
    let strategy = rolling(json!(3), json!(2));
    world.put(Kind::Deployment, deployment(10, "v1", strategy.clone()));
    world.rest();
    let key = world.put(Kind::Deployment, deployment(10, "v2", strategy.clone()));
    world.reconcile(&key);
    // The example of the Kubernetes documentation: 8 old and 5 new of 10 + 3.
    while world.reconcile(&key) {}
    let sets_then: Vec<ObjectKey> =
        world.state.list(Kind::ReplicaSet, None).map(|object| object.key()).collect();
    for _ in 0..10 {
        for set in &sets_then {
            world.reconcile(set);
        }
        while world.reconcile(&key) {}
        let deleted: Vec<_> = world.pods().into_iter().filter(pod::is_deleted).collect();
        for pod in deleted {
            let object = manifests::Object::from(pod);
            world.apply(&[crate::store::Write::Remove { key: object.key(), uid: None }]).unwrap();
        }
    }
    assert_eq!(sizes(&world), [("v1".to_owned(), 8), ("v2".to_owned(), 5)]);
    world.put(Kind::Deployment, deployment(15, "v2", strategy));
    world.reconcile(&key);
    assert_eq!(sizes(&world), [("v1".to_owned(), 11), ("v2".to_owned(), 7)]);
    world.rest();
    assert_complete(&mut world, &key, 15, "v2");
}

#[test]
fn old_replica_sets_beyond_the_history_limit_go() {
    let mut world = World::new(1);
    for version in ["v1", "v2", "v3", "v4", "v5"] {
        let mut value = deployment(1, version, quarter());
        value["spec"]["revisionHistoryLimit"] = json!(2);
        world.put(Kind::Deployment, value);
        world.run_for(5);
    }
    world.assert_silent();
    let images: Vec<_> = sizes(&world).into_iter().map(|(image, _)| image).collect();
    assert_eq!(images, ["v3", "v4", "v5"]);
}

#[test]
fn a_rollout_that_stands_still_is_named_when_its_deadline_is_over() {
    let mut world = World::new(1);
    let key = world.put(Kind::Deployment, deployment(1, "v1", quarter()));
    let pods = |world: &mut World| {
        for key in world.controlled() {
            while world.reconcile(&key) {}
        }
    };
    // The ReplicaSet, its pod, and the news of it.
    for _ in 0..3 {
        pods(&mut world);
    }
    assert_eq!(condition(&world, &key, "Available").1, "MinimumReplicasUnavailable");
    world.now += SignedDuration::from_secs(600);
    pods(&mut world);
    assert_ne!(condition(&world, &key, "Progressing").1, "ProgressDeadlineExceeded");
    world.now += SignedDuration::from_secs(1);
    pods(&mut world);
    let exceeded = ("False".to_owned(), "ProgressDeadlineExceeded".to_owned());
    assert_eq!(condition(&world, &key, "Progressing"), exceeded);
    world.assert_silent();
    world.rest();
    assert_complete(&mut world, &key, 1, "v1");
}

#[test]
fn a_name_that_is_taken_gives_the_template_another_hash() {
    let mut world = World::new(1);
    let key = world.put(Kind::Deployment, deployment(1, "v1", quarter()));
    world.rest();
    let taken = sets(&world).remove(0).metadata.name.unwrap();
    let mut other = World::new(1);
    let foreign = json!({"metadata": {"name": taken}, "spec": {
        "replicas": 0, "selector": {"matchLabels": {"app": "x"}},
        "template": {"metadata": {"labels": {"app": "x"}}, "spec": {"containers": []}}
    }});
    other.put(Kind::ReplicaSet, foreign);
    other.put(Kind::Deployment, deployment(1, "v1", quarter()));
    other.rest();
    other.assert_silent();
    assert_eq!(other.json(&key)["status"]["collisionCount"], json!(1));
    assert_eq!(sets(&other).len(), 2);
    assert_eq!(active(&other), 1);
}

#[test]
fn scaling_is_told_in_kubectls_words() {
    let mut world = World::new(1);
    let key = world.put(Kind::Deployment, deployment(3, "v1", quarter()));
    let outcome = world.decide(&key);
    let note = &outcome.notes[0];
    let set = outcome.writes.iter().find_map(|write| match write {
        crate::store::Write::Create(object) => Some(object.name().to_owned()),
        crate::store::Write::Update(_)
        | crate::store::Write::UpdateStatus(_)
        | crate::store::Write::Delete { .. }
        | crate::store::Write::Remove { .. } => None,
    });
    assert_eq!(note.reason, "ScalingReplicaSet");
    assert_eq!(note.message, format!("Scaled up replica set {} from 0 to 3", set.unwrap()));
}

#[test]
fn where_a_deployment_came_from_is_not_copied_to_its_replica_sets() {
    let mut world = World::new(1);
    let mut value = deployment(1, "v1", quarter());
    value["metadata"]["annotations"] = json!({"evenkeel.dev/source": "apps", "team": "blue"});
    world.put(Kind::Deployment, value);
    world.rest();
    let annotations = sets(&world).remove(0).metadata.annotations.unwrap();
    assert_eq!(annotations.get("team").map(String::as_str), Some("blue"));
    assert!(!annotations.contains_key("evenkeel.dev/source"));
}
