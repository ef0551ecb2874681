use crate::machine::{Machine, PODS};
use crate::yaml::{config_map, deployment, pod, spec};
use serde_json::{Value, json};

const SERVICES: &str = "/api/v1/namespaces/default/services";
/// Asks by every kind of name, then for ever by a short one.
const CLIENT: &str = "trap 'exit 0' TERM
cat /etc/resolv.conf
until getent ahostsv4 web > /dev/null; do :; done
for name in web web.default web.default.svc.cluster.local alias web-0.peers; do
    set -- $(getent ahostsv4 $name); echo $name is $1
done
echo $1 is also $(getent hosts $1)
echo nobody is $(getent ahostsv4 nobody)
echo end
while :; do getent ahostsv4 web > /dev/null || echo lost; done";

fn service(name: &str, spec: &Value) -> String {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}).to_string()
}

/// A pod asks for others by their names, and goes on being answered while the agent is killed.
pub(crate) fn a_pod_finds_others_by_their_names(machine: &mut Machine) {
    machine.start();
    let mut server = spec(crate::yaml::SERVE);
    server["terminationGracePeriodSeconds"] = 0.into();
    let ports = json!([{"name": "http", "port": 80}]);
    let of = |app: &str| json!({"selector": {"app": app}, "ports": ports});
    machine.repository.write("web.yaml", &service("web", &of("web")));
    let mut peers = of("peer");
    peers["clusterIP"] = "None".into();
    machine.repository.write("peers.yaml", &service("peers", &peers));
    let outside = json!({"type": "ExternalName", "externalName": "web.default.svc.cluster.local"});
    machine.repository.write("alias.yaml", &service("alias", &outside));
    let mut peer = server.clone();
    (peer["hostname"], peer["subdomain"]) = ("web-0".into(), "peers".into());
    let mut peer: Value = serde_json::from_str(&pod("peer", &peer)).unwrap();
    peer["metadata"]["labels"] = json!({"app": "peer"});
    machine.repository.write("peer.yaml", &peer.to_string());
    machine.repository.push_file("pods.yaml", &deployment("web", 1, &server));
    machine.until_rolled_out("web", 1);
    let address = machine.api.until(SERVICES, "an address", |all| {
        let web = all.iter().find(|service| service["metadata"]["name"] == "web")?;
        web["spec"]["clusterIP"].as_str().map(str::to_owned)
    });
    let peer = machine.until_running("peer")["status"]["podIP"].as_str().unwrap().to_owned();

    let mut client = spec(CLIENT);
    client["terminationGracePeriodSeconds"] = 0.into();
    machine.repository.push_file("client.yaml", &pod("client", &client));
    machine.until_running("client");
    let mut said = Vec::new();
    machine.follow(&["logs", "-f", "client"]).until("all names", |line| {
        said.push(line.to_owned());
        line == "end"
    });
    let wanted = [
        "nameserver 10.77.0.1".to_owned(),
        format!("web is {address}"),
        format!("web.default is {address}"),
        format!("web.default.svc.cluster.local is {address}"),
        format!("alias is {address}"),
        format!("web-0.peers is {peer}"),
        format!("{peer} is also {peer} web-0.peers.default.svc.cluster.local"),
        "nobody is".to_owned(),
    ];
    for line in wanted {
        assert!(said.contains(&line), "{line:?} in {said:#?}");
    }
    assert!(said.iter().any(|line| line.starts_with("search default.svc.cluster.local svc.cluster.local")));
    assert!(said.contains(&"options ndots:5".to_owned()));

    for _ in 0..3 {
        machine.kill_agent();
        machine.start();
    }
    let text = machine.ok(&["logs", "client"]);
    assert!(!text.contains("lost"), "{text}");
    machine.repository.remove("client.yaml");
    machine.repository.remove("peer.yaml");
    machine.repository.remove("pods.yaml");
    machine.repository.push_file("text.yaml", &config_map("text", "a", "b"));
    machine.until_gone(PODS);
}
