//! What Ingresses come to, and what is said of those that are not as they should be.

use super::*;
use manifests::Kind;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::Instant;

fn object(kind: Kind, name: &str, mut value: Value) -> Arc<Object> {
    value["apiVersion"] = kind.api_version().into();
    value["kind"] = kind.as_str().into();
    value["metadata"]["name"] = name.into();
    value["metadata"]["namespace"] = "shop".into();
    Arc::new(Object::from_json(kind, value).unwrap())
}

fn service(name: &str, ports: Value) -> Arc<Object> {
    object(Kind::Service, name, json!({"spec": {"clusterIP": "10.96.0.9", "ports": ports}}))
}

fn slice(service: &str, address: &str, conditions: Value) -> Arc<Object> {
    object(
        Kind::EndpointSlice,
        &format!("{service}-{address}"),
        json!({
            "metadata": {"labels": {"kubernetes.io/service-name": service}},
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
            "endpoints": [{"addresses": [address], "conditions": conditions}],
        }),
    )
}

fn to(service: &str, port: Value) -> Value {
    json!({"service": {"name": service, "port": port}})
}

fn rule(host: &str, path: &str, backend: &Value) -> Value {
    json!({"host": host, "http": {"paths": [{"path": path, "pathType": "Prefix", "backend": backend}]}})
}

/// A catalog with the service `web`, port 80, called `http`, with one endpoint.
fn catalog() -> Catalog {
    let mut catalog = Catalog::default();
    catalog.put(&service("web", json!([{"name": "http", "port": 80, "protocol": "TCP"}])), true);
    catalog.put(&slice("web", "10.0.0.1", json!({"ready": true})), true);
    catalog
}

fn translated(ingresses: Vec<Arc<Object>>, secrets: &[Arc<Object>], memory: &mut Memory) -> Translation {
    let find = |(namespace, name): &SecretName| {
        secrets.iter().find(|one| one.namespace() == namespace && one.name() == name).cloned()
    };
    let catalog = catalog();
    let objects = Objects { ingresses, catalog: &catalog, secret: &find, default: None };
    translate(&objects, memory)
}

fn reasons(translation: &Translation) -> Vec<(&str, &str)> {
    translation.problems.iter().map(|one| (one.about.name.as_str(), one.reason)).collect()
}

#[allow(clippy::disallowed_methods, reason = "a moment to count from")]
fn turn(backend: &Backend) -> Vec<SocketAddr> {
    backend.turn(Instant::now())
}

fn pair(names: &[&str]) -> (Vec<u8>, Vec<u8>) {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    (made.cert.pem().into_bytes(), made.signing_key.serialize_pem().into_bytes())
}

fn secret(name: &str, (certificate, key): &(Vec<u8>, Vec<u8>)) -> Arc<Object> {
    use base64::Engine as _;
    let text = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
    let data = json!({"tls.crt": text(certificate), "tls.key": text(key)});
    object(Kind::Secret, name, json!({"type": "kubernetes.io/tls", "data": data}))
}

#[test]
fn ports_are_named_by_number_or_name_and_lead_to_endpoints() {
    let spec = json!({"rules": [
        rule("a.example", "/", &to("web", json!({"number": 80}))),
        rule("b.example", "/", &to("web", json!({"name": "http"}))),
    ]});
    let mut memory = Memory::default();
    let done = translated(vec![object(Kind::Ingress, "in", json!({"spec": spec}))], &[], &mut memory);
    assert_eq!(reasons(&done), []);
    for host in ["a.example", "b.example"] {
        let route = done.table.find(host, "/x").unwrap();
        assert_eq!(turn(&route.backend), ["10.0.0.1:8080".parse().unwrap()]);
        assert!(!route.options.redirect);
    }
    // The same backend, also when the table is made anew; its endpoints change under way.
    let route = done.table.find("a.example", "/").unwrap().clone();
    let mut catalog = catalog();
    catalog.put(&slice("web", "10.0.0.1", json!({"ready": false})), true);
    catalog.put(&slice("web", "10.0.0.2", json!({"ready": true})), true);
    memory.refresh(&ServiceName { namespace: "shop".into(), name: "web".into() }, &catalog);
    assert_eq!(turn(&route.backend), ["10.0.0.2:8080".parse().unwrap()]);
    drop((done, route));
    let done = translated(vec![], &[], &mut memory);
    assert!(done.table.find("a.example", "/").is_none() && memory.backends.is_empty(), "{memory:?}");
}

