use crate::machine::{EVENTS, Machine, until};
use crate::yaml::{config_map, deployment, pod, spec};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use serde_json::{Value, json};
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const INGRESSES: &str = "/apis/networking.k8s.io/v1/namespaces/default/ingresses";
const HTTP: &str = "127.0.0.1:80";
const HTTPS: &str = "127.0.0.1:443";

/// What is said to a request over `stream`, to the end of the connection.
fn ask_over(mut stream: impl Read + Write, host: &str, path: &str) -> io::Result<String> {
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")?;
    stream.flush()?;
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        // TLS that ends without a word of it.
        Err(error) if error.kind() != ErrorKind::UnexpectedEof => return Err(error),
        _ => {}
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn ask(host: &str, path: &str) -> io::Result<String> {
    ask_over(TcpStream::connect(HTTP)?, host, path)
}

/// With TLS, if the site shows `trusted`.
fn ask_securely(host: &'static str, path: &str, trusted: &str) -> io::Result<String> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(trusted.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider);
    let builder = builder.with_safe_default_protocol_versions().unwrap();
    let configuration = Arc::new(builder.with_root_certificates(roots).with_no_client_auth());
    let name = ServerName::try_from(host).unwrap();
    let connection = rustls::ClientConnection::new(configuration, name).map_err(io::Error::other)?;
    ask_over(rustls::StreamOwned::new(connection, TcpStream::connect(HTTPS)?), host, path)
}

/// A certificate, and the Secret with it and its key.
fn certificate(name: &str) -> (String, String) {
    let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
    let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let data = json!({"tls.crt": STANDARD.encode(&certificate), "tls.key": STANDARD.encode(key)});
    let meta = json!({"name": "site-tls"});
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": meta, "type": "kubernetes.io/tls", "data": data,
    });
    (certificate, secret.to_string())
}

/// Servers that say `word`, and go on for a moment when they are told to end, as programs behind a
/// load balancer should.
fn server(word: &str) -> Value {
    let mut server = spec(&format!(
        "mkdir -p /tmp/www; echo {word} > /tmp/www/word; busybox httpd -f -p 8080 -h /tmp/www & \
         trap 'sleep 1; kill $!; exit 0' TERM; wait $!"
    ));
    server["containers"][0]["ports"] = json!([{"name": "http", "containerPort": 8080}]);
    let probe = json!({"httpGet": {"path": "/word", "port": "http"}, "periodSeconds": 1});
    server["containers"][0]["readinessProbe"] = probe;
    server
}

fn service(name: &str, port: u16) -> String {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
        "spec": {"selector": {"app": name}, "ports": [{"name": "web", "port": 80, "targetPort": port}]},
    })
    .to_string()
}

fn ingress() -> String {
    let path = |path: &str, service: &str| {
        let backend = json!({"service": {"name": service, "port": {"name": "web"}}});
        json!({"path": path, "pathType": "Prefix", "backend": backend})
    };
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "site"},
        "spec": {
            "ingressClassName": "keel",
            "rules": [
                {"host": "plain.example", "http": {"paths": [path("/", "web"), path("/chat", "chat")]}},
                {"host": "site.example", "http": {"paths": [path("/", "web")]}},
            ],
            "tls": [{"hosts": ["site.example"], "secretName": "site-tls"}],
        },
    })
    .to_string()
}

fn until_event(machine: &Machine, reason: &str) {
    machine.api.until(EVENTS, reason, |events| {
        let told = |event: &Value| event["reason"] == reason && event["involvedObject"]["name"] == "site";
        events.iter().any(told).then_some(())
    });
}

pub(crate) fn an_ingress_leads_to_pods_with_and_without_tls(machine: &mut Machine) {
    machine.start();
    let refused = |error: io::Error| error.kind() == ErrorKind::ConnectionRefused;
    assert!(ask("plain.example", "/word").is_err_and(refused), "nobody said that ports are to be opened");
    machine.configuration["ingress"] = json!({"nodeSelector": {"edge": "true"}});
    machine.restart_agent();
    machine.repository.write("service.yaml", &service("web", 8080));
    machine.repository.write("ingress.yaml", &ingress());
    machine.repository.push_file("web.yaml", &deployment("web", 2, &server("one")));
    machine.until_rolled_out("web", 2);
    assert!(ask("plain.example", "/word").is_err_and(refused), "the node has no such label");
    machine.ok(&["label", "node", "one", "edge=true"]);

    until("an answer", || ask("plain.example", "/word").ok().filter(|said| said.ends_with("one\n")));
    assert!(ask("other.example", "/word").unwrap().starts_with("HTTP/1.1 404"));
    let said = ask("site.example", "/word?x=y").unwrap();
    assert!(
        said.starts_with("HTTP/1.1 308") && said.contains("Location: https://site.example/word?x=y"),
        "{said}"
    );
    assert!(ask("plain.example", "/chat").unwrap().starts_with("HTTP/1.1 503"));
    until_event(machine, "MissingSecret");
    until_event(machine, "MissingService");

    // The status, and what people see of it.
    let address = machine.api.until(INGRESSES, "an address", |ingresses| {
        Some(ingresses.first()?["status"]["loadBalancer"]["ingress"][0]["ip"].as_str()?.to_owned())
    });
    let listed = machine.ok(&["get", "ingress"]);
    let row: Vec<_> = listed.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(row[..4], ["site", "keel", "plain.example,site.example", address.as_str()], "{listed}");
    assert!(listed.starts_with("NAME") && listed.contains("80, 443"), "{listed}");

    // A certificate comes, and gives way to another.
    for _ in 0..2 {
        let (certificate, secret) = certificate("site.example");
        machine.repository.push_file("secret.yaml", &secret);
        let said = until("TLS", || ask_securely("site.example", "/word", &certificate).ok());
        assert!(said.starts_with("HTTP/1.1 200") && said.ends_with("one\n"), "{said}");
    }
    let said = ask_securely("site.example", "/word", &certificate("site.example").0);
    assert!(said.is_err(), "nobody has shown this one: {said:?}");

    let metrics = machine.api.ask("GET", "/metrics", "").1;
    let counted = "nginx_ingress_controller_requests{controller_class=\"keel\",ingress=\"site\",method=\"GET\",\
                   namespace=\"default\",service=\"web\",status=\"200\"}";
    assert!(metrics.contains(counted), "{metrics}");
    assert!(metrics.contains("nginx_ingress_controller_ssl_expire_time_seconds{host=\"site.example\""));

    a_connection_changes_its_protocol(machine);
    a_rolling_update_loses_no_request(machine);
    a_new_agent_loses_no_request(machine);

    machine.ok(&["label", "node", "one", "edge-"]);
    until("closed ports", || ask("plain.example", "/word").is_err_and(refused).then_some(()));
    machine.api.until(INGRESSES, "no address", |ingresses| {
        ingresses.first()?["status"]["loadBalancer"]["ingress"].is_null().then_some(())
    });
}

