use super::*;
use crate::client::{
    AgentStatus, ContainerUsage, InspectedProcess, PodInspection, PodPressure, PullStatus, SourceStatus,
    Stall,
};
use k8s_openapi::api::core::v1::Pod;
use manifests::{Kind, Object};
use serde_json::{Value, json};

fn now() -> Timestamp {
    "2026-11-20T12:00:00Z".parse().unwrap()
}

fn provenance() -> Provenance {
    Provenance {
        source: "infra".into(),
        url: "https://git.example.org/infra".into(),
        origin: "apps/web.yaml:12".into(),
        commit: "1a2b3c4d5e6f".into(),
        author: "Ada <ada@example.org>".into(),
        subject: Some("Serve more".into()),
        committed_at: Some("2026-11-20T09:00:00Z".parse().unwrap()),
        owners: vec!["Deployment/web".into(), "ReplicaSet/web-1".into()],
    }
}

fn web(state: Value) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": "web-1-a", "namespace": "shop", "creationTimestamp": "2026-11-20T10:00:00Z"},
        "spec": {"containers": [{"name": "web", "image": "host:"}]},
        "status": {
            "phase": "Running", "podIP": "10.88.0.5", "startTime": "2026-11-20T10:00:00Z",
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-11-20T10:00:01Z"}],
            "containerStatuses": [{
                "name": "web", "image": "host:", "imageID": "", "ready": state.get("running").is_some(),
                "restartCount": 2, "state": state,
                "lastState": {"terminated": {"exitCode": 1, "reason": "Error", "finishedAt": "2026-11-20T11:55:00Z"}},
            }],
        },
    }))
    .unwrap()
}

fn back_off() -> Value {
    json!({"metadata": {}, "type": "Warning", "reason": "BackOff", "message": "Back-off",
        "involvedObject": {"kind": "Pod", "name": "web-1-a"}, "lastTimestamp": "2026-11-20T11:55:00Z"})
}

fn pressure() -> PodPressure {
    let stall = |some, full| Stall { some, full };
    PodPressure { cpu: stall(1205, 0), memory: stall(4, 3), io: Stall::default() }
}

#[test]
fn a_running_pod_reads_like_a_unit_of_systemd() {
    let usage = ContainerUsage {
        name: "web".into(),
        pid: Some(4321),
        status_text: "Serving 3 clients".into(),
        memory_bytes: Some(1_258_292),
        cpu_nanos: Some(12_000_000),
        cgroup: "keel/pod1/web".into(),
        processes: vec![
            InspectedProcess { pid: 4321, command: "/bin/sh serve.sh".into() },
            InspectedProcess { pid: 54330, command: "sleep 1".into() },
        ],
    };
    let report = PodReport {
        pod: web(json!({"running": {"startedAt": "2026-11-20T11:55:01Z"}})),
        provenance: provenance(),
        inspection: Some(PodInspection {
            socket: "/run/keel/pods/uid.sock".into(),
            supervisor_pid: 4320,
            cgroup: "keel/pod1".into(),
            memory_bytes: Some(2_097_152),
            cpu_nanos: Some(1_500_000_000),
            pids: Some(3),
            network: None,
            pressure: Some(pressure()),
            containers: vec![usage],
        }),
        pulls: vec![PullStatus { reference: "docker.io/library/a:b".into(), done: 1 << 20, total: 4 << 20 }],
        log: vec![LogLine {
            at: "2026-11-20T11:59:58Z".parse().unwrap(),
            container: "web".into(),
            text: "Hello".into(),
        }],
        events: vec![serde_json::from_value(back_off()).unwrap()],
    };
    let wanted = "\
● pod/web-1-a - namespace shop
    Loaded: apps/web.yaml:12 from source infra <https://git.example.org/infra>
    Commit: 1a2b3c4 \"Serve more\"
    Author: Ada <ada@example.org>, Fri 2026-11-20 09:00:00 UTC; 3h ago
     Owner: Deployment/web → ReplicaSet/web-1
    Active: active (running) since Fri 2026-11-20 10:00:01 UTC; 1h 59min ago
   Pulling: docker.io/library/a:b 25% (1.0M of 4.0M)
        IP: 10.88.0.5
  Main PID: 4321 (web)
 Container: web [host:] running, PID 4321
    Status: \"Serving 3 clients\"
  Restarts: 2 (5m ago), last ended with Error, exit code 1
     Tasks: 3
    Memory: 2.0M
       CPU: 1.500s
  Pressure: cpu 12.05%, memory 0.04% (all waited: 0.03%), io 0.00% of the last 10 s
    CGroup: /keel/pod1
            ├─4320 (supervisor)
            └─web 1.2M 12ms
              ├─ 4321 /bin/sh serve.sh
              └─54330 sleep 1

Nov 20 11:59:58 web[4321]: Hello

    5m ago  BackOff pod/web-1-a: Back-off
";
    assert_eq!(pod(&report, Paint::OFF, now()), wanted);
}

