//! Few lost nodes are given up one by one, many slowly, and all never.

use super::*;
use crate::controllers::world::{Silence, World};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::json;

fn world_of(nodes: &[(&str, &str)]) -> World {
    let mut world = World::new(1);
    for (at, (zone, ready)) in nodes.iter().enumerate() {
        let labels = if zone.is_empty() { json!({}) } else { json!({"topology.kubernetes.io/zone": zone}) };
        let since = world.now - SignedDuration::from_secs(i64::try_from(at).unwrap());
        world.put(
            Kind::Node,
            json!({"metadata": {"name": format!("n{at:02}"), "labels": labels}, "status": {"conditions":
                [{"type": "Ready", "status": ready, "lastTransitionTime": Time(since)}]}}),
        );
    }
    world
}

/// The nodes that are given up.
fn given_up(world: &World) -> Vec<String> {
    let names: Vec<_> = world.state.list(Kind::Node, None).map(|node| node.name().to_owned()).collect();
    let is = |name: &String| world.taints(name).iter().any(|taint| taint.ends_with(":NoExecute"));
    names.into_iter().filter(is).collect()
}

fn look(world: &mut World) -> Outcome {
    world.look(reconcile, &all(), &Silence::default())
}

#[test]
fn one_after_the_other_those_first_that_were_lost_first() {
    let mut world = world_of(&[("", "True"), ("", "Unknown"), ("", "False"), ("", "True"), ("", "True")]);
    let outcome = look(&mut world);
    assert_eq!(given_up(&world), ["n02"]);
    assert_eq!(world.taints("n02"), ["node.kubernetes.io/not-ready:NoExecute"]);
    let next = world.now + SignedDuration::from_secs(10);
    assert_eq!(outcome.wake_at, Some(next));
    assert!(look(&mut world).writes.is_empty(), "it is not the next one's turn");
    world.now = next;
    look(&mut world);
    assert_eq!(given_up(&world), ["n01", "n02"]);
    assert_eq!(world.taints("n01"), ["node.kubernetes.io/unreachable:NoExecute"]);
    world.now = next + SignedDuration::from_secs(10);
    assert_eq!(look(&mut world), Outcome::default());
}

#[test]
fn zones_have_paces_of_their_own_and_a_lost_zone_goes_while_another_is_well() {
    let mut world =
        world_of(&[("a", "Unknown"), ("a", "Unknown"), ("b", "True"), ("c", "True"), ("c", "False")]);
    look(&mut world);
    assert_eq!(given_up(&world), ["n01", "n04"]);
}

#[test]
fn a_small_zone_that_is_largely_lost_keeps_its_pods_and_a_large_one_loses_them_slowly() {
    let mut small =
        world_of(&[("", "Unknown"), ("", "Unknown"), ("", "Unknown"), ("", "True"), ("", "True")]);
    assert_eq!(look(&mut small), Outcome::default());
    let nodes: Vec<_> = (0..60).map(|at| ("", if at < 40 { "Unknown" } else { "True" })).collect();
    let mut large = world_of(&nodes);
    let outcome = look(&mut large);
    assert_eq!(given_up(&large).len(), 1);
    assert_eq!(outcome.wake_at, Some(large.now + SignedDuration::from_secs(100)));
}

#[test]
fn who_sees_nobody_gives_nobody_up_and_spares_those_it_had_given_up() {
    let mut world = world_of(&[("a", "True"), ("a", "Unknown"), ("b", "True")]);
    look(&mut world);
    assert_eq!(given_up(&world), ["n01"]);
    // Silent for too long, though nothing is written of that yet.
    let silence = Silence((0..3).map(|at| (format!("n{at:02}"), 40)).collect());
    world.look(reconcile, &all(), &silence);
    assert_eq!(given_up(&world), Vec::<String>::new());
    assert_eq!(world.look(reconcile, &all(), &silence), Outcome::default());
}

#[test]
fn hundreds_are_spared_in_portions() {
    let nodes: Vec<_> = (0..100).map(|_| ("", "Unknown")).collect();
    let mut world = world_of(&nodes);
    for at in 0..100 {
        let mut node = world.json(&ObjectKey::new(Kind::Node, "", format!("n{at:02}")));
        node["spec"]["taints"] = json!([{"key": node::UNREACHABLE, "effect": "NoExecute"}]);
        world.put(Kind::Node, node);
    }
    assert_eq!(look(&mut world).look, [all()]);
    assert_eq!(given_up(&world).len(), 100 - PORTION);
    assert!(look(&mut world).look.is_empty());
    assert!(given_up(&world).is_empty());
}

#[test]
fn whatever_is_lost_one_goes_per_pace_and_zone_and_none_in_a_full_disruption() {
    let mut runner = TestRunner::new(Config { cases: 300, failure_persistence: None, ..Config::default() });
    let nodes = prop::collection::vec((0usize..3, 0usize..3), 0..12);
    let run = |nodes: Vec<(usize, usize)>| {
        let words: Vec<_> = nodes
            .iter()
            .map(|(zone, ready)| (["", "a", "b"][*zone], ["True", "False", "Unknown"][*ready]))
            .collect();
        let mut world = world_of(&words);
        let mut before = 0;
        for _ in 0..20 {
            let outcome = look(&mut world);
            let now = given_up(&world);
            prop_assert!(now.len() - before <= 3, "more than one of a zone at a time");
            if !words.iter().any(|(_, ready)| *ready == "True") {
                prop_assert!(now.is_empty(), "nobody is seen");
            }
            for name in &now {
                let at: usize = name[1..].parse().unwrap();
                prop_assert!(words[at].1 != "True", "{name} is ready");
            }
            before = now.len();
            prop_assert!(
                world.see(reconcile, &all(), &Silence::default()).writes.is_empty(),
                "a second look"
            );
            match outcome.wake_at {
                Some(at) => world.now = at,
                None => break,
            }
        }
        Ok(())
    };
    runner.run(&nodes, run).unwrap();
}
