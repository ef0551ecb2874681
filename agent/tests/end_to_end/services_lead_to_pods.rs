use crate::machine::{Machine, PODS, until};
use crate::yaml::{config_map, deployment, pod, spec};
use serde_json::{Value, json};
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, TcpStream};

const SERVICES: &str = "/api/v1/namespaces/default/services";

/// What the web server at `address` says.
fn page(address: IpAddr, port: u16) -> Result<String, ErrorKind> {
    let mut stream = TcpStream::connect((address, port)).map_err(|error| error.kind())?;
    stream.write_all(b"GET /word HTTP/1.0\r\n\r\n").map_err(|error| error.kind())?;
    let mut text = String::new();
    stream.read_to_string(&mut text).map_err(|error| error.kind())?;
    Ok(text)
}

fn address_of(service: &Value) -> Option<IpAddr> {
    service["spec"]["clusterIP"].as_str()?.parse().ok()
}

pub(crate) fn a_services_address_leads_to_its_pods(machine: &mut Machine) {
    machine.start();
    let mut server = spec("exec busybox httpd -f -p 8080 -h /www");
    server["terminationGracePeriodSeconds"] = 0.into();
    server["volumes"] = json!([{"name": "www", "configMap": {"name": "www"}}]);
    server["containers"][0]["volumeMounts"] = json!([{"name": "www", "mountPath": "/www"}]);
    server["containers"][0]["ports"] = json!([{"name": "http", "containerPort": 8080}]);
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
        "spec": {
            "type": "NodePort", "selector": {"app": "web"},
            "ports": [{"port": 80, "targetPort": "http", "nodePort": 30080}],
        },
    });
    machine.repository.write("www.yaml", &config_map("www", "word", "well met\n"));
    machine.repository.write("service.yaml", &service.to_string());
    machine.repository.push_file("web.yaml", &deployment("web", 2, &server));
    machine.until_rolled_out("web", 2);
    let (address, gateway) = (
        machine.api.until(SERVICES, "an address", |services| services.iter().find_map(address_of)),
        "10.77.0.1".parse().unwrap(),
    );
    let answers = |address: IpAddr, port: u16| {
        until("the service to answer", || page(address, port).ok()).ends_with("well met\n")
    };
    assert!(answers(address, 80) && answers(gateway, 30_080));
    assert_eq!(page(address, 81), Err(ErrorKind::ConnectionRefused), "no such port");

    // From a pod, which is seen as itself by whichever pod answers.
    let script = format!(
        "trap 'exit 0' TERM; busybox wget -qO- http://{address}/word; while :; do sleep 1000 & wait $!; done"
    );
    machine.repository.push_file("client.yaml", &pod("client", &spec(&script)));
    machine.until_running("client");
    assert!(machine.follow(&["logs", "-f", "client"]).until("the page", |_| true) == "well met");

    // Neither an agent that is dead nor the next one is in its way.
    machine.kill_agent();
    assert!(page(address, 80).unwrap().ends_with("well met\n"));
    machine.start();
    assert!(page(address, 80).unwrap().ends_with("well met\n"));
    assert_eq!(machine.api.until(SERVICES, "the same", |all| all.iter().find_map(address_of)), address);

    machine.repository.remove("client.yaml");
    machine.repository.push_file("web.yaml", &deployment("web", 0, &server));
    machine.until_gone(PODS);
    until("that nobody answers", || (page(address, 80) == Err(ErrorKind::ConnectionRefused)).then_some(()));
    machine.repository.remove("web.yaml");
    machine.repository.remove("service.yaml");
    machine.repository.push_file("text.yaml", &config_map("text", "a", "b"));
    machine.until_gone(SERVICES);
}
