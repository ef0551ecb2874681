//! Who is bound where, and who is told why not.

use super::*;
use crate::testing::{Bench, key, node, node_with, object};
use serde_json::{Value, json};

fn pod_with(spec: &Value) -> Object {
    let mut value = json!({"spec": {"containers": []}});
    for (name, field) in spec.as_object().into_iter().flatten() {
        value["spec"][name] = field.clone();
    }
    object(Kind::Pod, "web", value)
}

fn placed(pod: &Object) -> (Option<String>, Option<(String, Option<String>)>) {
    let pod: &Pod = pod.try_into().unwrap();
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let condition = conditions.into_iter().find(|c| c.type_ == "PodScheduled");
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
    (node, condition.map(|c| (c.status.clone(), c.reason.clone())))
}

/// Where a Pod with `spec` goes on a node that `node` says.
fn place(spec: &Value, node: Value) -> Option<String> {
    let bench = Bench::new();
    bench.create(node_with("n", node));
    bench.create(pod_with(spec));
    bench.settle(reconcile, &key(Kind::Pod, "web"));
    placed(&bench.get(&key(Kind::Pod, "web")).unwrap()).0
}

#[test]
fn a_pod_is_bound_with_its_condition_in_one_batch() {
    let bench = Bench::new();
    bench.create(node("n"));
    bench.create(pod_with(&json!({})));
    let outcome = bench.decide(reconcile, &key(Kind::Pod, "web"));
    assert_eq!(outcome.notes[0].reason, "Scheduled");
    bench.write(outcome.writes);
    let bound = bench.get(&key(Kind::Pod, "web")).unwrap();
    assert_eq!(placed(&bound), (Some("n".into()), Some(("True".into(), None))));
    assert_eq!(bench.decide(reconcile, &key(Kind::Pod, "web")), Outcome::default());
}

#[test]
fn a_pod_that_fits_nowhere_is_told_so_once_and_bound_when_it_fits() {
    let bench = Bench::new();
    bench.create(node("n"));
    bench.create(pod_with(&json!({"nodeSelector": {"disk": "ssd"}})));
    let web = key(Kind::Pod, "web");
    let notes = bench.settle(reconcile, &web);
    assert_eq!(notes.len(), 1);
    assert_eq!(
        notes[0].message,
        "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector."
    );
    let unbound = bench.get(&web).unwrap();
    assert_eq!(placed(&unbound), (None, Some(("False".into(), Some("Unschedulable".into())))));
    let node = node_with("n", json!({"metadata": {"labels": {"disk": "ssd"}}}));
    let changed = bench.write(vec![Write::Update(node)]).remove(0);
    let event = Event { change: crate::store::Change::Modified, revision: 0, object: changed };
    let all = bench.store.read(|state| keys(state, &event));
    assert_eq!(all, [everybody()]);
    assert_eq!(bench.decide(reconcile, &all[0]).look, std::slice::from_ref(&web));
    bench.settle(reconcile, &web);
    assert_eq!(placed(&bench.get(&web).unwrap()), (Some("n".into()), Some(("True".into(), None))));
}

#[test]
fn without_any_node_a_pod_waits() {
    let bench = Bench::new();
    bench.create(pod_with(&json!({})));
    let notes = bench.settle(reconcile, &key(Kind::Pod, "web"));
    assert_eq!(notes[0].message, "no nodes available to schedule pods");
}

#[test]
fn cordons_and_taints_keep_out_who_does_not_tolerate_them() {
    let cordoned = json!({"spec": {"unschedulable": true}});
    assert_eq!(place(&json!({}), cordoned.clone()), None);
    let tolerant =
        json!({"tolerations": [{"key": "node.kubernetes.io/unschedulable", "operator": "Exists"}]});
    assert_eq!(place(&tolerant, cordoned), Some("n".into()));
    let tainted = json!({"spec": {"taints": [{"key": "gpu", "value": "yes", "effect": "NoSchedule"}]}});
    assert_eq!(place(&json!({}), tainted.clone()), None);
    for (value, fits) in [("yes", true), ("no", false)] {
        let tolerant = json!({"tolerations": [{"key": "gpu", "value": value}]});
        assert_eq!(place(&tolerant, tainted.clone()).is_some(), fits, "{value}");
    }
    let bench = Bench::new();
    bench.create(node_with("n", tainted));
    bench.create(pod_with(&json!({})));
    let notes = bench.settle(reconcile, &key(Kind::Pod, "web"));
    assert_eq!(notes[0].message, "0/1 nodes are available: 1 node(s) had untolerated taint {gpu: yes}.");
    let soft = json!({"spec": {"taints": [{"key": "gpu", "effect": "PreferNoSchedule"}]}});
    assert_eq!(place(&json!({}), soft), Some("n".into()));
}

