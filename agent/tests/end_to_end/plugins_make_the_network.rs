use crate::machine::{EVENTS, KEEL, Machine, PODS, until};
use crate::yaml::{config_map, pod, spec};
use serde_json::{Value, json};
use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, TcpStream};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;

/// The bridge of the plugin.
const BRIDGE: &str = "keeltest1";

/// A folder of networks and one of plugins, in which the program under test is one.
fn with_plugins(machine: &mut Machine) {
    for folder in ["net.d", "bin"] {
        fs::create_dir(machine.folder.join(folder)).unwrap();
    }
    symlink(KEEL, machine.folder.join("bin/keel")).unwrap();
    let (networks, plugins) = (machine.folder.join("net.d"), machine.folder.join("bin"));
    machine.configuration["network"]["cni"] =
        json!({"mode": "auto", "confDir": networks, "binDirs": [plugins]});
}

fn put_network(machine: &Machine, plugins: &Value) {
    let list = json!({"cniVersion": "1.1.0", "name": "lab", "plugins": plugins});
    let path = machine.folder.join("net.d/10-lab.conflist");
    fs::write(path.with_extension("new"), list.to_string()).unwrap();
    fs::rename(path.with_extension("new"), path).unwrap();
}

fn own_plugin() -> Value {
    json!({"type": "keel", "bridge": BRIDGE, "subnets": ["10.66.0.0/24"],
        "capabilities": {"portMappings": true, "bandwidth": true}})
}

