//! Many Pods and many nodes.

use super::*;
use crate::controllers::NobodyListens;
use crate::controllers::node::NodeRules;
use crate::random::OsRandom;
use crate::testing::{key, node_with, object};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A state that is written without a store.
#[derive(Default)]
struct Cluster {
    state: State,
    ledger: Ledger,
}

impl Cluster {
    fn put(&mut self, mut object: Object) {
        let revision = self.state.revision() + 1;
        let uid = format!("uid-of-{}", object.name());
        object.metadata_mut().uid.get_or_insert(uid);
        let object = Arc::new(object);
        self.state.insert(Arc::clone(&object), revision);
        self.ledger.follow(&Event { change: Change::Added, object, revision });
    }

    fn node(&mut self, name: &str, value: Value) {
        self.put(node_with(name, value));
    }

    fn pod(&mut self, name: &str, spec: &Value) {
        self.owned(name, "", spec);
    }

    fn owned(&mut self, name: &str, owner: &str, spec: &Value) {
        let mut value = json!({"spec": {"containers": []}});
        for (name, field) in spec.as_object().into_iter().flatten() {
            value["spec"][name] = field.clone();
        }
        if !owner.is_empty() {
            value["metadata"]["ownerReferences"] = json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet",
                "name": owner, "uid": owner, "controller": true}]);
        }
        self.put(object(Kind::Pod, name, value));
    }

    fn decide(&mut self, key: &ObjectKey) -> Outcome {
        let Self { state, ledger } = self;
        let random = &mut OsRandom::new();
        let (now, heard, rules) = (Timestamp::UNIX_EPOCH, &NobodyListens, NodeRules::default());
        reconcile(
            state,
            key,
            &mut Knowledge {
                now,
                random,
                ledger,
                heard,
                rules,
                services: crate::controllers::ServiceRules::NONE,
                pods: crate::controllers::PodNetworkRules::default(),
            },
        )
    }

    /// Binds all that can be bound, writing only after all are decided, as the driver does.
    fn bind_all(&mut self) -> BTreeMap<String, String> {
        let mut messages = BTreeMap::new();
        let mut bound = Vec::new();
        for key in self.decide(&everybody()).look {
            let outcome = self.decide(&key);
            for note in outcome.notes {
                messages.insert(note.about.name, note.message);
            }
            bound.extend(outcome.writes.into_iter().filter_map(|write| match write {
                Write::Update(object) => Some(object),
                Write::Create(_) | Write::UpdateStatus(_) | Write::Delete { .. } | Write::Remove { .. } => {
                    None
                }
            }));
        }
        bound.into_iter().for_each(|object| self.put(object));
        messages
    }

    fn pods(&self) -> Vec<&Pod> {
        self.state.list(Kind::Pod, None).map(|object| <&Pod>::try_from(&**object).unwrap()).collect()
    }

    fn node_of(&self, pod: &str) -> String {
        let object = self.state.get(&key(Kind::Pod, pod)).unwrap();
        pod::node_name(<&Pod>::try_from(&**object).unwrap()).to_owned()
    }

    /// How many Pods each node has.
    fn counts(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for pod in self.pods() {
            *counts.entry(pod::node_name(pod).to_owned()).or_default() += 1;
        }
        counts
    }
}

fn asking(cpu: &str, memory: &str) -> Value {
    json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu, "memory": memory}}}]})
}

fn having(cpu: &str, memory: &str, pods: &str) -> Value {
    json!({"status": {"allocatable": {"cpu": cpu, "memory": memory, "pods": pods}}})
}

#[test]
fn a_pass_gives_no_room_twice() {
    let mut cluster = Cluster::default();
    cluster.node("a", having("1", "1Gi", "110"));
    (0..5).for_each(|i| cluster.pod(&format!("p{i}"), &asking("300m", "1Mi")));
    let messages = cluster.bind_all();
    assert_eq!(cluster.counts()["a"], 3);
    let refused: Vec<_> = messages.values().filter(|text| text.starts_with("0/")).collect();
    assert_eq!(refused, ["0/1 nodes are available: 1 Insufficient cpu."; 2]);
}

