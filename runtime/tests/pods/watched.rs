//! Probes, hooks and sidecars, seen from inside of the containers.

use crate::node::{Node, pod};
use runtime::state::{ContainerState, PodState, Stage};
use serde_json::{Value, json};
use std::fs;

/// Serves HTTP on port 8080 with busybox: `/ready` answers once `/tmp/www/ready` is there.
const SERVER: &str = "mkdir -p /tmp/www; cd /tmp/www; exec busybox httpd -f -p 8080 -h /tmp/www";

fn quick(probe: Value) -> Value {
    let mut probe = probe;
    for (field, number) in [("periodSeconds", 1), ("timeoutSeconds", 5), ("failureThreshold", 1)] {
        probe.as_object_mut().unwrap().entry(field).or_insert(json!(number));
    }
    probe
}

fn ready(state: &PodState) -> bool {
    state.containers[0].ready
}

fn reasons(state: &PodState) -> Vec<String> {
    state.notices.iter().map(|notice| format!("{}: {}", notice.reason, notice.message)).collect()
}

async fn end(node: &Node, uid: &str) -> PodState {
    node.runtime().stop(uid, 1).await.unwrap();
    node.wait(uid, |state| state.stage == Stage::Finished).await
}

pub(crate) async fn readiness_follows_what_the_server_answers(node: Node) {
    let folder = node.folder("www");
    let container = json!({
        "readinessProbe": quick(json!({"httpGet": {"path": "/ready", "port": "web"}})),
        "ports": [{"name": "web", "containerPort": 8080}],
        "volumeMounts": [{"name": "www", "mountPath": "/tmp/www"}],
    });
    let spec = json!({"volumes": [{"name": "www", "hostPath": {"path": folder}}]});
    node.launch_plan(&node.built("ready", SERVER, &container, &spec)).await;
    let state = node.wait("ready", |state| reasons(state).iter().any(|one| one.contains("404"))).await;
    assert!(!ready(&state) && state.containers[0].started);
    fs::write(folder.join("ready"), "yes").unwrap();
    node.wait("ready", ready).await;
    fs::remove_file(folder.join("ready")).unwrap();
    let state = node.wait("ready", |state| !ready(state)).await;
    assert_eq!(state.containers[0].restarts, 0);
    let told = reasons(&state).pop().unwrap();
    assert_eq!(told, "Unhealthy: Readiness probe failed: HTTP probe failed with statuscode: 404");
    end(&node, "ready").await;
}

pub(crate) async fn a_failed_liveness_probe_restarts_the_container(node: Node) {
    let folder = node.folder("alive");
    fs::write(folder.join("alive"), "").unwrap();
    let container = json!({
        "livenessProbe": quick(json!({"exec": {"command": ["test", "-e", "/tmp/www/alive"]}})),
        "startupProbe": quick(json!({"tcpSocket": {"port": 8080}, "failureThreshold": 30})),
        "volumeMounts": [{"name": "www", "mountPath": "/tmp/www"}],
    });
    let spec = json!({"restartPolicy": "Always", "volumes": [{"name": "www", "hostPath": {"path": folder}}]});
    node.launch_plan(&node.built("alive", SERVER, &container, &spec)).await;
    let first = node.wait("alive", |state| state.containers[0].started).await;
    fs::remove_file(folder.join("alive")).unwrap();
    let state = node.wait("alive", |state| state.containers[0].restarts == 1).await;
    assert!(reasons(&state).contains(&"Unhealthy: Liveness probe failed: command exited with 1".to_owned()));
    assert!(
        reasons(&state)
            .contains(&"Killing: Container main failed liveness probe, will be restarted".to_owned())
    );
    fs::write(folder.join("alive"), "").unwrap();
    let again = node.wait("alive", |state| state.containers[0].started).await;
    assert_ne!(crate::pid(&first), crate::pid(&again));
    end(&node, "alive").await;
}

pub(crate) async fn a_probe_that_hangs_is_timed_out(node: Node) {
    let container = json!({"readinessProbe": {"exec": {"command": ["sleep", "1000"]}, "timeoutSeconds": 1,
        "periodSeconds": 1, "failureThreshold": 1}});
    node.launch_plan(&node.built("hang", "exec sleep 1000", &container, &json!({}))).await;
    let state = node.wait("hang", |state| !state.notices.is_empty()).await;
    assert_eq!(reasons(&state)[0], "Unhealthy: Readiness probe failed: command timed out");
    end(&node, "hang").await;
}

