//! Amounts of a whole pod, as its cgroup has them.

use crate::node::Node;
use runtime::cgroup::Cgroups;
use serde_json::{Value, json};
use std::fs;

fn limits(cpu: &str, memory: &str) -> Value {
    json!({"limits": {"cpu": cpu, "memory": memory}})
}

/// A limit of memory in bytes, of CPU in thousandths, and the share of CPU, of the group in the kernel.
fn kernel(group: &str) -> (Option<u64>, Option<u64>, String) {
    let read = |path: String| fs::read_to_string(format!("/sys/fs/cgroup/{path}")).unwrap().trim().to_owned();
    if Cgroups::detect().unwrap().is_v2() {
        let cpu = read(format!("{group}/cpu.max"));
        let cpu = cpu.split(' ').next().and_then(|quota| quota.parse::<u64>().ok());
        let memory = read(format!("{group}/memory.max")).parse().ok();
        return (memory, cpu.map(|quota| quota / 100), read(format!("{group}/cpu.weight")));
    }
    let memory = read(format!("memory/{group}/memory.limit_in_bytes")).parse().ok();
    let cpu = read(format!("cpu/{group}/cpu.cfs_quota_us")).parse::<u64>().ok();
    let shares = read(format!("cpu/{group}/cpu.shares"));
    (memory.filter(|&bytes: &u64| bytes < 1 << 60), cpu.map(|quota| quota / 100), shares)
}

/// What the kernel has of a pod like this while it runs.
async fn of_pod(
    node: &Node,
    uid: &str,
    container: &Value,
    spec: &Value,
) -> (Option<u64>, Option<u64>, String) {
    node.launch_plan(&node.built(uid, "exec sleep 1000", container, spec)).await;
    let state = node.wait(uid, |state| crate::pid(state).is_some()).await;
    let found = kernel(&state.cgroup);
    node.runtime().stop(uid, 0).await.unwrap();
    found
}

/// v1's shares of CPU in the words of this kernel.
fn shares(shares: u64) -> String {
    let weight = 1 + (shares - 2) * 9999 / 262_142;
    if Cgroups::detect().unwrap().is_v2() { weight.to_string() } else { shares.to_string() }
}

pub(crate) async fn a_pods_own_limits_stand_over_its_containers(node: Node) {
    let own = json!({"resources": {"limits": {"cpu": "750m", "memory": "96Mi"},
        "requests": {"cpu": "500m", "memory": "64Mi"}}});
    let found = of_pod(&node, "own", &json!({}), &own).await;
    assert_eq!(found, (Some(96 << 20), Some(750), shares(512)));
    // Else they are what the containers have together, one that has none among them: none.
    let one = json!({"resources": limits("250m", "64Mi")});
    let more = |resources: Value| json!({"containers": [{"name": "more", "image": "any", "command": ["sleep", "1000"], "resources": resources}]});
    let found = of_pod(&node, "sum", &one, &more(limits("500m", "32Mi"))).await;
    assert_eq!(found, (Some(96 << 20), Some(750), shares(768)));
    let found = of_pod(&node, "none", &one, &more(json!({}))).await;
    assert_eq!(found, (None, None, shares(256)));
    // A sidecar is there together with the containers, another init container is not.
    let init = json!([
        {"name": "side", "image": "any", "restartPolicy": "Always", "command": ["sleep", "1000"],
            "resources": limits("100m", "16Mi")},
        {"name": "first", "image": "any", "command": ["true"], "resources": limits("400m", "80Mi")},
    ]);
    let found = of_pod(&node, "init", &one, &json!({"initContainers": init})).await;
    assert_eq!(found, (Some(96 << 20), Some(500), shares(512)));
}

pub(crate) async fn what_a_pod_costs_beside_its_containers_is_on_top(node: Node) {
    let one = json!({"resources": limits("250m", "64Mi")});
    let spec = json!({"overhead": {"cpu": "250m", "memory": "32Mi"}});
    let found = of_pod(&node, "over", &one, &spec).await;
    assert_eq!(found, (Some(96 << 20), Some(500), shares(512)));
    // Without a limit there is none, but it has its share.
    let found = of_pod(&node, "free", &json!({}), &spec).await;
    assert_eq!(found, (None, None, shares(256)));
}

pub(crate) async fn huge_pages_are_limited_where_the_kernel_can_and_harm_nowhere(node: Node) {
    // As a kubelet asks for them: each size, those that the machine has not too.
    let mut plan = node.built("none", "echo runs", &json!({}), &json!({}));
    plan.containers[0].resources.hugepages = [(2 << 20, 0), (1 << 30, 0), (64 << 10, 0)].into();
    assert!(node.output_of(&plan).await.contains("F runs"));
    let some = json!({"resources": {"limits": {"hugepages-2Mi": "4Mi", "memory": "64Mi"}}});
    node.launch_plan(&node.built("some", "exec sleep 1000", &some, &json!({}))).await;
    let state = node.wait("some", |state| crate::pid(state).is_some()).await;
    let files = ["hugetlb.2MB.limit_in_bytes", "hugetlb.2MB.max"];
    let group = format!("{}/main", state.cgroup);
    let places = ["/sys/fs/cgroup/hugetlb", "/sys/fs/cgroup"];
    let at = places.iter().flat_map(|place| files.map(|file| format!("{place}/{group}/{file}")));
    let found: Vec<_> = at.filter_map(|path| fs::read_to_string(path).ok()).collect();
    let controllers = fs::read_to_string("/proc/cgroups").unwrap();
    let has = controllers.lines().any(|line| line.starts_with("hugetlb\t") && line.ends_with("\t1"));
    assert!(found.iter().all(|bytes| bytes.trim() == "4194304"), "{found:?}");
    assert!(!has || !found.is_empty() || !std::path::Path::new("/sys/fs/cgroup/hugetlb").exists());
    node.runtime().stop("some", 0).await.unwrap();
}
