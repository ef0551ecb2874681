use crate::machine::{Machine, PODS, until};
use crate::nodes_work_together::{part, until_on};
use crate::site::Site;
use crate::yaml::{config_map, daemon_set, spec};
use serde_json::{Value, json};
use std::net::{IpAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

/// More would hardly ever miss an endpoint out of three.
const MANY: usize = 60;

/// The cable of machine `number` is in, or out.
fn plug(number: usize, state: &str) {
    let words = ["ip", "link", "set", &format!("cable{number}"), state];
    let done = Command::new("busybox").args(words).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

/// Where the kernel of `machine` leads pods that ask the service.
fn endpoints(machine: &Machine) -> Vec<String> {
    let seen: Value = serde_json::from_str(&machine.ok(&["net", "services", "-o", "json"])).unwrap();
    let lines = seen.as_array().unwrap().iter().filter(|line| line["name"] == "web");
    let all = lines.flat_map(|line| line["endpoints"].as_array().unwrap().clone());
    all.map(|endpoint| endpoint.as_str().unwrap().to_owned()).collect()
}

pub(crate) fn nobody_is_led_to_a_node_that_is_lost(machine: &mut Machine) {
    let sources = machine.configuration["sources"].clone();
    let network = &mut machine.configuration["network"];
    network.as_object_mut().unwrap().remove("podCIDR");
    network["clusterCIDR"] = "10.78.0.0/16".into();
    machine.configuration["cluster"] = json!({"nodeMonitorGracePeriod": "5s"});
    let mut site = Site::around(machine, 3, &json!([]));
    let mut server = spec("exec busybox httpd -f -p 8080");
    server["terminationGracePeriodSeconds"] = 0.into();
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]},
    });
    machine.repository.write("service.yaml", &service.to_string());
    machine.repository.push_file("web.yaml", &daemon_set("web", &server));
    until_on(machine, "web-", 3);
    until("three endpoints", || (endpoints(machine).len() == 3).then_some(()));
    let address = machine.api.until("/api/v1/namespaces/default/services", "an address", |all| {
        all.iter().find_map(|service| service["spec"]["clusterIP"].as_str()?.parse::<IpAddr>().ok())
    });

    // As if its power were cut: nothing is heard of it any more, and nobody there says goodbye.
    plug(3, "down");
    site.neighbours[1].machine.kill_agent();
    until("that it is not Ready", || {
        let nodes = machine.ok(&["net", "nodes"]);
        nodes.lines().any(|line| line.starts_with("node-3") && line.contains("NotReady")).then_some(())
    });
    for place in [&*machine, &site.neighbours[0].machine] {
        until("two endpoints", || (endpoints(place).len() == 2).then_some(()));
    }
    for _ in 0..MANY {
        TcpStream::connect_timeout(&(address, 80).into(), Duration::from_secs(10)).unwrap();
    }

    // It comes back, and so do its endpoints.
    plug(3, "up");
    site.neighbours[1].start();
    until("three endpoints again", || (endpoints(machine).len() == 3).then_some(()));
    machine.repository.empty();
    machine.repository.push_file("nothing.yaml", &config_map("nothing", "a", "b"));
    machine.until_gone(PODS);
    part(machine, site, sources);
    machine.configuration["cluster"] = Value::Null;
}
