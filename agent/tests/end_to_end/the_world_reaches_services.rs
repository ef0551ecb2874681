use crate::machine::{EVENTS, Machine, until};
use crate::site::{BRIDGE, busybox, connected, inside};
use crate::the_agent_tells_how_it_is::scrape;
use crate::yaml::{config_map, deployment, spec};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const SERVICES: &str = "/api/v1/namespaces/default/services";

/// What the web server at `address` says to somebody outside.
fn page(outside: &File, address: IpAddr) -> Option<String> {
    inside(outside, || {
        let to = SocketAddr::new(address, 80);
        let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(2)).ok()?;
        stream.write_all(b"GET /word HTTP/1.0\r\n\r\n").ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        Some(text)
    })
}

/// A router outside.
struct Bird {
    child: Child,
    socket: PathBuf,
}

impl Bird {
    fn start(outside: &File, machine: &Machine) -> Option<Self> {
        if !["/usr/sbin/bird", "/usr/sbin/birdc"].iter().all(|path| PathBuf::from(path).exists()) {
            println!("SKIPPED: there is no BIRD (bird2) on this machine: no router was told anything");
            return None;
        }
        let (configuration, socket) = (machine.folder.join("bird.conf"), machine.folder.join("bird.ctl"));
        let text = "router id 10.200.0.2;\nprotocol device {}\nprotocol bgp node {\n  local 10.200.0.2 as 64512;\n  \
                    neighbor 10.200.0.1 as 65001;\n  passive;\n  ipv4 { import all; export none; };\n}\n";
        fs::write(&configuration, text).unwrap();
        let mut command = Command::new("/usr/sbin/bird");
        command.arg("-f").arg("-c").arg(configuration).arg("-s").arg(&socket);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = inside(outside, || command.spawn().unwrap());
        Some(Self { child, socket })
    }

    fn routes(&self) -> BTreeSet<String> {
        let output = Command::new("/usr/sbin/birdc")
            .arg("-s")
            .arg(&self.socket)
            .args(["show", "route"])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let words = text.lines().filter_map(|line| line.split_whitespace().next());
        words.filter(|word| word.contains('/')).map(str::to_owned).collect()
    }

    fn until(&self, wanted: &[&str]) {
        let wanted: BTreeSet<String> = wanted.iter().map(ToString::to_string).collect();
        until("the router's routes", || (self.routes() == wanted).then_some(()));
    }
}

impl Drop for Bird {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn service(name: &str, policy: &str, pool: &str) -> String {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name, "annotations": {"evenkeel.dev/address-pool": pool}},
        "spec": {
            "type": "LoadBalancer", "externalTrafficPolicy": policy, "selector": {"app": "web"},
            "ports": [{"port": 80, "targetPort": 8080}],
        },
    })
    .to_string()
}

fn given(services: &[Value], name: &str) -> Option<IpAddr> {
    let service = services.iter().find(|service| service["metadata"]["name"] == name)?;
    service["status"]["loadBalancer"]["ingress"][0]["ip"].as_str()?.parse().ok()
}

/// The machine is wired to somebody outside, and has two pools.
fn wired(machine: &mut Machine) -> File {
    busybox(&format!("ip link add {BRIDGE} type bridge"));
    busybox(&format!("ip addr add 10.200.0.1/24 dev {BRIDGE}"));
    busybox(&format!("ip link set {BRIDGE} up"));
    let network = &mut machine.configuration["network"];
    network["loadBalancer"] = json!({"pools": [
        {"name": "link", "addresses": ["10.200.0.100-10.200.0.101"]},
        {"name": "routed", "addresses": ["203.0.113.8/30"], "announce": "bgp"},
    ]});
    network["bgp"] = json!({"asn": 65001, "routerID": "10.200.0.1",
        "peers": [{"address": "10.200.0.2", "asn": 64512, "holdTime": "9s"}]});
    connected(2)
}

fn server() -> Value {
    let mut server = spec("exec busybox httpd -f -p 8080 -h /www");
    server["terminationGracePeriodSeconds"] = 0.into();
    server["volumes"] = json!([{"name": "www", "configMap": {"name": "www"}}]);
    server["containers"][0]["volumeMounts"] = json!([{"name": "www", "mountPath": "/www"}]);
    server
}

