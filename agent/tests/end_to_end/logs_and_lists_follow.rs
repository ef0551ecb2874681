use crate::machine::{Machine, PODS, until};
use crate::traces;
use crate::yaml::{SERVE, deployment, pod, spec};
use rustix::process::Signal;

pub(crate) fn logs_are_followed_cut_and_kept(machine: &mut Machine) {
    machine.start();
    // Two streams have no order among them: the last line waits for both.
    let script = format!("trap 'exit 0' TERM; echo first; echo wrong >&2; echo third; sleep 1; {SERVE}");
    machine.repository.push_file("talker.yaml", &pod("talker", &spec(&script)));
    machine.until_running("talker");
    let follow = machine.follow(&["logs", "-f", "talker", "--timestamps"]);
    let line = follow.until("the last line", |line| line.ends_with(" up"));
    let time = line.split(' ').next().unwrap();
    assert!(time.parse::<jiff::Timestamp>().is_ok(), "{line}");
    let all = machine.ok(&["logs", "talker"]);
    let mut lines: Vec<_> = all.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["first", "third", "up", "wrong"]);
    assert_eq!(machine.ok(&["logs", "talker", "--tail", "1"]), "up\n");
    assert_eq!(machine.ok(&["logs", "pod/talker", "--since", "1h"]), all);
    assert_eq!(machine.ok(&["logs", "talker", "--since-time", "2099-01-01T00:00:00Z"]), "");
    assert_eq!(machine.ok(&["logs", "talker", "--tail", "1", "--prefix"]), "[pod/talker/main] up\n");
    let said = machine.keel(&["logs", "talker", "--previous"]);
    assert_eq!(said.code, 1);
    assert!(said.stderr.contains("no previous run"), "{said:?}");
    let said = machine.keel(&["logs", "talker", "-c", "other"]);
    assert_eq!(said.code, 1);
    assert!(said.stderr.contains("other") && said.stderr.contains("main"), "{said:?}");

    // Who follows hears the next run too.
    let pid = machine.pid("talker");
    traces::kill(pid, Signal::KILL);
    follow.until("the next run", |line| line.ends_with(" first"));
    machine.api.until(PODS, "the restart", |pods| {
        let container = &pods.first()?["status"]["containerStatuses"][0];
        (container["restartCount"] == 1 && container["ready"] == true).then_some(())
    });
    assert_eq!(machine.ok(&["logs", "talker", "--previous"]), all);
}

pub(crate) fn a_long_log_gives_way_and_is_read_as_one(machine: &mut Machine) {
    machine.configuration["containerLogMaxSize"] = "64Ki".into();
    machine.configuration["containerLogMaxFiles"] = 3.into();
    machine.start();
    let script = format!("trap 'exit 0' TERM; seq -f 'line %06g' 1 60000; {SERVE}");
    machine.repository.push_file("talker.yaml", &pod("talker", &spec(&script)));
    let talker = machine.until_running("talker");
    until("the last line", || {
        (machine.keel(&["logs", "talker", "--tail", "1"]).stdout == "up\n").then_some(())
    });
    let uid = talker["metadata"]["uid"].as_str().unwrap();
    let folder = machine.folder.join(format!("logs/default_talker_{uid}/main"));
    let files: Vec<_> = std::fs::read_dir(&folder).unwrap().flatten().collect();
    assert_eq!(files.len(), 3, "{files:?}");
    for file in &files {
        let (name, length) = (file.file_name(), file.metadata().unwrap().len());
        // A batch of what was written goes into one file.
        assert!(name.to_str().unwrap().starts_with("0.log") && length < 2 * 512 * 1024, "{name:?}: {length}");
    }
    let all = machine.ok(&["logs", "talker"]);
    let numbers = all.lines().filter_map(|line| line.strip_prefix("line ")?.parse::<u32>().ok());
    let numbers: Vec<_> = numbers.collect();
    let first = 60_000 - u32::try_from(numbers.len()).unwrap() + 1;
    assert!(first > 1, "the oldest are gone");
    assert_eq!(numbers, (first..=60_000).collect::<Vec<_>>(), "and nothing between is");
    // More than one file holds.
    let in_use = std::fs::read_to_string(folder.join("0.log")).unwrap().lines().count();
    assert!(numbers.len() >= in_use, "{} lines, {in_use} in the last file", numbers.len());
}

pub(crate) fn a_watched_list_shows_each_change(machine: &mut Machine) {
    machine.start();
    let said = machine.keel(&["get", "pods"]);
    assert_eq!(
        (said.code, said.stdout.as_str(), said.stderr.as_str()),
        (0, "", "No resources found in default namespace.\n")
    );
    let watch = machine.follow(&["get", "pods", "-w"]);
    let changes = machine.follow(&["events", "-w"]);
    machine.repository.push_file("web.yaml", &deployment("web", 1, &spec(SERVE)));
    watch.until("its columns", |line| {
        line.split_whitespace().eq(["NAME", "READY", "STATUS", "RESTARTS", "AGE"])
    });
    watch.until("the new pod", |line| line.starts_with("web-") && line.contains("Pending"));
    watch.until("the running pod", |line| {
        line.starts_with("web-") && line.contains("1/1") && line.contains("Running")
    });
    changes.until("the start", |line| line.contains("Started container main"));
    machine.repository.push_file("web.yaml", &deployment("web", 0, &spec(SERVE)));
    watch.until("the pod's end", |line| line.starts_with("web-") && line.contains("Terminating"));
    machine.until_gone(PODS);
    until("its log folder to go", || {
        std::fs::read_dir(machine.folder.join("logs")).unwrap().next().is_none().then_some(())
    });

    let said = machine.keel(&["get", "pots"]);
    assert_eq!(said.code, 1);
    assert!(said.stderr.contains("pots"), "{said:?}");
    let said = machine.keel(&["get", "pod", "none"]);
    assert_eq!(said.code, 1);
    assert!(said.stderr.contains("pods \"none\" not found"), "{said:?}");
}
