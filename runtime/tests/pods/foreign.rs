//! Containers that crun makes.

use crate::isolation::image;
use crate::node::{Node, pod};
use runtime::plan::{Handler, PodPlan};
use runtime::pods::ExecSpec;
use runtime::state::Stage;
use serde_json::{Value, json};

fn plan(node: &Node, uid: &str, text: &str, container: &Value, spec: &Value) -> PodPlan {
    let mut plan = node.built_from(uid, image(node, ""), &pod(uid, text, container, spec));
    plan.security.handler = Some(Handler {
        name: "crun".into(),
        path: "/usr/bin/crun".into(),
        root: None,
        arguments: vec!["--cgroup-manager=disabled".into()],
    });
    plan
}

pub(crate) async fn another_runtime_makes_the_containers(node: Node) {
    let text = "trap 'echo asked; exit 7' TERM; id -u; busybox hostname; cat /data/own /etc/hosts; \
                busybox ip addr show lo; grep -E '^(Seccomp|CapEff|NoNewPrivs):' /proc/self/status; \
                echo why > /dev/termination-log; echo oops >&2; busybox ps; echo up; \
                while :; do busybox sleep 0.1; done";
    let container = json!({
        "securityContext": {"runAsUser": 101, "allowPrivilegeEscalation": false},
        "resources": {"limits": {"memory": "64Mi"}},
        "volumeMounts": [{"name": "data", "mountPath": "/data", "subPath": "part"}]});
    let data = node.folder("data");
    std::fs::create_dir(data.join("part")).unwrap();
    std::fs::write(data.join("part/own"), "of the volume\n").unwrap();
    let spec =
        json!({"restartPolicy": "OnFailure", "volumes": [{"name": "data", "hostPath": {"path": data}}]});
    node.launch_plan(&plan(&node, "other", text, &container, &spec)).await;
    let log =
        crate::until("its word", || Some(node.log("other", 0)).filter(|log| log.contains("F up"))).await;
    for line in [
        "F 101\n",
        "F other\n",
        "F of the volume\n",
        "LOOPBACK,UP",
        "Seccomp:\t2",
        "NoNewPrivs:\t1",
        "stderr F oops",
    ] {
        assert!(log.contains(line), "{line:?} in {log}");
    }
    // It is where our own would be: in its cgroup, with crun in its history only.
    let state = node.wait("other", |state| crate::pid(state).is_some()).await;
    let pid = crate::pid(&state).unwrap();
    let read = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap();
    assert!(
        read("cgroup").contains("podother/main") && read("cmdline").starts_with("/bin/sh"),
        "{}",
        read("cmdline")
    );
    let args = ["sh", "-c", "id -u; cat /data/own; exit 5"].map(Into::into).into();
    let enter = ExecSpec { container: "main".into(), args, ..ExecSpec::default() };
    let (code, said, _) = crate::inside::inside(&node, "other", enter, b"").await;
    assert_eq!((code.unwrap(), said.as_str()), (5, "101\nof the volume\n"));
    // It is restarted, stopped, and its exit code told.
    node.runtime().signal("other", "main", 9).await.unwrap();
    let again =
        node.wait("other", |state| state.containers[0].restarts == 1 && crate::pid(state).is_some()).await;
    assert_eq!(again.containers[0].last.as_ref().unwrap().signal, Some(9));
    crate::until("its word", || node.log("other", 1).contains("F up").then_some(())).await;
    node.runtime().stop("other", 10).await.unwrap();
    let end = crate::to_the_end(&node, "other").await;
    assert_eq!((end.exit_code, end.message.as_str()), (7, "why\n"), "{end:?}");
    assert!(node.log("other", 1).contains("F asked"));
}

pub(crate) async fn what_another_runtime_cannot_make_is_told(node: Node) {
    let mut broken = plan(&node, "broken", "", &json!({}), &json!({}));
    broken.security.handler.as_mut().unwrap().arguments.push("--no-such-option".into());
    node.launch_plan(&broken).await;
    let state = node.wait("broken", |state| state.stage == Stage::Finished).await;
    let end = crate::ended(&state).unwrap();
    assert_eq!((end.exit_code, end.reason.as_str()), (128, "StartError"));
    assert!(end.message.contains("the runtime could not create it"), "{}", end.message);
}
