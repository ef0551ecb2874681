//! What a container is to the host, and the host to it, by the plan that a Pod gets.

use crate::node::{ADDRESS, Node, pod};
use runtime::image::{Image, ImageConfig};
use runtime::plan::Rootfs;
use serde_json::{Value, json};
use std::fs;

const NAMESPACES: [&str; 6] = ["net", "ipc", "uts", "pid", "mnt", "cgroup"];

/// The test's own namespace, in the words of `readlink`.
pub(crate) fn own(namespace: &str) -> String {
    fs::read_link(format!("/proc/self/ns/{namespace}")).unwrap().display().to_string()
}

/// Which of the host's namespaces a pod of this specification is in.
async fn shared(node: &Node, uid: &str, spec: &Value) -> Vec<&'static str> {
    let text = "for n in net ipc uts pid mnt cgroup; do readlink /proc/self/ns/$n; done; echo pid $$$$";
    let log = node.output_of(&node.built(uid, text, &json!({}), spec)).await;
    let first = log.contains("F pid 1\n");
    let shared: Vec<_> = NAMESPACES.into_iter().filter(|name| log.contains(&own(name))).collect();
    assert_eq!(first, !shared.contains(&"pid"), "{log}");
    shared
}

pub(crate) async fn a_pod_has_namespaces_of_its_own(node: Node) {
    assert_eq!(shared(&node, "own", &json!({})).await, [""; 0]);
}

pub(crate) async fn a_pod_can_stay_in_the_hosts_namespaces(node: Node) {
    assert_eq!(shared(&node, "net", &json!({"hostNetwork": true})).await, ["net", "uts"]);
    assert_eq!(shared(&node, "ipc", &json!({"hostIPC": true})).await, ["ipc"]);
    assert_eq!(shared(&node, "pid", &json!({"hostPID": true})).await, ["pid"]);
    // A container there sees the host's processes, this one among them.
    let text = format!("cat /proc/{}/comm", std::process::id());
    let log = node.output_of(&node.built("see", &text, &json!({}), &json!({"hostPID": true}))).await;
    let own = fs::read_to_string("/proc/self/comm").unwrap();
    assert!(log.contains(&format!("stdout F {own}")), "{log}");
}