#[test]
fn refusals_are_counted_by_reason_as_kubernetes_words_them() {
    let mut cluster = Cluster::default();
    for i in 0..3 {
        cluster.node(&format!("small{i}"), having("1", "1Gi", "110"));
    }
    cluster.node("full", having("8", "64Gi", "0"));
    cluster.node("cordoned", json!({"spec": {"unschedulable": true}}));
    cluster
        .node("tainted", json!({"spec": {"taints": [{"key": "gpu", "value": "a", "effect": "NoExecute"}]}}));
    cluster
        .node("gone-wrong", json!({"status": {"allocatable": {"cpu": "1", "memory": "64Gi", "pods": "9"}}}));
    cluster.pod("big", &asking("2", "2Gi"));
    assert_eq!(
        cluster.bind_all()["big"],
        "0/7 nodes are available: 1 Too many pods, 1 node(s) had untolerated taint {gpu: a}, 1 node(s) were \
         unschedulable, 3 Insufficient memory, 4 Insufficient cpu."
    );
}

#[test]
fn devices_and_huge_pages_are_counted_and_no_others_need_them() {
    let mut cluster = Cluster::default();
    let mut node = having("8", "8Gi", "110");
    node["status"]["allocatable"]["example.com/gpu"] = "2".into();
    node["status"]["allocatable"]["hugepages-2Mi"] = "4Mi".into();
    cluster.node("a", node);
    let limits = |name: &str, amount: &str| json!({"containers": [{"name": "c", "resources": {"limits": {name: amount}}}]});
    cluster.pod("g1", &limits("example.com/gpu", "2"));
    cluster.pod("g2", &limits("example.com/gpu", "1"));
    cluster.pod("h1", &limits("hugepages-2Mi", "6Mi"));
    cluster.pod("x", &limits("example.com/fpga", "0"));
    let messages = cluster.bind_all();
    assert_eq!((cluster.node_of("g1"), cluster.node_of("x")), ("a".into(), "a".into()));
    assert_eq!(messages["g2"], "0/1 nodes are available: 1 Insufficient example.com/gpu.");
    assert_eq!(messages["h1"], "0/1 nodes are available: 1 Insufficient hugepages-2Mi.");
}

#[test]
fn a_port_of_the_host_is_given_once_per_address() {
    let port = |port: u16, ip: &str, protocol: &str| {
        let port = json!({"containerPort": 80, "hostPort": port, "hostIP": ip, "protocol": protocol});
        json!({"containers": [{"name": "c", "ports": [port]}]})
    };
    let mut cluster = Cluster::default();
    cluster.node("a", json!({}));
    cluster.pod("first", &port(80, "10.0.0.1", "TCP"));
    for (name, spec, fits) in [
        ("same", port(80, "10.0.0.1", "TCP"), false),
        ("all", port(80, "0.0.0.0", "TCP"), false),
        ("other-address", port(80, "10.0.0.2", "TCP"), true),
        ("other-protocol", port(80, "10.0.0.1", "UDP"), true),
        ("other-port", port(81, "", "TCP"), true),
    ] {
        cluster.bind_all();
        cluster.pod(name, &spec);
        let messages = cluster.bind_all();
        assert_eq!(!cluster.node_of(name).is_empty(), fits, "{messages:?}");
        if !fits {
            let words =
                "0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports.";
            assert_eq!(messages[name], words);
        }
    }
}

#[test]
fn a_pod_that_ended_or_went_leaves_its_room_to_who_waits() {
    let mut cluster = Cluster::default();
    cluster.node("a", having("1", "1Gi", "110"));
    cluster.pod("one", &asking("1", "1Mi"));
    cluster.bind_all();
    cluster.pod("two", &asking("1", "1Mi"));
    cluster.bind_all();
    assert_eq!(cluster.node_of("two"), "");
    let mut ended = (**cluster.state.get(&key(Kind::Pod, "one")).unwrap()).clone();
    if let Object::Pod(pod) = &mut ended {
        pod.status.get_or_insert_default().phase = Some("Succeeded".into());
    }
    let event = Event { change: Change::Modified, object: Arc::new(ended.clone()), revision: 0 };
    assert_eq!(keys(&cluster.state, &event), [everybody()]);
    cluster.put(ended);
    cluster.bind_all();
    assert_eq!(cluster.node_of("two"), "a");
}

#[test]
fn the_important_go_first() {
    let mut cluster = Cluster::default();
    cluster.node("a", having("1", "1Gi", "110"));
    cluster.put(object(Kind::PriorityClass, "high", json!({"value": 1000})));
    cluster.pod("a-slight", &asking("1", "1Mi"));
    let mut high = asking("1", "1Mi");
    high["priorityClassName"] = "high".into();
    cluster.pod("z-high", &high);
    cluster.bind_all();
    assert_eq!((cluster.node_of("z-high"), cluster.node_of("a-slight")), ("a".into(), String::new()));
}