#[test]
fn memory_pressure_keeps_out_who_asked_for_nothing() {
    let taint = |key: &str| json!({"spec": {"taints": [{"key": key, "effect": "NoSchedule"}]}});
    let asking = json!({"containers": [{"name": "a", "resources": {"requests": {"memory": "1Mi"}}}]});
    let nothing = json!({"containers": [{"name": "a", "resources": {"requests": {"cpu": "0"}}}]});
    let memory = taint("node.kubernetes.io/memory-pressure");
    assert_eq!(place(&asking, memory.clone()), Some("n".into()));
    assert_eq!(place(&nothing, memory), None);
    assert_eq!(place(&asking, taint("node.kubernetes.io/disk-pressure")), None);
}

#[test]
fn tolerations_compare_numbers() {
    let tainted = json!({"spec": {"taints": [{"key": "sla", "value": "950", "effect": "NoSchedule"}]}});
    for (operator, value, fits) in
        [("Gt", "900", true), ("Gt", "950", false), ("Lt", "951", true), ("Lt", "x", false)]
    {
        let tolerant = json!({"tolerations": [{"key": "sla", "operator": operator, "value": value}]});
        assert_eq!(place(&tolerant, tainted.clone()).is_some(), fits, "{operator} {value}");
    }
}

#[test]
fn a_bound_pod_tolerates_an_outage_for_a_while_unless_it_says_more() {
    let tolerations = |spec: &Value| {
        let bench = Bench::new();
        bench.create(node("n"));
        bench.create(pod_with(spec));
        bench.settle(reconcile, &key(Kind::Pod, "web"));
        let pod = bench.get(&key(Kind::Pod, "web")).unwrap();
        let pod: &Pod = (&*pod).try_into().unwrap();
        let all = pod.spec.as_ref().unwrap().tolerations.clone().unwrap_or_default();
        let word = |one: &manifests::k8s_openapi::api::core::v1::Toleration| {
            let key = one.key.as_deref().unwrap_or("*").rsplit('/').next().unwrap_or_default();
            (key.to_owned(), one.toleration_seconds)
        };
        all.iter().map(word).collect::<Vec<_>>()
    };
    let one = |key: &str, seconds| (key.to_owned(), seconds);
    assert_eq!(tolerations(&json!({})), [one("not-ready", Some(300)), one("unreachable", Some(300))]);
    let own = json!({"tolerations": [{"key": "node.kubernetes.io/unreachable", "operator": "Exists",
        "effect": "NoExecute", "tolerationSeconds": 5}]});
    assert_eq!(tolerations(&own), [one("unreachable", Some(5)), one("not-ready", Some(300))]);
    assert_eq!(tolerations(&json!({"tolerations": [{"operator": "Exists"}]})), [one("*", None)]);
}

#[test]
fn a_class_becomes_a_number_when_the_pod_is_bound() {
    let class = |name: &str, value: i32, default: bool| {
        object(Kind::PriorityClass, name, json!({"value": value, "globalDefault": default}))
    };
    let priority = |spec: &Value, classes: Vec<Object>| {
        let bench = Bench::new();
        bench.create(node("n"));
        classes.into_iter().for_each(|class| drop(bench.create(class)));
        bench.create(pod_with(spec));
        bench.settle(reconcile, &key(Kind::Pod, "web"));
        let pod = bench.get(&key(Kind::Pod, "web")).unwrap();
        let pod: &Pod = (&*pod).try_into().unwrap();
        pod.spec.as_ref().unwrap().priority
    };
    let high = json!({"priorityClassName": "high"});
    assert_eq!(priority(&high, vec![class("high", 1000, false)]), Some(1000));
    assert_eq!(priority(&high, Vec::new()), None);
    assert_eq!(priority(&json!({}), Vec::new()), Some(0));
    assert_eq!(priority(&json!({}), vec![class("b", 7, true), class("a", 5, true)]), Some(5));
    assert_eq!(
        priority(&json!({"priorityClassName": "system-node-critical"}), Vec::new()),
        Some(2_000_001_000)
    );
}

