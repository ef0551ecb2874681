use crate::machine::{EVENTS, Machine, PODS};
use crate::traces;
use crate::yaml::{SERVE, config_map, pod, spec};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::fs;

pub(crate) fn who_attaches_speaks_to_the_container(machine: &mut Machine) {
    machine.start();
    let mut open = spec("while read word; do echo \"<$word>\"; done; exit 6");
    open["containers"][0]["stdin"] = true.into();
    open["containers"][0]["stdinOnce"] = true.into();
    let mut terminal =
        spec("read word; test -t 0 && test -t 1 && test -t 2 && echo \"[$word]\" && exit 7; exit 8");
    terminal["containers"][0]["stdin"] = true.into();
    terminal["containers"][0]["tty"] = true.into();
    machine.repository.write("open.yaml", &pod("open", &open));
    machine.repository.write("closed.yaml", &pod("closed", &spec("read word; exec sleep 1000")));
    machine.repository.push_file("terminal.yaml", &pod("terminal", &terminal));
    for name in ["open", "closed", "terminal"] {
        machine.until_running(name);
    }
    let said = machine.keel_with(&["attach", "-i", "open"], "one\ntwo\n");
    assert_eq!((said.code, said.stdout.as_str()), (6, "<one>\n<two>\n"), "{said:?}");
    let said = machine.keel_with(&["attach", "-it", "pod/terminal"], "word\n");
    assert_eq!(said.code, 7, "{said:?}");
    // What is typed is shown as well.
    assert!(said.stdout.ends_with("[word]\r\n"), "{said:?}");
    let watch = machine.follow(&["attach", "-i", "closed"]);
    traces::kill(machine.pid("closed"), Signal::KILL);
    drop(watch);
    let said = machine.keel(&["attach", "none"]);
    assert!(said.code == 1 && said.stderr.contains("pods \"none\" not found"), "{said:?}");
}

/// The status of the container that was added to the pod.
fn added(machine: &Machine, pod: &str, name: &str) -> Value {
    let pod = machine.api.get(&format!("{PODS}/{pod}"));
    let statuses = pod["status"]["ephemeralContainerStatuses"].as_array().cloned().unwrap_or_default();
    let found = statuses.into_iter().find(|status| status["name"] == name);
    found.unwrap_or_else(|| panic!("no status of {name}: {pod}"))
}

fn until_added_runs(machine: &Machine, name: &str) {
    machine.api.until(PODS, "the added container", |pods| {
        let statuses = pods.first()?["status"]["ephemeralContainerStatuses"].as_array()?;
        let status = statuses.iter().find(|status| status["name"] == name)?;
        status["state"]["running"].is_object().then_some(())
    });
}

pub(crate) fn a_container_is_added_to_a_pod_that_runs(machine: &mut Machine) {
    machine.start();
    machine.repository.push_file("two.yaml", &pod("two", &spec(SERVE)));
    let uid = machine.until_running("two")["metadata"]["uid"].clone();
    let pid = machine.pid("two");
    let namespace =
        |kind: &str| fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap().display().to_string();

    // It is in the namespaces of the container that it looks at, as the kernel says.
    let look = "readlink /proc/self/ns/net /proc/self/ns/ipc /proc/self/ns/pid; tr '\\0' ' ' < /proc/1/cmdline; \
                echo; grep CapEff /proc/self/status; exit 9";
    let words =
        ["debug", "two", "--image", "host:", "-c", "look", "--target", "main", "-i", "--", "sh", "-c", look];
    let said = machine.keel(&words);
    assert_eq!(said.code, 9, "{said:?}");
    let lines: Vec<_> = said.stdout.lines().collect();
    assert_eq!(lines[..3], ["net", "ipc", "pid"].map(namespace));
    assert!(lines[3].starts_with("/bin/sh -c trap"), "{said:?}");
    let capabilities = u64::from_str_radix(lines[4].split_whitespace().last().unwrap(), 16).unwrap();
    assert!(capabilities & (1 << 19) != 0, "CAP_SYS_PTRACE: {said:?}");
    assert_eq!(added(machine, "two", "look")["state"]["terminated"]["exitCode"], 9);
    assert_eq!(machine.ok(&["logs", "two", "-c", "look"]), said.stdout);

    // Without a target it has processes of its own; it can be gone into, and outlives the agent.
    let words = ["debug", "two", "--image", "host:", "-c", "stay", "--profile", "netadmin", "--"];
    machine.ok(&[&words[..], &["sleep", "4321"]].concat());
    until_added_runs(machine, "stay");
    let inside = [
        "exec",
        "two",
        "-c",
        "stay",
        "--",
        "sh",
        "-c",
        "tr '\\0' ' ' < /proc/1/cmdline; busybox ip link add d0 type bridge",
    ];
    assert_eq!(machine.ok(&inside), "sleep 4321 ");
    assert!(machine.ok(&["exec", "two", "-c", "main", "--", "cat", "/proc/net/dev"]).contains("d0:"));
    machine.api.until(EVENTS, "the event", |events| {
        events.iter().any(|event| event["message"] == "Started container stay").then_some(())
    });
    machine.kill_agent();
    machine.start();
    assert_eq!(machine.ok(&["exec", "two", "-c", "stay", "--", "cat", "/proc/1/comm"]), "sleep\n");
    assert!(added(machine, "two", "stay")["state"]["running"].is_object());
    assert!(machine.ok(&["status", "pod/two"]).contains("stay (ephemeral)"));

    what_cannot_be_added_says_why(machine);
    // Git does not know of them, and does not take them for a change.
    let commit = machine.repository.push_file("text.yaml", &config_map("text", "a", "b"));
    machine.until_synced(&commit);
    let two = machine.api.get(&format!("{PODS}/two"));
    assert_eq!((&two["metadata"]["uid"], machine.pid("two")), (&uid, pid));
    assert_eq!(two["spec"]["ephemeralContainers"].as_array().map(Vec::len), Some(3));
    assert_eq!(
        two["status"]["conditions"].as_array().unwrap().iter().filter(|c| c["status"] == "True").count(),
        two["status"]["conditions"].as_array().unwrap().len(),
        "{two}"
    );
}

