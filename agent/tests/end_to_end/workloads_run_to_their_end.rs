use crate::machine::{CONFIG_MAPS, EVENTS, JOBS, Machine, PODS, named};
use crate::yaml::{SERVE, config_map, job, once, pod, spec};
use serde_json::{Value, json};

fn condition<'a>(job: &'a Value, kind: &str) -> Option<&'a Value> {
    job["status"]["conditions"].as_array()?.iter().find(|c| c["type"] == kind && c["status"] == "True")
}

pub(crate) fn a_job_runs_to_completion_and_goes_after_its_time(machine: &mut Machine) {
    machine.start();
    let twice = job("twice", json!({"completions": 2, "parallelism": 2}), &once("echo done"));
    machine.repository.write("twice.yaml", &twice);
    let brief = job("brief", json!({"ttlSecondsAfterFinished": 1}), &once("exit 0"));
    machine.repository.push_file("brief.yaml", &brief);
    let twice = machine.api.until(JOBS, "two completions", |jobs| {
        named(jobs, "twice").find(|job| condition(job, "Complete").is_some()).cloned()
    });
    assert_eq!((&twice["status"]["succeeded"], &twice["status"]["active"]), (&json!(2), &json!(0)));
    let pods = machine.api.list(PODS);
    for pod in named(&pods, "twice-") {
        assert_eq!(pod["status"]["phase"], "Succeeded");
        let end = &pod["status"]["containerStatuses"][0]["state"]["terminated"];
        assert_eq!((&end["exitCode"], &end["reason"]), (&json!(0), &json!("Completed")));
    }
    let table = machine.ok(&["get", "jobs"]);
    let row = table.lines().find(|line| line.starts_with("twice")).unwrap();
    assert_eq!(row.split_whitespace().take(3).collect::<Vec<_>>(), ["twice", "Complete", "2/2"], "{table}");
    assert_eq!(machine.ok(&["logs", "job/twice"]), "done\n");

    machine.api.until(JOBS, "the brief one to go", |jobs| {
        (jobs.len() == 1 && named(jobs, "twice").count() == 1).then_some(())
    });
    machine.api.until(PODS, "its pod to go", |pods| named(pods, "brief-").next().is_none().then_some(()));
    // It has run: another commit does not bring it back.
    machine.repository.push_file("text.yaml", &config_map("text", "a", "b"));
    machine.api.until(CONFIG_MAPS, "the next commit", |maps| named(maps, "text").next().map(drop));
    assert!(machine.api.find(&format!("{JOBS}/brief")).is_none());
}

pub(crate) fn a_job_that_fails_too_often_has_failed(machine: &mut Machine) {
    machine.start();
    let fails = job("fails", json!({"backoffLimit": 0}), &once("echo why; exit 3"));
    machine.repository.write("late.yaml", &job("late", json!({"activeDeadlineSeconds": 1}), &once(SERVE)));
    machine.repository.push_file("fails.yaml", &fails);
    for (name, reason) in [("fails", "BackoffLimitExceeded"), ("late", "DeadlineExceeded")] {
        machine.api.until(JOBS, &format!("{name} to fail"), |jobs| {
            let found = named(jobs, name).find_map(|job| condition(job, "Failed"))?;
            (found["reason"] == reason).then_some(())
        });
    }
    let pods = machine.api.list(PODS);
    let failed: Vec<_> = named(&pods, "fails-").collect();
    assert_eq!(failed.len(), 1, "one try, as backoffLimit says");
    let end = &failed[0]["status"]["containerStatuses"][0]["state"]["terminated"];
    assert_eq!((&end["exitCode"], &end["reason"]), (&json!(3), &json!("Error")));
    machine
        .api
        .until(PODS, "the late one's pod to go", |pods| named(pods, "late-").next().is_none().then_some(()));
    let table = machine.ok(&["get", "pods"]);
    assert!(table.lines().any(|line| line.starts_with("fails-") && line.contains("Error")), "{table}");
}

pub(crate) fn a_cron_job_runs_at_its_minute(machine: &mut Machine) {
    machine.start();
    let cron = |name: &str, suspend: bool| {
        json!({
            "apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": name},
            "spec": {"schedule": "* * * * *", "suspend": suspend, "successfulJobsHistoryLimit": 1,
                     "jobTemplate": {"spec": {"template": {"spec": once("echo tick")}}}},
        })
        .to_string()
    };
    machine.repository.write("never.yaml", &cron("never", true));
    machine.repository.push_file("each.yaml", &cron("each", false));
    let job = machine.api.until(JOBS, "a run of the cron job", |jobs| {
        named(jobs, "each-").find(|job| condition(job, "Complete").is_some()).cloned()
    });
    let owner = &job["metadata"]["ownerReferences"][0];
    assert_eq!((&owner["kind"], &owner["name"]), (&json!("CronJob"), &json!("each")));
    assert_eq!(named(&machine.api.list(JOBS), "never").count(), 0);
    let table = machine.ok(&["get", "cronjobs"]);
    assert!(table.lines().any(|line| line.starts_with("never") && line.contains("True")), "{table}");
    assert_eq!(machine.ok(&["logs", "cronjob/each"]), "tick\n");
}

