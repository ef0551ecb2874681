//! How volumes are mounted: what passes through them, who may write, to whom they belong.

use crate::node::{Node, Objects, pod, until};
use crate::pid;
use runtime::image::Image;
use runtime::plan::{Rootfs, image_key};
use runtime::state::Stage;
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A filesystem of the host's, gone with the test.
struct Mounted(PathBuf);

impl Mounted {
    fn at(path: PathBuf) -> Self {
        std::fs::create_dir_all(&path).unwrap();
        mount("tmpfs", &path, "tmpfs", MountFlags::empty(), None).unwrap();
        mount_change(&path, MountPropagationFlags::PRIVATE).unwrap();
        Self(path)
    }

    fn shared(path: PathBuf) -> Self {
        let mounted = Self::at(path);
        mount_change(&mounted.0, MountPropagationFlags::SHARED).unwrap();
        mounted
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // With all that containers have left in it.
        while unmount(&self.0, UnmountFlags::DETACH).is_ok() {}
    }
}

fn is_mounted(path: &Path) -> bool {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    mounts.lines().any(|line| line.split(' ').nth(1) == path.to_str())
}

pub(crate) async fn mounts_pass_where_they_are_asked_to_and_nowhere_else(node: Node) {
    let tied = Mounted::shared(node.folder("tied"));
    let volumes = ["none", "down", "both"].map(|name| {
        let path = tied.0.join(name);
        std::fs::create_dir_all(path.join("from-host")).unwrap();
        std::fs::create_dir_all(path.join("from-pod")).unwrap();
        json!({"name": name, "hostPath": {"path": path}})
    });
    let mounts = json!([
        {"name": "none", "mountPath": "/none"},
        {"name": "down", "mountPath": "/down", "mountPropagation": "HostToContainer"},
        {"name": "both", "mountPath": "/both", "mountPropagation": "Bidirectional"},
    ]);
    let text = "for d in none down both; do mount -t tmpfs pods /$d/from-pod; done; echo mounted; \
                while :; do for d in none down both; do \
                [ -e /$d/from-host/file ] && echo sees $d; done; sleep 0.05; done";
    let container = json!({"volumeMounts": mounts, "securityContext": {"privileged": true}});
    node.launch_plan(&node.built("pass", text, &container, &json!({"volumes": volumes}))).await;
    let log = |words: &'static str| {
        let node = &node;
        until(words, move || Some(node.log("pass", 0)).filter(|log| log.contains(words)))
    };
    log("F mounted").await;
    let here = |name: &str| is_mounted(&tied.0.join(name).join("from-pod"));
    assert!(here("both") && !here("down") && !here("none"));
    for name in ["none", "down", "both"] {
        let path = tied.0.join(name).join("from-host");
        mount("tmpfs", &path, "tmpfs", MountFlags::empty(), None).unwrap();
        std::fs::write(path.join("file"), "").unwrap();
    }
    log("F sees both").await;
    let log = log("F sees down").await;
    assert!(!log.contains("F sees none"), "{log}");
    // What a container has mounted both ways outlives it, as Kubernetes has it.
    node.runtime().remove("pass").await.unwrap();
    assert!(here("both"));
}

pub(crate) async fn what_the_host_keeps_to_itself_is_not_mounted_both_ways(node: Node) {
    let own = Mounted::at(node.folder("own"));
    let mounts = json!([{"name": "own", "mountPath": "/own", "mountPropagation": "Bidirectional"}]);
    let container = json!({"volumeMounts": mounts, "securityContext": {"privileged": true}});
    let spec = json!({"volumes": [{"name": "own", "hostPath": {"path": own.0}}]});
    let message = node.not_prepared(&pod("own", "true", &container, &spec), &Objects::default());
    assert!(message.ends_with("but it is not a shared mount"), "{message}");
}

pub(crate) async fn a_volume_in_memory_is_shared_by_what_is_mounted_in_it(node: Node) {
    let mounts = |how: &str| json!([{"name": "mem", "mountPath": "/mem", "mountPropagation": how}]);
    let privileged = json!({"privileged": true});
    let wait = "until [ -e /mem/deep/file ]; do sleep 0.02; done; cat /mem/deep/file";
    let giver = json!({
        "name": "giver", "image": "any", "volumeMounts": mounts("Bidirectional"),
        "securityContext": privileged, "command": ["sh", "-c",
            "mkdir /mem/deep && mount -t tmpfs x /mem/deep && echo given > /mem/deep/file; sleep 1000"],
    });
    let spec = json!({
        "containers": [giver], "volumes": [{"name": "mem", "emptyDir": {"medium": "Memory"}}],
    });
    let container = json!({"volumeMounts": mounts("HostToContainer")});
    node.launch_plan(&node.built("both", wait, &container, &spec)).await;
    until("the gift", || node.log("both", 0).contains("F given").then_some(())).await;
}

pub(crate) async fn what_is_below_is_read_only_only_if_asked(node: Node) {
    let host = node.folder("given");
    let _below = Mounted::at(host.join("below"));
    let spec = json!({"volumes": [{"name": "given", "hostPath": {"path": host}}]});
    let mounts = json!([
        {"name": "given", "mountPath": "/top", "readOnly": true},
        {"name": "given", "mountPath": "/same", "readOnly": true, "recursiveReadOnly": "Disabled"},
        {"name": "given", "mountPath": "/all", "readOnly": true, "recursiveReadOnly": "Enabled"},
        {"name": "given", "mountPath": "/maybe", "readOnly": true, "recursiveReadOnly": "IfPossible"},
    ]);
    let text = "for d in top same all maybe; do touch /$d/x || echo no $d; \
                touch /$d/below/x && echo below $d; done";
    let log = node.output_of(&node.built("rro", text, &json!({"volumeMounts": mounts}), &spec)).await;
    for name in ["top", "same", "all", "maybe"] {
        assert!(log.contains(&format!("F no {name}\n")), "{name} in {log}");
        assert_eq!(log.contains(&format!("F below {name}\n")), matches!(name, "top" | "same"), "{log}");
    }
}

