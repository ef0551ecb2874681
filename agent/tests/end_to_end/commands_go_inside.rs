use crate::machine::{Machine, PODS, until};
use crate::yaml::{pod, spec};
use serde_json::json;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;

pub(crate) fn a_command_runs_in_a_container(machine: &mut Machine) {
    machine.start();
    let mut two = spec("trap 'exit 0' TERM; while :; do sleep 1000 & wait $!; done");
    let other = json!({"name": "other", "image": "host:", "command": ["/bin/sleep", "1000"],
        "securityContext": {"runAsUser": 65534, "runAsGroup": 65534}, "env": [{"name": "COLOUR", "value": "green"}]});
    two["containers"].as_array_mut().unwrap().push(other);
    machine.repository.push_file("two.yaml", &pod("two", &two));
    machine.until_running("two");

    let said =
        machine.keel(&["exec", "two", "-c", "main", "--", "sh", "-c", "echo out; echo err >&2; exit 7"]);
    assert_eq!((said.code, said.stdout.as_str()), (7, "out\n"));
    assert_eq!(said.stderr, "err\ncommand terminated with exit code 7\n");
    let said = machine.keel(&["exec", "two", "--", "id", "-u"]);
    assert_eq!((said.code, said.stdout.as_str()), (0, "0\n"));
    assert_eq!(said.stderr, "Defaulted container \"main\" out of: main, other\n");
    let words = [
        "exec",
        "pod/two",
        "-c",
        "other",
        "-w",
        "/usr",
        "-e",
        "SHAPE=round",
        "--",
        "sh",
        "-c",
        "id -u; pwd; echo $COLOUR $SHAPE",
    ];
    assert_eq!(machine.ok(&words), "65534\n/usr\ngreen round\n");
    // Far more than a pipe holds, in both directions.
    let much = "0123456789\n".repeat(100_000);
    let said = machine.keel_with(&["exec", "-i", "two", "-c", "main", "--", "cat"], &much);
    assert!(said.code == 0 && said.stdout == much);
    // Nobody waits for what was left running.
    assert_eq!(
        machine.ok(&["exec", "two", "-c", "main", "--", "sh", "-c", "sleep 1000 & echo left"]),
        "left\n"
    );
    for (words, code, why) in [
        (
            &["exec", "two", "-c", "main", "--", "nosuch"][..],
            127,
            "exec \"nosuch\": no such file or directory",
        ),
        (
            &["exec", "two", "-c", "none", "--", "true"],
            1,
            "container none is not in pod two; it has: main, other",
        ),
        (&["exec", "three", "--", "true"], 1, "pods \"three\" not found"),
    ] {
        let said = machine.keel(words);
        assert!(said.code == code && said.stderr.contains(why), "{said:?}");
    }
}

pub(crate) fn files_are_copied_with_the_containers_rights(machine: &mut Machine) {
    machine.start();
    let mut two = spec(
        "mkdir -p /tmp/site/a; echo hello > /tmp/site/a/index; ln -s /etc/hostname /tmp/site/link; \
        trap 'exit 0' TERM; echo up; while :; do sleep 1000 & wait $!; done",
    );
    let other = json!({"name": "other", "image": "host:", "command": ["/bin/sleep", "1000"],
        "securityContext": {"runAsUser": 65534, "runAsGroup": 65534}});
    two["containers"].as_array_mut().unwrap().push(other);
    machine.repository.push_file("two.yaml", &pod("two", &two));
    machine.until_running("two");
    until("the files", || (machine.ok(&["logs", "two", "-c", "main"]) == "up\n").then_some(()));

    let here = machine.folder.join("here");
    fs::create_dir(&here).unwrap();
    let text = here.to_str().unwrap().to_owned();
    let said = machine.keel(&["cp", "two:/tmp/site", &text, "-c", "main"]);
    assert!(said.code == 0 && said.stderr.contains("left out"), "{said:?}");
    assert_eq!(fs::read_to_string(here.join("site/a/index")).unwrap(), "hello\n");
    assert!(fs::symlink_metadata(here.join("site/link")).is_err());

    let index = here.join("site/a/index").to_str().unwrap().to_owned();
    machine.ok(&["cp", &index, "default/two:/tmp/copy", "-c", "other"]);
    let owner = machine.ok(&["exec", "two", "-c", "other", "--", "stat", "-c", "%u %s", "/tmp/copy"]);
    assert_eq!(owner, "65534 6\n");
    // Not more than the container's user may.
    let said = machine.keel(&["cp", &index, "two:/usr/copy", "-c", "other"]);
    assert!(said.code == 1 && said.stderr.contains("cannot write /usr/copy"), "{said:?}");
    // A link in the container leads to the container's files, not to ours.
    // (The agent's own folders are no part of the host's image.)
    let outside = machine.folder.join("run/outside");
    fs::write(&outside, "secret").unwrap();
    let link = ["exec", "two", "-c", "main", "--", "ln", "-s", outside.to_str().unwrap(), "/tmp/out"];
    machine.ok(&link);
    let said = machine.keel(&["cp", "two:/tmp/out", &text, "-c", "main"]);
    assert!(said.code == 1 && said.stderr.contains("No such file"), "{said:?}");
}

pub(crate) fn a_local_port_leads_to_a_pods_own(machine: &mut Machine) {
    machine.start();
    // A server with TLS, ready once its probe could speak to it, on the pod's own loopback only.
    let mut web = spec(
        "cd /tmp; openssl req -x509 -newkey rsa:2048 -nodes -keyout key -out cert -subj /CN=web -days 2 2>&1; \
         echo hello > index.html; busybox httpd -p 127.0.0.1:8080 -h /tmp; \
         exec openssl s_server -quiet -accept 8443 -www -key key -cert cert",
    );
    let container = &mut web["containers"][0];
    container["ports"] = json!([{"name": "web", "containerPort": 8080}]);
    container["readinessProbe"] =
        json!({"httpGet": {"scheme": "HTTPS", "port": 8443}, "periodSeconds": 1, "failureThreshold": 100});
    machine.repository.push_file("web.yaml", &pod("web", &web));
    machine.api.until(PODS, "the probe over TLS", |pods| {
        (pods.first()?["status"]["containerStatuses"][0]["ready"] == true).then_some(())
    });
    let forward = machine.follow(&["port-forward", "pod/web", ":web", "--address", "127.0.0.1"]);
    let line = forward.until("the port", |line| line.starts_with("Forwarding from 127.0.0.1:"));
    let local = line.strip_prefix("Forwarding from ").unwrap().strip_suffix(" -> 8080").unwrap();
    for _ in 0..3 {
        let mut stream = TcpStream::connect(local).unwrap();
        stream.write_all(b"GET /index.html HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("hello\n"), "{answer}");
    }
    let said = machine.keel(&["port-forward", "web", "https"]);
    assert!(said.code == 1 && said.stderr.contains("there is no port https; there are: web"), "{said:?}");

    let top = machine.ok(&["top", "pods", "--containers"]);
    let mut lines = top.lines();
    assert!(lines.next().unwrap().split_whitespace().eq(["POD", "NAME", "CPU(cores)", "MEMORY(bytes)"]));
    let row: Vec<_> = lines.next().unwrap().split_whitespace().collect();
    assert!(row[..2] == ["web", "main"] && row[2].ends_with('m') && row[3].ends_with("Mi"), "{top}");
    assert!(machine.ok(&["top", "node", "--no-headers"]).starts_with("one "));
}
