//! Processes and connections from outside into a pod.

use crate::node::Node;
use runtime::pods::{ExecSpec, InsideError, dial, exec, exec_in_terminal};
use runtime::state::Stage;
use rustix::pipe::{PipeFlags, pipe_with};
use serde_json::json;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

fn spec(args: &[&str]) -> ExecSpec {
    let args = args.iter().map(|word| (*word).to_owned()).collect();
    ExecSpec { container: "main".into(), args, ..ExecSpec::default() }
}

/// Exit code, output and errors of a command that reads `input`.
fn run(socket: PathBuf, spec: ExecSpec, input: &'static [u8]) -> (Result<i32, InsideError>, String, String) {
    let pipe = || pipe_with(PipeFlags::CLOEXEC).unwrap();
    let (stdin, mut feed) = {
        let (read, write) = pipe();
        (read, File::from(write))
    };
    let (stdout, out) = pipe();
    let (stderr, err) = pipe();
    let execution = exec(&socket, &spec, [stdin.as_fd(), out.as_fd(), err.as_fd()]);
    drop((stdin, out, err));
    let feeder = std::thread::spawn(move || drop(feed.write_all(input)));
    let read = |from: OwnedFd| {
        let mut text = String::new();
        File::from(from).read_to_string(&mut text).unwrap();
        text
    };
    let (stdout, stderr) = (read(stdout), read(stderr));
    feeder.join().unwrap();
    (execution.and_then(|execution| execution.wait()), stdout, stderr)
}

pub(crate) async fn inside(
    node: &Node,
    uid: &str,
    spec: ExecSpec,
    input: &'static [u8],
) -> (Result<i32, InsideError>, String, String) {
    let socket = node.socket(uid);
    tokio::task::spawn_blocking(move || run(socket, spec, input)).await.unwrap()
}

pub(crate) async fn a_command_runs_in_everything_that_is_the_containers(node: Node) {
    let container = json!({"env": [{"name": "COLOUR", "value": "green"}], "workingDir": "/usr",
        "securityContext": {"runAsUser": 65534, "runAsGroup": 65534}});
    let script = "for n in net ipc uts pid mnt cgroup; do readlink /proc/self/ns/$n; done; cat /proc/self/cgroup; \
                  grep -E '^(Cap|NoNewPrivs|Uid|Gid|Groups)' /proc/self/status; echo up; exec sleep 1000";
    node.launch_plan(&node.built("exec", script, &container, &json!({}))).await;
    crate::until("the container", || node.log("exec", 0).contains("F up").then_some(())).await;
    let same = "for n in net ipc uts pid mnt cgroup; do readlink /proc/self/ns/$n; done; cat /proc/self/cgroup; \
                grep -E '^(Cap|NoNewPrivs|Uid|Gid|Groups)' /proc/self/status; echo up";
    let (code, stdout, stderr) = inside(&node, "exec", spec(&["sh", "-c", same]), b"").await;
    let own: String = node
        .log("exec", 0)
        .lines()
        .map(|line| format!("{}\n", line.splitn(4, ' ').nth(3).unwrap()))
        .collect();
    assert_eq!((code.unwrap(), stdout, stderr.as_str()), (0, own, ""));
    let talk = "pwd; echo $COLOUR $MORE; cat; echo oops >&2; exit 3";
    let spec = ExecSpec { env: vec!["MORE=yes".into()], ..spec(&["sh", "-c", talk]) };
    let (code, stdout, stderr) = inside(&node, "exec", spec, b"input").await;
    assert_eq!((code.unwrap(), stdout.as_str(), stderr.as_str()), (3, "/usr\ngreen yes\ninput", "oops\n"));
    node.runtime().stop("exec", 0).await.unwrap();
}