pub(crate) fn an_allocator_over_its_limit_is_oom_killed(machine: &mut Machine) {
    machine.start();
    let mut greedy = spec("echo begins; head -c 200M /dev/zero | tail -c 199M >/dev/null; echo survived");
    greedy["containers"][0]["command"] = json!([
        "/bin/sh",
        "-c",
        "echo begins; head -c 200000000 /dev/zero | exec tail -c 199000000 >/dev/null"
    ]);
    greedy["containers"][0]["resources"] = json!({"limits": {"memory": "64Mi"}});
    machine.repository.push_file("greedy.yaml", &pod("greedy", &greedy));
    let last = machine.api.until(PODS, "the OOM killer", |pods| {
        let container = &pods.first()?["status"]["containerStatuses"][0];
        let last = &container["lastState"]["terminated"];
        (container["state"]["waiting"].is_object() && last.is_object()).then(|| last.clone())
    });
    assert_eq!((&last["reason"], &last["exitCode"]), (&json!("OOMKilled"), &json!(137)));
    let row = machine.api.until(PODS, "a word of it in the list", |_| {
        let table = machine.ok(&["get", "pods"]);
        let row = table.lines().nth(1)?.to_owned();
        (row.contains("OOMKilled") || row.contains("CrashLoopBackOff")).then_some(row)
    });
    assert!(row.starts_with("greedy") && row.contains("0/1"), "{row}");
    machine.api.until(EVENTS, "an event of it", |events| {
        events.iter().find(|e| e["reason"] == "OOMKilling" && e["type"] == "Warning").map(drop)
    });
    assert!(machine.ok(&["events", "--for", "pod/greedy"]).contains("OOMKilling"));
    let status = machine.keel(&["status", "pod/greedy"]);
    assert!(status.stdout.contains("last ended with OOMKilled, exit code 137"), "{status:?}");
}

pub(crate) fn a_change_of_a_config_map_reaches_a_running_pod(machine: &mut Machine) {
    machine.start();
    let mut reader = spec(
        "trap 'exit 0' TERM; while :; do read -r text < /text/word; echo \"it says $text\"; sleep 0.1 & wait $!; done",
    );
    reader["volumes"] = json!([{"name": "text", "configMap": {"name": "text"}}]);
    reader["containers"][0]["volumeMounts"] = json!([{"name": "text", "mountPath": "/text"}]);
    machine.repository.write("text.yaml", &config_map("text", "word", "one\n"));
    machine.repository.push_file("reader.yaml", &pod("reader", &reader));
    machine.until_running("reader");
    let pid = machine.pid("reader");
    let follow = machine.follow(&["logs", "-f", "reader"]);
    follow.until("the first word", |line| line == "it says one");
    machine.repository.push_file("text.yaml", &config_map("text", "word", "two\n"));
    follow.until("the second word", |line| line == "it says two");
    assert_eq!(machine.pid("reader"), pid);
}

pub(crate) fn a_pod_that_cannot_start_says_why_and_leaves_nothing(machine: &mut Machine) {
    machine.start();
    let mut no_image = spec(SERVE);
    no_image["containers"][0]["image"] = "oci:/nowhere".into();
    let mut no_program = spec("");
    no_program["containers"][0]["command"] = json!(["no-such-program"]);
    let mut no_secret = spec(SERVE);
    no_secret["volumes"] =
        json!([{"name": "own", "emptyDir": {}}, {"name": "keys", "secret": {"secretName": "none"}}]);
    for (name, spec) in [("no-image", &no_image), ("no-program", &no_program), ("no-secret", &no_secret)] {
        machine.repository.write(&format!("{name}.yaml"), &pod(name, spec));
    }
    machine.repository.push("Three pods that cannot start");
    for (name, reason, words) in [
        ("no-image", "ErrImagePull", "image \"oci:/nowhere\": "),
        ("no-secret", "ContainerCreating", "secret \"none\" not found"),
        ("no-program", "CrashLoopBackOff", "back-off"),
    ] {
        machine.api.until(PODS, &format!("{name} to fail"), |pods| {
            let pod = named(pods, name).next()?;
            let waiting = &pod["status"]["containerStatuses"][0]["state"]["waiting"];
            (waiting["reason"] == reason && waiting["message"].as_str()?.contains(words)).then_some(())
        });
        let table = machine.ok(&["get", "pod", name]);
        assert!(table.contains(reason), "{table}");
    }
    machine.api.until(EVENTS, "why the program cannot run", |events| {
        let why = |event: &&Value| {
            event["reason"] == "Failed" && event["message"].to_string().contains("no-such-program")
        };
        events.iter().find(why).map(drop)
    });
    assert!(machine.ok(&["status", "pod/no-program"]).contains("ContainerCannotRun, exit code 127: "));
}

pub(crate) fn a_pod_without_its_config_map_starts_once_it_is_there(machine: &mut Machine) {
    machine.start();
    let mut reader = spec(&format!("echo \"word: $WORD\"; {SERVE}"));
    reader["containers"][0]["env"] =
        json!([{"name": "WORD", "valueFrom": {"configMapKeyRef": {"name": "text", "key": "word"}}}]);
    machine.repository.push_file("reader.yaml", &pod("reader", &reader));
    let message = machine.api.until(PODS, "the reason", |pods| {
        let waiting = &pods.first()?["status"]["containerStatuses"][0]["state"]["waiting"];
        (waiting["reason"] == "CreateContainerConfigError").then(|| waiting["message"].to_string())
    });
    assert!(message.contains("text"), "{message}");
    assert!(machine.ok(&["get", "pods"]).contains("CreateContainerConfigError"));
    let failed_first = machine.ok(&["status"]);
    assert!(failed_first.contains("CreateContainerConfigError"), "{failed_first}");
    machine.repository.push_file("text.yaml", &config_map("text", "word", "hello"));
    let pod = machine.until_running("reader");
    assert_eq!(pod["status"]["containerStatuses"][0]["restartCount"], 0);
    assert!(machine.follow(&["logs", "-f", "reader"]).until("the word", |_| true) == "word: hello");
}
