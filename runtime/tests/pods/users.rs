//! Pods whose users are nobody on the host.

use crate::isolation::{image, own};
use crate::node::{Node, pod};
use runtime::pods::ExecSpec;
use serde_json::{Value, json};
use std::fs;

const SCRIPT: &str = "mkdir -p /tmp; cat /proc/self/uid_map; id; \
    touch /mine /data/mine /dev/shm/mine /memory/mine; \
    stat -c '%n %u %g' / /etc /bin/busybox /mine /data /data/mine /dev/shm/mine /memory/mine /etc/hosts /dev; \
    chown 12:34 /mine && stat -c '%n %u %g' /mine; \
    echo why > /dev/termination-log; \
    mount -t tmpfs none /tmp && echo mounted; umount /proc/sys && echo unmasked; \
    umount /proc/kcore && echo unmasked; mknod /tmp/disk b 254 0 && echo made; \
    echo 1 > /proc/sys/kernel/panic; hostname other && echo named; \
    readlink /proc/self/ns/user; echo up; exec sleep 1000";

fn object(uid: &str) -> Value {
    let container = json!({
        "securityContext": {"capabilities": {"add": ["SYS_ADMIN"]}},
        "volumeMounts": [{"name": "data", "mountPath": "/data"}, {"name": "memory", "mountPath": "/memory"}]});
    let spec = json!({"hostUsers": false, "volumes": [
        {"name": "data", "emptyDir": {}}, {"name": "memory", "emptyDir": {"medium": "Memory"}}]});
    pod(uid, SCRIPT, &container, &spec)
}

/// What the run says until it is up.
async fn said(node: &Node, uid: &str, run: u32) -> String {
    crate::until("its word", || Some(node.log(uid, run)).filter(|log| log.contains("F up"))).await
}

/// The host's id of the pod's root.
fn first(log: &str) -> u32 {
    let line = log.lines().find(|line| line.ends_with(" 65536")).unwrap();
    line.split_whitespace().rev().nth(1).unwrap().parse().unwrap()
}

/// Filesystems in memory have owners by mount since Linux 6.3.
pub(crate) fn kernel_can() -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    (numbers.next(), numbers.next()) >= (Some(6), Some(3))
}

pub(crate) async fn a_pod_can_have_users_of_its_own(mut node: Node) {
    let plan = node.built_from("own", image(&node, ""), &object("own"));
    if !kernel_can() {
        node.launch_plan(&plan).await;
        let end = crate::to_the_end(&node, "own").await;
        assert!(end.message.ends_with("users of its own (hostUsers: false)"), "{end:?}");
        return;
    }
    node.launch_plan(&plan).await;
    node.launch_plan(&node.built_from("host", Node::host_image(), &object("host"))).await;
    let log = said(&node, "own", 0).await;
    assert_ne!(first(&log), first(&said(&node, "host", 0).await), "ranges overlap");
    for line in [
        "F uid=0(root) gid=0",
        "F /mine 0 0",
        "F /data/mine 0 0",
        "F /memory/mine 0 0",
        "F /etc/hosts 0 0",
        "F /mine 12 34",
        "F /bin/busybox 0 0",
        "F / 0 0",
        "F /dev 0 0",
        "F named",
        "F mounted",
    ] {
        assert!(log.contains(line), "{line:?} in {log}");
    }
    for word in ["F unmasked", "F made", &own("user")] {
        assert!(!log.contains(word), "{word:?} in {log}");
    }
    // On the host its root is nobody.
    let state = node.wait("own", |state| crate::pid(state).is_some()).await;
    let status = fs::read_to_string(format!("/proc/{}/status", crate::pid(&state).unwrap())).unwrap();
    assert!(status.contains(&format!("Uid:\t{}\t", first(&log))), "{status}");
    // What comes in later is no more.
    let args = ["sh", "-c", "id -u; cat /proc/self/uid_map"].map(Into::into).into();
    let enter = ExecSpec { container: "main".into(), args, ..ExecSpec::default() };
    let (code, said_inside, _) = crate::inside::inside(&node, "own", enter, b"").await;
    assert_eq!(code.unwrap(), 0);
    assert!(
        said_inside.starts_with("0\n") && said_inside.contains(&first(&log).to_string()),
        "{said_inside}"
    );
    // The same ids after its supervisor was lost.
    node.detach();
    let supervisor = rustix::process::Pid::from_raw(state.supervisor_pid).unwrap();
    rustix::process::kill_process(supervisor, rustix::process::Signal::KILL).unwrap();
    node.attach().await;
    node.wait("own", |state| state.stage == runtime::state::Stage::Lost).await;
    node.launch_plan(&plan).await;
    assert_eq!(first(&said(&node, "own", 1).await), first(&log));
    for uid in ["own", "host"] {
        node.runtime().stop(uid, 0).await.unwrap();
    }
}

pub(crate) async fn a_pod_has_the_users_that_it_is_asked_to(node: Node) {
    if !kernel_can() {
        return;
    }
    let script = "cat /proc/self/uid_map /proc/self/gid_map";
    let object = pod("asked", script, &json!({}), &json!({"hostUsers": false, "restartPolicy": "Never"}));
    let mut plan = node.built_from("asked", image(&node, ""), &object);
    (plan.security.first_id, plan.security.id_count) = (Some(300_000), Some(100_000));
    let said = node.output_of(&plan).await;
    let maps = said.lines().filter(|line| line.split_whitespace().skip(3).eq(["0", "300000", "100000"]));
    assert_eq!(maps.count(), 2, "{said}");
}