pub(crate) async fn a_container_cannot_reach_the_host(node: Node) {
    let tries = [
        "mknod /dev/disk b 254 0; head -c 1 /dev/disk",
        "mknod /tmp/disk b 254 0; head -c 1 /tmp/disk",
        "mount -t tmpfs none /mnt",
        "mount --bind / /mnt",
        "mount -o remount,rw /proc/sys",
        "umount /proc/sys",
        "umount /sys/firmware",
        "unshare -n true",
        "nsenter -t 1 -n unshare -m true",
        "echo 1 > /proc/sys/kernel/panic",
        "echo 1 > /proc/sys/net/ipv4/ip_forward",
        "test -w /proc/sysrq-trigger",
        "test -w /sys/kernel/profiling",
        "mkdir /sys/fs/cgroup/memory/own || mkdir /sys/fs/cgroup/own",
        "hostname other",
        "busybox ip link add dummy0 type dummy",
        "dmesg > /dev/null",
        "head -c 1 /proc/kcore | grep .",
        "ls /sys/firmware | grep .",
        "cat /dev/kmsg",
    ];
    let text: String = tries.map(|one| format!("( {one} ) 2>/dev/null && echo 'did {one}'\n")).concat();
    let text =
        format!("{text}cat /proc/self/mountinfo; grep -i -e cap -e seccomp /proc/self/status; echo end");
    let log = node.output_of(&node.built("jail", &text, &json!({}), &json!({}))).await;
    assert!(log.contains("F end") && !log.contains("F did "), "{log}");
    let at: Vec<&str> = log
        .lines()
        .filter(|line| line.contains(" - "))
        .filter_map(|line| line.split_once(" stdout F ")?.1.split(' ').nth(4))
        .collect();
    let ours = ["/", "/proc", "/dev", "/sys", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf"];
    let known = |at: &&str| {
        let below = |folder: &str| at.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'));
        ours.contains(at) || ["/proc", "/dev", "/sys"].into_iter().any(below) || at.contains("/keel-test-")
    };
    assert!(at.len() > 10, "{log}");
    let foreign: Vec<_> = at.iter().filter(|at| !known(at)).collect();
    assert!(foreign.is_empty(), "{foreign:?} in {log}");
    assert!(log.contains("Seccomp:\t2"), "{log}");
    // containerd's.
    assert!(log.contains("CapEff:\t00000000a80425fb") && log.contains("CapAmb:\t0000000000000000"), "{log}");
}

pub(crate) async fn a_privileged_container_may_nearly_all(node: Node) {
    let text = "set -e; mount -t tmpfs none /mnt; mknod /tmp/disk b 8 0; \
                echo 1 > /proc/sys/net/ipv4/ip_forward; umount /mnt; busybox ip link add dummy0 type dummy || true; \
                cat /proc/self/mountinfo; echo all";
    let container = json!({"securityContext": {"privileged": true}});
    let before = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let log = node.output_of(&node.built("mighty", text, &container, &json!({}))).await;
    assert!(log.contains("F all"), "{log}");
    // Its mounts are its own nevertheless.
    assert!(!log.contains(" / /home "), "{log}");
    assert_eq!(fs::read_to_string("/proc/self/mountinfo").unwrap(), before);
}

pub(crate) async fn the_hosts_root_is_a_copy_without_the_agents_folders(node: Node) {
    let secret = node.folder("own");
    fs::write(secret.join("key"), "secret").unwrap();
    let at = secret.parent().unwrap().display().to_string();
    let text =
        format!("ls -A {at}; cat {at}/own/key; touch {at}/x; touch /etc/evenkeel-test-x && ls /etc; true");
    let log = node.output_of(&node.built("copy", &text, &json!({}), &json!({}))).await;
    // Had the folder been seen, its own and the state's would be in the list.
    for word in [" stdout F own", " stdout F state", "F secret"] {
        assert!(!log.contains(word), "{word:?} in {log}");
    }
    assert!(log.contains("F evenkeel-test-x") && log.contains("F passwd"), "{log}");
    assert!(!std::path::Path::new("/etc/evenkeel-test-x").exists());
    assert!(!secret.parent().unwrap().join("x").exists());
}

pub(crate) async fn the_supervisors_program_is_out_of_reach(node: Node) {
    // The container's root has the loader and the libraries that the supervisor's program needs.
    let mut plan = node.built("exe", "", &json!({}), &json!({}));
    let mut process = plan.containers[0].spec.process().clone().unwrap();
    process.set_args(Some(vec!["/proc/self/exe".into()]));
    plan.containers[0].spec.set_process(Some(process));
    let log = node.output_of(&plan).await;
    assert!(log.contains("usage: supervise"), "not the attack that was meant: {log}");

    node.launch_plan(&node.built("pod", "exec sleep 1000", &json!({}), &json!({}))).await;
    let pid = node.runtime().observe()["pod"].supervisor_pid;
    let program = format!("/proc/{pid}/exe");
    // What a container's process has to go by: the kernel's link to the file.
    let mode = fs::metadata(&program).unwrap().permissions();
    let error = fs::set_permissions(&program, mode).expect_err("the file's mode can be set");
    assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    // And it is known by its name.
    assert_eq!(fs::read_link(&program).unwrap(), std::path::Path::new(env!("CARGO_BIN_EXE_keel-supervisor")));
    // Nobody else's mounts were touched.
    assert!(!fs::read_to_string("/proc/self/mountinfo").unwrap().contains("keel-supervisor"));
}

/// An image with a busybox, and users and groups of its own.
pub(crate) fn image(node: &Node, user: &str) -> Image {
    let layer = node.folder(&format!("image-{}", user.replace(':', "-")));
    for folder in ["bin", "etc"] {
        fs::create_dir(layer.join(folder)).unwrap();
    }
    fs::copy("/bin/busybox", layer.join("bin/busybox")).unwrap();
    for name in ["sh", "id", "cat", "echo", "touch", "grep", "ls"] {
        std::os::unix::fs::symlink("busybox", layer.join("bin").join(name)).unwrap();
    }
    fs::write(layer.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\nweb:x:101:102::/srv:/bin/sh\n").unwrap();
    fs::write(layer.join("etc/group"), "web:x:102:\nwww:x:33:web\nlog:x:44:\n").unwrap();
    let config = ImageConfig { user: user.into(), ..ImageConfig::default() };
    Image { id: "i".into(), digest: "d".into(), rootfs: Rootfs::Layers(vec![layer]), config }
}

const WHO: &str = "echo u $(id -u) g $(id -g) G $(id -G) home $HOME; grep CapEff /proc/self/status; \
                   echo said > /dev/stderr; touch /x || echo no; true";

pub(crate) async fn users_have_names_and_groups(node: Node) {
    let spec = json!({"securityContext": {"supplementalGroups": [777], "fsGroup": 888}});
    for (user, wanted) in [
        ("web", "u 101 g 102 G 102 33 777 888 home /srv"),
        ("web:log", "u 101 g 44 G 44 33 777 888 home /srv"),
        ("101", "u 101 g 102 G 102 33 777 888 home /srv"),
    ] {
        let uid = user.replace(':', "-");
        let plan = node.built_from(&uid, image(&node, user), &pod(&uid, WHO, &json!({}), &spec));
        let log = node.output_of(&plan).await;
        assert!(log.contains(wanted), "{wanted:?} in {log}");
        assert!(log.contains("stderr F said") && log.contains("stdout F no"), "{log}");
        assert!(log.contains("CapEff:\t0000000000000000"), "{log}");
    }
}

pub(crate) async fn groups_of_the_image_can_be_left_out(node: Node) {
    let spec =
        json!({"securityContext": {"supplementalGroups": [777], "supplementalGroupsPolicy": "Strict"}});
    let plan = node.built_from("strict", image(&node, "web"), &pod("strict", WHO, &json!({}), &spec));
    let log = node.output_of(&plan).await;
    assert!(log.contains("u 101 g 102 G 102 777 home /srv"), "{log}");
}

pub(crate) async fn numbers_stand_over_the_images_user(node: Node) {
    let container = json!({"securityContext": {"runAsUser": 5000, "runAsGroup": 6000, "runAsNonRoot": true}});
    let spec = json!({"securityContext": {"runAsUser": 1, "fsGroup": 888}, "volumes": [
        {"name": "data", "emptyDir": {}}]});
    let mut container = container;
    container["volumeMounts"] = json!([{"name": "data", "mountPath": "/data"}]);
    let text = format!("{WHO}; touch /data/x; ls -ln /data");
    let plan = node.built_from("number", image(&node, "web"), &pod("number", &text, &container, &spec));
    let log = node.output_of(&plan).await;
    assert!(log.contains("u 5000 g 6000 G 6000 888 home /"), "{log}");
    // The volume's group is inherited.
    assert!(log.contains("5000     888"), "{log}");
}

pub(crate) async fn the_pods_address_is_in_the_environment(node: Node) {
    let field = |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}});
    let container = json!({"env": [
        field("IP", "status.podIP"),
        field("HOST", "status.hostIP"),
        {"name": "URL", "value": "http://$(IP):80"},
    ]});
    let text = "echo $IP $HOST $URL; cat /etc/hosts; hostname";
    let log = node.output_of(&node.built("address", text, &container, &json!({}))).await;
    assert!(log.contains(&format!("F {ADDRESS} 192.0.2.1 http://{ADDRESS}:80")), "{log}");
    assert!(log.contains(&format!("F {ADDRESS}\taddress")) && log.contains("F address\n"), "{log}");
}

