//! Whether what a pod waits for is there. Pure.

use super::Pods;
use k8s_openapi::api::core::v1::Pod;
use manifests::habits::{Order, Workload};
use manifests::{Kind, Object, ObjectKey};
use runtime::state::{PodState, Stage};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What `pod` has to wait for before it starts, for a person; `None` if it need not wait.
/// `find` looks into the store; `is_down` says of a workload that looks well there that its pods
/// do not run, as after a reboot.
pub(super) fn waits_for(
    pod: &Pod,
    find: impl Fn(&ObjectKey) -> Option<Arc<Object>>,
    is_down: impl Fn(&ObjectKey) -> bool,
) -> Option<String> {
    let order = Order::of(pod.metadata.annotations.as_ref()?).ok()?;
    let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
    let key = |workload: &Workload| ObjectKey::new(workload.kind, namespace, workload.name.clone());
    let found = |workload: &Workload| find(&key(workload));
    let missing = |workload: &Workload| match found(workload) {
        None => Some(format!("{workload}, which is not there")),
        Some(object) => {
            let down = || is_down(&key(workload)).then(|| "has not come back yet".to_owned());
            state(&object).or_else(down).map(|state| format!("{workload}, which {state}"))
        }
    };
    let required = order.requires.iter().filter_map(missing);
    // Of those that are only to come first, one that is not wanted at all is not waited for.
    let after = order.after.iter().filter(|one| !order.requires.contains(one));
    let after = after.filter(|workload| found(workload).is_some()).filter_map(missing);
    let all: Vec<String> = required.chain(after).collect();
    (!all.is_empty()).then(|| format!("waiting for {}", all.join(", and for ")))
}

/// True if a pod of the workload is ready in the store, but not on the machine.
pub(super) fn is_down(
    workload: &ObjectKey,
    pods: &Pods,
    observed: &BTreeMap<String, Arc<PodState>>,
    find: impl Fn(&ObjectKey) -> Option<Arc<Object>>,
) -> bool {
    let runs = |uid: &String| {
        let state = observed.get(uid).filter(|state| state.stage == Stage::Started);
        state.is_some_and(|state| state.containers.iter().all(|container| container.ready))
    };
    let claims_ready =
        |object: &Object| state(object).is_none() && super::pod_of(object).is_some_and(is_running);
    let mut down = pods.iter().filter(|(uid, object)| claims_ready(object) && !runs(uid));
    down.any(|(_, object)| belongs(object, workload, &find))
}

fn is_running(pod: &Pod) -> bool {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Running")
}

/// By its owners, up to the last.
fn belongs(object: &Object, workload: &ObjectKey, find: &impl Fn(&ObjectKey) -> Option<Arc<Object>>) -> bool {
    if object.key() == *workload {
        return true;
    }
    let owner = object.controller().and_then(|owner| {
        let kind = Kind::from_gvk(&owner.api_version, &owner.kind)?;
        find(&ObjectKey::new(kind, object.namespace(), owner.name.clone()))
    });
    owner.is_some_and(|owner| belongs(&owner, workload, find))
}

