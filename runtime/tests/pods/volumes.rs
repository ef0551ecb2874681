//! Volumes as containers see them, and what a hostile pod makes of them.

use crate::node::{Node, pod};
use runtime::state::{ContainerState, PodState};
use serde_json::{Value, json};
use std::path::Path;

/// A volume `data`, mounted whole at `/vol`, and its `subPath` at `/sub`.
fn data(empty_dir: &Value, sub_path: &str) -> (Value, Value) {
    let mounts = json!([
        {"name": "data", "mountPath": "/vol"},
        {"name": "data", "mountPath": "/sub", "subPath": sub_path},
    ]);
    (
        json!({"volumeMounts": mounts}),
        json!({"restartPolicy": "Always", "volumes": [{"name": "data", "emptyDir": empty_dir}]}),
    )
}

/// In its first run the container puts a link to `to` in the place of its `subPath`; in its
/// second it shows what it got there.
fn attack(to: &Path) -> String {
    let to = to.display();
    format!(
        "if [ -e /vol/once ]; then ls /sub /vol; cat /sub/file; echo shown; exec sleep 1000; fi; \
         touch /vol/once; rm -r /vol/sub; ln -s {to} /vol/sub; ls -l /vol"
    )
}

fn start_failed(state: &PodState) -> bool {
    let last = state.containers[0].last.as_ref();
    last.is_some_and(|last| last.reason == "StartError" && last.message.contains("/sub"))
}

fn runs_again(state: &PodState) -> bool {
    matches!(state.containers[0].state, ContainerState::Running { .. }) && state.containers[0].restarts == 1
}

/// Returns what the second run of the attack showed; `None` if it was refused.
async fn second_run(node: &Node, uid: &str, to: &Path, empty_dir: &Value, sub_path: &str) -> Option<String> {
    let (container, spec) = data(empty_dir, sub_path);
    node.launch_plan(&node.built(uid, &attack(to), &container, &spec)).await;
    let state = node.wait(uid, |state| start_failed(state) || runs_again(state)).await;
    let first = node.log(uid, 0);
    assert!(first.contains("sub -> "), "the attack was not made: {first}");
    if start_failed(&state) {
        assert!(!node.log(uid, 1).contains(" stdout "), "{}", node.log(uid, 1));
        return None;
    }
    let shown = || Some(node.log(uid, 1)).filter(|log| log.contains("F shown"));
    Some(crate::node::until("the second run's words", shown).await)
}

async fn attack_with(node: &Node, empty_dir: &Value) {
    let secret = node.folder("secret");
    std::fs::write(secret.join("file"), "the host's secret").unwrap();

    // What the link names is not there, seen from the volume's root.
    assert_eq!(second_run(node, "absolute", &secret, empty_dir, "sub").await, None);

    for (uid, to) in [("root", "/"), ("up", "../../../../../../../../../../..")] {
        let shown = second_run(node, uid, Path::new(to), empty_dir, "sub").await.unwrap();
        assert_eq!(shown.matches("F once").count(), 2, "not the volume itself: {shown}");
        assert!(!shown.contains("F etc") && !shown.contains("secret"), "{shown}");
    }

    // The part after the link is looked for, and then made, in the volume.
    let inner = format!("sub{}", secret.display());
    let shown = second_run(node, "inner", Path::new("/"), empty_dir, &inner).await.unwrap();
    assert!(!shown.contains("secret"), "{shown}");
    assert_eq!(std::fs::read_dir(&secret).unwrap().count(), 1);

    // Links of the kernel's own go around every path.
    assert_eq!(second_run(node, "magic", Path::new("/proc/self/root"), empty_dir, "sub").await, None);
}

pub(crate) async fn a_link_in_a_volume_leads_nowhere_out(node: Node) {
    attack_with(&node, &json!({})).await;
}

pub(crate) async fn a_link_in_a_volume_in_memory_leads_nowhere_out(node: Node) {
    attack_with(&node, &json!({"medium": "Memory"})).await;
}

pub(crate) async fn a_volume_in_memory_is_shared_and_has_its_size(node: Node) {
    let text = "stat -f -c %T /mem; stat -c %s /sub/big; cat /mem/made/below/word; stat -c %a /sub";
    let mounts = json!([
        {"name": "mem", "mountPath": "/mem"},
        {"name": "mem", "mountPath": "/sub", "subPath": "made/below"},
    ]);
    let fill = "head -c 3000000 /dev/zero > /sub/big; rm /sub/big; \
                head -c 1000000 /dev/zero > /sub/big; echo said > /sub/word";
    let spec = json!({
        "initContainers":
            [{"name": "first", "image": "any", "command": ["sh", "-c", fill], "volumeMounts": mounts}],
        "volumes": [{"name": "mem", "emptyDir": {"medium": "Memory", "sizeLimit": "2Mi"}}],
    });
    let made = node.built("mem", text, &json!({"volumeMounts": mounts}), &spec);
    let log = node.output_of(&made).await;
    for line in ["F tmpfs", "F 1000000", "F said", "F 777"] {
        assert!(log.contains(line), "{line:?} in {log}");
    }
    let folder = made.log_dir.join("first/0.log");
    let first = std::fs::read_to_string(folder).unwrap();
    assert!(first.contains("No space left"), "{first}");
    // On the host's side there is nothing: the memory is the pod's own.
    let path = &made.memory_volumes.iter().find(|volume| volume.path.ends_with("mem")).unwrap().path;
    assert_eq!(std::fs::read_dir(path).unwrap().count(), 0);
}