pub(crate) async fn kernel_parameters_are_the_pods_own(node: Node) {
    let sysctls = json!([
        {"name": "net.ipv4.ip_unprivileged_port_start", "value": "7"},
        {"name": "kernel.shm_rmid_forced", "value": "1"},
    ]);
    let spec = json!({"securityContext": {"sysctls": sysctls}});
    let files = ["/proc/sys/net/ipv4/ip_unprivileged_port_start", "/proc/sys/kernel/shm_rmid_forced"];
    let before = files.map(|file| fs::read_to_string(file).unwrap());
    let text = format!("cat {}", files.join(" "));
    let log = node.output_of(&node.built("sysctl", &text, &json!({}), &spec)).await;
    assert!(log.contains("F 7\n") && log.contains("F 1\n"), "{log}");
    assert_eq!(files.map(|file| fs::read_to_string(file).unwrap()), before);
}

pub(crate) async fn containers_of_a_pod_can_share_their_processes(mut node: Node) {
    let text = "sleep 1001 & (sleep 0 & exec sleep 1002) & \
                until busybox ps -o comm | grep -q tail; do :; done; \
                busybox ps -o pid,comm; echo pid $$$$; ls -A /proc/1/root 2>&1; cat /proc/1/environ 2>&1; \
                ls /proc/1/fd | wc -l; echo seen; exec sleep 1000";
    let beside = json!({"name": "beside", "image": "any", "command": ["tail", "-f", "/dev/null"]});
    let spec = json!({"shareProcessNamespace": true, "restartPolicy": "Always", "containers": [beside]});
    node.launch_plan(&node.built("share", text, &json!({}), &spec)).await;
    let log = || node.log("share", 0);
    let log = crate::until("what it sees", || Some(log()).filter(|log| log.contains("F seen"))).await;
    assert!(log.contains("F     1 pause") || log.contains("1 pause"), "{log}");
    assert!(log.contains("tail") && !log.contains("F pid 1\n") && log.contains("F 0\n"), "{log}");
    // The first process leads nowhere.
    for refused in ["cannot access '/proc/1/root'", "/proc/1/environ: Permission denied", "F seen"] {
        assert!(log.contains(refused), "{refused} in {log}");
    }
    // A container that ends takes its own processes along, and the other's stay.
    let before = node.wait("share", |state| crate::pid(state).is_some()).await;
    let orphans = node.runtime().stats("share").containers["main"].processes.clone();
    assert!(orphans.len() >= 3, "{orphans:?}");
    let other = |state: &runtime::state::PodState| match &state.containers[1].state {
        runtime::state::ContainerState::Running { pid, .. } => *pid,
        runtime::state::ContainerState::Waiting { .. } | runtime::state::ContainerState::Terminated(_) => 0,
    };
    node.runtime().signal("share", "main", 9).await.unwrap();
    let after =
        node.wait("share", |state| state.containers[0].restarts == 1 && crate::pid(state).is_some()).await;
    assert_eq!(other(&after), other(&before));
    crate::until("the orphans' end", || orphans.iter().all(|pid| !crate::is_alive(*pid)).then_some(())).await;
    // Who kills the first process kills all, and they begin again.
    let text = fs::read_to_string(format!("/proc/{}/task/{0}/children", after.supervisor_pid)).unwrap();
    let is_pause =
        |pid: &&str| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "pause\n");
    let pause: i32 = text.split_whitespace().find(is_pause).unwrap().parse().unwrap();
    node.detach();
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(pause).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
    node.attach().await;
    let again = node.wait("share", |state| other(state) != 0 && other(state) != other(&before)).await;
    assert_eq!(again.supervisor_pid, before.supervisor_pid);
    node.runtime().stop("share", 0).await.unwrap();
}

