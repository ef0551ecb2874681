//! Each field of probes and hooks, as servers in the pod's network and the container see it.

use crate::listener::{Server, create, start};
use crate::node::{ADDRESS, Node, until};
use runtime::state::Stage;
use serde_json::json;
use std::time::{Duration, Instant};

/// Ends at once when it is asked to.
const SERVE: &str = "trap 'echo asked; exit 0' TERM; echo up; while :; do sleep 0.05; done";

fn lines(text: &str, name: &str) -> usize {
    text.lines().filter(|line| line.to_ascii_lowercase().starts_with(name)).count()
}

pub(crate) async fn a_probe_asks_where_and_what_it_was_told_to(node: Node) {
    let headers = json!([{"name": "X-Word", "value": "yes"}, {"name": "Host", "value": "example.org"}]);
    let container = json!({
        "ports": [{"name": "web", "containerPort": 8082}],
        "startupProbe": {"tcpSocket": {"port": 8083, "host": "127.0.0.6"},
            "periodSeconds": 1, "failureThreshold": 100},
        "readinessProbe": {"httpGet": {"path": "/ready?deep=1", "port": 8081, "httpHeaders": headers},
            "periodSeconds": 1},
        "livenessProbe": {"httpGet": {"path": "/alive", "port": "web", "host": "127.0.0.5",
            "scheme": "HTTP"}, "periodSeconds": 1, "failureThreshold": 100},
    });
    create(&node, &node.built("asks", SERVE, &container, &json!({}))).await;
    let [mut ready, mut alive, mut started] =
        [8081, 8082, 8083].map(|port| Server::at(&node, "asks", port, "204 No Content"));
    start(&node, "asks").await;
    assert_eq!(started.next().await.to.to_string(), "127.0.0.6:8083");
    let asked = ready.next().await;
    assert_eq!(asked.to.to_string(), format!("{ADDRESS}:8081"));
    assert!(asked.text.starts_with("GET /ready?deep=1 HTTP/1.1\r\n"), "{}", asked.text);
    for line in ["\r\nX-Word: yes\r\n", "\r\nHost: example.org\r\n", "\r\nUser-Agent: kube-probe/"] {
        assert!(asked.text.contains(line), "{line:?} in {}", asked.text);
    }
    assert_eq!(lines(&asked.text, "host:"), 1, "{}", asked.text);
    let asked = alive.next().await;
    assert_eq!(asked.to.to_string(), "127.0.0.5:8082");
    assert!(asked.text.starts_with("GET /alive HTTP/1.1\r\n"), "{}", asked.text);
    assert!(asked.text.contains("\r\nHost: 127.0.0.5:8082\r\n"), "{}", asked.text);
    node.runtime().stop("asks", 5).await.unwrap();
    node.wait("asks", |state| state.stage == Stage::Finished).await;
}

/// Tries of a probe that takes longer than a second, and would for ever.
const TRIES: &str = "echo try >> /d/tries; sleep 1.2; echo long >> /d/tries; exec sleep 1000";

pub(crate) async fn a_probe_waits_and_counts_as_it_was_told(node: Node) {
    // What hangs is given three seconds, twice; then the container has one second for its end. The
    // next run's first try comes when that run has looked at those before.
    let hangs = json!({
        "livenessProbe": {"exec": {"command": ["sh", "-c", TRIES]}, "periodSeconds": 1, "initialDelaySeconds": 1,
            "timeoutSeconds": 3, "failureThreshold": 2, "terminationGracePeriodSeconds": 1},
        "volumeMounts": [{"name": "d", "mountPath": "/d"}],
    });
    let script = "trap 'echo deaf' TERM; cat /d/tries; echo begun; while :; do sleep 0.1; done";
    let spec = json!({"restartPolicy": "Always", "terminationGracePeriodSeconds": 1000,
        "volumes": [{"name": "d", "emptyDir": {}}]});
    node.launch_plan(&node.built("hangs", script, &hangs, &spec)).await;

    let waits = json!({"readinessProbe": {"httpGet": {"port": 8081}, "initialDelaySeconds": 1,
        "periodSeconds": 2, "successThreshold": 2}});
    create(&node, &node.built("waits", SERVE, &waits, &json!({}))).await;
    let mut server = Server::at(&node, "waits", 8081, "200 OK");
    let began = Instant::now();
    start(&node, "waits").await;
    node.wait("waits", |state| state.containers[0].ready).await;
    assert!(server.count() >= 2, "ready after {} answers", server.count());
    let (first, second) = (server.next().await, server.next().await);
    assert!(first.text.starts_with("GET / HTTP/1.1\r\n"), "{}", first.text);
    assert!(first.at - began >= Duration::from_secs(1), "{:?}", first.at - began);
    // The first one may be late, the second not early.
    assert!(second.at - first.at >= Duration::from_secs(1), "{:?}", second.at - first.at);

    let log = until("a second run", || Some(node.log("hangs", 1)).filter(|log| log.contains("begun"))).await;
    assert_eq!((log.matches("F try\n").count(), log.matches("F long\n").count()), (2, 2), "{log}");
    assert!(node.log("hangs", 0).contains("F deaf"), "{}", node.log("hangs", 0));
    for uid in ["hangs", "waits"] {
        node.runtime().stop(uid, 0).await.unwrap();
    }
}