pub(crate) async fn volumes_belong_to_the_pods_group(node: Node) {
    let spec = json!({
        "securityContext": {"fsGroup": 4242, "runAsUser": 1234, "runAsGroup": 1234},
        "volumes": [
            {"name": "disk", "emptyDir": {}},
            {"name": "memory", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
            {"name": "files", "downwardAPI": {"defaultMode": 0o400,
                "items": [{"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}]}},
        ],
    });
    let mounts =
        ["disk", "memory", "files"].map(|name| json!({"name": name, "mountPath": format!("/{name}")}));
    let text = "stat -c '%n %g %a' /disk /memory; cat /files/name; echo; stat -L -c '%g %a' /files/name; \
                for d in disk memory; do echo x > /$d/made && stat -c '%n %u %g' /$d/made; done";
    let log = node.output_of(&node.built("group", text, &json!({"volumeMounts": mounts}), &spec)).await;
    for line in [
        "/disk 4242 2777",
        "/memory 4242 2777",
        "group",
        "4242 440",
        "/disk/made 1234 4242",
        "/memory/made 1234 4242",
    ] {
        assert!(log.contains(&format!("F {line}\n")), "{line:?} in {log}");
    }
}

pub(crate) async fn volumes_have_the_modes_and_options_that_are_asked_for(node: Node) {
    let spec = json!({"volumes": [
        {"name": "disk", "emptyDir": {"mode": 0o1770}},
        {"name": "memory", "emptyDir": {"medium": "Memory", "mode": 0o750}},
        {"name": "huge", "emptyDir": {"medium": "HugePages-2Mi"}},
    ]});
    let mounts = json!([
        {"name": "disk", "mountPath": "/disk", "bindMountOptions": ["noexec", "nosuid", "nodev"]},
        {"name": "memory", "mountPath": "/memory"},
        {"name": "huge", "mountPath": "/huge"},
    ]);
    let text = "stat -c '%n %a' /disk /memory /dev/shm; cp /bin/busybox /disk/b; /disk/b true || echo refused; \
                grep -E ' (/disk|/memory|/huge) ' /proc/mounts";
    let container = json!({"volumeMounts": mounts, "resources": {"limits": {"memory": "64Mi"}}});
    let plan = node.built("modes", text, &container, &spec);
    let log = node.output_of(&plan).await;
    for line in ["F /disk 1770\n", "F /memory 750\n", "F /dev/shm 1777\n", "F refused\n"] {
        assert!(log.contains(line), "{line:?} in {log}");
    }
    let mounted = |line: &&str, path: &str| line.contains(&format!(" {path} ")) && line.contains(" rw,");
    let line = |path: &str| log.lines().find(|line| mounted(line, path)).unwrap().to_owned();
    assert!(line("/disk").contains("nosuid,nodev,noexec"), "{log}");
    // Without a limit of its own it is as big as the pod's memory.
    assert!(line("/memory").contains("size=65536k"), "{log}");
    assert!(line("/huge").contains(" hugetlbfs ") && line("/huge").contains("pagesize=2M"), "{log}");
    let state = node.wait("modes", |state| state.stage == Stage::Finished).await;
    assert!(pid(&state).is_none());
}

pub(crate) async fn an_image_is_a_volume_that_nobody_changes(node: Node) {
    let layer = |name: &str, file: &str| {
        let folder = node.folder(name);
        std::fs::write(folder.join(file), name).unwrap();
        std::fs::write(folder.join("both"), name).unwrap();
        std::fs::copy("/bin/busybox", folder.join("program")).unwrap();
        folder
    };
    let (top, bottom) = (layer("top", "a"), layer("bottom", "b"));
    let volume = |layers: &[PathBuf]| Image { rootfs: Rootfs::Layers(layers.to_vec()), ..Node::host_image() };
    let images = BTreeMap::from([
        (image_key("two"), volume(&[top.clone(), bottom])),
        (image_key("one"), volume(std::slice::from_ref(&top))),
    ]);
    let objects = Objects { images, ..Objects::default() };
    let mounts = json!([
        {"name": "two", "mountPath": "/two"},
        {"name": "one", "mountPath": "/one"},
        {"name": "two", "mountPath": "/part", "subPath": "b"},
    ]);
    let named = |name: &str| json!({"name": name, "image": {"reference": "any"}});
    let spec = json!({"volumes": [named("two"), named("one")]});
    let text = "for f in /two/a /two/b /two/both /one/a /part; do echo $f $(cat $f); done; ls /one; \
                for d in one two; do touch /$d/x || echo keeps $d; /$d/program true || echo runs not $d; done";
    let pod = pod("image", text, &json!({"volumeMounts": mounts}), &spec);
    let log = node.output_of(&node.built_with("image", Node::host_image(), &pod, &objects)).await;
    for line in [
        "/two/a top",
        "/two/b bottom",
        "/two/both top",
        "/one/a top",
        "/part bottom",
        "keeps one",
        "keeps two",
        "runs not one",
        "runs not two",
    ] {
        assert!(log.contains(&format!("F {line}\n")), "{line:?} in {log}");
    }
    assert!(!top.join("x").exists());
}