pub(crate) async fn the_whole_name_can_be_the_hosts(node: Node) {
    let spec = json!({"subdomain": "db", "setHostnameAsFQDN": true});
    let log = node.output_of(&node.built("fqdn", "uname -n; cat /etc/hosts", &json!({}), &spec)).await;
    let name = "fqdn.db.default.svc.cluster.local";
    assert!(
        log.contains(&format!("F {name}\n")) && log.contains(&format!("{ADDRESS}\t{name}\tfqdn")),
        "{log}"
    );
}

pub(crate) async fn what_a_container_may_use_is_in_its_cgroup(node: Node) {
    let limits = json!({"limits": {"cpu": "250m", "memory": "64Mi"},
                        "requests": {"cpu": "100m", "memory": "32Mi"}});
    let group = "cat /proc/self/oom_score_adj; cd /sys/fs/cgroup; \
                 cat memory/memory.limit_in_bytes cpu/cpu.cfs_quota_us cpu/cpu.shares || \
                 cat memory.max cpu.max cpu.weight; echo end";
    let log = node.output_of(&node.built("some", group, &json!({"resources": limits}), &json!({}))).await;
    // 1000 - 1000 × 32 MiB / 4 GiB.
    let v2 = runtime::cgroup::Cgroups::detect().unwrap().is_v2();
    let cpu = if v2 { ["F 25000 100000\n", "F 4\n"] } else { ["F 25000\n", "F 102\n"] };
    for line in ["F 993\n", "F 67108864\n"].into_iter().chain(cpu) {
        assert!(log.contains(line), "{line:?} in {log}");
    }
    let log =
        node.output_of(&node.built("best", "cat /proc/self/oom_score_adj", &json!({}), &json!({}))).await;
    assert!(log.contains("F 1000\n"), "{log}");
}

