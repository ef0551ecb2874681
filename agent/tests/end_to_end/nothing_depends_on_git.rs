use crate::machine::{CONFIG_MAPS, EVENTS, Machine, PODS, REVISIONS};
use crate::traces;
use crate::yaml::{SERVE, config_map, deployment, spec};
use rustix::process::Signal;

fn commit_in_force(machine: &Machine) -> String {
    machine.api.list(REVISIONS)[0]["spec"]["commit"].as_str().unwrap().to_owned()
}

pub(crate) fn a_broken_revision_is_refused_whole(machine: &mut Machine) {
    machine.start();
    let good = machine.repository.push_file("web.yaml", &deployment("web", 1, &spec(SERVE)));
    machine.until_rolled_out("web", 1);
    let before = machine.pids("web-");
    // One file is wrong; the other, and the removal of a third, must have no effect either.
    machine.repository.remove("web.yaml");
    machine.repository.write("new.yaml", &config_map("new", "a", "b"));
    machine.repository.write(
        "broken.yaml",
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: broken\n  lables: {}\ndata: {}\n",
    );
    let bad = machine.repository.push("Break it");
    let said = machine.keel(&["sync"]);
    assert_eq!(said.code, 1, "{said:?}");
    let (good_short, bad_short) = (&good[..7], &bad[..7]);
    let head = format!("✘ site: Invalid: {bad_short} was refused; {good_short} stays in force (in ");
    assert!(said.stdout.starts_with(&head), "{said:?}");
    let status = machine.keel(&["status"]);
    for words in ["broken.yaml:5:3", "unknown field `lables`", "did you mean `labels`?"] {
        assert!(said.stdout.contains(words), "{words} in {said:?}");
        assert!(status.stdout.contains(words), "{words} in {status:?}");
    }
    assert_eq!(commit_in_force(machine), good);
    assert_eq!(machine.pids("web-"), before);
    assert_eq!(machine.api.find(&format!("{CONFIG_MAPS}/new")), None);
    machine.api.until(EVENTS, "an event of it", |events| {
        events.iter().find(|event| event["reason"] == "Invalid" && event["type"] == "Warning").map(drop)
    });
    let events = machine.ok(&["events", "--for", "revision/site", "--types", "Warning"]);
    assert!(events.contains("broken.yaml:5:3"), "{events}");

    machine.repository.write("broken.yaml", &config_map("broken", "a", "b"));
    let fixed = machine.repository.push("Mend it");
    let said = machine.keel(&["sync"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!(commit_in_force(machine), fixed);
    machine.until_gone(PODS);
    assert!(machine.api.find(&format!("{CONFIG_MAPS}/new")).is_some());
    assert!(!machine.ok(&["status"]).contains("lables"));
}

pub(crate) fn a_rewritten_history_needs_consent(machine: &mut Machine) {
    machine.start();
    machine.repository.push_file("a.yaml", &config_map("a", "key", "first"));
    let good = machine.repository.push_file("a.yaml", &config_map("a", "key", "second"));
    machine.until_synced(&good);
    machine.repository.git(&["reset", "-q", "--hard", "HEAD~1"]);
    machine.repository.write("b.yaml", &config_map("b", "key", "other"));
    machine.repository.git(&["add", "-A"]);
    machine.repository.git(&["commit", "-q", "-m", "Another past"]);
    machine.repository.git(&["push", "-q", "--force", "origin", "main"]);
    let said = machine.keel(&["sync"]);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(
        said.stdout.contains("HistoryRewritten") && said.stdout.contains("allowHistoryRewrite"),
        "{said:?}"
    );
    assert_eq!(commit_in_force(machine), good);
    assert_eq!(machine.api.get(&format!("{CONFIG_MAPS}/a"))["data"]["key"], "second");

    machine.configuration["sources"][0]["allowHistoryRewrite"] = true.into();
    machine.restart_agent();
    assert_eq!(machine.keel(&["sync"]).code, 0);
    assert_eq!(commit_in_force(machine), machine.repository.git(&["rev-parse", "HEAD"]));
    machine.api.until(CONFIG_MAPS, "the other past", |maps| {
        let is = |name: &str, value: &str| {
            maps.iter().any(|map| map["metadata"]["name"] == name && map["data"]["key"] == value)
        };
        (is("a", "first") && is("b", "other")).then_some(())
    });
}

pub(crate) fn an_emptied_path_needs_consent(machine: &mut Machine) {
    machine.configuration["sources"][0]["paths"] = serde_json::json!(["apps"]);
    machine.start();
    machine.repository.write("README", "not empty");
    let good = machine.repository.push_file("apps/web.yaml", &deployment("web", 1, &spec(SERVE)));
    machine.until_rolled_out("web", 1);
    let before = machine.pids("web-");
    machine.repository.git(&["mv", "apps", "moved"]);
    machine.repository.push("Move the folder");
    let said = machine.keel(&["sync", "site"]);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.stdout.contains("Emptied") && said.stdout.contains("allowEmpty"), "{said:?}");
    assert_eq!(commit_in_force(machine), good);
    assert_eq!(machine.pids("web-"), before);

    machine.configuration["sources"][0]["allowEmpty"] = true.into();
    machine.restart_agent();
    machine.until_gone(PODS);
}

pub(crate) fn an_agent_without_its_repository_runs_what_it_had(machine: &mut Machine) {
    machine.start();
    machine.repository.push_file("web.yaml", &deployment("web", 2, &spec(SERVE)));
    machine.until_rolled_out("web", 2);
    let before = machine.pids("web-");
    let away = machine.folder.join("away.git");
    std::fs::rename(&machine.repository.bare, &away).unwrap();
    machine.restart_agent();
    let said = machine.keel(&["sync"]);
    assert_eq!(said.code, 1);
    assert!(said.stdout.contains("FetchFailed") && said.stdout.contains("stays in force"), "{said:?}");
    machine.until_rolled_out("web", 2);
    assert_eq!(machine.pids("web-"), before);

    // As after a power cut: no process, and a run folder that was made anew.
    machine.kill_agent();
    for pid in before.values() {
        let supervisor = parent(*pid);
        traces::kill(supervisor, Signal::KILL);
        crate::machine::until("the end of a pod", || (!traces::is_alive(*pid)).then_some(()));
    }
    std::fs::remove_dir_all(machine.folder.join("run")).unwrap();
    machine.start();
    machine.api.until(PODS, "the same pods to run again", |pods| {
        let again = |pod: &serde_json::Value| {
            let container = &pod["status"]["containerStatuses"][0];
            container["ready"] == true && container["restartCount"] == 1
        };
        (pods.len() == 2 && pods.iter().all(again)).then_some(())
    });
    let after = machine.pids("web-");
    assert!(
        after.keys().eq(before.keys()) && after.values().all(|pid| !before.values().any(|old| old == pid))
    );
    std::fs::rename(&away, &machine.repository.bare).unwrap();
    assert_eq!(machine.keel(&["sync"]).code, 0);
}

fn parent(pid: i32) -> i32 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap();
    line.trim().parse().unwrap()
}