pub(crate) async fn hooks_of_every_kind_reach_whom_they_name(node: Node) {
    let headers = json!([{"name": "X-Word", "value": "yes"}]);
    let http = json!({
        "ports": [{"name": "web", "containerPort": 8081}],
        "lifecycle": {
            "postStart": {"httpGet": {"path": "/started", "port": "web", "httpHeaders": headers}},
            "preStop": {"httpGet": {"path": "/stopping", "port": 8082, "host": "127.0.0.5"}},
        },
    });
    create(&node, &node.built("http", SERVE, &http, &json!({}))).await;
    let [mut started, mut stopping] = [8081, 8082].map(|port| Server::at(&node, "http", port, "200 OK"));
    start(&node, "http").await;
    let asked = started.next().await;
    assert_eq!(asked.to.to_string(), format!("{ADDRESS}:8081"));
    assert!(asked.text.starts_with("GET /started ") && asked.text.contains("\r\nX-Word: yes\r\n"));
    until("the trap", || node.log("http", 0).contains("F up").then_some(())).await;

    let tcp = json!({"lifecycle": {
        "postStart": {"tcpSocket": {"port": 8083}},
        "preStop": {"tcpSocket": {"port": 8084, "host": "127.0.0.6"}},
    }});
    create(&node, &node.built("tcp", SERVE, &tcp, &json!({}))).await;
    let [mut connected, mut leaving] = [8083, 8084].map(|port| Server::at(&node, "tcp", port, "200 OK"));
    start(&node, "tcp").await;
    assert_eq!(connected.next().await.to.to_string(), format!("{ADDRESS}:8083"));
    until("the trap", || node.log("tcp", 0).contains("F up").then_some(())).await;

    let rest = json!({"lifecycle":
        {"postStart": {"sleep": {"seconds": 1}}, "preStop": {"sleep": {"seconds": 1}}}});
    let began = Instant::now();
    node.launch_plan(&node.built("sleep", SERVE, &rest, &json!({}))).await;
    node.wait("sleep", |state| state.containers[0].started).await;
    assert!(began.elapsed() >= Duration::from_secs(1), "{:?}", began.elapsed());
    until("the trap", || node.log("sleep", 0).contains("F up").then_some(())).await;

    let began = Instant::now();
    for uid in ["http", "tcp", "sleep"] {
        node.runtime().stop(uid, 20).await.unwrap();
    }
    assert_eq!(stopping.next().await.to.to_string(), "127.0.0.5:8082");
    assert_eq!(leaving.next().await.to.to_string(), "127.0.0.6:8084");
    until("the end", || node.log("sleep", 0).contains("F asked").then_some(())).await;
    assert!(began.elapsed() >= Duration::from_secs(1), "{:?}", began.elapsed());
    for uid in ["http", "tcp", "sleep"] {
        let state = node.wait(uid, |state| state.stage == Stage::Finished).await;
        assert_eq!(crate::ended(&state).unwrap().exit_code, 0, "{uid}");
    }
}

pub(crate) async fn policies_and_deadlines_end_or_repeat_a_run(node: Node) {
    let volumes = json!([{"name": "d", "emptyDir": {}}]);
    let container = json!({"volumeMounts": [{"name": "d", "mountPath": "/d"}]});
    // Fails once, then succeeds.
    let script = "mkdir /d/once && exit 3; echo second";
    for (uid, policy, runs) in [("on-failure", "OnFailure", 2), ("never", "Never", 1)] {
        let spec = json!({"restartPolicy": policy, "volumes": volumes});
        node.launch_plan(&node.built(uid, script, &container, &spec)).await;
        let state = node.wait(uid, |state| state.stage == Stage::Finished).await;
        assert_eq!(node.log(uid, 1).contains("F second"), runs == 2, "{state:#?}");
        assert!(!node.logs(uid).join("2.log").exists());
    }
    // Who succeeds is repeated by Always alone.
    let spec = json!({"restartPolicy": "Always", "volumes": volumes});
    node.launch_plan(&node.built("always", "echo again", &container, &spec)).await;
    until("a second run", || node.log("always", 1).contains("F again").then_some(())).await;
    node.runtime().stop("always", 0).await.unwrap();

    let spec = json!({"restartPolicy": "Always", "activeDeadlineSeconds": 1,
        "terminationGracePeriodSeconds": 20});
    let began = Instant::now();
    node.launch_plan(&node.built("deadline", SERVE, &json!({}), &spec)).await;
    node.wait("deadline", |state| state.stage == Stage::Finished).await;
    assert!(began.elapsed() >= Duration::from_secs(1), "{:?}", began.elapsed());
    assert!(node.log("deadline", 0).contains("F asked"), "{}", node.log("deadline", 0));
    assert!(!node.logs("deadline").join("1.log").exists());
}
