use crate::machine::{Machine, PODS, name_of, named, until};
use crate::nodes_work_together::{part, until_on};
use crate::site::{Site, busybox, connected, inside};
use crate::yaml::{config_map, daemon_set, spec};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// What a load balancer gives: an address of the machines' link.
const BALANCED: &str = "10.200.0.100";
const SERVICES: &str = "/api/v1/namespaces/default/services";

/// The networks that a node has for its pods, by its name.
fn cidrs(machine: &Machine) -> BTreeMap<String, Vec<String>> {
    let texts = |node: &Value| {
        let all = node["spec"]["podCIDRs"].as_array().cloned().unwrap_or_default();
        all.iter().map(|text| text.as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    machine.api.list("/api/v1/nodes").iter().map(|node| (name_of(node), texts(node))).collect()
}

fn addresses(pod: &Value) -> Vec<String> {
    let all = pod["status"]["podIPs"].as_array().unwrap_or_else(|| panic!("no addresses: {pod}"));
    all.iter().map(|one| one["ip"].as_str().unwrap().to_owned()).collect()
}

fn url(address: &str, port: u16) -> String {
    let host = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
    format!("http://{host}:{port}/word")
}

fn servers(machine: &Machine) {
    let mut server = spec("exec busybox httpd -f -p 8080 -h /www");
    server["terminationGracePeriodSeconds"] = 0.into();
    server["volumes"] = json!([{"name": "www", "configMap": {"name": "www"}}]);
    server["containers"][0]["volumeMounts"] = json!([{"name": "www", "mountPath": "/www"}]);
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
        "spec": {
            "selector": {"app": "web"}, "ipFamilyPolicy": "RequireDualStack",
            "ports": [{"port": 80, "targetPort": 8080}],
        },
    });
    machine.repository.write("www.yaml", &config_map("www", "word", "well met\n"));
    machine.repository.write("service.yaml", &service.to_string());
    machine.repository.push_file("web.yaml", &daemon_set("web", &server));
}

fn routes(machine: &Machine) -> String {
    let bridge = machine.configuration["network"]["bridge"].as_str().unwrap();
    let device = format!("{bridge}-vx");
    let output = Command::new("busybox").args(["ip", "route", "show", "dev", &device]).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// The machines that answer for the load balancer's address, by their places.
fn answering(machine: &Machine, site: &Site) -> Vec<usize> {
    let all = [machine].into_iter().chain(site.neighbours.iter().map(|neighbour| &neighbour.machine));
    let answers = |place: &Machine| {
        let announced = place.api.get("/evenkeel/v1alpha1/net")["announced"].clone();
        announced["links"]
            .as_object()
            .unwrap()
            .values()
            .flat_map(|all| all.as_array().unwrap())
            .any(|a| a == BALANCED)
    };
    all.enumerate().filter(|(_, place)| answers(place)).map(|(number, _)| number).collect()
}

/// One node answers a client on the link; when it is left out, another one does.
fn an_address_moves_to_another_node(machine: &mut Machine, site: &mut Site) {
    let outside = connected(9);
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "world"},
        "spec": {
            "type": "LoadBalancer", "loadBalancerIP": BALANCED, "selector": {"app": "web"},
            "ports": [{"port": 80, "targetPort": 8080}],
        },
    });
    machine.repository.push_file("world.yaml", &service.to_string());
    let one = |machine: &Machine, site: &Site, but: Option<usize>| {
        until("one node to answer", || match answering(machine, site)[..] {
            [number] if Some(number) != but => Some(number),
            _ => None,
        })
    };
    let reached = || {
        let words = ["timeout", "2", "busybox", "wget", "-qO-", &url(BALANCED, 80)];
        let said = inside(&outside, || Command::new("busybox").args(words).output().unwrap());
        (said.stdout == b"well met\n").then_some(())
    };
    let first = one(machine, site, None);
    until("the address to answer", reached);
    let labels = json!({"node.kubernetes.io/exclude-from-external-load-balancers": ""});
    let place = match first {
        0 => &mut *machine,
        number => &mut site.neighbours[number - 1].machine,
    };
    place.kill_agent();
    place.configuration["nodeLabels"] = labels;
    match first {
        0 => machine.start(),
        number => site.neighbours[number - 1].start(),
    }
    one(machine, site, Some(first));
    until("the address to answer", reached);
    busybox("ip link del cable9");
}

pub(crate) fn pods_of_three_nodes_reach_one_another_by_addresses_that_they_are_given(machine: &mut Machine) {
    let sources = machine.configuration["sources"].clone();
    let network = &mut machine.configuration["network"];
    network.as_object_mut().unwrap().remove("podCIDR");
    network["clusterCIDR"] = "10.78.0.0/16,fd78::/48".into();
    network["serviceCIDR"] = "10.79.0.0/16,fd79::/112".into();
    network["loadBalancer"] = json!({"pools": [{"name": "link", "addresses": [BALANCED]}]});
    let mut site = Site::around(machine, 3, &json!([]));
    servers(machine);
    until_on(machine, "web-", 3);
    let given = cidrs(machine);
    let all: BTreeSet<_> = given.values().flatten().collect();
    let wanted =
        ["10.78.0.0/24", "10.78.1.0/24", "10.78.2.0/24", "fd78::/64", "fd78:0:0:1::/64", "fd78:0:0:2::/64"];
    assert_eq!(all.iter().map(|text| text.as_str()).collect::<BTreeSet<_>>(), wanted.into());

    let pods = machine.api.list(PODS);
    let service = machine.api.until(SERVICES, "two addresses", |services| {
        let all = services.iter().find_map(|service| service["spec"]["clusterIPs"].as_array())?;
        (all.len() == 2).then(|| all.iter().map(|text| text.as_str().unwrap().to_owned()).collect::<Vec<_>>())
    });
    let urls: Vec<_> = named(&pods, "web-")
        .flat_map(addresses)
        .map(|address| url(&address, 8080))
        .chain(service.iter().map(|address| url(address, 80)))
        .collect();
    assert_eq!(urls.len(), 8, "{urls:?}");
    let machines =
        || [&*machine].into_iter().chain(site.neighbours.iter().map(|neighbour| &neighbour.machine));
    for place in machines() {
        let node = place.configuration["nodeName"].as_str().unwrap();
        let pod = named(&pods, "web-").find(|pod| pod["spec"]["nodeName"] == node).map(name_of).unwrap();
        for url in &urls {
            let words = ["exec", &pod, "--", "busybox", "wget", "-qO-", url];
            until(&format!("{pod} of {node} to reach {url}"), || {
                let said = place.keel(&words);
                (said.stdout == "well met\n").then_some(())
            });
        }
    }

    an_address_moves_to_another_node(machine, &mut site);

    // An agent that starts again has what it had, and changes no way that is right.
    let before = routes(machine);
    assert_eq!(before.lines().count(), 2, "{before}");
    machine.kill_agent();
    assert_eq!(routes(machine), before);
    machine.start();
    site.neighbours[0].machine.kill_agent();
    site.neighbours[0].start();
    assert_eq!(cidrs(machine), given);
    assert_eq!(routes(machine), before);
    machine.repository.empty();
    machine.repository.push_file("nothing.yaml", &config_map("nothing", "a", "b"));
    machine.until_gone(PODS);
    part(machine, site, sources);
    until("the ways to go", || routes(machine).is_empty().then_some(()));
}
