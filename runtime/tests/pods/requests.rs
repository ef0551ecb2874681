//! Pods that are made by request, and the streams of containers that run.

use crate::node::{Node, Script, until};
use runtime::plan::{ContainerPlan, ImageVolume, LogPlace, PodPlan, Resources, SharedMount};
use runtime::pods::{Attached, PodError, attach};
use runtime::state::{ContainerState, PodState, Stage};
use rustix::pipe::{PipeFlags, pipe_with};
use serde_json::json;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

/// A sandbox without a container.
fn empty(node: &Node, uid: &str) -> PodPlan {
    let mut plan = node.plan(uid, &Script::once(""));
    (plan.containers, plan.by_request) = (Vec::new(), true);
    plan
}

fn container(node: &Node, name: &str, text: &str) -> ContainerPlan {
    let mut container = node.plan("any", &Script::once(text)).containers.remove(0);
    container.name = name.to_owned();
    container.message_path = String::new();
    container
}

fn find<'a>(state: &'a PodState, name: &str) -> Option<&'a ContainerState> {
    state.containers.iter().find(|container| container.name == name).map(|container| &container.state)
}

fn exit_code(state: &PodState, name: &str) -> Option<i32> {
    match find(state, name)? {
        ContainerState::Terminated(end) => Some(end.exit_code),
        ContainerState::Waiting { .. } | ContainerState::Running { .. } => None,
    }
}

fn runs(state: &PodState, name: &str) -> bool {
    matches!(find(state, name), Some(ContainerState::Running { .. }))
}

pub(crate) async fn containers_come_and_go_by_request(mut node: Node) {
    node.launch_plan(&empty(&node, "box")).await;
    let log = node.folder("log").join("first.log");
    let mut first = container(&node, "first", "echo began; trap 'exit 7' TERM; while :; do sleep 0.1; done");
    first.log = LogPlace::File(log.clone());
    node.runtime().add_container("box", &first).await.unwrap();
    // Nothing starts by itself, and a sandbox without a running container lasts.
    assert_eq!(node.wait("box", |state| state.containers.len() == 1).await.stage, Stage::Started);
    assert!(fs::read_to_string(&log).is_err());
    node.runtime().start_container("box", "first").await.unwrap();
    node.wait("box", |state| runs(state, "first")).await;
    until("its log", || fs::read_to_string(&log).ok().filter(|text| text.contains("stdout F began"))).await;
    let again = node.runtime().start_container("box", "first").await;
    assert!(matches!(again, Err(PodError::Refused { .. })), "{again:?}");
    let refused = node.runtime().remove_container("box", "first").await;
    assert!(matches!(refused, Err(PodError::Refused { .. })), "{refused:?}");
    // The next agent finds it as it is.
    node.detach();
    node.attach().await;
    assert!(runs(&node.wait("box", |state| state.by_request).await, "first"));
    node.runtime().add_container("box", &container(&node, "second", "exit 3")).await.unwrap();
    node.runtime().start_container("box", "second").await.unwrap();
    node.wait("box", |state| exit_code(state, "second") == Some(3)).await;
    node.runtime().stop_container("box", "first", 30).await.unwrap();
    node.wait("box", |state| exit_code(state, "first") == Some(7)).await;
    node.runtime().remove_container("box", "first").await.unwrap();
    let state = node.wait("box", |state| state.containers.len() == 1).await;
    assert_eq!((state.stage, exit_code(&state, "second")), (Stage::Started, Some(3)));
    node.runtime().stop("box", 0).await.unwrap();
    node.wait("box", |state| state.stage == Stage::Finished).await;
    node.runtime().remove_container("box", "second").await.unwrap();
    assert!(node.wait("box", |state| state.containers.is_empty()).await.by_request);
}