pub(crate) async fn what_cannot_be_run_inside_says_why(node: Node) {
    node.launch_plan(&node.built("cannot", "exec sleep 1000", &json!({}), &json!({}))).await;
    node.wait("cannot", |state| crate::pid(state).is_some()).await;
    let (missing, ..) = inside(&node, "cannot", spec(&["no-such-program"]), b"").await;
    let Err(InsideError::NotStarted { exit_code, message }) = missing else { panic!("{missing:?}") };
    assert_eq!(exit_code, 127);
    assert!(message.contains("no-such-program"), "{message}");
    let other = ExecSpec { container: "other".into(), ..spec(&["true"]) };
    let (refused, ..) = inside(&node, "cannot", other, b"").await;
    assert_eq!(refused.unwrap_err().to_string(), "the container \"other\" does not run");
    let (killed, ..) = inside(&node, "cannot", spec(&["sh", "-c", "kill -9 $$"]), b"").await;
    assert_eq!(killed.unwrap(), 137);
    let as_user = ExecSpec { user: Some("65534:65534".into()), ..spec(&["sh", "-c", "id -u; id -g"]) };
    assert_eq!(inside(&node, "cannot", as_user, b"").await.1, "65534\n65534\n");
    node.runtime().stop("cannot", 0).await.unwrap();
    node.wait("cannot", |state| state.stage == Stage::Finished).await;
    let (gone, ..) = inside(&node, "cannot", spec(&["true"]), b"").await;
    assert!(matches!(gone, Err(InsideError::NotRunning { .. } | InsideError::Ended)), "{gone:?}");
}

pub(crate) async fn a_terminal_is_one_of_the_containers_own(node: Node) {
    node.launch_plan(&node.built("term", "exec sleep 1000", &json!({}), &json!({}))).await;
    node.wait("term", |state| crate::pid(state).is_some()).await;
    let socket = node.socket("term");
    let script = "tty; stty size; read word; echo \"<$word>\"; exit 5";
    let (code, said) = tokio::task::spawn_blocking(move || {
        let (terminal, execution) = exec_in_terminal(&socket, &spec(&["sh", "-c", script])).unwrap();
        let size = rustix::termios::Winsize { ws_row: 33, ws_col: 99, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(&terminal, size).unwrap();
        let mut terminal = File::from(terminal);
        terminal.write_all(b"hello\n").unwrap();
        let mut said = Vec::new();
        // The other side is closed when the program ends: the kernel says EIO then.
        let mut buffer = [0; 1024];
        while let Ok(count @ 1..) = terminal.read(&mut buffer) {
            said.extend_from_slice(&buffer[..count]);
        }
        (execution.wait().unwrap(), String::from_utf8(said).unwrap())
    })
    .await
    .unwrap();
    assert_eq!(code, 5);
    assert!(said.contains("/dev/pts/0\r\n") && said.contains("<hello>"), "{said}");
    node.runtime().stop("term", 0).await.unwrap();
}

pub(crate) async fn a_connection_leads_to_a_port_of_the_pods_own(node: Node) {
    let script = "while :; do echo hello | busybox nc -l -p 8080; done";
    node.launch_plan(&node.built("dial", script, &json!({}), &json!({}))).await;
    let socket = node.socket("dial");
    let connection = crate::until("the server", || dial(&socket, 8080).ok()).await;
    let text = tokio::task::spawn_blocking(move || {
        let mut connection = connection;
        let mut text = String::new();
        connection.read_to_string(&mut text).map(|_| text)
    });
    assert_eq!(text.await.unwrap().unwrap(), "hello\n");
    let refused = dial(&socket, 8081).unwrap_err().to_string();
    assert!(refused.starts_with("cannot connect to port 8081: "), "{refused}");
    node.runtime().stop("dial", 0).await.unwrap();
}

/// What a container sees of a process that comes in must not lead out: descriptors of the
/// supervisor's, its program, its memory.
pub(crate) async fn a_process_that_comes_in_brings_nothing_along(node: Node) {
    // Looks at every new process's descriptors and program as fast as it can. (A program that is
    // linked to libselinux reads /proc/filesystems itself, when it starts; `ls` reads its own folder.)
    let watch = "echo up; while :; do for p in /proc/[0-9]*; do case $p in /proc/1) continue;; esac; \
                 ls -l $p/fd 2>/dev/null | grep -E 'sock|plan|memfd|/proc/|state' \
                 | grep -v -e ' /proc/filesystems$' -e \" $p/fd$\" && echo LEAK; \
                 done; done";
    node.launch_plan(&node.built("spy", watch, &json!({}), &json!({}))).await;
    crate::until("the spy", || node.log("spy", 0).contains("F up").then_some(())).await;
    for _ in 0..50 {
        let (code, listed, _) = inside(&node, "spy", spec(&["ls", "/proc/self/fd"]), b"").await;
        // Its three streams, and the folder that it reads.
        assert_eq!((code.unwrap(), listed.as_str()), (0, "0\n1\n2\n3\n"));
    }
    assert!(!node.log("spy", 0).contains("LEAK"), "{}", node.log("spy", 0));
    node.runtime().stop("spy", 0).await.unwrap();
}
