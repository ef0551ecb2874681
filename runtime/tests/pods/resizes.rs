//! Other limits for containers that run, as the kernel has them.

use crate::node::{Node, Objects, pod};
use runtime::plan::{Resize, Resources, pod_limits, resizes};
use runtime::state::{PodState, Stage};
use serde_json::{Value, json};

const LIMITS: &str = "while :; do cd /sys/fs/cgroup; \
    echo has $(cat memory/memory.limit_in_bytes cpu/cpu.cfs_quota_us || cat memory.max cpu.max); \
    sleep 0.05; done 2>/dev/null";

fn asks(memory: &str, cpu: &str, policy: &Value) -> Value {
    let limits = json!({"memory": memory, "cpu": cpu});
    json!({"resources": {"limits": limits, "requests": limits}, "resizePolicy": policy})
}

/// What the pod would be given if it asked so.
fn changes(node: &Node, state: &PodState, container: &Value) -> (Vec<Resize>, Resources) {
    let pod = pod(&state.uid, LIMITS, container, &json!({}));
    node.with_input(&Node::host_image(), &pod, &Objects::default(), |input| {
        (resizes(input.pod, input.node, state).unwrap(), pod_limits(input.pod, input.node).unwrap())
    })
}

async fn says(node: &Node, uid: &str, run: u32, line: &str) {
    crate::until(line, || node.log(uid, run).contains(line).then_some(())).await;
}

pub(crate) async fn limits_change_while_a_container_runs(node: Node) {
    let small = asks("64Mi", "250m", &json!([]));
    let spec = json!({"restartPolicy": "Always"});
    node.launch_plan(&node.built("live", LIMITS, &small, &spec)).await;
    says(&node, "live", 0, "F has 67108864 25000").await;
    let before = node.wait("live", |state| crate::pid(state).is_some()).await;
    assert_eq!(changes(&node, &before, &small).0, []);
    for (memory, cpu, line) in
        [("128Mi", "500m", "F has 134217728 50000"), ("32Mi", "100m", "F has 33554432 10000")]
    {
        let (mut change, pod) = changes(&node, &before, &asks(memory, cpu, &json!([])));
        let change = change.remove(0);
        assert!(!change.restart);
        node.runtime().resize("live", change, pod).await.unwrap();
        says(&node, "live", 0, line).await;
    }
    let after = node.wait("live", |state| state.limits["main"].memory_bytes == Some(32 << 20)).await;
    assert_eq!((crate::pid(&after), after.containers[0].restarts), (crate::pid(&before), 0));
    // The next run has them too.
    node.runtime().signal("live", "main", 9).await.unwrap();
    says(&node, "live", 1, "F has 33554432 10000").await;
    // A policy can ask for a new start.
    let policy = json!([{"resourceName": "memory", "restartPolicy": "RestartContainer"}]);
    let (mut change, pod) = changes(&node, &after, &asks("96Mi", "100m", &policy));
    node.runtime().resize("live", change.remove(0), pod).await.unwrap();
    says(&node, "live", 2, "F has 100663296 10000").await;
    // What is used cannot be taken away.
    let (mut change, pod) = changes(&node, &after, &asks("4Ki", "100m", &json!([])));
    let refused = node.runtime().resize("live", change.remove(0), pod).await;
    assert!(refused.unwrap_err().to_string().contains("memory"));
    assert!(crate::pid(&node.runtime().observe()["live"]).is_some());
    node.runtime().stop("live", 0).await.unwrap();
    node.wait("live", |state| state.stage == Stage::Finished).await;
}