/// What whoever balances is told of a service on this machine.
fn health(port: u16, word: &str) -> String {
    until("word of the service's health", || {
        let mut stream = TcpStream::connect(("10.200.0.1", port)).ok()?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        text.contains(word).then_some(text)
    })
}

pub(crate) fn neighbours_and_routers_find_a_load_balancers_address(machine: &mut Machine) {
    let outside = wired(machine);
    let bird = Bird::start(&outside, machine);
    machine.start();
    machine.repository.write("www.yaml", &config_map("www", "word", "well met\n"));
    machine.repository.write("near.yaml", &service("near", "Cluster", "link"));
    machine.repository.write("far.yaml", &service("far", "Local", "routed"));
    machine.repository.push_file("web.yaml", &deployment("web", 1, &server()));
    machine.until_rolled_out("web", 1);
    let near = machine.api.until(SERVICES, "an address", |all| given(all, "near"));
    let far = machine.api.until(SERVICES, "an address", |all| given(all, "far"));
    assert_eq!((near.to_string(), far.to_string()), ("10.200.0.100".into(), "203.0.113.8".into()));
    let shown = machine.ok(&["get", "svc", "near"]);
    assert!(shown.contains("LoadBalancer") && shown.contains("10.200.0.100"), "{shown}");

    // A neighbour asks who has the address, and gets there.
    let said = until("the service to answer", || page(&outside, near));
    assert!(said.ends_with("well met\n"), "{said}");
    machine.api.until(EVENTS, "who answers", |all| {
        all.iter().any(|event| event["reason"] == "NodeAssigned").then_some(())
    });
    // Whoever balances learns whether there is a pod here.
    let port = &machine.api.get(&format!("{SERVICES}/far"))["spec"]["healthCheckNodePort"];
    let port = u16::try_from(port.as_u64().unwrap()).unwrap();
    assert!(health(port, " 200 ").contains("\"localEndpoints\":1"));
    if let Some(bird) = bird {
        routers_know(machine, &outside, &bird, far);
    }
    machine.repository.push_file("web.yaml", &deployment("web", 0, &server()));
    assert!(health(port, " 503 ").contains("\"localEndpoints\":0"));
    for file in ["web.yaml", "near.yaml", "far.yaml"] {
        machine.repository.remove(file);
    }
    machine.repository.push_file("text.yaml", &config_map("text", "a", "b"));
    machine.until_gone(SERVICES);
    busybox("ip link del cable2");
    busybox(&format!("ip link del {BRIDGE}"));
}

fn routers_know(machine: &mut Machine, outside: &File, bird: &Bird, far: IpAddr) {
    bird.until(&["10.77.0.0/24", "203.0.113.8/32"]);
    let said = machine.api.get("/evenkeel/v1alpha1/net")["announced"].clone();
    assert_eq!(said["links"], json!({BRIDGE: ["10.200.0.100"]}), "{said}");
    let router = &said["routers"][0];
    assert_eq!((&router["state"], &router["prefixes"]), (&json!("Established"), &json!(2)));
    assert!(scrape("/metrics").contains("keel_bgp_session_up{peer=\"10.200.0.2\"} 1\n"));
    // An agent that is stopped is remembered, and the services go on.
    machine.stop_agent();
    inside(outside, || busybox("ip route add 203.0.113.8/32 via 10.200.0.1"));
    assert_eq!(bird.routes().len(), 2);
    assert!(page(outside, far).unwrap().ends_with("well met\n"));
    machine.start();
    let again =
        || machine.api.get("/evenkeel/v1alpha1/net")["announced"]["routers"][0]["state"] == "Established";
    until("the router is told again", || {
        assert_eq!(bird.routes().len(), 2, "nothing was forgotten");
        again().then_some(())
    });
    // Without a pod here, nobody is led here.
    machine.repository.push_file("web.yaml", &deployment("web", 0, &server()));
    bird.until(&["10.77.0.0/24"]);
}
