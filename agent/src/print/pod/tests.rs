use super::*;
use serde_json::{Value, json};

fn now() -> Timestamp {
    "2026-11-20T12:00:00Z".parse().unwrap()
}

/// A pod of two containers and one init container, with `status`.
fn pod(status: Value) -> Pod {
    serde_json::from_value(json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "web", "namespace": "default", "creationTimestamp": "2026-11-20T11:00:00Z"},
        "spec": {
            "nodeName": "n1",
            "initContainers": [{"name": "setup", "image": "host:"}],
            "containers": [{"name": "a", "image": "host:"}, {"name": "b", "image": "host:"}],
        },
        "status": status,
    }))
    .unwrap()
}

fn container(name: &str, ready: bool, restarts: i32, state: Value) -> Value {
    json!({"name": name, "image": "host:", "imageID": "", "ready": ready, "restartCount": restarts, "state": state})
}

fn running() -> Value {
    json!({"running": {"startedAt": "2026-11-20T11:00:00Z"}})
}

fn ended(code: i32, reason: &str) -> Value {
    json!({"terminated": {"exitCode": code, "reason": reason}})
}

fn waiting(reason: &str) -> Value {
    json!({"waiting": {"reason": reason}})
}

#[test]
fn the_status_is_what_kubectl_would_say() {
    let setup_done = || container("setup", true, 0, ended(0, "Completed"));
    let both = |a: Value, b: Value, phase: &str| json!({"phase": phase, "initContainerStatuses": [setup_done()], "containerStatuses": [a, b]});
    let initializing = |state: Value| json!({"phase": "Pending", "initContainerStatuses": [container("setup", false, 0, state)]});
    let up = |name: &str| container(name, true, 0, running());
    let mut one_ended = both(container("a", false, 0, ended(0, "Completed")), up("b"), "Running");
    let not_ready = one_ended.clone();
    one_ended["conditions"] = json!([{"type": "Ready", "status": "True"}]);
    let cases = [
        (json!({"phase": "Pending"}), "Pending", 0),
        (json!({"phase": "Failed", "reason": "Evicted"}), "Evicted", 0),
        (both(up("a"), up("b"), "Running"), "Running", 2),
        (
            both(up("a"), container("b", false, 3, waiting("CrashLoopBackOff")), "Running"),
            "CrashLoopBackOff",
            1,
        ),
        (
            both(up("a"), container("b", false, 0, waiting("ContainerCreating")), "Pending"),
            "ContainerCreating",
            1,
        ),
        (both(container("a", false, 0, ended(137, "OOMKilled")), up("b"), "Running"), "OOMKilled", 1),
        (both(container("a", false, 0, ended(3, "")), up("b"), "Running"), "ExitCode:3", 1),
        (one_ended, "Running", 1),
        (not_ready, "NotReady", 1),
        (initializing(running()), "Init:0/1", 0),
        (initializing(waiting("PodInitializing")), "Init:0/1", 0),
        (initializing(waiting("ErrImagePull")), "Init:ErrImagePull", 0),
        (initializing(ended(1, "Error")), "Init:Error", 0),
        (initializing(ended(1, "")), "Init:ExitCode:1", 0),
        (
            json!({"phase": "Pending", "initContainerStatuses":
                [container("setup", false, 0, json!({"terminated": {"exitCode": 0, "signal": 9}}))],
                "containerStatuses": [container("a", false, 0, waiting("PodInitializing"))]}),
            "PodInitializing",
            0,
        ),
    ];
    for (status, wanted, ready) in cases {
        let summary = summary(&pod(status.clone()));
        assert_eq!((summary.status.as_str(), summary.ready, summary.total), (wanted, ready, 2), "{status:#}");
    }
}

#[test]
fn what_is_being_deleted_is_terminating_unless_it_has_ended() {
    let mut leaving =
        pod(json!({"phase": "Running", "containerStatuses": [container("a", true, 0, running())]}));
    leaving.metadata.deletion_timestamp = Some("2026-11-20T11:59:00Z".parse::<Timestamp>().unwrap().into());
    assert_eq!(summary(&leaving).status, "Terminating");
    leaving.status.as_mut().unwrap().phase = Some("Succeeded".into());
    assert_ne!(summary(&leaving).status, "Terminating");
}

#[test]
fn restarts_say_when_the_last_was() {
    let mut restarted = container("a", true, 2, running());
    restarted["lastState"] = json!({"terminated": {"exitCode": 1, "finishedAt": "2026-11-20T11:55:00Z"}});
    let status = json!({
        "phase": "Running",
        "podIPs": [{"ip": "10.88.0.5"}],
        "initContainerStatuses": [container("setup", true, 7, ended(0, "Completed"))],
        "containerStatuses": [restarted, container("b", true, 0, running())],
    });
    let pod = pod(status);
    assert_eq!(row(&pod, false, now()), ["web", "2/2", "Running", "2 (5m ago)", "60m"]);
    assert_eq!(row(&pod, true, now())[5..], ["10.88.0.5", "n1", "<none>", "<none>"]);
}

#[test]
fn a_sidecar_counts_as_a_container() {
    let mut pod = pod(json!({
        "phase": "Running",
        "initContainerStatuses": [{"name": "setup", "image": "", "imageID": "", "ready": true,
            "restartCount": 1, "started": true, "state": running()}],
        "containerStatuses": [container("a", true, 0, running()), container("b", true, 0, running())],
    }));
    pod.spec.as_mut().unwrap().init_containers.as_mut().unwrap()[0].restart_policy = Some("Always".into());
    let summary = summary(&pod);
    assert_eq!((summary.ready, summary.total, summary.restarts), (3, 3, 1));
    assert_eq!(summary.status, "Running");
}

#[test]
fn failing_is_told_from_starting() {
    let failing = |status: &str| {
        PodSummary { ready: 0, total: 1, status: status.into(), restarts: 0, last_restart: None }.is_failing()
    };
    for status in
        ["CrashLoopBackOff", "Init:CrashLoopBackOff", "ErrImagePull", "Error", "OOMKilled", "ExitCode:3"]
    {
        assert!(failing(status), "{status}");
    }
    for status in ["Running", "Pending", "ContainerCreating", "Init:0/1", "Completed", "Terminating"] {
        assert!(!failing(status), "{status}");
    }
}