pub(crate) async fn a_containers_limits_and_log_change_while_it_runs(node: Node) {
    node.launch_plan(&empty(&node, "live")).await;
    let log = node.folder("logs-of-others").join("main.log");
    let text = "while :; do cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null; \
                sleep 0.05; done";
    let mut main = container(&node, "main", text);
    main.log = LogPlace::File(log.clone());
    node.runtime().add_container("live", &main).await.unwrap();
    node.runtime().start_container("live", "main").await.unwrap();
    node.wait("live", |state| runs(state, "main")).await;
    let limits = Resources { memory_bytes: Some(64 << 20), ..Resources::default() };
    node.runtime().limit_container("live", "main", &limits).unwrap();
    let seen = || fs::read_to_string(&log).ok().filter(|text| text.contains(" F 67108864\n"));
    until("the limit, inside", seen).await;
    let old = log.with_extension("old");
    fs::rename(&log, &old).unwrap();
    assert!(!log.exists());
    node.runtime().reopen_log("live", "main").await.unwrap();
    until("the new log", seen).await;
    node.runtime().stop("live", 0).await.unwrap();
}

/// What the host mounts after the sandbox was made is in a container that is added later.
pub(crate) async fn a_container_sees_the_host_as_it_is_when_it_comes(node: Node) {
    node.launch_plan(&empty(&node, "ties")).await;
    let from = node.folder("mounted");
    let place = node.folder("tied").join("0");
    let mounted = std::process::Command::new("mount").args(["-t", "tmpfs", "late"]).arg(&from).status();
    assert!(mounted.unwrap().success());
    fs::write(from.join("late"), "yes\n").unwrap();
    let mut main = container(&node, "main", "cat /mnt/late; exec sleep 1000");
    let log = node.folder("log-of-ties").join("0.log");
    main.log = LogPlace::File(log.clone());
    main.ties = vec![SharedMount { from: from.clone(), at: place.clone() }];
    crate::node::bind(&mut main.spec, &place, &PathBuf::from("/mnt"));
    let added = node.runtime().add_container("ties", &main).await;
    // The container keeps what it was given.
    assert!(std::process::Command::new("umount").arg(&from).status().unwrap().success());
    added.unwrap();
    node.runtime().start_container("ties", "main").await.unwrap();
    until("the file", || fs::read_to_string(&log).ok().filter(|text| text.contains(" F yes"))).await;
    node.runtime().stop("ties", 0).await.unwrap();
}

/// An image of two layers at `/mnt`, the second of which lies over the first.
fn with_image(node: &Node, mut container: ContainerPlan, sub_path: &str) -> ContainerPlan {
    let layers = ["upper", "lower"].map(|name| {
        let layer = node.folder(&format!("{name}-{}", container.name));
        fs::create_dir(layer.join("etc")).unwrap();
        fs::write(layer.join("etc/word"), name).unwrap();
        fs::write(layer.join(name), "#!/bin/sh\necho ran\n").unwrap();
        fs::set_permissions(layer.join(name), fs::Permissions::from_mode(0o755)).unwrap();
        layer
    });
    let path = node.folder(&format!("image-{}", container.name));
    crate::node::bind(&mut container.spec, &path, &PathBuf::from("/mnt"));
    let sub_paths = vec![PathBuf::from(sub_path)];
    container.image_volumes =
        vec![ImageVolume { path, layers: layers.to_vec(), executable: true, sub_paths }];
    container
}

pub(crate) async fn a_container_that_is_added_can_mount_an_image(node: Node) {
    node.launch_plan(&empty(&node, "images")).await;
    let log = node.folder("log-of-images").join("0.log");
    let text = "cat /mnt/etc/word; echo; /mnt/lower; touch /mnt/new || echo refused; exec sleep 1000";
    let mut main = with_image(&node, container(&node, "main", text), "etc/word");
    main.log = LogPlace::File(log.clone());
    node.runtime().add_container("images", &main).await.unwrap();
    node.runtime().start_container("images", "main").await.unwrap();
    let said =
        until("its word", || fs::read_to_string(&log).ok().filter(|text| text.contains("refused"))).await;
    assert!(said.contains(" F upper\n") && said.contains(" F ran\n"), "{said}");
    // What is to be mounted has to be there; nothing is left of what is not.
    let other = with_image(&node, container(&node, "other", "true"), "etc/none");
    let refused = node.runtime().add_container("images", &other).await.unwrap_err();
    assert!(format!("{refused:?}").contains("etc/none"), "{refused:?}");
    let pid = node.runtime().observe()["images"].supervisor_pid;
    let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
    assert!(mounts.contains("image-main") && !mounts.contains("image-other"), "{mounts}");
    node.runtime().stop_container("images", "main", 0).await.unwrap();
    node.wait("images", |state| !runs(state, "main")).await;
    node.runtime().remove_container("images", "main").await.unwrap();
    let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
    assert!(!mounts.contains("image-main"), "{mounts}");
    node.runtime().stop("images", 0).await.unwrap();
}

