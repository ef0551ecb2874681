//! What clients and containers can do to a supervisor: not hold it up, nor end it.

use crate::node::{Node, Script};
use runtime::state::{ContainerState, PodState, Stage};
use runtime::supervisor::protocol::{MAX_REQUEST_BYTES, Reply, Request};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::time::Duration;

fn runs(state: &PodState) -> bool {
    matches!(state.containers[0].state, ContainerState::Running { .. })
}

fn connect(node: &Node, uid: &str) -> UnixStream {
    let stream = UnixStream::connect(node.socket(uid)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream
}

/// Sends `bytes`, ends, and returns all that was said.
fn replies(node: &Node, uid: &str, bytes: &[u8]) -> Vec<Reply> {
    let mut stream = connect(node, uid);
    stream.write_all(bytes).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    BufReader::new(stream).lines().map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect()
}

/// As many bytes as wanted, the same for the same seed.
fn noise(seed: u64, count: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..count).map(|_| next()).collect()
}

pub(crate) async fn a_supervisor_answers_nonsense_and_goes_on(node: Node) {
    node.launch("pod", &Script::forever("exec sleep 1000")).await;
    let before = node.wait("pod", runs).await;
    let mode = std::fs::metadata(node.socket("pod")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    for seed in 1..=200 {
        let mut bytes = noise(seed, 700);
        bytes.push(b'\n');
        let lines = bytes.iter().filter(|byte| **byte == b'\n').count();
        let answers = replies(&node, "pod", &bytes);
        assert!(matches!(answers[0], Reply::Hello { .. }), "seed {seed}");
        assert_eq!(answers.len(), lines + 1, "seed {seed}");
        assert!(
            answers[1..].iter().all(|one| matches!(one, Reply::Error { .. })),
            "seed {seed}: {answers:?}"
        );
    }

    let request = serde_json::to_vec(&Request::Signal { container: "main".into(), signal: 9 }).unwrap();
    for end in 0..request.len() {
        // Half a request, and its sender is gone.
        assert_eq!(replies(&node, "pod", &request[..end]).len(), 1, "{end} bytes");
    }
    for wrong in [
        r#"{"op":"stop","grace_seconds":-1}"#,
        r#"{"op":"signal","container":"main","signal":0}"#,
        r#"{"op":"signal","container":"main","signal":4096}"#,
        r#"{"op":"signal","container":"../main","signal":9}"#,
        r#"{"op":"format the disk"}"#,
        "[[[[[[[[[[[[[[[[",
        "",
    ] {
        let answers = replies(&node, "pod", format!("{wrong}\n").as_bytes());
        assert!(matches!(answers[..], [_, Reply::Error { .. }]), "{wrong}: {answers:?}");
    }
    let deep = "[".repeat(MAX_REQUEST_BYTES - 1);
    assert!(matches!(replies(&node, "pod", format!("{deep}\n").as_bytes())[..], [_, Reply::Error { .. }]));

    assert_eq!(*node.runtime().observe()["pod"], before, "nothing of this had an effect");
}

pub(crate) async fn a_supervisor_does_not_wait_for_its_clients(node: Node) {
    node.launch("pod", &Script::forever("exec sleep 1000")).await;
    node.wait("pod", runs).await;
    // One asks for ever and reads nothing, one sends a line without an end.
    let mut deaf = connect(&node, "pod");
    deaf.set_write_timeout(Some(Duration::from_secs(60))).unwrap();
    let asking = std::thread::spawn(move || while deaf.write_all(b"{\"op\":\"status\"}\n").is_ok() {});
    let mut endless = connect(&node, "pod");
    endless.write_all(&vec![b'x'; MAX_REQUEST_BYTES + 1]).unwrap();
    let mut greeting = [0; 64];
    assert!(endless.read(&mut greeting).unwrap() > 0);

    node.runtime().signal("pod", "main", 9).await.unwrap();
    node.wait("pod", |state| runs(state) && state.containers[0].restarts == 1).await;
    asking.join().unwrap();
}

pub(crate) async fn a_flood_of_output_is_logged_to_its_last_line(node: Node) {
    // Twice what is kept, and not more: a machine can be slow.
    const MEGABYTES: usize = 80;
    let text = format!("yes {} | head -c {}; echo; echo the end", "x".repeat(99), MEGABYTES << 20);
    node.launch("flood", &Script::once(&text)).await;
    let state = node.wait("flood", |state| state.stage == Stage::Finished).await;
    let ContainerState::Terminated(end) = &state.containers[0].state else { panic!("{state:?}") };
    let took = end.finished_at.duration_since(end.started_at);
    println!("{MEGABYTES} MiB of output in {took:#}");
    let log = node.log("flood", 0);
    assert!(log.ends_with(" stdout F the end\n"), "{}", &log[log.len() - 200..]);
    let files: Vec<_> = std::fs::read_dir(node.logs("flood")).unwrap().flatten().collect();
    assert_eq!(files.len(), 5);
    // A little more than the limit: a file is closed after the write that fills it.
    assert!(files.iter().all(|file| file.metadata().unwrap().len() < 13 << 20), "{files:?}");
}