#[test]
fn pods_of_one_owner_are_spread_over_nodes_and_zones() {
    let mut cluster = Cluster::default();
    for (i, zone) in ["x", "x", "x", "y"].into_iter().enumerate() {
        let labels = json!({"topology.kubernetes.io/zone": zone});
        cluster.node(&format!("n{i}"), json!({"metadata": {"labels": labels}}));
    }
    (0..4).for_each(|i| cluster.owned(&format!("p{i}"), "set", &json!({})));
    cluster.bind_all();
    let counts = cluster.counts();
    assert_eq!(counts["n3"], 2, "half of them in the smaller zone: {counts:?}");
    assert_eq!(counts.values().copied().collect::<Vec<_>>(), [1, 1, 2], "{counts:?}");
}

#[test]
fn load_goes_where_most_is_free_and_equals_are_not_decided_by_their_names() {
    let mut cluster = Cluster::default();
    (0..10).for_each(|i| cluster.node(&format!("n{i}"), having("10", "10Gi", "1000")));
    (0..100).for_each(|i| cluster.pod(&format!("p{i}"), &asking("100m", "100Mi")));
    cluster.bind_all();
    assert!(cluster.counts().values().all(|count| *count == 10), "{:?}", cluster.counts());
    let again = {
        let mut again = Cluster::default();
        (0..10).for_each(|i| again.node(&format!("n{i}"), having("10", "10Gi", "1000")));
        (0..100).for_each(|i| again.pod(&format!("p{i}"), &asking("100m", "100Mi")));
        again.bind_all();
        again
    };
    (0..100).for_each(|i| assert_eq!(again.node_of(&format!("p{i}")), cluster.node_of(&format!("p{i}"))));
    assert_ne!(cluster.node_of("p0"), cluster.node_of("p1"));
}

