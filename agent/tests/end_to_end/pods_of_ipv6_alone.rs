use crate::machine::{Machine, PODS, until};
use crate::yaml::{config_map, deployment, pod, spec};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{IpAddr, TcpStream};

const SERVICES: &str = "/api/v1/namespaces/default/services";

/// What the web server at `address` says; nothing while nobody listens.
fn page(address: IpAddr, port: u16) -> Option<String> {
    let mut stream = TcpStream::connect((address, port)).ok()?;
    stream.write_all(b"GET /word HTTP/1.0\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text)
}

fn service() -> String {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
        "spec": {
            "type": "NodePort", "selector": {"app": "web"},
            "ports": [{"port": 80, "targetPort": 8080, "nodePort": 30080}],
        },
    })
    .to_string()
}

fn server() -> Value {
    let mut server = spec("exec busybox httpd -f -p '[::]:8080' -h /www");
    server["terminationGracePeriodSeconds"] = 0.into();
    server["volumes"] = json!([{"name": "www", "configMap": {"name": "www"}}]);
    server["containers"][0]["volumeMounts"] = json!([{"name": "www", "mountPath": "/www"}]);
    server["containers"][0]["readinessProbe"] = json!({"httpGet": {"path": "/word", "port": 8080}});
    server["containers"][0]["ports"] = json!([{"containerPort": 8080, "hostPort": 18080}]);
    server
}

/// Where pods and services have no IPv4 address they are reached, probed, found by name and led to all the same.
pub(crate) fn a_network_of_ipv6_alone_is_enough(machine: &mut Machine) {
    machine.configuration["network"]["podCIDR"] = "fd77::/64".into();
    machine.configuration["network"]["serviceCIDR"] = "fd96::/112".into();
    machine.start();
    machine.repository.write("www.yaml", &config_map("www", "word", "well met\n"));
    machine.repository.write("service.yaml", &service());
    machine.repository.push_file("web.yaml", &deployment("web", 1, &server()));
    machine.until_rolled_out("web", 1);
    let web = machine.until_running("web-");
    let text = web["status"]["podIP"].as_str().unwrap();
    assert!(text.starts_with("fd77::"), "{web}");
    assert_eq!(web["status"]["podIPs"], json!([{"ip": text}]));
    let address = machine.api.until(SERVICES, "an address", |all| {
        let web = all.iter().find(|service| service["metadata"]["name"] == "web")?;
        assert_eq!(web["spec"]["ipFamilies"], json!(["IPv6"]));
        web["spec"]["clusterIP"].as_str()?.parse::<IpAddr>().ok()
    });
    assert!(address.to_string().starts_with("fd96::"), "{address}");
    let gateway: IpAddr = "fd77::1".parse().unwrap();
    for (address, port) in [(text.parse().unwrap(), 8080), (address, 80), (gateway, 30080), (gateway, 18080)]
    {
        let said = until("an answer", || page(address, port));
        assert!(said.ends_with("well met\n"), "{address} {port}: {said}");
    }

    let script = "trap 'exit 0' TERM; until busybox wget -qO- http://web/word; do :; done
        echo nameserver $(grep nameserver /etc/resolv.conf); getent ahostsv6 web; echo end
        while :; do sleep 1000 & wait $!; done";
    machine.repository.push_file("client.yaml", &pod("client", &spec(script)));
    machine.until_running("client");
    let mut said = Vec::new();
    machine.follow(&["logs", "-f", "client"]).until("what the client found", |line| {
        said.push(line.to_owned());
        line == "end"
    });
    assert!(said.contains(&"well met".to_owned()), "{said:#?}");
    assert!(said.iter().any(|line| line.ends_with("nameserver fd77::1")), "{said:#?}");
    assert!(said.iter().any(|line| line.starts_with(&address.to_string())), "{said:#?}");

    for file in ["client.yaml", "web.yaml", "service.yaml"] {
        machine.repository.remove(file);
    }
    machine.repository.push_file("text.yaml", &config_map("text", "a", "b"));
    machine.until_gone(PODS);
}