pub(crate) async fn hooks_run_in_the_container_after_its_start_and_before_its_end(node: Node) {
    let script = "trap 'cat /tmp/stopping; exit 0' TERM; until test -e /tmp/started; do sleep 0.05; done; \
                  cat /tmp/started; while :; do sleep 0.05; done";
    let write = |what: &str| json!({"exec": {"command": ["sh", "-c", format!("echo {what} $$ > /tmp/new; mv /tmp/new /tmp/{what}")]}});
    let container = json!({"lifecycle": {"postStart": write("started"), "preStop": write("stopping")}});
    let spec = json!({"terminationGracePeriodSeconds": 20});
    node.launch_plan(&node.built("hooks", script, &container, &spec)).await;
    crate::until("the start", || node.log("hooks", 0).contains("F started").then_some(())).await;
    node.runtime().stop("hooks", 20).await.unwrap();
    let state = node.wait("hooks", |state| state.stage == Stage::Finished).await;
    let log = node.log("hooks", 0);
    // In the container's own PID namespace, where it is not the first process.
    assert!(log.contains("F started ") && log.contains("F stopping "), "{log} {state:#?}");
    assert!(!log.contains("F started 1\n"), "{log}");
    assert_eq!(crate::ended(&state).unwrap().exit_code, 0);
}

pub(crate) async fn a_hook_that_fails_is_told_and_ends_the_container(node: Node) {
    let container =
        json!({"lifecycle": {"postStart": {"exec": {"command": ["sh", "-c", "echo why; exit 3"]}}}});
    node.launch_plan(&node.built("bad", "exec sleep 1000", &container, &json!({}))).await;
    let state = node.wait("bad", |state| state.stage == Stage::Finished).await;
    assert_eq!(reasons(&state)[0], "FailedPostStartHook: PostStartHook failed: why");
    // The first process of a PID namespace does not get a SIGTERM that it does not handle.
    assert_eq!(crate::ended(&state).unwrap().exit_code, 137);
}

pub(crate) async fn sidecars_serve_from_before_to_after(node: Node) {
    let server = json!({"name": "side", "image": "any", "restartPolicy": "Always",
        "command": ["sh", "-c", SERVER],
        "startupProbe": quick(json!({"tcpSocket": {"port": 8080}, "failureThreshold": 30}))});
    let setup = json!({"name": "setup", "image": "any",
        "command": ["sh", "-c", "busybox nc 127.0.0.1 8080 < /dev/null && echo served"]});
    let spec = json!({"initContainers": [server, setup]});
    // What needs the sidecar runs to its end; then the sidecar is ended too.
    let script = "busybox nc 127.0.0.1 8080 < /dev/null && echo served";
    node.launch_plan(&node.built("side", script, &json!({}), &spec)).await;
    let state = node.wait("side", |state| state.stage == Stage::Finished).await;
    assert!(node.log("side", 0).contains("F served"), "{state:#?}");
    let codes = state.init_containers.iter().map(|one| match &one.state {
        ContainerState::Terminated(end) => end.exit_code,
        ContainerState::Waiting { .. } | ContainerState::Running { .. } => -1,
    });
    let codes: Vec<_> = codes.collect();
    assert_eq!((codes[1], crate::ended(&state).unwrap().exit_code), (0, 0), "{codes:?}");
    assert_ne!(codes[0], -1);
}

pub(crate) async fn the_last_words_come_from_where_they_were_asked_for(node: Node) {
    let container = json!({"terminationMessagePath": "/tmp/why", "terminationMessagePolicy": "File"});
    node.output_of(&node.built("file", "echo talk; echo written > /tmp/why; exit 1", &container, &json!({})))
        .await;
    let state = node.runtime().observe().remove("file").unwrap();
    assert_eq!(crate::ended(&state).unwrap().message, "written\n");
    let container = json!({"terminationMessagePolicy": "FallbackToLogsOnError"});
    node.output_of(&node.built("logs", "echo one; echo two; exit 1", &container, &json!({}))).await;
    let state = node.runtime().observe().remove("logs").unwrap();
    assert_eq!(crate::ended(&state).unwrap().message, "one\ntwo");
}

pub(crate) async fn rules_and_signals_of_a_container_are_its_own(node: Node) {
    // Never, but for code 42: it runs twice.
    let container = json!({"restartPolicy": "Never", "restartPolicyRules":
        [{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}],
        "volumeMounts": [{"name": "d", "mountPath": "/d"}]});
    let spec = json!({"restartPolicy": "Always", "volumes": [{"name": "d", "emptyDir": {}}]});
    let script = "if mkdir /d/second; then exit 42; fi; exit 7";
    node.launch_plan(&node.built("rules", script, &container, &spec)).await;
    let state = node.wait("rules", |state| state.stage == Stage::Finished).await;
    assert_eq!((state.containers[0].restarts, crate::ended(&state).unwrap().exit_code), (1, 7));
    let script = "trap 'echo one; exit 0' USR1; echo up; while :; do sleep 0.05; done";
    let container = json!({"lifecycle": {"stopSignal": "SIGUSR1"}});
    let plan = node.built_from("signal", Node::host_image(), &pod("signal", script, &container, &json!({})));
    node.launch_plan(&plan).await;
    crate::until("the trap", || node.log("signal", 0).contains("F up").then_some(())).await;
    node.runtime().stop("signal", 20).await.unwrap();
    let state = node.wait("signal", |state| state.stage == Stage::Finished).await;
    assert!(node.log("signal", 0).contains("F one"), "{state:#?}");
}
