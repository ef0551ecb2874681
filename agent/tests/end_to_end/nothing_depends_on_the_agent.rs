use crate::machine::{Machine, PODS, until};
use crate::traces::{self, is_alive};
use crate::yaml::{SERVE, deployment, pod, spec};
use rustix::process::Signal;
use serde_json::{Value, json};

/// A small generator of the same numbers each time (Marsaglia's xorshift32).
fn next(seed: &mut u32) -> u32 {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 17;
    *seed ^= *seed << 5;
    *seed
}

pub(crate) fn twenty_kills_of_the_agent_in_a_rollout_harm_nothing(machine: &mut Machine) {
    machine.start();
    machine.repository.write("still.yaml", &deployment("still", 2, &spec(SERVE)));
    let version = |number: u32| deployment("web", 3, &spec(&format!("echo version {number}; {SERVE}")));
    machine.repository.push_file("web.yaml", &version(0));
    machine.until_rolled_out("still", 2);
    machine.until_rolled_out("web", 3);
    let before = machine.pids("still-");
    let mut seed = 20_261_120;
    for number in 1..=20 {
        let list = machine.api.get(PODS);
        let mut changes = machine.api.watch(PODS, list["metadata"]["resourceVersion"].as_str().unwrap());
        machine.repository.push_file("web.yaml", &version(number));
        // Three pods of a rollout change more often than this.
        for _ in 0..next(&mut seed) % 15 {
            changes.next().expect("a change of a pod");
        }
        machine.kill_agent();
        assert!(before.values().all(|pid| is_alive(*pid)), "a pod went with the agent");
        machine.start();
    }
    machine.until_rolled_out("web", 3);
    machine.until_rolled_out("still", 2);
    for pod in machine.api.list(PODS) {
        let container = &pod["status"]["containerStatuses"][0];
        assert_eq!((&container["ready"], &container["restartCount"]), (&json!(true), &json!(0)), "{pod}");
    }
    assert_eq!(machine.pids("still-"), before, "a pod that should have stayed was restarted");
    for name in machine.pids("web-").keys() {
        assert_eq!(machine.ok(&["logs", name]), "version 20\nup\n");
    }
    // One supervisor, one link and one cgroup for each pod, and nothing of former ones.
    machine.until_traces(|traces| {
        let count = |kind: &str| traces.iter().filter(|trace| trace.starts_with(kind)).count();
        let supervisors = traces.iter().filter(|trace| trace.contains(" supervise ")).count();
        [count("link"), count("cgroup"), supervisors, count("mount")] == [5, 5, 5, 0]
    });
}

pub(crate) fn a_crash_while_the_agent_is_dead_is_repaired(machine: &mut Machine) {
    machine.start();
    machine.repository.push_file("bare.yaml", &pod("bare", &spec(SERVE)));
    let uid = machine.until_running("bare")["metadata"]["uid"].as_str().unwrap().to_owned();
    let pid = machine.pid("bare");
    machine.kill_agent();
    traces::kill(pid, Signal::KILL);
    let saved = machine.folder.join("state/pods").join(uid).join("status.json");
    until("the second run", || {
        let state: Value = serde_json::from_slice(&std::fs::read(&saved).ok()?).ok()?;
        let container = &state["containers"][0];
        (container["restarts"] == 1 && container["state"].to_string().contains("pid")).then_some(())
    });
    machine.start();
    let pod = machine.api.until(PODS, "the new agent to see the restart", |pods| {
        let container = &pods.first()?["status"]["containerStatuses"][0];
        (container["restartCount"] == 1 && container["ready"] == true).then(|| pods[0].clone())
    });
    let last = &pod["status"]["containerStatuses"][0]["lastState"]["terminated"];
    assert_eq!((&last["exitCode"], &last["reason"]), (&json!(137), &json!("Error")), "{pod}");
    assert_ne!(machine.pid("bare"), pid);
    assert_eq!(machine.ok(&["logs", "bare", "--previous"]), "up\n");
    let table = machine.ok(&["get", "pods"]);
    assert!(table.lines().nth(1).unwrap().split_whitespace().any(|word| word == "Running"), "{table}");
}

pub(crate) fn an_agent_that_stops_leaves_its_pods_alone(machine: &mut Machine) {
    machine.start();
    machine.repository.push_file("web.yaml", &deployment("web", 2, &spec(SERVE)));
    machine.until_rolled_out("web", 2);
    let before = machine.pids("web-");
    assert!(machine.stop_agent().success());
    assert!(before.values().all(|pid| is_alive(*pid)));
    assert!(!machine.api.socket.exists());
    let said = machine.keel(&["get", "pods"]);
    assert_eq!((said.code, said.stdout.as_str()), (1, ""));
    assert!(said.stderr.starts_with("error: ") && said.stderr.contains("keel.sock"), "{said:?}");
    machine.start();
    machine.until_rolled_out("web", 2);
    assert_eq!(machine.pids("web-"), before);
}
