//! systemd's habits, seen from inside of the containers.

use crate::node::{Node, Objects, is_alive, pod, until};
use runtime::plan::PodPlan;
use runtime::state::{ContainerState, PodState};
use serde_json::{Value, json};
use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// What stands for a program that knows sd_notify: `tell WORDS…` sends each word as a message,
/// `tell serve` answers one connection at descriptor 3 with its own pid, and ends, `tell abort`
/// sends READY=1 and says what it has caught.
const TELL: &str = r#"
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static void send_word(const char *word) {
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    strncpy(to.sun_path, getenv("NOTIFY_SOCKET"), sizeof to.sun_path - 1);
    int s = socket(AF_UNIX, SOCK_DGRAM, 0);
    if (sendto(s, word, strlen(word), 0, (struct sockaddr *)&to, sizeof to) < 0) { perror("send"); exit(9); }
    close(s);
}

static void caught(int signal) { (void)signal; write(1, "caught SIGABRT\n", 15); _exit(0); }

static int serve(void) {
    printf("pid %s names %s count %s self %d\n", getenv("LISTEN_PID"), getenv("LISTEN_FDNAMES"), getenv("LISTEN_FDS"), getpid());
    fflush(stdout);
    int c = accept(3, 0, 0);
    if (c < 0) { perror("accept"); return 8; }
    dprintf(c, "served by %d\n", getpid());
    return 0;
}

int main(int argc, char **argv) {
    if (argc > 1 && !strcmp(argv[1], "serve")) return serve();
    if (argc > 1 && !strcmp(argv[1], "abort")) { signal(SIGABRT, caught); send_word("READY=1"); pause(); }
    for (int i = 1; i < argc; i++) send_word(argv[i]);
    return 0;
}
"#;

/// The program, built once.
fn tell() -> &'static str {
    static PATH: OnceLock<String> = OnceLock::new();
    PATH.get_or_init(|| {
        let path = concat!(env!("CARGO_TARGET_TMPDIR"), "/habits-tell").to_owned();
        let new = format!("{path}.{}", std::process::id());
        let mut cc = Command::new("cc")
            .args(["-static", "-x", "c", "-o", &new, "-"])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        cc.stdin.take().unwrap().write_all(TELL.as_bytes()).unwrap();
        assert!(cc.wait().unwrap().success());
        fs::rename(new, &path).unwrap();
        path
    })
}

/// A pod that is always restarted, with `tell` in its folder `/t`.
fn annotated(node: &Node, uid: &str, script: &str, annotations: &Value) -> PodPlan {
    let folder = node.folder(&format!("{uid}-tools"));
    fs::copy(tell(), folder.join("tell")).unwrap();
    let mounts = json!({"volumeMounts": [{"name": "t", "mountPath": "/t"}]});
    let volumes =
        json!({"restartPolicy": "Always", "volumes": [{"name": "t", "hostPath": {"path": folder}}]});
    let mut pod = pod(uid, script, &mounts, &volumes);
    pod["metadata"]["annotations"] = annotations.clone();
    node.built_from(uid, Node::host_image(), &pod)
}

fn is_running(state: &PodState) -> bool {
    matches!(state.containers[0].state, ContainerState::Running { .. })
}

/// A file that lets the script in the container go on.
fn let_on(node: &Node, uid: &str, name: &str) {
    fs::write(node.path(&format!("{uid}-tools")).join(name), "").unwrap();
}

pub(crate) async fn a_container_says_when_it_is_ready_and_how_it_is(node: Node) {
    let script =
        "until [ -e /t/go ]; do sleep 0.05; done; /t/tell 'STATUS=Loading\nX=1' 'READY=1\nMAINPID=77'
        until [ -e /t/end ]; do sleep 0.05; done; /t/tell STOPPING=1; sleep 1000";
    let plan = annotated(&node, "notify", script, &json!({"evenkeel.dev/notify": "true"}));
    node.launch_plan(&plan).await;
    let running = node.wait("notify", is_running).await;
    assert!(!running.containers[0].ready && !running.containers[0].started);
    let_on(&node, "notify", "go");
    let ready = node.wait("notify", |state| state.containers[0].ready).await;
    assert!(ready.containers[0].started);
    node.wait("notify", |state| state.containers[0].status_text == "Loading").await;
    let_on(&node, "notify", "end");
    let stopping = node.wait("notify", |state| !state.containers[0].ready).await;
    assert!(is_running(&stopping));
}