#[test]
fn what_is_missing_is_said_and_the_rest_is_served() {
    let spec = json!({
        "defaultBackend": to("gone", json!({"number": 80})),
        "rules": [
            rule("a.example", "/", &to("web", json!({"number": 81}))),
            rule("b.example", "/", &to("web", json!({"number": 80}))),
        ],
        "tls": [{"hosts": ["a.example"], "secretName": "gone"}, {"hosts": ["b.example"]}],
    });
    let done =
        translated(vec![object(Kind::Ingress, "in", json!({"spec": spec}))], &[], &mut Memory::default());
    let mut found = reasons(&done);
    found.dedup();
    assert_eq!(
        found,
        [("in", "MissingSecret"), ("in", "MissingPort"), ("in", "MissingService")],
        "{:?}",
        done.problems
    );
    assert!(turn(&done.table.find("a.example", "/").unwrap().backend).is_empty());
    assert_eq!(turn(&done.table.find("b.example", "/").unwrap().backend).len(), 1);
    // What should be secret is not said without TLS.
    assert!(done.table.find("a.example", "/").unwrap().options.redirect);
    assert!(done.secrets.contains(&("shop".to_owned(), "gone".to_owned())));
}

#[test]
fn certificates_are_shown_by_name_and_bad_ones_are_told() {
    let (good, other) = (pair(&["a.example"]), pair(&["b.example"]));
    let mixed = (good.0.clone(), other.1.clone());
    let secrets = [secret("good", &good), secret("mixed", &mixed), secret("empty", &(vec![], vec![]))];
    let backend = to("web", json!({"number": 80}));
    let ingress = |name: &str, host: &str, secret: &str| {
        let tls = json!([{"hosts": [host], "secretName": secret}]);
        object(Kind::Ingress, name, json!({"spec": {"rules": [rule(host, "/", &backend)], "tls": tls}}))
    };
    let ingresses = vec![
        ingress("one", "*.a.example", "good"),
        ingress("two", "b.example", "mixed"),
        ingress("three", "c.example", "empty"),
    ];
    let done = translated(ingresses, &secrets, &mut Memory::default());
    assert_eq!(reasons(&done), [("three", "BadSecret"), ("two", "BadSecret")], "{:?}", done.problems);
    assert!(done.problems.iter().any(|one| one.message.contains("not the key")), "{:?}", done.problems);
    let shown = |name| done.certificates.find(name).map(Certificate::der).is_some();
    assert!(shown(Some("X.a.example")) && !shown(Some("b.example")) && !shown(None));
    assert_eq!(done.shown.len(), 1);
    let route = done.table.find("x.a.example", "/").unwrap();
    assert!(route.options.redirect);
}

#[test]
fn annotations_say_how_and_the_older_of_two_is_served() {
    let backend = to("web", json!({"number": 80}));
    let ingress = |name: &str, age: &str, annotations: Value| {
        let meta = json!({"annotations": annotations, "creationTimestamp": age});
        object(
            Kind::Ingress,
            name,
            json!({"metadata": meta, "spec": {"rules": [rule("a.example", "/", &backend)]}}),
        )
    };
    let name = |word: &str| format!("nginx.ingress.kubernetes.io/{word}");
    let ingresses = vec![
        ingress("b", "2026-01-02T00:00:00Z", json!({name("force-ssl-redirect"): "true"})),
        ingress("a", "2026-01-03T00:00:00Z", json!({name("backend-protocol"): "AJP"})),
        ingress("c", "2026-01-01T00:00:00Z", json!({name("auth-type"): "basic"})),
    ];
    let done = translated(ingresses, &[], &mut Memory::default());
    assert_eq!(
        reasons(&done),
        [("c", "NotServed"), ("a", "BadAnnotation"), ("a", "PathTaken")],
        "{:?}",
        done.problems
    );
    let route = done.table.find("a.example", "/").unwrap();
    assert!(route.ingress.name == "b" && route.options.redirect);
}

#[test]
fn a_default_backend_is_of_the_hosts_of_its_rules_or_of_all_without() {
    let backend = to("web", json!({"number": 80}));
    let with = json!({"spec": {"defaultBackend": backend, "rules": [rule("a.example", "/a", &backend)]}});
    let alone = json!({"spec": {"defaultBackend": backend}});
    let find = |ingresses, host: &str| {
        let done = translated(ingresses, &[], &mut Memory::default());
        done.table.find(host, "/z").map(|route| route.ingress.name.clone())
    };
    let with = object(Kind::Ingress, "with", with);
    assert_eq!(find(vec![Arc::clone(&with)], "a.example").as_deref(), Some("with"));
    assert_eq!(find(vec![Arc::clone(&with)], "b.example"), None);
    let alone = object(Kind::Ingress, "alone", alone);
    assert_eq!(find(vec![with, alone], "b.example").as_deref(), Some("alone"));
}