#[test]
fn preferences_and_soft_taints_tip_the_balance() {
    let mut cluster = Cluster::default();
    (0..200).for_each(|i| cluster.node(&format!("n{i}"), json!({})));
    cluster.node("fast", json!({"metadata": {"labels": {"disk": "ssd"}}}));
    let term =
        json!({"weight": 10, "preference": {"matchExpressions": [{"key": "disk", "operator": "Exists"}]}});
    let likes =
        json!({"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [term]}}});
    cluster.pod("likes", &likes);
    cluster.bind_all();
    assert_eq!(cluster.node_of("likes"), "fast", "one of two hundred");
    let mut cluster = Cluster::default();
    for i in 0..3 {
        let taints = json!([{"key": "k", "effect": "PreferNoSchedule"}]);
        cluster.node(&format!("n{i}"), json!({"spec": {"taints": taints}}));
    }
    cluster.node("free", json!({}));
    (0..3).for_each(|i| cluster.pod(&format!("p{i}"), &json!({})));
    cluster.bind_all();
    assert_eq!(cluster.counts()["free"], 3);
}

#[test]
fn a_node_that_only_a_name_chooses_is_found_and_told_of_otherwise() {
    let by_name = |name: &str| {
        let fields = json!([{"key": "metadata.name", "operator": "In", "values": [name]}]);
        json!({"affinity": {"nodeAffinity":
            {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchFields": fields}]}}}})
    };
    let mut cluster = Cluster::default();
    cluster.node("a", json!({}));
    cluster.node("b", having("0", "0", "0"));
    for (pod, node) in [("one", "a"), ("two", "b"), ("three", "c")] {
        cluster.pod(pod, &by_name(node));
    }
    let messages = cluster.bind_all();
    assert_eq!(cluster.node_of("one"), "a");
    let full =
        "0/2 nodes are available: 1 Too many pods, 1 node(s) didn't match Pod's node affinity/selector.";
    assert_eq!(messages["two"], full);
    assert_eq!(
        messages["three"],
        "0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector."
    );
}

#[test]
fn a_thousand_nodes_share_what_comes_though_only_some_are_compared() {
    let mut cluster = Cluster::default();
    for i in 0..1000 {
        let labels = json!({"topology.kubernetes.io/zone": format!("z{}", i % 3)});
        let mut node = having("16", "64Gi", "110");
        node["metadata"]["labels"] = labels;
        cluster.node(&format!("n{i}"), node);
    }
    (0..1000)
        .for_each(|i| cluster.owned(&format!("p{i}"), &format!("set{}", i % 10), &asking("500m", "1Gi")));
    let started = tokio::time::Instant::now();
    cluster.bind_all();
    println!("1000 pods on 1000 nodes: {:?}", started.elapsed());
    let counts = cluster.counts();
    assert!(!counts.contains_key(""), "{counts:?}");
    assert!(counts.values().all(|count| *count <= 3), "{:?}", counts.values().max());
    let in_zone = |zone: usize| {
        let is_there = |name: &str| name[1..].parse::<usize>().unwrap() % 3 == zone;
        counts.iter().filter(|(name, _)| is_there(name)).map(|(_, count)| count).sum::<usize>()
    };
    let zones = [0, 1, 2].map(in_zone);
    assert!(zones.iter().all(|count| (320..=350).contains(count)), "{zones:?}");
}

/// Nodes and Pods of every sort: `(cpu, pods, label, taint)` and `(cpu, selector, toleration)`.
type Node0 = (u16, u8, bool, u8);
type Pod0 = (u16, bool, bool);

fn crowd_of(nodes: &[Node0], pods: &[Pod0]) -> Cluster {
    let mut cluster = Cluster::default();
    for (i, (cpu, most, label, taint)) in nodes.iter().enumerate() {
        let mut node = having(&format!("{cpu}m"), "1Gi", &most.to_string());
        if *label {
            node["metadata"]["labels"] = json!({"disk": "ssd"});
        }
        node["spec"] = match taint {
            0 => json!({"taints": [{"key": "k", "effect": "NoSchedule"}]}),
            1 => json!({"unschedulable": true}),
            _ => json!({}),
        };
        cluster.node(&format!("n{i}"), node);
    }
    for (i, (cpu, selector, toleration)) in pods.iter().enumerate() {
        let mut spec = asking(&format!("{cpu}m"), "1Mi");
        if *selector {
            spec["nodeSelector"] = json!({"disk": "ssd"});
        }
        if *toleration {
            spec["tolerations"] = json!([{"key": "k", "operator": "Exists"}]);
        }
        cluster.owned(&format!("p{i}"), if i % 3 == 0 { "set" } else { "" }, &spec);
    }
    cluster
}

/// What holds of every node and Pod after a pass.
fn judge(cluster: &Cluster, nodes: &[Node0], pods: &[Pod0]) -> Result<(), TestCaseError> {
    let mut used = vec![(0u32, 0usize); nodes.len()];
    for (i, (cpu, selector, toleration)) in pods.iter().enumerate() {
        let name = cluster.node_of(&format!("p{i}"));
        let fits = |at: usize, used: &[(u32, usize)]| {
            let (has, most, label, taint) = nodes[at];
            used[at].0 + u32::from(*cpu) <= u32::from(has)
                && used[at].1 < usize::from(most)
                && (label || !selector)
                && (taint > 1 || (taint == 0 && *toleration))
        };
        if let Some(at) = name.strip_prefix('n') {
            let at: usize = at.parse().unwrap();
            prop_assert!(fits(at, &used), "p{i} on n{at}");
            used[at] = (used[at].0 + u32::from(*cpu), used[at].1 + 1);
        }
    }
    // Who was refused would not fit now either, since nothing has gone.
    for (i, pod) in pods.iter().enumerate() {
        if cluster.node_of(&format!("p{i}")).is_empty() {
            let fits = (0..nodes.len()).any(|at| {
                let (has, most, label, taint) = nodes[at];
                used[at].0 + u32::from(pod.0) <= u32::from(has)
                    && used[at].1 < usize::from(most)
                    && (label || !pod.1)
                    && (taint > 1 || (taint == 0 && pod.2))
            });
            prop_assert!(!fits, "p{i} waits though there is room");
        }
    }
    Ok(())
}

#[test]
fn nothing_is_overcommitted_nor_taints_or_selectors_passed_over() {
    let mut runner = TestRunner::new(Config { cases: 500, failure_persistence: None, ..Config::default() });
    let nodes = prop::collection::vec((0u16..2000, 0u8..6, any::<bool>(), 0u8..6), 0..8);
    let pods = prop::collection::vec((0u16..900, any::<bool>(), any::<bool>()), 0..30);
    let run = |(nodes, pods): (Vec<Node0>, Vec<Pod0>)| {
        let mut cluster = crowd_of(&nodes, &pods);
        cluster.bind_all();
        judge(&cluster, &nodes, &pods)?;
        // The sums are what they would be if they were made anew.
        let fresh = Ledger::of(&cluster.state);
        let sums = |ledger: &Ledger| {
            let rooms = ledger.rooms_from(0);
            rooms.map(|(name, room)| (name.to_owned(), room.used.clone())).collect::<Vec<_>>()
        };
        prop_assert_eq!(sums(&fresh), sums(&cluster.ledger));
        Ok(())
    };
    runner.run(&(nodes, pods), run).unwrap();
}