pub(crate) async fn anybody_in_the_container_can_say_it(node: Node) {
    let folder = node.folder("user-tools");
    fs::copy(tell(), folder.join("tell")).unwrap();
    let container = json!({
        "securityContext": {"runAsUser": 1234, "runAsGroup": 1234, "readOnlyRootFilesystem": true},
        "volumeMounts": [{"name": "t", "mountPath": "/t"}],
    });
    let volumes = json!({"volumes": [{"name": "t", "hostPath": {"path": folder}}]});
    let mut pod = pod("user", "/t/tell READY=1 && exec sleep 1000", &container, &volumes);
    pod["metadata"]["annotations"] = json!({"main.evenkeel.dev/notify": "true"});
    node.launch_plan(&node.built_from("user", Node::host_image(), &pod)).await;
    node.wait("user", |state| state.containers[0].ready).await;
}

pub(crate) async fn a_container_without_a_sign_of_life_is_aborted(node: Node) {
    let script = "echo period $WATCHDOG_USEC; exec /t/tell abort";
    let habits = json!({"evenkeel.dev/notify": "true", "evenkeel.dev/watchdog": "300ms"});
    node.launch_plan(&annotated(&node, "dog", script, &habits)).await;
    let again = node.wait("dog", |state| state.containers[0].restarts > 0).await;
    assert_eq!(again.containers[0].last.as_ref().unwrap().reason, "Watchdog");
    let log = node.log("dog", 0);
    assert!(log.contains("period 300000\n") && log.contains("caught SIGABRT\n"), "{log}");
}

pub(crate) async fn a_stuck_container_that_catches_nothing_is_killed(node: Node) {
    let habits = json!({"evenkeel.dev/watchdog": "200ms"});
    let script = "while /t/tell WATCHDOG=1; do sleep 0.05; [ -e /t/hang ] && exec sleep 1000; done";
    let mut plan = annotated(&node, "hang", script, &habits);
    // Were it not killed at once, it would be only after that.
    plan.grace_seconds = 3600;
    node.launch_plan(&plan).await;
    let first = node.wait("hang", is_running).await;
    let ContainerState::Running { pid, .. } = first.containers[0].state else { panic!("{first:?}") };
    let_on(&node, "hang", "hang");
    let again = node.wait("hang", |state| state.containers[0].restarts > 0).await;
    let last = again.containers[0].last.as_ref().unwrap();
    assert_eq!((last.reason.as_str(), last.signal), ("Watchdog", Some(9)));
    assert!(!is_alive(pid));
    node.runtime().stop("hang", 0).await.unwrap();
}

pub(crate) async fn starts_are_counted_and_then_there_are_no_more(node: Node) {
    let habits = json!({
        "evenkeel.dev/start-limit-burst": "3", "evenkeel.dev/start-limit-interval": "1h",
        "evenkeel.dev/restart-delay": "10ms", "evenkeel.dev/restart-delay-max": "50ms",
    });
    node.launch_plan(&annotated(&node, "often", "echo run >> /t/runs; exit 1", &habits)).await;
    let over = node
        .wait("often", |state| {
            matches!(&state.containers[0].state, ContainerState::Waiting { reason, .. } if reason == "StartLimitHit")
        })
        .await;
    assert_eq!(over.containers[0].restarts, 2);
    let runs = fs::read_to_string(node.path("often-tools").join("runs")).unwrap();
    assert_eq!(runs, "run\nrun\nrun\n");
}

pub(crate) async fn connections_wait_while_the_container_restarts(node: Node) {
    let habits = json!({"evenkeel.dev/sockets": "web=8099, 8098", "evenkeel.dev/restart-delay": "300ms"});
    let plan = annotated(&node, "socket", "exec /t/tell serve", &habits);
    node.launch_plan(&plan).await;
    let first = node.wait("socket", is_running).await;
    // The first run ends with its first client; the others wait for the next runs.
    let socket = node.socket("socket");
    let connect = || runtime::pods::dial(&socket, 8099).unwrap();
    let clients = [connect(), connect(), connect()];
    for mut client in clients {
        let mut said = String::new();
        std::io::Read::read_to_string(&mut client, &mut said).unwrap();
        assert_eq!(said, "served by 1\n");
    }
    node.wait("socket", |state| state.containers[0].restarts >= 3).await;
    let log = node.log("socket", 0);
    assert!(log.contains("pid 1 names web:8098 count 2 self 1\n"), "{log}");
    assert_eq!(first.containers[0].restarts, 0);
}