fn page(address: IpAddr, port: u16) -> Option<String> {
    let mut stream = TcpStream::connect((address, port)).ok()?;
    stream.write_all(b"GET /word HTTP/1.0\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    Some(text)
}

/// What plugins leave by right: a bridge, and in a folder of all machines a lock.
fn forget_bridge() {
    assert!(Command::new("busybox").args(["ip", "link", "del", BRIDGE]).status().unwrap().success());
    let _ = fs::remove_file(format!("/run/keel-cni/{BRIDGE}.lock"));
}

fn queue(link: &str) -> String {
    let shown = Command::new("busybox").args(["ip", "link", "show", link]).output().unwrap();
    String::from_utf8(shown.stdout).unwrap()
}

pub(crate) fn pods_are_joined_by_the_plugins_of_a_network(machine: &mut Machine) {
    with_plugins(machine);
    // Podman's own is the first by name, and none of ours.
    fs::write(
        machine.folder.join("net.d/00-podman.conflist"),
        r#"{"name": "podman", "plugins": [{"type": "bridge"}]}"#,
    )
    .unwrap();
    put_network(machine, &json!([own_plugin()]));
    machine.start();
    let mut server = spec("echo I am $IP; cat /etc/hosts; echo end; exec busybox httpd -f -p 8080 -h /www");
    server["terminationGracePeriodSeconds"] = 0.into();
    server["volumes"] = json!([{"name": "www", "configMap": {"name": "www"}}]);
    server["containers"][0]["volumeMounts"] = json!([{"name": "www", "mountPath": "/www"}]);
    server["containers"][0]["ports"] = json!([{"containerPort": 8080, "hostPort": 18080}]);
    server["containers"][0]["env"] =
        json!([{"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}]);
    machine.repository.write("www.yaml", &config_map("www", "word", "well met\n"));
    let mut object: Value = serde_json::from_str(&pod("server", &server)).unwrap();
    object["metadata"]["annotations"] = json!({"kubernetes.io/ingress-bandwidth": "80M"});
    machine.repository.push_file("server.yaml", &object.to_string());
    let running = machine.until_running("server");
    let address = running["status"]["podIP"].as_str().unwrap().to_owned();
    assert_eq!(address, "10.66.0.2", "of the plugin's network");
    let mut said = String::new();
    machine.follow(&["logs", "-f", "server"]).until("the end", |line| {
        said.push_str(line);
        said.push('\n');
        line == "end"
    });
    assert!(said.contains("I am 10.66.0.2\n") && said.contains("10.66.0.2\tserver"), "{said}");
    let gateway: IpAddr = "10.66.0.1".parse().unwrap();
    let answers = |port, address: IpAddr| until("an answer", || page(address, port)).ends_with("well met\n");
    assert!(answers(8080, address.parse().unwrap()) && answers(18080, gateway));
    let links = fs::read_to_string("/proc/thread-self/net/dev").unwrap();
    let link = links.lines().find_map(|line| {
        line.trim().split_once(':').map(|(name, _)| name.to_owned()).filter(|name| name.starts_with("kl"))
    });
    let shown = queue(&link.unwrap());
    assert!(shown.contains("qdisc tbf"), "{shown}");

    let net = machine.ok(&["net"]);
    assert!(net.contains("CNI lab") && !net.contains("has no link"), "{net}");
    let trace = machine.keel(&["net", "trace", "server", "pod/server:8080"]).stdout;
    let route = format!("route     {BRIDGE}\n");
    assert!(trace.contains("by plugins of CNI network lab") && trace.contains(&route), "{trace}");

    // Neither an agent that is dead nor the next one is in its way.
    machine.kill_agent();
    assert!(answers(18080, gateway));
    machine.start();
    assert!(answers(18080, gateway));
    let log = fs::read_to_string(machine.folder.join("agent.log")).unwrap();
    assert!(log.contains("10-lab.conflist by keel"), "{log}");
    assert!(!log.contains("is not as its plugins left it"), "CHECK found something: {log}");
    assert!(log.contains("00-podman.conflist is podman's own network and is passed over"), "{log}");

    // A pod that went while nobody looked is taken back too.
    let uid = running["metadata"]["uid"].as_str().unwrap();
    let record = machine.folder.join(format!("state/cni/lab-{uid}-eth0"));
    assert!(record.exists() && machine.folder.join("run/netns").join(uid).exists());
    machine.repository.remove("server.yaml");
    machine.repository.push_file("text.yaml", &config_map("text", "a", "b"));
    machine.until_gone(PODS);
    assert_eq!(page(gateway, 18080), None);
    assert!(!record.exists() && !machine.folder.join("run/netns").exists());
    forget_bridge();
}

pub(crate) fn a_plugin_that_fails_is_quoted_until_it_works(machine: &mut Machine) {
    with_plugins(machine);
    let plugin = machine.folder.join("bin/broken");
    let script = "#!/bin/sh\n[ $CNI_COMMAND = ADD ] || exit 0\n\
        echo '{\"cniVersion\": \"1.1.0\", \"code\": 117, \"msg\": \"the cable is loose\"}'\nexit 1\n";
    fs::write(&plugin, script).unwrap();
    fs::set_permissions(&plugin, fs::Permissions::from_mode(0o755)).unwrap();
    put_network(machine, &json!([own_plugin(), {"type": "broken"}]));
    machine.start();
    machine.repository.push_file("web.yaml", &pod("web", &spec(crate::yaml::SERVE)));
    let wanted = "network \"lab\": plugin \"broken\" failed (ADD): the cable is loose (code 117)";
    let event = until("the event", || {
        let events = machine.api.list(EVENTS);
        events.into_iter().find(|event| event["reason"] == "FailedCreatePodSandBox")
    });
    assert_eq!(event["message"], wanted);
    let waiting = until("the reason", || {
        let pods = machine.api.list(PODS);
        let waiting = pods.first()?["status"]["containerStatuses"][0]["state"]["waiting"].clone();
        waiting["message"].is_string().then_some(waiting)
    });
    assert_eq!((&waiting["reason"], &waiting["message"]), (&json!("ContainerCreating"), &json!(wanted)));
    let status = machine.ok(&["status", "pod/web"]);
    assert!(status.contains("the cable is loose"), "{status}");
    // What the first plugin made is taken back meanwhile.
    let links = fs::read_to_string("/proc/thread-self/net/dev").unwrap();
    assert!(!links.contains("kl"), "{links}");
    put_network(machine, &json!([own_plugin()]));
    // Whatever changes has pods tried that wait.
    machine.repository.push_file("text.yaml", &config_map("text", "a", "b"));
    let running = machine.until_running("web");
    assert!(running["status"]["podIP"].as_str().unwrap().starts_with("10.66.0."));
    machine.repository.remove("web.yaml");
    machine.repository.push_file("text.yaml", &config_map("text", "a", "c"));
    machine.until_gone(PODS);
    forget_bridge();
}
