use crate::machine::{KEEL, Machine};
use crate::yaml::{SERVE, config_map, deployment, pod, spec};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};

/// The text at `path` of the metrics address.
pub(crate) fn scrape(path: &str) -> String {
    let mut stream = TcpStream::connect("127.0.0.1:10250").unwrap();
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.0 200"), "{head}");
    body.to_owned()
}

/// Each sample's value; every line must be of the text format.
fn samples(text: &str) -> BTreeMap<String, f64> {
    let mut described = Vec::new();
    let mut samples = BTreeMap::new();
    for line in text.lines() {
        if let Some(words) = line.strip_prefix("# ") {
            let words: Vec<_> = words.splitn(3, ' ').collect();
            assert!(["HELP", "TYPE"].contains(&words[0]) && words.len() == 3, "{line}");
            described.push(words[1].to_owned());
            continue;
        }
        let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
        let family = name.split('{').next().unwrap();
        assert!(described.iter().any(|known| family.starts_with(known.as_str())), "{line}");
        let twice = samples.insert(name.to_owned(), value.parse().unwrap());
        assert!(twice.is_none(), "{line}");
    }
    samples
}

pub(crate) fn metrics_tell_what_runs(machine: &mut Machine) {
    machine.start();
    let commit = machine.repository.push_file("web.yaml", &deployment("web", 3, &spec(SERVE)));
    machine.until_rolled_out("web", 3);
    assert_eq!(scrape("/healthz"), "ok");
    let url = format!("file://{}", machine.repository.bare.display());
    let revision = |commit: &str| {
        format!(r#"keel_git_revision_info{{commit="{commit}",reference="main",source="site",url="{url}"}}"#)
    };
    let running = r#"kubelet_running_containers{container_state="running"}"#;
    let now = crate::machine::until("the metrics of three pods", || {
        let now = samples(&scrape("/metrics"));
        (now["kubelet_running_pods"] == 3.0 && now.contains_key(&revision(&commit))).then_some(now)
    });
    assert_eq!((now[running], now[&revision(&commit)]), (3.0, 1.0));
    assert_eq!(now["kubelet_pod_start_duration_seconds_count"], 3.0);
    assert_eq!(now[r#"keel_git_last_sync_result{result="Synced",source="site"}"#], 1.0);
    assert_eq!(now[r#"kubelet_runtime_operations_total{operation_type="start_pod"}"#], 3.0);
    assert!(now[r#"keel_reconcile_duration_seconds_count{controller="deployment"}"#] >= 1.0, "{now:#?}");
    assert!(now["process_resident_memory_bytes"] > 1e6);

    machine.repository.push_file("broken.yaml", "kind: Pod\n");
    assert_eq!(machine.keel(&["sync"]).code, 1);
    let now = crate::machine::until("the bad result", || {
        let now = samples(&scrape("/metrics"));
        (now[r#"keel_git_last_sync_result{result="Invalid",source="site"}"#] == 1.0).then_some(now)
    });
    assert_eq!(now[r#"keel_git_last_sync_result{result="Synced",source="site"}"#], 0.0);
    assert_eq!(now[&revision(&commit)], 1.0, "the last good one stays in force");
    machine.repository.remove("broken.yaml");
    let next = machine.repository.push_file("text.yaml", &config_map("text", "a", "b"));
    let now = crate::machine::until("the next revision", || {
        let now = samples(&scrape("/metrics"));
        now.contains_key(&revision(&next)).then_some(now)
    });
    assert_eq!(now.keys().filter(|name| name.starts_with("keel_git_revision_info")).count(), 1);
    check_with_promtool(&scrape("/metrics"));
}

/// The sample of that name with these labels, whatever others it has.
fn value(samples: &BTreeMap<String, f64>, name: &str, labels: &[&str]) -> Option<f64> {
    let fits =
        |key: &String| key.split('{').next() == Some(name) && labels.iter().all(|label| key.contains(label));
    samples.iter().find(|(key, _)| fits(key)).map(|(_, value)| *value)
}

pub(crate) fn metrics_of_pods_have_cadvisors_names(machine: &mut Machine) {
    machine.start();
    let mut web = spec("cd /tmp; head -c 1048576 /dev/zero > much; exec busybox httpd -f -p 8080");
    web["containers"][0]["readinessProbe"] = serde_json::json!({"httpGet": {"path": "/much", "port": 8080}, "failureThreshold": 100, "periodSeconds": 1});
    web["containers"][0]["resources"] = serde_json::json!({"limits": {"memory": "64Mi", "cpu": "2"}});
    machine.repository.push_file("web.yaml", &pod("web", &web));
    let web = machine.until_running("web");
    let address = web["status"]["podIP"].as_str().unwrap();
    let of_pod = [r#"namespace="default""#, r#"pod="web""#, r#"container="""#, r#"interface="eth0""#];
    let of_container = [r#"namespace="default""#, r#"pod="web""#, r#"container="main""#, r#"image="host:""#];
    let look = || samples(&scrape("/metrics/cadvisor"));
    let sent = |now: &BTreeMap<String, f64>| value(now, "container_network_transmit_bytes_total", &of_pod);
    let before = look();
    for name in ["container_memory_working_set_bytes", "container_start_time_seconds", "container_processes"]
    {
        assert!(value(&before, name, &of_container).is_some_and(|value| value > 0.0), "{name}: {before:#?}");
    }
    let limit = value(&before, "container_spec_memory_limit_bytes", &of_container);
    assert_eq!(limit, Some(f64::from(64 << 20)));
    assert!(
        value(&before, "container_cpu_usage_seconds_total", &[r#"cpu="total""#, of_container[2]]).is_some()
    );
    let disk = value(&before, "container_fs_usage_bytes", &of_container);
    assert!(disk.is_some(), "{before:#?}");

    let mut stream = TcpStream::connect((address, 8080)).unwrap();
    write!(stream, "GET /much HTTP/1.0\r\n\r\n").unwrap();
    let mut much = Vec::new();
    stream.read_to_end(&mut much).unwrap();
    assert!(much.len() > 1 << 20);
    let after = look();
    let (before, now) = (sent(&before).unwrap(), sent(&after).unwrap());
    assert!(now - before >= f64::from(1 << 20), "{before} bytes before, {now} after");
    check_with_promtool(&scrape("/metrics/cadvisor"));
    let status = machine.ok(&["status", "pod/web"]);
    assert!(status.contains("Network: ") && status.contains("M out"), "{status}");
    let top = machine.ok(&["top", "pods", "--network"]);
    let heads = ["NAME", "CPU(cores)", "MEMORY(bytes)", "IN(bytes/s)", "OUT(bytes/s)"];
    assert!(top.lines().next().unwrap().split_whitespace().eq(heads), "{top}");
    let row: Vec<_> = top.lines().nth(1).unwrap().split_whitespace().collect();
    assert!(row[3].parse::<u64>().is_ok() && row[4].parse::<u64>().is_ok(), "{top}");
}

/// Prometheus' own opinion, where its program is installed.
fn check_with_promtool(text: &str) {
    let promtool = Command::new("promtool").args(["check", "metrics"]).stdin(Stdio::piped()).spawn();
    let Ok(mut promtool) = promtool else {
        println!("promtool is not installed: its check of the metrics is left out");
        return;
    };
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    assert!(promtool.wait().unwrap().success());
}

pub(crate) fn only_root_and_one_agent_may_have_the_socket(machine: &mut Machine) {
    machine.start();
    assert_eq!(std::fs::metadata(&machine.api.socket).unwrap().mode() & 0o777, 0o600);
    assert_eq!(std::fs::metadata(machine.folder.join("state")).unwrap().mode() & 0o777, 0o700);
    let configuration = machine.folder.join("keel.yaml");
    let second = Command::new(KEEL).arg("agent").arg("--config").arg(configuration).output().unwrap();
    let said = String::from_utf8_lossy(&second.stderr);
    assert_eq!(second.status.code(), Some(1), "{said}");
    assert!(said.contains("error: another agent answers on") && said.contains("runDir"), "{said}");
    // The first one goes on, with the pods that are pushed now.
    machine.repository.push_file("web.yaml", &deployment("web", 1, &spec(SERVE)));
    machine.until_rolled_out("web", 1);
    let status = machine.ok(&["status"]);
    for words in ["one", "site", &machine.agent_pid().to_string()] {
        assert!(status.contains(words), "{words} in {status}");
    }
}

pub(crate) fn every_mistake_in_a_configuration_is_told_at_once(machine: &mut Machine) {
    let path = machine.folder.join("bad.yaml");
    let text = "apiVersion: evenkeel.dev/v1alpha1\nkind: AgentConfiguration\nstatDir: /nowhere\n\
                network:\n  bridge: a-name-that-is-too-long\n  podCIDR: 10.0.0.0/99\n\
                sources:\n  - name: Site\n    url: ''\n    interval: soon\n";
    std::fs::write(&path, text).unwrap();
    let refused = Command::new(KEEL).arg("agent").arg("--config").arg(&path).output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{said}");
    for words in [
        "`statDir`",
        "did you mean `stateDir`?",
        "a-name-that-is-too-long",
        "10.0.0.0/99",
        "Site",
        "soon",
        "bad.yaml:3:1",
    ] {
        assert!(said.contains(words), "{words} in {said}");
    }
    assert!(said.ends_with("found 6 errors\n"), "{said}");
    assert_eq!(said.matches("error[").count(), 6, "{said}");
    machine.start();
}