pub(crate) async fn pods_are_in_cgroups_of_their_quality(node: Node) {
    let resources = |cpu: &str, whole: bool| {
        let amounts = json!({"cpu": cpu, "memory": "32Mi"});
        let kind = if whole { "limits" } else { "requests" };
        json!({"resources": {kind: amounts}})
    };
    let pods = [
        ("g", resources("500m", true)),
        ("b1", resources("250m", false)),
        ("b2", resources("500m", false)),
        ("n", json!({})),
    ];
    for (uid, container) in &pods {
        node.launch_plan(&node.built(uid, "exec sleep 1000", container, &json!({}))).await;
        node.wait(uid, |state| crate::pid(state).is_some()).await;
    }
    let groups = |uid: &str| node.runtime().observe()[uid].cgroup.clone();
    let root = groups("g").trim_end_matches("/podg").to_owned();
    assert_eq!(groups("b1"), format!("{root}/burstable/podb1"));
    assert_eq!(groups("n"), format!("{root}/besteffort/podn"));
    // What the kernel says of the process itself.
    let state = node.wait("b2", |state| crate::pid(state).is_some()).await;
    let own = fs::read_to_string(format!("/proc/{}/cgroup", crate::pid(&state).unwrap())).unwrap();
    assert!(own.contains(&format!("{root}/burstable/podb2/main")), "{own}");
    let v2 = runtime::cgroup::Cgroups::detect().unwrap().is_v2();
    let shares = |group: &str| {
        let path = if v2 {
            format!("/sys/fs/cgroup/{group}/cpu.weight")
        } else {
            format!("/sys/fs/cgroup/cpu/{group}/cpu.shares")
        };
        fs::read_to_string(path).unwrap().trim().to_owned()
    };
    let [both, none] = if v2 { ["30", "1"] } else { ["768", "2"] };
    crate::until("both shares", || (shares(&format!("{root}/burstable")) == both).then_some(())).await;
    assert_eq!(shares(&format!("{root}/besteffort")), none);
    node.runtime().remove("b1").await.unwrap();
    assert_eq!(shares(&format!("{root}/burstable")), if v2 { "20" } else { "512" });
    for uid in ["g", "b2", "n"] {
        node.runtime().stop(uid, 0).await.unwrap();
    }
}
