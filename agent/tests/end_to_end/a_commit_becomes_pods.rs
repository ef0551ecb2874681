use crate::machine::{Machine, PODS, name_of};
use crate::yaml::{SERVE, config_map, daemon_set, deployment, pod, spec};
use serde_json::json;

pub(crate) fn a_commit_becomes_running_pods_and_its_removal_leaves_nothing(machine: &mut Machine) {
    machine.start();
    let mut with_volume = spec(SERVE);
    with_volume["volumes"] = json!([{"name": "text", "configMap": {"name": "text"}}, {"name": "own", "emptyDir": {"medium": "Memory"}}]);
    with_volume["containers"][0]["volumeMounts"] =
        json!([{"name": "text", "mountPath": "/text"}, {"name": "own", "mountPath": "/own"}]);
    machine.repository.write("text.yaml", &config_map("text", "a", "b"));
    machine.repository.write("each.yaml", &daemon_set("each", &spec(SERVE)));
    machine.repository.push_file("web.yaml", &deployment("web", 2, &with_volume));
    machine.until_rolled_out("web", 2);
    let each = machine.until_running("each-");
    assert_eq!((&each["spec"]["nodeName"], &each["status"]["phase"]), (&json!("one"), &json!("Running")));

    // What is looked for at the end can be seen now.
    let traces = machine.traces();
    let count = |kind: &str| traces.iter().filter(|trace| trace.starts_with(kind)).count();
    assert_eq!((count("link"), count("cgroup")), (3, 3), "{traces:#?}");
    assert!(count("process") >= 6 && count("file") >= 9, "{traces:#?}");
    let table = machine.ok(&["get", "deploy,ds"]);
    for row in ["NAME", "deployment.apps/web", "daemonset.apps/each"] {
        assert!(table.contains(row), "{table}");
    }
    assert!(machine.ok(&["get", "pods", "-o", "name"]).lines().all(|line| line.starts_with("pod/")));

    for file in ["text.yaml", "each.yaml", "web.yaml"] {
        machine.repository.remove(file);
    }
    machine.repository.write("other.yaml", &config_map("other", "a", "b"));
    machine.repository.push("Run nothing");
    machine.until_gone(PODS);
    machine.until_traces(std::collections::BTreeSet::is_empty);
    for list in ["deployments", "daemonsets", "replicasets"] {
        assert_eq!(machine.api.list(&format!("/apis/apps/v1/{list}")), [] as [serde_json::Value; 0]);
    }
}

pub(crate) fn a_changed_pod_is_made_anew(machine: &mut Machine) {
    machine.start();
    machine.repository.push_file("bare.yaml", &pod("bare", &spec(SERVE)));
    let before = machine.until_running("bare");
    let pid = machine.pid("bare");
    machine.repository.push_file("bare.yaml", &pod("bare", &spec(&format!("echo other; {SERVE}"))));
    machine.api.until(PODS, "another pod", |pods| {
        let other = pods.iter().find(|pod| pod["metadata"]["uid"] != before["metadata"]["uid"])?;
        (other["status"]["phase"] == "Running" && pods.len() == 1).then_some(())
    });
    assert_eq!(name_of(&machine.until_running("bare")), "bare");
    assert_ne!(machine.pid("bare"), pid);
    let follow = machine.follow(&["logs", "-f", "bare"]);
    follow.until("the new words", |line| line == "other");
}