struct Viewer {
    attached: Attached,
    stdout: File,
}

fn look(socket: PathBuf, stdin: bool) -> Viewer {
    let pipe = || pipe_with(PipeFlags::CLOEXEC).unwrap();
    let ((stdout, out), (_, err)) = (pipe(), pipe());
    let attached = attach(&socket, "main", stdin, [out.as_fd(), err.as_fd()]).unwrap();
    Viewer { attached, stdout: File::from(stdout) }
}

fn input(attached: &mut Attached) -> File {
    File::from(attached.input.take().unwrap())
}

pub(crate) async fn who_attaches_talks_to_the_program(node: Node) {
    let container = json!({"stdin": true, "stdinOnce": true});
    node.launch_plan(&node.built("talk", "read name; echo hello $name; cat; exit 4", &container, &json!({})))
        .await;
    node.wait("talk", |state| crate::pid(state).is_some()).await;
    let socket = node.socket("talk");
    let talked = tokio::task::spawn_blocking(move || {
        let mut first = look(socket.clone(), true);
        let mut second = look(socket, false);
        assert!(second.attached.input.is_none());
        let mut stdin = input(&mut first.attached);
        stdin.write_all(b"you\nmore\n").unwrap();
        // It was to be closed by the first who leaves.
        drop(stdin);
        let mut texts = [String::new(), String::new()];
        first.stdout.read_to_string(&mut texts[0]).unwrap();
        second.stdout.read_to_string(&mut texts[1]).unwrap();
        (texts, first.attached.execution.wait().unwrap(), second.attached.execution.wait().unwrap())
    });
    let said = "hello you\nmore\n".to_owned();
    assert_eq!(talked.await.unwrap(), ([said.clone(), said], 4, 4));
    assert!(node.log("talk", 0).contains(" stdout F hello you\n"));
}

pub(crate) async fn a_containers_own_terminal_can_be_attached_to(node: Node) {
    let container = json!({"stdin": true, "tty": true});
    let script = "tty; stty -echo; echo ready; read word; stty size; echo \"<$word>\"; echo err >&2";
    node.launch_plan(&node.built("tty", script, &container, &json!({}))).await;
    until("the terminal", || node.log("tty", 0).contains("ready").then_some(())).await;
    let socket = node.socket("tty");
    let talked = tokio::task::spawn_blocking(move || {
        let mut viewer = look(socket, true);
        assert!(viewer.attached.tty);
        let mut terminal = input(&mut viewer.attached);
        let size = rustix::termios::Winsize { ws_row: 30, ws_col: 90, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(&terminal, size).unwrap();
        terminal.write_all(b"typed\n").unwrap();
        let mut text = String::new();
        viewer.stdout.read_to_string(&mut text).unwrap();
        (text, viewer.attached.execution.wait().unwrap())
    });
    assert_eq!(talked.await.unwrap(), ("30 90\r\n<typed>\r\nerr\r\n".to_owned(), 0));
    assert!(node.log("tty", 0).contains(" stdout F /dev/pts/0\r\n"), "{}", node.log("tty", 0));
    let state = node.wait("tty", |state| state.stage == Stage::Finished).await;
    assert_eq!(crate::ended(&state).unwrap().exit_code, 0);
}

pub(crate) async fn a_container_without_open_input_is_at_its_end(node: Node) {
    let plan = node.built("closed", "cat; echo over", &json!({}), &json!({}));
    assert!(node.output_of(&plan).await.contains(" F over"));
}