/// The pod runs on as it was.
fn what_cannot_be_added_says_why(machine: &Machine) {
    for (words, why) in [
        (&["--image", "host:", "--target", "none"][..], "the pod has no container \"none\""),
        (&["--image", "host:", "-c", "main"], "another container of the pod has this name"),
        (&["--image", "127.0.0.1:1/none", "-c", "bad", "-i"], "container bad cannot begin: ErrImagePull"),
    ] {
        let said = machine.keel(&[&["debug", "two"][..], words].concat());
        assert!(said.code == 1 && said.stderr.contains(why), "{said:?}");
    }
    let body = json!({"spec": {"ephemeralContainers": [{"name": "look", "image": "other"}]}}).to_string();
    let (code, said) = machine.api.ask("PATCH", &format!("{PODS}/two/ephemeralcontainers"), &body);
    assert!(code == 422 && said.contains("may not be changed"), "{said}");
}

pub(crate) fn a_pod_that_ends_does_not_wait_for_what_was_added(machine: &mut Machine) {
    machine.start();
    let mut ends = spec("until test -e /proc/self/root/tmp/go; do sleep 0.1; done");
    ends["restartPolicy"] = "Never".into();
    ends["volumes"] = json!([{"name": "word", "emptyDir": {}}]);
    ends["containers"][0]["volumeMounts"] = json!([{"name": "word", "mountPath": "/tmp"}]);
    machine.repository.push_file("ends.yaml", &pod("ends", &ends));
    machine.until_running("ends");
    machine.ok(&["debug", "ends", "--image", "host:", "-c", "stay", "--", "sleep", "4321"]);
    until_added_runs(machine, "stay");
    machine.ok(&["exec", "ends", "-c", "main", "--", "touch", "/tmp/go"]);
    machine
        .api
        .until(PODS, "the end", |pods| (pods.first()?["status"]["phase"] == "Succeeded").then_some(()));
    machine.api.until(PODS, "the end of what was added", |pods| {
        let state = &pods.first()?["status"]["ephemeralContainerStatuses"][0]["state"];
        (state["terminated"]["exitCode"] == 137).then_some(())
    });
}

pub(crate) fn a_pod_looks_into_the_node(machine: &mut Machine) {
    machine.start();
    let file = machine.folder.join("seen-from-inside");
    fs::write(&file, "the node's own\n").unwrap();
    let agent = machine.agent_pid();
    let own = |kind: &str| fs::read_link(format!("/proc/{agent}/ns/{kind}")).unwrap().display().to_string();
    let script = format!(
        "readlink /proc/self/ns/net /proc/self/ns/ipc; cat /host{}; ls -d /proc/{}",
        file.display(),
        agent
    );
    let said = machine.keel(&["debug", "node/one", "--image", "host:", "-i", "--", "sh", "-c", &script]);
    assert_eq!(said.code, 0, "{said:?}");
    let wanted = format!("{}\n{}\nthe node's own\n/proc/{}\n", own("net"), own("ipc"), agent);
    assert_eq!(said.stdout, wanted);
    let name = said.stderr.split_whitespace().find(|word| word.starts_with("node-debugger-one-")).unwrap();
    machine
        .api
        .until(PODS, "the end", |pods| (pods.first()?["status"]["phase"] == "Succeeded").then_some(()));
    let said = machine.keel(&["debug", name, "--image", "host:", "-i"]);
    assert!(said.code == 1 && said.stderr.contains("the pod has ended"), "{said:?}");
    machine.ok(&["delete", "pod", name]);
    let said = machine.keel(&["debug", "node/two", "--image", "host:"]);
    assert!(said.code == 1 && said.stderr.contains("nodes \"two\" not found"), "{said:?}");
}