#[test]
fn a_crashing_pod_says_so_first_and_why() {
    let message = "back-off 40s restarting failed container";
    let report = PodReport {
        pod: web(json!({"waiting": {"reason": "CrashLoopBackOff", "message": message}})),
        ..PodReport::default()
    };
    let text = pod(&report, Paint::OFF, now());
    assert!(text.starts_with("× pod/web-1-a - namespace shop\n    Loaded: not from Git\n"), "{text}");
    assert!(text.contains("    Active: failed (CrashLoopBackOff) since "), "{text}");
    assert!(text.contains(&format!(" Container: web [host:] CrashLoopBackOff: {message}\n")), "{text}");
}

#[test]
fn a_deployment_shows_what_came_of_it_as_a_tree() {
    let template = json!({"spec": {"containers": [{"name": "web", "image": "host:"}]}});
    let spec = json!({"replicas": 2, "selector": {"matchLabels": {"app": "web"}}, "template": template});
    let metadata =
        |name: &str| json!({"name": name, "namespace": "shop", "creationTimestamp": "2026-11-20T10:00:00Z"});
    let of = |kind, value| Object::from_json(kind, value).unwrap();
    let deployment = of(
        Kind::Deployment,
        json!({"metadata": metadata("web"), "spec": spec,
            "status": {"readyReplicas": 1, "updatedReplicas": 2,
                "conditions": [{"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}]}}),
    );
    let set = of(
        Kind::ReplicaSet,
        json!({"metadata": metadata("web-1"), "spec": spec, "status": {"replicas": 2, "readyReplicas": 1}}),
    );
    let child = Object::from(web(json!({"running": {}})));
    let tree =
        Branch { children: vec![branch(&child, Paint::OFF, now())], ..branch(&set, Paint::OFF, now()) };
    let report = WorkloadReport {
        object: deployment,
        provenance: Provenance::default(),
        children: vec![tree],
        events: Vec::new(),
    };
    let wanted = "\
● deployment.apps/web - namespace shop
    Loaded: not from Git
    Active: activating (1 of 2 ready) since Fri 2026-11-20 10:00:00 UTC; 2h ago
   Updated: 2
    Images: host:
  Selector: app=web
 Condition: Progressing: ProgressDeadlineExceeded
      Tree: deployment.apps/web
            └─● replicaset.apps/web-1  1/2  120m
              └─● pod/web-1-a  1/1  Running  2 (5m ago)  120m
";
    assert_eq!(workload(&report, Paint::OFF, now()), wanted);
}

#[test]
fn the_overview_names_what_is_wrong_before_what_is_well() {
    let source = SourceStatus {
        name: "infra".into(),
        url: "https://git.example.org/infra".into(),
        reference: "main".into(),
        result: "Invalid".into(),
        since: "2026-11-20T11:59:00Z".into(),
        commit: "1a2b3c4d5e6f".into(),
        author: "Ada <ada@example.org>".into(),
        committed_at: "2026-11-20T09:00:00Z".into(),
        subject: "Serve more".into(),
        message: "error[unknown-field]: unknown field\n --> web.yaml:7:3\n".into(),
        last_attempt_at: "2026-11-20T11:59:30Z".into(),
    };
    let mut status: AgentStatus = serde_json::from_value(json!({
        "version": "0.1.0", "nodeName": "n1", "pid": 77, "startedAt": "2026-11-20T11:00:00Z",
        "stateDir": "/var/lib/keel", "socket": "/run/keel/keel.sock",
        "pods": {"running": 1, "total": 2}, "containers": {"running": 1},
        "memoryBytes": 31_457_280, "cpuNanos": 2_500_000_000.0_f64, "sources": [], "warnings": [],
        "stalls": {"cpu": {"somePercent": 1.5}, "memory": {}},
    }))
    .unwrap();
    status.sources = vec![source];
    let mut failing = web(json!({"waiting": {"reason": "CrashLoopBackOff"}}));
    failing.metadata.name = Some("zzz".into());
    let pods = [web(json!({"running": {}})), failing];
    let wanted = "\
● n1 - keel 0.1.0
     State: degraded (1 pod fails, 1 source is not in sync)
     Since: Fri 2026-11-20 11:00:00 UTC; 1h ago
  Main PID: 77
    Socket: /run/keel/keel.sock
 State dir: /var/lib/keel
      Pods: 1 running of 2
Containers: 1 running
    Memory: 30.0M (the agent)
       CPU: 2.500s (the agent)
  Pressure: cpu 1.5 %, memory 0.0 % (of the last 10 s)

Sources
× infra: Invalid since Fri 2026-11-20 11:59:00 UTC; 1min ago
      From: https://git.example.org/infra (main)
  In force: 1a2b3c4 \"Serve more\" by Ada, 3h ago
 Last look: Fri 2026-11-20 11:59:30 UTC; 30s ago
    error[unknown-field]: unknown field
     --> web.yaml:7:3

Pods
× shop/zzz       0/1   CrashLoopBackOff   2 (5m ago)   120m
● shop/web-1-a   1/1   Running            2 (5m ago)   120m
";
    assert_eq!(node(&status, &pods, Paint::OFF, now()), wanted);
}
