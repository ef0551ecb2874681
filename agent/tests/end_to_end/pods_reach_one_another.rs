use crate::machine::{Machine, PODS};
use crate::site::busybox;
use crate::yaml::{SERVE, config_map, pod, spec};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream};

fn address(pod: &Value) -> IpAddr {
    pod["status"]["podIP"].as_str().unwrap_or_else(|| panic!("no address: {pod}")).parse().unwrap()
}

/// The answer of the web server at `address`; `None` while nobody listens.
fn page(address: IpAddr) -> Option<String> {
    page_at(address, 8080)
}

fn page_at(address: IpAddr, port: u16) -> Option<String> {
    let mut stream = TcpStream::connect((address, port)).ok()?;
    stream.write_all(b"GET /word HTTP/1.0\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    Some(text)
}

pub(crate) fn a_port_of_the_node_leads_to_a_pod(machine: &mut Machine) {
    machine.start();
    let mut server = spec("exec busybox httpd -f -p 8080 -h /www");
    server["terminationGracePeriodSeconds"] = 0.into();
    server["volumes"] = json!([{"name": "www", "configMap": {"name": "www"}}]);
    server["containers"][0]["volumeMounts"] = json!([{"name": "www", "mountPath": "/www"}]);
    server["containers"][0]["ports"] = json!([{"containerPort": 8080, "hostPort": 18080}]);
    machine.repository.write("www.yaml", &config_map("www", "word", "well met\n"));
    machine.repository.push_file("server.yaml", &pod("server", &server));
    machine.until_running("server");
    let (loopback, gateway): (IpAddr, IpAddr) = ("127.0.0.1".parse().unwrap(), "10.77.0.1".parse().unwrap());
    let answers = |address: IpAddr| {
        crate::machine::until("the port to answer", || page_at(address, 18080)).ends_with("well met\n")
    };
    assert!(answers(gateway) && answers(loopback));
    // Neither an agent that is dead nor the next one is in its way.
    machine.kill_agent();
    assert!(answers(gateway));
    machine.start();
    assert!(answers(loopback));
    machine.repository.remove("server.yaml");
    machine.repository.push_file("text.yaml", &config_map("text", "a", "b"));
    machine.until_gone(PODS);
    assert_eq!(page_at(gateway, 18080), None);
}

pub(crate) fn pods_and_host_reach_one_another(machine: &mut Machine) {
    machine.start();
    let mut server = spec("exec busybox httpd -f -p 8080 -h /www");
    server["terminationGracePeriodSeconds"] = 0.into();
    server["volumes"] = json!([{"name": "www", "configMap": {"name": "www"}}]);
    server["containers"][0]["volumeMounts"] = json!([{"name": "www", "mountPath": "/www"}]);
    machine.repository.write("www.yaml", &config_map("www", "word", "well met\n"));
    machine.repository.push_file("server.yaml", &pod("server", &server));
    let server = address(&machine.until_running("server"));
    let answer = crate::machine::until("the host to be answered", || page(server));
    assert!(answer.ends_with("well met\n"), "{answer}");

    // The host answers a pod; what the listener hears from is the pod's address.
    let gateway: IpAddr = "10.77.0.1".parse().unwrap();
    let listener = TcpListener::bind((gateway, 8081)).unwrap();
    let script = format!(
        "trap 'exit 0' TERM; busybox wget -qO- http://{server}:8080/word; \
         echo to the host | busybox nc {gateway} 8081; while :; do sleep 1000 & wait $!; done"
    );
    machine.repository.push_file("client.yaml", &pod("client", &spec(&script)));
    let (mut stream, from) = listener.accept().unwrap();
    let mut heard = String::new();
    stream.read_to_string(&mut heard).unwrap();
    assert_eq!(heard, "to the host\n");
    let client = address(&machine.until_running("client"));
    assert_eq!(from.ip(), client);
    assert_ne!(client, server);
    assert!(machine.follow(&["logs", "-f", "client"]).until("the page", |_| true) == "well met");
    let wide = machine.ok(&["get", "pods", "-o", "wide"]);
    assert!(wide.contains(&server.to_string()) && wide.contains(&client.to_string()), "{wide}");

    let mut on_the_host =
        spec("trap 'exit 0' TERM; cat /proc/net/dev; echo end; while :; do sleep 1000 & wait $!; done");
    on_the_host["hostNetwork"] = true.into();
    machine.repository.push_file("host.yaml", &pod("on-the-host", &on_the_host));
    let on_the_host = machine.until_running("on-the-host");
    let nodes: serde_json::Value =
        serde_json::from_str(&machine.ok(&["get", "nodes", "-o", "json"])).unwrap();
    let own = &nodes["items"][0]["status"]["addresses"][0];
    assert_eq!(own["type"], "InternalIP");
    assert_eq!(on_the_host["status"]["podIP"], own["address"], "the node's own");
    assert_eq!(on_the_host["status"]["hostIP"], own["address"]);
    let mut seen = String::new();
    machine.follow(&["logs", "-f", "on-the-host"]).until("the links", |line| {
        seen.push_str(line);
        line == "end"
    });
    assert!(seen.contains("keeltest0:"), "{seen}");
    let links = machine.traces().into_iter().filter(|trace| trace.starts_with("link")).count();
    assert_eq!(links, 2, "a pod on the host's network has no link of its own");
}

/// Nothing of pods is left in the kernel, as after a power cut; only the disk is.
fn lose_all_but_the_disk(machine: &mut Machine) {
    let processes: Vec<i32> = machine.traces().iter().filter_map(|trace| process(trace)).collect();
    machine.kill_agent();
    for pid in processes.into_iter().filter_map(Pid::from_raw) {
        // Who was removed before, or is another's child, may have ended meanwhile.
        let _gone = kill_process(pid, Signal::KILL);
    }
    machine.until_traces(|traces| !traces.iter().any(|trace| process(trace).is_some()));
    busybox("ip link del keeltest0");
}

fn process(trace: &str) -> Option<i32> {
    trace.strip_prefix("process ")?.split(' ').next()?.parse().ok()
}

pub(crate) fn a_pod_keeps_its_address_when_its_machine_is_started_anew(machine: &mut Machine) {
    machine.start();
    let server = spec(SERVE);
    machine.repository.push_file("first.yaml", &pod("first", &server));
    let first = address(&machine.until_running("first"));
    machine.repository.push_file("second.yaml", &pod("second", &server));
    let second = address(&machine.until_running("second"));
    machine.repository.remove("first.yaml");
    machine.repository.push_file("text.yaml", &config_map("text", "a", "b"));
    machine.api.until(PODS, "one pod", |pods| (pods.len() == 1).then_some(()));

    let before = machine.pid("second");
    lose_all_but_the_disk(machine);
    machine.start();
    machine.until_traces(|traces| traces.iter().any(|trace| process(trace).is_some_and(|pid| pid != before)));
    let again = crate::machine::until("that it runs again", || {
        let pods = machine.api.list(PODS);
        let status = &pods[0]["status"];
        let restarts = status["containerStatuses"][0]["restartCount"].as_i64()?;
        (restarts > 0 && status["phase"] == "Running").then(|| address(&pods[0]))
    });
    assert_eq!(again, second);
    assert_ne!(first, second);
    let inside = machine.ok(&["exec", "second", "--", "busybox", "ip", "-o", "addr", "show", "dev", "eth0"]);
    assert!(inside.contains(&format!("{second}/24")), "{inside}");
}
