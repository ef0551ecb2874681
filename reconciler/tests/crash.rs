//! `kill -9` in the middle of writes: what was acknowledged is there, and no batch is halved.
//!
//! The test runs itself again as the process that is killed.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use manifests::k8s_openapi::api::core::v1::ConfigMap;
use manifests::{Kind, Object, ObjectKey};
use reconciler::store::{State, Store, Write};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

const FOLDER: &str = "KEEL_CRASH_TEST_FOLDER";
const ROUND: &str = "KEEL_CRASH_TEST_ROUND";
const ROUNDS: u64 = 15;
const WRITERS: u64 = 4;

fn config(name: String, value: String) -> Object {
    let mut map = ConfigMap::default();
    map.metadata.namespace = Some("default".into());
    map.metadata.name = Some(name);
    map.data = Some(BTreeMap::from([("value".into(), value)]));
    map.into()
}

fn get(store: &Store, name: &str) -> Option<String> {
    let object = store.get(&ObjectKey::new(Kind::ConfigMap, "default", name))?;
    let map: &ConfigMap = (&*object).try_into().unwrap();
    Some(map.data.as_ref().unwrap()["value"].clone())
}

/// Writes pairs of objects for ever, and says which are acknowledged.
async fn write_for_ever(folder: &Path, round: &str) {
    let store = Store::open(folder).unwrap();
    let writers = (0..WRITERS).map(async |writer| {
        for i in 0_u64.. {
            let id = format!("{round}-{writer}-{i}");
            let pair = ["a", "b"].map(|half| Write::Create(config(format!("{half}-{id}"), id.clone())));
            let answers = store.write(pair.into()).await.unwrap();
            let mut out = std::io::stdout().lock();
            writeln!(out, "ack {id} {}", answers[1].resource_version()).unwrap();
            out.flush().unwrap();
        }
    });
    futures::future::join_all(writers).await;
}

/// Lets a child write until `acks` acknowledgements were read, then kills it.
/// Returns all that it acknowledged, with the newest revision.
fn killed_after(acks: usize, folder: &Path, round: u64) -> (Vec<String>, u64) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "what_was_acknowledged_survives_a_kill", "--nocapture"])
        .env(FOLDER, folder)
        .env(ROUND, round.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let (mut names, mut newest) = (Vec::new(), 0);
    let mut note = |line: String| {
        let mut words = line.split_whitespace().skip_while(|word| *word != "ack").skip(1);
        if let (Some(name), Some(revision)) = (words.next(), words.next()) {
            names.push(name.to_owned());
            newest = newest.max(revision.parse().unwrap());
        }
        names.len()
    };
    while note(lines.next().expect("the child writes until it is killed")) < acks {}
    child.kill().unwrap();
    child.wait().unwrap();
    // The last line may be torn by the kill, and is then no acknowledgement that anybody got.
    let mut rest: Vec<_> = lines.collect();
    rest.pop();
    for line in rest {
        note(line);
    }
    (names, newest)
}

#[test]
fn what_was_acknowledged_survives_a_kill() {
    if let (Some(folder), Ok(round)) = (std::env::var_os(FOLDER), std::env::var(ROUND)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        return runtime.block_on(write_for_ever(Path::new(&folder), &round));
    }
    let folder = tempfile::TempDir::new().unwrap();
    let mut acknowledged = Vec::new();
    for round in 0..ROUNDS {
        let acks = 1 + usize::try_from(round * 37 % 61).unwrap();
        let (names, newest) = killed_after(acks, folder.path(), round);
        assert!(names.len() >= acks);
        acknowledged.extend(names);
        let store = Store::open(folder.path()).unwrap();
        assert!(store.read(State::revision) >= newest, "round {round}");
        for name in &acknowledged {
            assert_eq!(get(&store, &format!("a-{name}")).as_ref(), Some(name), "round {round}");
        }
        let (objects, _) = store.list(Kind::ConfigMap, None);
        for object in objects {
            let (half, id) = object.name().split_once('-').unwrap();
            let other = if half == "a" { "b" } else { "a" };
            assert!(get(&store, &format!("{other}-{id}")).is_some(), "{} is alone", object.name());
        }
    }
}