pub(crate) async fn a_read_only_mount_cannot_be_written(node: Node) {
    let host = node.folder("given");
    std::fs::create_dir(host.join("part")).unwrap();
    let spec = json!({"volumes": [{"name": "given", "hostPath": {"path": host}}]});
    let mounts = json!([
        {"name": "given", "mountPath": "/whole", "readOnly": true},
        {"name": "given", "mountPath": "/part", "subPath": "part", "readOnly": true},
        {"name": "given", "mountPath": "/writable", "subPath": "part"},
    ]);
    let text = "touch /whole/x || echo one; touch /part/x || echo two; touch /writable/y && echo three; \
                mount -o remount,rw /whole || echo four";
    let log = node
        .output_of(&node.built_from(
            "ro",
            Node::host_image(),
            &pod("ro", text, &json!({"volumeMounts": mounts}), &spec),
        ))
        .await;
    for line in ["F one", "F two", "F three", "F four"] {
        assert!(log.contains(line), "{line:?} in {log}");
    }
    assert!(host.join("part/y").exists() && !host.join("part/x").exists());
}

/// Swaps a folder and a link, as fast as it can, until it is dropped.
struct Race {
    stop: std::sync::Arc<std::sync::atomic::AtomicBool>,
    thread: Option<std::thread::JoinHandle<u32>>,
}

impl Race {
    fn between(folder: std::path::PathBuf) -> Self {
        use std::sync::atomic::{AtomicBool, Ordering};
        let stop = std::sync::Arc::new(AtomicBool::new(false));
        let told = std::sync::Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let (one, other) = (folder.join("sub"), folder.join("link"));
            let mut swaps = 0;
            while !told.load(Ordering::Relaxed) {
                let here = rustix::fs::CWD;
                rustix::fs::renameat_with(here, &one, here, &other, rustix::fs::RenameFlags::EXCHANGE)
                    .unwrap();
                swaps += 1;
            }
            swaps
        });
        Self { stop, thread: Some(thread) }
    }

    /// How often they were swapped.
    fn end(mut self) -> u32 {
        self.stop.store(true, std::sync::atomic::Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap()
    }
}

pub(crate) async fn a_race_for_a_sub_path_is_lost(node: Node) {
    let (volume, outside) = (node.folder("volume"), node.folder("outside"));
    std::fs::create_dir(volume.join("sub")).unwrap();
    std::fs::write(volume.join("sub/inside"), "").unwrap();
    std::fs::write(outside.join("secret"), "").unwrap();
    let spec = json!({"volumes": [{"name": "data", "hostPath": {"path": volume}}]});
    let container =
        |path: &str| json!({"volumeMounts": [{"name": "data", "mountPath": "/sub", "subPath": path}]});
    let plans: Vec<_> = (0..25)
        .map(|number| node.built(&format!("race{number}"), "ls /sub; echo done", &container("sub"), &spec))
        .collect();
    let climb = "../".repeat(20) + outside.to_str().unwrap().trim_start_matches('/');
    std::os::unix::fs::symlink(climb, volume.join("link")).unwrap();
    let race = Race::between(volume.clone());
    let (mut ran, mut refused) = (0, 0);
    for plan in &plans {
        node.launch_plan(plan).await;
        node.wait(&plan.uid, |state| state.stage == runtime::state::Stage::Finished).await;
        let log = node.log(&plan.uid, 0);
        assert!(!log.contains("secret") && !log.contains("F etc"), "{log}");
        if log.contains("F done") { ran += 1 } else { refused += 1 }
    }
    // What is missing of a path is made, and that is raced for as well.
    let making = pod("making", "true", &container("sub/made/deep"), &spec);
    for _ in 0..2000 {
        node.try_to_prepare(&making);
    }
    let swaps = race.end();
    println!("{swaps} swaps: {ran} containers ran, {refused} were refused");
    assert!(swaps > 1000 && ran > 0, "{swaps} swaps, {ran} ran");
    let names: Vec<_> =
        std::fs::read_dir(&outside).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["secret"], "nothing was made outside");
}
