use crate::machine::{Machine, PODS, until};
use crate::yaml::{config_map, deployment, pod, spec};
use serde_json::{Value, json};
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

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

/// Each step of the way of a pod to the service is told, and so is who has which address.
fn each_step_is_told(machine: &Machine, address: IpAddr) {
    let told = machine.ok(&["net", "trace", "client", "svc/web"]);
    let service = format!("service   {address}:80/TCP leads to one of 2 endpoints");
    for wanted in [&service, "no policy selects default/client", "bridge keeltest0, link kl", "it listens"] {
        assert!(told.contains(wanted), "{wanted}: {told}");
    }
    assert!(machine.keel(&["net", "trace", "client", "web:81"]).stderr.contains("has no port 81; it has 80"));
    for (nobody, why) in [
        ("10.77.0.250:80".to_owned(), "DROPPED: 10.77.0.250 is of the pods' networks, and no pod has it"),
        (format!("{address}:81"), "REFUSED: no service has"),
    ] {
        let told = machine.keel(&["net", "trace", "client", &nobody]);
        assert!(told.code == 1 && told.stdout.contains(why), "{}", told.stdout);
    }
    let seen = machine.ok(&["net"]);
    assert!(seen.contains(&format!("{address}:80/TCP")) && seen.contains("client"), "{seen}");
}

/// Two pods that go on talking do so past netfilter, where the kernel can do that.
fn a_conversation_takes_the_fast_path(machine: &mut Machine) {
    let flows = |machine: &Machine| -> Value {
        serde_json::from_str(&machine.ok(&["net", "flows", "-o", "json"])).unwrap()
    };
    if flows(machine).is_null() {
        println!("SKIPPED: {}", machine.ok(&["net", "flows"]));
        return;
    }
    let at_once = |script: &str| {
        let mut spec = spec(script);
        spec["terminationGracePeriodSeconds"] = 0.into();
        spec
    };
    machine
        .repository
        .push_file("ear.yaml", &pod("ear", &at_once("exec busybox nc -ll -p 9000 -e busybox cat")));
    let address = machine.until_running("ear")["status"]["podIP"].as_str().unwrap().to_owned();
    let talk = format!("while echo word; do busybox sleep 0.05; done | busybox nc {address} 9000 >/dev/null");
    machine.repository.push_file("mouth.yaml", &pod("mouth", &at_once(&talk)));
    for (from, to) in [("default/mouth", "default/ear"), ("default/ear", "default/mouth")] {
        until("packets on the fast path", || {
            let is_it = |flow: &Value| flow["fromPod"] == from && flow["toPod"] == to && flow["packets"] != 0;
            flows(machine).as_array().unwrap().iter().any(is_it).then_some(())
        });
    }
    for file in ["ear.yaml", "mouth.yaml"] {
        machine.repository.remove(file);
    }
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

    each_step_is_told(machine, address);
    a_conversation_takes_the_fast_path(machine);

    // Neither an agent that is dead nor the next one is in its way.
    machine.kill_agent();
    assert!(page(address, 80).unwrap().ends_with("well met\n"));
    machine.start();
    assert!(page(address, 80).unwrap().ends_with("well met\n"));
    assert_eq!(machine.api.until(SERVICES, "the same", |all| all.iter().find_map(address_of)), address);

    machine.repository.push_file("web.yaml", &deployment("web", 0, &server));
    let trace = || machine.keel(&["net", "trace", "client", "web"]);
    let refused = "80/TCP is refused: ";
    let told = until("that it is refused", || Some(trace()).filter(|said| said.stdout.contains(refused)));
    assert!(told.code == 1 && told.stdout.ends_with("=> nothing arrives\n"), "{}", told.stdout);
    until("why", || {
        trace().stdout.contains("no pod of namespace default has the labels app=web").then_some(())
    });
    until("that nobody answers", || (page(address, 80) == Err(ErrorKind::ConnectionRefused)).then_some(()));
    for file in ["client.yaml", "web.yaml", "service.yaml"] {
        machine.repository.remove(file);
    }
    machine.repository.push_file("text.yaml", &config_map("text", "a", "b"));
    machine.until_gone(SERVICES);
    machine.until_gone(PODS);
}

/// Clients that ask again and again, each over a connection of its own.
struct Crowd {
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Result<u32, String>>>,
}

impl Crowd {
    fn ask(address: IpAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let client = |_| {
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || {
                let mut answers = 0;
                while !stop.load(Ordering::Relaxed) {
                    match page(address, 80) {
                        Ok(text) if text.contains("\r\n\r\nversion ") => answers += 1,
                        other => return Err(format!("after {answers} answers: {other:?}")),
                    }
                }
                Ok(answers)
            })
        };
        let clients = (0..4).map(client).collect();
        Self { stop, clients }
    }

    /// How many answers came; every request had one.
    fn end(self) -> u32 {
        self.stop.store(true, Ordering::Relaxed);
        let answers = self.clients.into_iter().map(|client| client.join().unwrap());
        answers.map(|answers| answers.unwrap_or_else(|lost| panic!("a request was lost {lost}"))).sum()
    }
}

pub(crate) fn a_rollout_and_a_killed_agent_lose_no_request(machine: &mut Machine) {
    machine.start();
    let server = |version: u32| {
        let mut server = spec("exec busybox httpd -f -p 8080 -h /www");
        server["volumes"] = json!([{"name": "www", "configMap": {"name": format!("www-{version}")}}]);
        let container = &mut server["containers"][0];
        container["volumeMounts"] = json!([{"name": "www", "mountPath": "/www"}]);
        container["readinessProbe"] = json!({"httpGet": {"port": 8080, "path": "/word"}, "periodSeconds": 1});
        // Who has asked already is answered; busybox ends with its first signal.
        container["lifecycle"] = json!({"preStop": {"exec": {"command": ["busybox", "sleep", "1"]}}});
        deployment("rolling", 3, &server)
    };
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "rolling"},
        "spec": {"selector": {"app": "rolling"}, "ports": [{"port": 80, "targetPort": 8080}]},
    });
    for version in 1..=3 {
        let text = config_map(&format!("www-{version}"), "word", &format!("version {version}\n"));
        machine.repository.write(&format!("www-{version}.yaml"), &text);
    }
    machine.repository.write("service.yaml", &service.to_string());
    machine.repository.push_file("rolling.yaml", &server(1));
    machine.until_rolled_out("rolling", 3);
    let address = machine.api.until(SERVICES, "an address", |all| all.iter().find_map(address_of));
    until("the service to answer", || page(address, 80).ok());

    let crowd = Crowd::ask(address);
    let shown = |version: u32| {
        let word = format!("version {version}\n");
        until(&word, || page(address, 80).ok().filter(|text| text.ends_with(&word)).map(drop));
    };
    let commit = machine.repository.push_file("rolling.yaml", &server(2));
    machine.until_synced(&commit);
    machine.until_rolled_out("rolling", 3);
    shown(2);
    machine.kill_agent();
    machine.start();
    let commit = machine.repository.push_file("rolling.yaml", &server(3));
    machine.until_synced(&commit);
    machine.kill_agent();
    machine.start();
    machine.until_rolled_out("rolling", 3);
    shown(3);
    assert!(crowd.end() > 100);

    for file in ["rolling.yaml", "service.yaml", "www-1.yaml", "www-2.yaml", "www-3.yaml"] {
        machine.repository.remove(file);
    }
    machine.repository.push_file("text.yaml", &config_map("text", "a", "b"));
    machine.until_gone(SERVICES);
    machine.until_gone(PODS);
}