/// A port of this machine that nobody listens on.
fn free_port() -> u16 {
    std::net::TcpListener::bind("[::]:0").unwrap().local_addr().unwrap().port()
}

fn asks(port: u16) -> std::net::TcpStream {
    std::net::TcpStream::connect((std::net::Ipv4Addr::LOCALHOST, port)).unwrap()
}

fn answer(mut client: std::net::TcpStream) -> String {
    client.set_read_timeout(Some(std::time::Duration::from_secs(60))).unwrap();
    let mut said = String::new();
    std::io::Read::read_to_string(&mut client, &mut said).unwrap();
    said
}

pub(crate) async fn a_socket_of_the_host_goes_from_pod_to_pod(mut node: Node) {
    let port = free_port();
    let habits = json!({"evenkeel.dev/sockets": port.to_string(), "evenkeel.dev/restart-delay": "10ms"});
    let on_host = |node: &Node, uid: &str| {
        let mut plan = annotated(node, uid, "exec /t/tell serve", &habits);
        plan.host_network = true;
        plan
    };
    // Without addresses, as the agent starts pods of the host's network.
    let launch = async |node: &Node, uid: &str| {
        node.runtime().create(&on_host(node, uid)).await.unwrap_or_else(|error| panic!("{error:?}"));
        node.runtime().start(uid, Vec::new()).await.unwrap();
    };
    launch(&node, "old").await;
    assert_eq!(answer(asks(port)), "served by 1\n");
    // An agent that knows nothing of it takes it from the one that runs.
    node.detach();
    node.attach().await;
    launch(&node, "new").await;
    node.runtime().remove("old").await.unwrap();
    assert_eq!(answer(asks(port)), "served by 1\n");
    // And with nobody there, it waits.
    node.runtime().stop("new", 0).await.unwrap();
    node.runtime().remove("new").await.unwrap();
    let waits = asks(port);
    launch(&node, "next").await;
    assert_eq!(answer(waits), "served by 1\n");
}

pub(crate) async fn a_socket_is_the_programs_wherever_it_is_a_process(node: Node) {
    let habits = json!({"evenkeel.dev/sockets": "8099"});
    let script = "busybox ls -l /proc/self/fd; exec /t/tell serve";
    let mut plan = annotated(&node, "hostpid", script, &habits);
    plan.host_pid = true;
    node.launch_plan(&plan).await;
    let state = node.wait("hostpid", is_running).await;
    let ContainerState::Running { pid, .. } = state.containers[0].state else { panic!("{state:?}") };
    let log =
        until("the program's word", || Some(node.log("hostpid", 0)).filter(|log| log.contains("count 1")))
            .await;
    assert!(log.contains(&format!("pid {pid} names 8099 count 1 self {pid}\n")), "{log}");
    // Nothing but the streams and the socket (and what `ls` looks at).
    assert_eq!(log.lines().filter(|line| line.contains(" -> ")).count(), 4, "{log}");
    assert!(log.contains(" 3 -> socket:["), "{log}");
}

pub(crate) async fn credentials_are_files_in_memory_for_the_user_alone(node: Node) {
    let container = json!({"securityContext": {"runAsUser": 1234, "runAsGroup": 1234}});
    let script =
        "cd $CREDENTIALS_DIRECTORY; pwd; busybox ls -lna .; cat token pass; touch x; rm token; echo > pass;
        busybox grep /run/credentials /proc/self/mounts";
    let mut pod = pod("cred", script, &container, &json!({}));
    pod["metadata"]["annotations"] = json!({"evenkeel.dev/credentials": "token=db/t, pass=db/p"});
    let secret = json!({"metadata": {"name": "db"}, "stringData": {"t": "first\n", "p": "second\n"}});
    let secrets = [("db".to_owned(), serde_json::from_value(secret).unwrap())].into();
    let objects = Objects { secrets, ..Objects::default() };
    let plan = node.built_with("cred", Node::host_image(), &pod, &objects);
    let log = node.output_of(&plan).await;
    assert!(
        log.contains("F /run/credentials\n") && log.contains("F first\n") && log.contains("F second\n"),
        "{log}"
    );
    assert!(log.contains("-r--------    1 1234     1234             6 "), "{log}");
    assert_eq!(log.matches("Read-only file system").count(), 3, "{log}");
    assert!(log.contains(" /run/credentials tmpfs ro,nosuid,nodev,noexec"), "{log}");
}