#[test]
fn required_node_affinity_is_kept() {
    let labelled = json!({"metadata": {"labels": {"zone": "a", "cores": "8"}}});
    let term = |expressions: Value| {
        let terms = json!([{ "matchExpressions": expressions }]);
        json!({"affinity": {"nodeAffinity":
            {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}})
    };
    for (expression, fits) in [
        (json!([{"key": "zone", "operator": "In", "values": ["a", "b"]}]), true),
        (json!([{"key": "zone", "operator": "NotIn", "values": ["a"]}]), false),
        (json!([{"key": "disk", "operator": "NotIn", "values": ["hdd"]}]), true),
        (json!([{"key": "zone", "operator": "Exists"}, {"key": "x", "operator": "DoesNotExist"}]), true),
        (json!([{"key": "cores", "operator": "Gt", "values": ["7"]}]), true),
        (json!([{"key": "cores", "operator": "Lt", "values": ["8"]}]), false),
        (json!([]), false),
    ] {
        assert_eq!(place(&term(expression.clone()), labelled.clone()).is_some(), fits, "{expression}");
    }
    let by_name = |name: &str| {
        let fields = json!([{"key": "metadata.name", "operator": "In", "values": [name]}]);
        let terms = json!([{ "matchFields": fields }]);
        json!({"affinity": {"nodeAffinity":
            {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}})
    };
    assert!(place(&by_name("n"), json!({})).is_some());
    assert!(place(&by_name("m"), json!({})).is_none());
}

#[test]
fn a_runtime_class_says_where_its_pods_run_and_what_they_cost() {
    let class = object(
        Kind::RuntimeClass,
        "vm",
        json!({
            "handler": "crun",
            "overhead": {"podFixed": {"memory": "32Mi", "cpu": "100m"}},
            "scheduling": {"nodeSelector": {"vms": "yes"},
                "tolerations": [{"key": "slow", "operator": "Exists"}]},
        }),
    );
    let able = json!({"metadata": {"labels": {"vms": "yes"}},
        "spec": {"taints": [{"key": "slow", "effect": "NoSchedule"}]}});
    let bound = |spec: Value, node: Value| {
        let bench = Bench::new();
        bench.create(node_with("n", node));
        bench.create(class.clone());
        bench.create(pod_with(&spec));
        bench.settle(reconcile, &key(Kind::Pod, "web"));
        let pod = bench.get(&key(Kind::Pod, "web")).unwrap();
        let pod: &Pod = (&*pod).try_into().unwrap();
        pod.spec.clone().unwrap()
    };
    let mine = json!({"runtimeClassName": "vm"});
    let spec = bound(mine.clone(), able.clone());
    assert_eq!(spec.node_name.as_deref(), Some("n"));
    let overhead = spec.overhead.unwrap();
    assert_eq!((overhead["memory"].0.as_str(), overhead["cpu"].0.as_str()), ("32Mi", "100m"));
    // What the class says of nodes is not written into the Pod, whose own that is.
    assert_eq!(spec.node_selector, None);
    let tolerations = spec.tolerations.unwrap();
    assert!(
        tolerations.iter().all(|toleration| toleration.key.as_deref() != Some("slow")),
        "{tolerations:?}"
    );
    assert_eq!(bound(mine, json!({})).node_name, None);
    let other = json!({"runtimeClassName": "vm", "nodeSelector": {"vms": "no"}});
    assert_eq!(bound(other, able.clone()).node_name, None, "the two contradict each other");
    assert_eq!(bound(json!({}), able).node_name, None, "no other pod tolerates the taint");
    let missing = json!({"runtimeClassName": "none"});
    assert_eq!(bound(missing, json!({})).node_name.as_deref(), Some("n"));
}
