use crate::machine::{Machine, PODS, until};
use crate::the_agent_tells_how_it_is::scrape;
use crate::yaml::{config_map, spec};
use serde_json::{Value, json};

fn labelled(name: &str, role: &str, spec: &Value) -> String {
    let metadata = json!({"name": name, "labels": {"role": role}});
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}).to_string()
}

/// How many packets policies have ended on their way into pods.
fn dropped() -> u64 {
    let name = "keel_network_policy_dropped_packets_total{direction=\"ingress\"} ";
    let text = scrape("/metrics");
    text.lines().find_map(|line| line.strip_prefix(name)?.parse().ok()).unwrap_or(0)
}

pub(crate) fn a_pod_starts_behind_its_policies(machine: &mut Machine) {
    machine.start();
    let mut server = spec("exec busybox httpd -f -p 8080 -h /www");
    server["terminationGracePeriodSeconds"] = 0.into();
    server["volumes"] = json!([{"name": "www", "configMap": {"name": "www"}}]);
    server["containers"][0]["volumeMounts"] = json!([{"name": "www", "mountPath": "/www"}]);
    server["containers"][0]["ports"] = json!([{"name": "http", "containerPort": 8080}]);
    // The node itself may always ask, as its probes do.
    server["containers"][0]["readinessProbe"] =
        json!({"httpGet": {"port": "http", "path": "/word"}, "periodSeconds": 1});
    let policy = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "friends"},
        "spec": {
            "podSelector": {"matchLabels": {"role": "server"}},
            "ingress": [{
                "from": [{"podSelector": {"matchLabels": {"role": "friend"}}}],
                "ports": [{"port": "http"}],
            }],
        },
    });
    machine.repository.write("policy.yaml", &policy.to_string());
    machine.repository.write("www.yaml", &config_map("www", "word", "well met\n"));
    machine.repository.push_file("server.yaml", &labelled("server", "server", &server));
    // Ready, so that the node's own probe was answered.
    let running = machine.until_running("server");
    let url = format!("http://{}:8080/word", running["status"]["podIP"].as_str().unwrap());
    let client =
        |ask: &str| spec(&format!("trap 'exit 0' TERM; {ask}; while :; do sleep 1000 & wait $!; done"));
    let once = client(&format!("busybox timeout 2 busybox wget -qO- {url} || echo nobody"));
    machine.repository.write("friend.yaml", &labelled("friend", "friend", &once));
    machine.repository.push_file("stranger.yaml", &labelled("stranger", "stranger", &once));
    let said = |machine: &Machine, pod: &str| {
        machine.until_running(pod);
        machine.follow(&["logs", "-f", pod]).until("an answer", |line| ["nobody", "well met"].contains(&line))
    };
    assert_eq!(said(machine, "friend"), "well met");
    assert_eq!(said(machine, "stranger"), "nobody");
    until("that it was dropped", || (dropped() > 0).then_some(()));

    // It is told which policy it was.
    let told = machine.keel(&["net", "trace", "stranger", "pod/server:http"]);
    let wanted =
        "DROPPED: default/server is selected by default/friends, of which no rule allows 8080/TCP from";
    assert!(told.code == 1 && told.stdout.contains(wanted), "{}", told.stdout);
    let told = machine.ok(&["net", "trace", "friend", "pod/server:http"]);
    assert!(told.contains("rule 1 of policy default/friends allows it"), "{told}");

    // No agent is needed for that, nor changed anything by the next. Without the policy all may ask.
    machine.kill_agent();
    machine.start();
    machine.repository.remove("policy.yaml");
    let patient = client(&format!("until busybox timeout 2 busybox wget -qO- {url}; do :; done"));
    machine.repository.push_file("late.yaml", &labelled("late", "stranger", &patient));
    assert_eq!(said(machine, "late"), "well met");
    for file in ["server.yaml", "friend.yaml", "stranger.yaml", "late.yaml"] {
        machine.repository.remove(file);
    }
    machine.repository.push_file("text.yaml", &config_map("text", "a", "b"));
    machine.until_gone(PODS);
}
