//! Every age, every word of the node and every taint before.

use super::*;
use crate::controllers::world::{Silence, World};
use manifests::Object;
use serde_json::{Value, json};

fn node(said: Option<&str>, taints: &[(&str, &str)]) -> Value {
    let at = "2025-01-01T00:00:00Z";
    let taints: Vec<_> =
        taints.iter().map(|(key, effect)| json!({"key": key, "effect": effect, "timeAdded": at})).collect();
    let mut value = json!({"metadata": {"name": "n"}, "spec": {}});
    if !taints.is_empty() {
        value["spec"]["taints"] = taints.into();
    }
    if let Some(said) = said {
        let one =
            |kind: &str, status: &str| json!({"type": kind, "status": status, "lastTransitionTime": at});
        value["status"]["conditions"] = json!([
            one("Ready", said),
            one("DiskPressure", if said == "Unknown" { said } else { "False" }),
            one("Odd", "True")
        ]);
    }
    value
}

fn status_of(value: &Value, kind: &str) -> Option<String> {
    let conditions = value["status"]["conditions"].as_array()?;
    let found = conditions.iter().find(|condition| condition["type"] == kind)?;
    Some(found["status"].as_str().unwrap().to_owned())
}

#[test]
fn conditions_and_taints_follow_what_is_heard_and_said_and_then_there_is_silence() {
    let befores: [&[(&str, &str)]; 5] = [
        &[],
        &[(NOT_READY, "NoSchedule"), (NOT_READY, "NoExecute")],
        &[(UNREACHABLE, "NoSchedule"), (UNREACHABLE, "NoExecute")],
        &[("own", "NoExecute"), (UNREACHABLE, "NoSchedule")],
        &[("own", "NoSchedule")],
    ];
    let mut rows = 0;
    for age in [0, 39, 40, 41, 100_000] {
        for said in [None, Some("True"), Some("False"), Some("Unknown")] {
            for before in befores {
                let mut world = World::new(rows);
                let key = world.put(Kind::Node, node(said, before));
                let silence = Silence([("n".to_owned(), age)].into());
                let outcome = world.look(reconcile, &key, &silence);
                let row = format!("{age} {said:?} {before:?}");
                assert!(outcome.wake_at.is_some(), "{row}");
                let after = world.json(&key);
                let expected = if age >= 40 { Some("Unknown") } else { said };
                assert_eq!(status_of(&after, "Ready").as_deref(), expected, "{row}");
                assert_eq!(status_of(&after, "Odd").is_some(), said.is_some(), "{row}: not ours");
                if age >= 40 {
                    assert_eq!(status_of(&after, "DiskPressure").unwrap(), "Unknown", "{row}");
                }
                let taint = match expected {
                    Some("False") => Some(NOT_READY),
                    Some("Unknown") => Some(UNREACHABLE),
                    _ => None,
                };
                let had_final = before.iter().any(|(key, effect)| *key != "own" && *effect == "NoExecute");
                let mut wanted: Vec<_> =
                    before.iter().filter(|(key, _)| *key == "own").map(|(k, e)| format!("{k}:{e}")).collect();
                wanted.extend(taint.map(|key| format!("{key}:NoSchedule")));
                wanted.extend(taint.filter(|_| had_final).map(|key| format!("{key}:NoExecute")));
                let mut taints = world.taints("n");
                taints.sort();
                wanted.sort();
                assert_eq!(taints, wanted, "{row}");
                assert!(world.see(reconcile, &key, &silence).writes.is_empty(), "{row}: goes on");
                rows += 1;
            }
        }
    }
    assert_eq!(rows, 100);
}

#[test]
fn a_lost_node_is_told_of_in_kubernetes_words_once() {
    let mut world = World::new(1);
    let key = world.put(Kind::Node, node(Some("True"), &[]));
    let silence = Silence([("n".to_owned(), 40)].into());
    let outcome = world.look(reconcile, &key, &silence);
    assert_eq!(outcome.notes[0].message, "Node n status is now: NodeNotReady");
    let after = world.json(&key);
    let ready = &after["status"]["conditions"][0];
    assert_eq!(ready["reason"], "NodeStatusUnknown");
    assert_eq!(ready["message"], "Kubelet stopped posting node status.");
    assert_eq!(ready["lastTransitionTime"], json!(Time(world.now)));
    assert!(world.look(reconcile, &key, &silence).notes.is_empty());
    // It is heard again, and says what it is.
    let mut back = world.json(&key);
    back["status"]["conditions"][0]["status"] = "True".into();
    world.apply(&[crate::store::Write::UpdateStatus(Object::from_json(Kind::Node, back).unwrap())]).unwrap();
    let outcome = world.look(reconcile, &key, &Silence::default());
    assert_eq!((world.taints("n"), outcome.notes.len()), (Vec::new(), 0));
    assert_eq!(outcome.wake_at, Some(world.now + SignedDuration::from_secs(40)));
}

#[test]
fn somebodys_taint_that_ends_pods_gets_its_time() {
    let mut world = World::new(1);
    let mut value = node(Some("True"), &[]);
    value["spec"]["taints"] =
        json!([{"key": "own", "effect": "NoExecute"}, {"key": "b", "effect": "NoSchedule"}]);
    let key = world.put(Kind::Node, value);
    world.look(reconcile, &key, &Silence::default());
    let after = world.json(&key);
    assert_eq!(after["spec"]["taints"][0]["timeAdded"], json!(Time(world.now)));
    assert!(after["spec"]["taints"][1]["timeAdded"].is_null());
}