/// By a server that takes whatever it is told for a request, and then says what it hears.
fn a_connection_changes_its_protocol(machine: &Machine) {
    let script = "while IFS= read -r line; do case \"$line\" in ?) break;; esac; done\n\
                  printf 'HTTP/1.1 101 Switching Protocols\\r\\nConnection: Upgrade\\r\\nUpgrade: websocket\\r\\n\\r\\n'\n\
                  exec cat\n";
    let mut chat = spec("exec busybox nc -ll -p 9000 -e /bin/sh /script/talk");
    chat["terminationGracePeriodSeconds"] = 0.into();
    chat["volumes"] = json!([{"name": "script", "configMap": {"name": "talk"}}]);
    chat["containers"][0]["volumeMounts"] = json!([{"name": "script", "mountPath": "/script"}]);
    let mut chat: Value = serde_json::from_str(&pod("chat", &chat)).unwrap();
    chat["metadata"]["labels"] = json!({"app": "chat"});
    machine.repository.write("talk.yaml", &config_map("talk", "talk", script));
    machine.repository.write("chat-service.yaml", &service("chat", 9000));
    machine.repository.push_file("chat.yaml", &chat.to_string());
    machine.until_running("chat");
    let mut stream = until("the change of protocols", || {
        let mut stream = TcpStream::connect(HTTP).unwrap();
        let head =
            "GET /chat HTTP/1.1\r\nHost: plain.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
        stream.write_all(head.as_bytes()).unwrap();
        let mut said = Vec::new();
        while !said.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            if stream.read(&mut byte).unwrap() == 0 {
                return None;
            }
            said.push(byte[0]);
            // The end of a body that is no change of protocols.
            if said.len() > 4096 {
                return None;
            }
        }
        said.starts_with(b"HTTP/1.1 101").then_some(stream)
    });
    for word in [&b"hello"[..], b"again"] {
        stream.write_all(word).unwrap();
        let mut heard = [0; 5];
        stream.read_exact(&mut heard).unwrap();
        assert_eq!(heard, word);
    }
}

/// What a client is told that asks all the time while `work` is done.
fn asked_while(work: impl FnOnce()) -> Vec<String> {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let client = scope.spawn(|| {
            let mut said = Vec::new();
            while !over.load(Ordering::Relaxed) {
                said.push(ask("plain.example", "/word").unwrap_or_else(|error| error.to_string()));
            }
            said
        });
        // Whatever fails here, the client ends.
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        over.store(true, Ordering::Relaxed);
        assert!(done.is_ok(), "it was not done");
        client.join().unwrap()
    })
}

/// How many of the answers are of each version, if all are good.
fn counted(said: &[String]) -> (usize, usize) {
    let count = |word: &str| {
        said.iter().filter(|text| text.starts_with("HTTP/1.1 200") && text.ends_with(word)).count()
    };
    let (old, new) = (count("one\n"), count("two\n"));
    let bad = said.iter().filter(|text| !(text.ends_with("one\n") || text.ends_with("two\n")));
    assert_eq!(old + new, said.len(), "{:?}", bad.collect::<Vec<_>>());
    (old, new)
}

fn a_rolling_update_loses_no_request(machine: &Machine) {
    let said = asked_while(|| {
        machine.repository.push_file("web.yaml", &deployment("web", 2, &server("two")));
        let new = |said: String| said.ends_with("two\n").then_some(());
        until("the new one's answer", || ask("plain.example", "/word").ok().and_then(new));
        machine.until_rolled_out("web", 2);
    });
    let (old, new) = counted(&said);
    assert!(old > 0 && new > 0, "{old} and {new}");
}

/// Connections wait until the next agent takes them.
fn a_new_agent_loses_no_request(machine: &mut Machine) {
    let said = asked_while(|| {
        machine.restart_agent();
        until("an answer", || ask("plain.example", "/word").ok());
    });
    assert!(counted(&said).1 > 0);
}