/// How far something is that is not ready, or complete; `None` if it is.
fn state(object: &Object) -> Option<String> {
    let generation = object.metadata().generation;
    let counted = |ready: Option<i32>, wanted: i32, observed: Option<i64>| {
        let ready = ready.unwrap_or(0);
        let is_old = observed.zip(generation).is_some_and(|(observed, generation)| observed < generation);
        (ready < wanted || is_old).then(|| format!("has {ready} of {wanted} pods ready"))
    };
    #[allow(clippy::wildcard_enum_match_arm, reason = "no other kind is ever ready")]
    match object {
        Object::Deployment(o) => {
            let status = o.status.clone().unwrap_or_default();
            // Those of an older revision are not what is waited for.
            let ready = status.ready_replicas.unwrap_or(0).min(status.updated_replicas.unwrap_or(0));
            let observed = Some(status.observed_generation.unwrap_or(0));
            counted(Some(ready), o.spec.replicas.unwrap_or(1), observed)
        }
        Object::StatefulSet(o) => {
            let status = o.status.clone().unwrap_or_default();
            counted(status.ready_replicas, o.spec.replicas.unwrap_or(1), status.observed_generation)
        }
        Object::ReplicaSet(o) => {
            let status = o.status.clone().unwrap_or_default();
            counted(status.ready_replicas, o.spec.replicas.unwrap_or(1), status.observed_generation)
        }
        Object::DaemonSet(o) => match &o.status {
            Some(status) => {
                let wanted = status.desired_number_scheduled;
                counted(Some(status.number_ready), wanted, status.observed_generation)
            }
            None => Some("has not begun".to_owned()),
        },
        Object::Job(o) => {
            let conditions = o.status.iter().flat_map(|status| status.conditions.iter().flatten());
            let mut held = conditions.filter(|condition| condition.status == "True");
            match held.find(|condition| matches!(condition.type_.as_str(), "Complete" | "Failed")) {
                Some(condition) if condition.type_ == "Complete" => None,
                Some(_) => Some("has failed".to_owned()),
                None => Some("is not complete".to_owned()),
            }
        }
        Object::Pod(o) => {
            let status = o.status.clone().unwrap_or_default();
            let mut conditions = status.conditions.iter().flatten();
            let ready = conditions.any(|one| one.type_ == "Ready" && one.status == "True");
            let is_well = ready || status.phase.as_deref() == Some("Succeeded");
            (!is_well).then(|| "is not ready".to_owned())
        }
        other => Some(format!("is a {}, which is never ready", other.kind())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(annotations: &Value) -> Pod {
        serde_json::from_value(
            json!({"metadata": {"name": "web", "namespace": "shop", "annotations": annotations}}),
        )
        .expect("a pod")
    }

    fn waits(annotations: &Value, there: &[Value]) -> Option<String> {
        let objects: Vec<Arc<Object>> = there
            .iter()
            .map(|value| {
                let mut value = value.clone();
                value["metadata"]["namespace"] = json!("shop");
                let word = |field: &str| value[field].as_str().expect("a word").to_owned();
                let kind = Kind::from_gvk(&word("apiVersion"), &word("kind")).expect("a kind");
                Arc::new(Object::from_json(kind, value).expect("an object"))
            })
            .collect();
        let find = |key: &ObjectKey| objects.iter().find(|object| object.key() == *key).cloned();
        waits_for(&pod(annotations), find, |key| key.name == "down")
    }

    fn deployment(generation: i64, observed: i64, ready: i32) -> Value {
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "db", "generation": generation},
            "spec": {"replicas": 2, "selector": {}, "template": {}},
            "status": {"observedGeneration": observed, "readyReplicas": ready, "updatedReplicas": 2},
        })
    }

    #[test]
    fn what_is_required_has_to_be_there_and_ready() {
        let requires = json!({"evenkeel.dev/requires": "Deployment/db"});
        let text = |there: &[Value]| waits(&requires, there).unwrap_or_default();
        assert_eq!(text(&[]), "waiting for Deployment/db, which is not there");
        assert_eq!(text(&[deployment(1, 1, 1)]), "waiting for Deployment/db, which has 1 of 2 pods ready");
        assert_eq!(text(&[deployment(2, 1, 2)]), "waiting for Deployment/db, which has 2 of 2 pods ready");
        assert_eq!(text(&[deployment(1, 1, 2)]), "");
    }

    #[test]
    fn what_only_comes_first_may_be_missing() {
        let after = json!({"evenkeel.dev/after": "Deployment/db, Job/migrate"});
        assert_eq!(waits(&after, &[]), None);
        let job = |kind: &str| {
            json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "migrate"},
                "spec": {"template": {}}, "status": {"conditions": [{"type": kind, "status": "True"}]}})
        };
        assert_eq!(waits(&after, &[deployment(1, 1, 2), job("Complete")]), None);
        let text = waits(&after, &[deployment(1, 1, 0), job("Failed")]).unwrap_or_default();
        assert_eq!(
            text,
            "waiting for Deployment/db, which has 0 of 2 pods ready, and for Job/migrate, which has failed"
        );
    }

    #[test]
    fn what_only_looks_ready_is_waited_for() {
        let mut down = deployment(1, 1, 2);
        down["metadata"]["name"] = json!("down");
        let requires = json!({"evenkeel.dev/requires": "Deployment/down"});
        assert_eq!(
            waits(&requires, &[down]).unwrap_or_default(),
            "waiting for Deployment/down, which has not come back yet"
        );
    }

    #[test]
    fn a_pod_that_the_machine_has_lost_is_down_with_its_workload() {
        let object = |value: Value| {
            let word = |field: &str| value[field].as_str().expect("a word").to_owned();
            let kind = Kind::from_gvk(&word("apiVersion"), &word("kind")).expect("a kind");
            Arc::new(Object::from_json(kind, value).expect("an object"))
        };
        let owner = |kind: &str, name: &str| json!([{"apiVersion": "apps/v1", "kind": kind, "name": name, "uid": "u", "controller": true}]);
        let set = object(json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata":
            {"name": "db-1", "namespace": "shop", "ownerReferences": owner("Deployment", "db")},
            "spec": {"selector": {}}}));
        let pod = |ready: &str| {
            object(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "db-1-a", "uid": "p",
                "namespace": "shop", "ownerReferences": owner("ReplicaSet", "db-1")},
                "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": ready}]}}))
        };
        let deployment = object({
            let mut value = deployment(1, 1, 2);
            value["metadata"]["namespace"] = json!("shop");
            value
        });
        let find = |key: &ObjectKey| {
            [&set, &deployment].into_iter().find(|object| object.key() == *key).map(Arc::clone)
        };
        let down = |ready: &str, name: &str| {
            let workload = ObjectKey::new(Kind::Deployment, "shop", name);
            is_down(&workload, &BTreeMap::from([("p".to_owned(), pod(ready))]), &BTreeMap::new(), find)
        };
        assert!(down("True", "db"));
        assert!(!down("False", "db"), "the store knows already");
        assert!(!down("True", "other"));
    }

    #[test]
    fn most_pods_wait_for_nothing() {
        assert_eq!(waits(&json!({}), &[]), None);
        assert_eq!(waits(&json!({"evenkeel.dev/notify": "true"}), &[]), None);
    }
}
