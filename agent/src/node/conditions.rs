//! The Node object's conditions, and the taints that go with them.

use super::Node;
use super::pressure::decide::Pressure;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node as NodeObject, NodeCondition, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use manifests::{Kind, Object, ObjectKey};
use reconciler::store::{Write, WriteError};
use std::collections::BTreeSet;

/// A pressure, its condition, what that says when it is over, and its taint.
type Row = (Pressure, &'static str, [(&'static str, &'static str); 2], &'static str);

/// In the kubelet's words: first under pressure, then without.
const ROWS: [Row; 3] = [
    (
        Pressure::Memory,
        "MemoryPressure",
        [
            ("KubeletHasInsufficientMemory", "kubelet has insufficient memory available"),
            ("KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
        ],
        "node.kubernetes.io/memory-pressure",
    ),
    (
        Pressure::Disk,
        "DiskPressure",
        [
            ("KubeletHasDiskPressure", "kubelet has disk pressure"),
            ("KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
        ],
        "node.kubernetes.io/disk-pressure",
    ),
    (
        Pressure::Pid,
        "PIDPressure",
        [
            ("KubeletHasInsufficientPID", "kubelet has insufficient PID available"),
            ("KubeletHasSufficientPID", "kubelet has sufficient PID available"),
        ],
        "node.kubernetes.io/pid-pressure",
    ),
];

/// The Node object tells of `pressures`, and whether the node takes pods. What cannot be written
/// now is at the next look.
pub(super) async fn report(node: &Node, pressures: &BTreeSet<Pressure>) {
    let key = ObjectKey::new(Kind::Node, "", node.facts.node_name.clone());
    let Some(stored) = node.store.get(&key) else { return };
    let Ok(object) = <&NodeObject>::try_from(&*stored) else { return };
    let closing = *node.closing.borrow();
    let next = with(object, pressures, closing, Timestamp::now());
    if next == *object {
        return;
    }
    let mut status = next.clone();
    // The update before it in the batch guards both, and has moved the version on.
    status.metadata.resource_version = None;
    let writes = vec![Write::Update(Object::from(next)), Write::UpdateStatus(Object::from(status))];
    match node.store.write(writes).await {
        Ok(_) | Err(WriteError::Conflict { .. } | WriteError::NotFound(_)) => {}
        Err(error) => {
            tracing::warn!(error = &error as &dyn std::error::Error, "the node's conditions were not stored");
        }
    }
}

/// What a pressure's condition is called.
pub(super) fn name(pressure: Pressure) -> &'static str {
    ROWS.iter().find(|(one, ..)| *one == pressure).map_or("", |(_, kind, ..)| kind)
}

/// The pressures that the Node object tells of.
pub(super) fn told(node: &Node) -> BTreeSet<Pressure> {
    let key = ObjectKey::new(Kind::Node, "", node.facts.node_name.clone());
    let stored = node.store.get(&key);
    let object = stored.as_deref().and_then(|stored| <&NodeObject>::try_from(stored).ok());
    let conditions = object.and_then(|object| object.status.as_ref()?.conditions.as_ref());
    let is_there = |kind: &str| {
        conditions.is_some_and(|all| all.iter().any(|one| one.type_ == kind && one.status == "True"))
    };
    ROWS.iter().filter(|(_, kind, ..)| is_there(kind)).map(|(pressure, ..)| *pressure).collect()
}

/// `node` with these conditions and taints; all others stay.
fn with(node: &NodeObject, pressures: &BTreeSet<Pressure>, closing: bool, now: Timestamp) -> NodeObject {
    let mut node = node.clone();
    let conditions = node.status.get_or_insert_default().conditions.get_or_insert_default();
    for (pressure, kind, words, _) in ROWS {
        let is_there = pressures.contains(&pressure);
        let (reason, message) = words[usize::from(!is_there)];
        set(conditions, condition(kind, is_there, reason, message), now);
    }
    let ready = if closing {
        condition("Ready", false, "KubeletNotReady", "node is shutting down")
    } else {
        condition("Ready", true, "AgentReady", "keel runs pods on this node")
    };
    set(conditions, ready, now);
    let spec = node.spec.get_or_insert_default();
    let mut taints = spec.taints.take().unwrap_or_default();
    for (pressure, _, _, key) in ROWS {
        let is_there = taints.iter().any(|taint| taint.key == key);
        match (pressures.contains(&pressure), is_there) {
            (true, false) => {
                taints.push(Taint { key: key.into(), effect: "NoSchedule".into(), ..Taint::default() });
            }
            (false, true) => taints.retain(|taint| taint.key != key),
            _ => {}
        }
    }
    spec.taints = (!taints.is_empty()).then_some(taints);
    node
}

fn condition(kind: &str, is_there: bool, reason: &str, message: &str) -> NodeCondition {
    NodeCondition {
        type_: kind.into(),
        status: if is_there { "True" } else { "False" }.into(),
        reason: Some(reason.into()),
        message: Some(message.into()),
        ..NodeCondition::default()
    }
}

/// In place of the one of its type; the time of a transition is kept.
fn set(conditions: &mut Vec<NodeCondition>, mut new: NodeCondition, now: Timestamp) {
    match conditions.iter_mut().find(|old| old.type_ == new.type_) {
        Some(old) => {
            let same = old.status == new.status;
            new.last_transition_time = old.last_transition_time.clone().filter(|_| same).or(Some(Time(now)));
            *old = new;
        }
        None => {
            new.last_transition_time = Some(Time(now));
            conditions.push(new);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_and_taints_come_and_go_with_a_pressure() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let own = Taint { key: "gpu".into(), effect: "NoSchedule".into(), ..Taint::default() };
        let mut node = NodeObject::default();
        node.spec.get_or_insert_default().taints = Some(vec![own]);
        let none = BTreeSet::new();
        let calm = with(&node, &none, false, at(1));
        assert_eq!(with(&calm, &none, false, at(2)), calm, "nothing to write");
        let full = with(&calm, &BTreeSet::from([Pressure::Disk]), false, at(3));
        let keys = |node: &NodeObject| {
            let taints = node.spec.as_ref().unwrap().taints.clone().unwrap_or_default();
            taints.into_iter().map(|taint| taint.key).collect::<Vec<_>>()
        };
        assert_eq!(keys(&full), ["gpu", "node.kubernetes.io/disk-pressure"]);
        let conditions = full.status.as_ref().unwrap().conditions.as_ref().unwrap();
        let of = |kind: &str| conditions.iter().find(|one| one.type_ == kind).unwrap();
        assert_eq!(
            (of("DiskPressure").status.as_str(), of("MemoryPressure").status.as_str()),
            ("True", "False")
        );
        assert_eq!(of("DiskPressure").last_transition_time, Some(Time(at(3))));
        assert_eq!(of("Ready").last_transition_time, Some(Time(at(1))));
        let over = with(&full, &none, true, at(4));
        assert_eq!(keys(&over), ["gpu"]);
        let conditions = over.status.unwrap().conditions.unwrap();
        let ready = conditions.iter().find(|one| one.type_ == "Ready").unwrap();
        assert_eq!(
            (ready.status.as_str(), ready.message.as_deref()),
            ("False", Some("node is shutting down"))
        );
    }
}
