//! What security contexts give and take, as the kernel has it of the container's processes.

use crate::isolation::image;
use crate::node::{Node, pod};
use serde_json::{Value, json};
use std::fs;

fn context(context: &Value) -> Value {
    json!({"securityContext": context})
}

/// The sets of capabilities of this process that the kernel has, as it writes them.
fn set(log: &str, name: &str) -> u64 {
    let line = log.lines().find_map(|line| line.split_once(&format!("{name}:\t"))).unwrap().1;
    u64::from_str_radix(line, 16).unwrap()
}

const CAPABILITIES: &str = "grep -E '^Cap' /proc/self/status";
const NET_ADMIN: u64 = 1 << 12;
const MKNOD: u64 = 1 << 27;
/// containerd's default.
const USUAL: u64 = 0xa804_25fb;

pub(crate) async fn capabilities_are_added_and_dropped(node: Node) {
    let own = fs::read_to_string("/proc/self/status").unwrap();
    let all = set(&own, "CapEff");
    for (uid, change, wanted) in [
        ("one", json!({"add": ["NET_ADMIN"], "drop": ["ALL"]}), NET_ADMIN),
        ("both", json!({"add": ["NET_ADMIN"], "drop": ["MKNOD"]}), (USUAL | NET_ADMIN) & !MKNOD),
        ("all", json!({"add": ["ALL"], "drop": ["CAP_MKNOD"]}), all & !MKNOD),
    ] {
        let container = context(&json!({"capabilities": change}));
        let log = node.output_of(&node.built(uid, CAPABILITIES, &container, &json!({}))).await;
        for name in ["CapEff", "CapPrm", "CapBnd"] {
            assert_eq!(set(&log, name), wanted & all, "{name} of {uid}");
        }
        assert_eq!((set(&log, "CapInh"), set(&log, "CapAmb")), (0, 0));
    }
}

pub(crate) async fn a_read_only_root_has_writable_volumes(node: Node) {
    let text = "touch /x /tmp/x /etc/x /data/x /dev/shm/x; echo why > /dev/termination-log; \
                ls /data /dev/shm; grep ' / / \\| / ' /proc/self/mountinfo";
    let container = json!({"securityContext": {"readOnlyRootFilesystem": true},
        "volumeMounts": [{"name": "data", "mountPath": "/data"}]});
    let spec = json!({"volumes": [{"name": "data", "emptyDir": {}}]});
    let log = node.output_of(&node.built("ro", text, &container, &spec)).await;
    for path in ["/x", "/tmp/x", "/etc/x"] {
        assert!(log.contains(&format!("'{path}': Read-only file system")), "{path} in {log}");
    }
    assert_eq!(log.matches("stdout F x\n").count(), 2, "{log}");
    let state = node.runtime().observe().remove("ro").unwrap();
    assert_eq!(crate::ended(&state).unwrap().message, "why\n");
}

pub(crate) async fn proc_can_be_shown_whole_to_users_of_the_pods_own(node: Node) {
    let text = "grep -o ' /proc/[a-z-]* ' /proc/self/mountinfo; echo end";
    let container = context(&json!({"procMount": "Default"}));
    let usual = node.output_of(&node.built("usual", text, &container, &json!({}))).await;
    assert!(usual.contains(" /proc/keys "), "{usual}");
    // Else no pod has users of its own.
    if !crate::users::kernel_can() {
        return;
    }
    let spec = json!({"hostUsers": false});
    let hidden = node.output_of(&node.built("hidden", text, &json!({}), &spec)).await;
    for path in [" /proc/keys ", " /proc/bus ", " /proc/sys "] {
        assert!(hidden.contains(path), "{path:?} in {hidden}");
    }
    let container = context(&json!({"procMount": "Unmasked"}));
    let shown = node.output_of(&node.built("shown", text, &container, &spec)).await;
    assert!(shown.contains("F end") && !shown.contains(" /proc/"), "{shown}");
}

pub(crate) async fn users_of_the_pod_hold_where_containers_have_none(node: Node) {
    let text = "echo u $(id -u) g $(id -g) G $(id -G)";
    let spec = context(&json!({"runAsUser": 1111, "runAsGroup": 2222, "supplementalGroups": [3333],
        "supplementalGroupsPolicy": "Merge", "runAsNonRoot": true}));
    let said = |log: String| log.lines().next().unwrap().split_once(" F ").unwrap().1.to_owned();
    let plan = node.built_from("pod", image(&node, "web"), &pod("pod", text, &json!({}), &spec));
    assert_eq!(said(node.output_of(&plan).await), "u 1111 g 2222 G 2222 3333");
    let own = context(&json!({"runAsUser": 5555}));
    let plan = node.built("own", text, &own, &spec);
    assert_eq!(said(node.output_of(&plan).await), "u 5555 g 2222 G 2222 3333");
}

/// A program that belongs to root and makes who runs it root.
pub(crate) async fn nobody_gains_rights_who_may_not(node: Node) {
    let folder = crate::escapes::compile(
        &node,
        "become",
        "#include <stdio.h>\n#include <unistd.h>\nint main() { printf(\"now %d\\n\", (int)geteuid()); return 0; }",
    );
    let program = folder.join("become");
    fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o4755)).unwrap();
    let spec = json!({"volumes": [{"name": "tools", "hostPath": {"path": folder}}]});
    let container = |allowed: bool| {
        json!({"securityContext": {"runAsUser": 1111, "allowPrivilegeEscalation": allowed},
            "volumeMounts": [{"name": "tools", "mountPath": "/tools"}]})
    };
    for (uid, allowed, line) in [("may", true, "F now 0\n"), ("not", false, "F now 1111\n")] {
        let log = node.output_of(&node.built(uid, "/tools/become", &container(allowed), &spec)).await;
        assert!(log.contains(line), "{line:?} in {log}");
    }
}
