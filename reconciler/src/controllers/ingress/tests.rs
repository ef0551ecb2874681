//! Who serves what, and where it is written.

use super::{ANNOTATION, Announcement, all, reconcile};
use crate::store::Write;
use crate::testing::{Bench, key, object};
use manifests::k8s_openapi::api::networking::v1::{Ingress, IngressClass};
use manifests::{Kind, Object};
use serde_json::{Value, json};

fn door(class: &str, default: bool) -> Announcement {
    Announcement { class_name: class.into(), default, addresses: Vec::new() }
}

fn node(name: &str, says: &Announcement, ready: &str, ip: &str) -> Object {
    object(
        Kind::Node,
        name,
        json!({
            "metadata": {"name": name, "annotations": {ANNOTATION: says.text()}},
            "status": {
                "addresses": [{"type": "InternalIP", "address": ip}, {"type": "Hostname", "address": name}],
                "conditions": [{"type": "Ready", "status": ready}],
            },
        }),
    )
}

fn ingress(name: &str, class: Option<&str>) -> Object {
    let backend = json!({"service": {"name": "web", "port": {"number": 80}}});
    object(Kind::Ingress, name, json!({"spec": {"ingressClassName": class, "defaultBackend": backend}}))
}

fn class(name: &str, controller: &str, default: bool) -> IngressClass {
    let annotations = json!({super::DEFAULT: default.to_string()});
    serde_json::from_value(
        json!({"metadata": {"name": name, "annotations": annotations}, "spec": {"controller": controller}}),
    )
    .unwrap()
}

fn addresses(bench: &Bench, name: &str) -> Vec<String> {
    let object = bench.get(&key(Kind::Ingress, name)).unwrap();
    let Object::Ingress(ingress) = &*object else { panic!("{object:?}") };
    let status = ingress.status.clone().unwrap_or_default().load_balancer.unwrap_or_default();
    let all = status.ingress.unwrap_or_default();
    all.into_iter().filter_map(|one| one.ip.or(one.hostname)).collect()
}

#[test]
fn an_ingress_has_the_addresses_of_the_nodes_that_serve_it() {
    let bench = Bench::new();
    for node in [
        node("a", &door("keel", true), "True", "192.0.2.2"),
        node("b", &door("keel", true), "True", "192.0.2.1"),
        node("c", &door("keel", true), "Unknown", "192.0.2.3"),
        node("d", &door("other", false), "True", "192.0.2.4"),
    ] {
        bench.create(node);
    }
    for (name, class) in
        [("plain", None), ("ours", Some("keel")), ("other", Some("other")), ("nobody", Some("x"))]
    {
        bench.create(ingress(name, class));
    }
    bench.settle(reconcile, &all());
    for (name, wanted) in [
        ("plain", vec!["192.0.2.1", "192.0.2.2"]),
        ("ours", vec!["192.0.2.1", "192.0.2.2"]),
        ("other", vec!["192.0.2.4"]),
        ("nobody", vec![]),
    ] {
        assert_eq!(addresses(&bench, name), wanted, "{name}");
    }
    let gone = |name: &str| {
        let (key, uid) = (crate::testing::key(Kind::Node, name), None);
        bench.write(vec![Write::Delete { key, uid, grace_seconds: None }]);
        bench.settle(reconcile, &all());
    };
    gone("b");
    assert_eq!(addresses(&bench, "ours"), ["192.0.2.2"]);
    gone("a");
    assert!(addresses(&bench, "ours").is_empty());
}

#[test]
fn what_is_published_stands_for_the_nodes() {
    let bench = Bench::new();
    let addresses_of = vec!["lb.example.com".to_owned(), "203.0.113.1".to_owned()];
    let says = Announcement { addresses: addresses_of, ..door("keel", true) };
    bench.create(node("a", &says, "True", "192.0.2.2"));
    bench.create(ingress("web", None));
    bench.settle(reconcile, &all());
    assert_eq!(addresses(&bench, "web"), ["203.0.113.1", "lb.example.com"]);
}

#[test]
fn classes_say_whose_an_ingress_is() {
    let one = |class: Option<&str>, annotation: Option<&str>| -> Ingress {
        let annotations: Value = annotation.map_or(json!({}), |name| json!({super::CLASS: name}));
        serde_json::from_value(
            json!({"metadata": {"annotations": annotations}, "spec": {"ingressClassName": class}}),
        )
        .unwrap()
    };
    let (ours, theirs) =
        (class("keel", super::CONTROLLER, false), class("keel", "k8s.io/ingress-nginx", false));
    let (default, foreign) =
        (class("keel", super::CONTROLLER, true), class("nginx", "k8s.io/ingress-nginx", true));
    let (generous, strict) = (door("keel", true), door("keel", false));
    assert!(generous.serves(&one(None, None), &[]) && !strict.serves(&one(None, None), &[]));
    assert!(generous.serves(&one(None, None), &[&ours]), "it is not the default, but nobody is");
    assert!(strict.serves(&one(None, None), &[&default]));
    assert!(!generous.serves(&one(None, None), &[&foreign]));
    assert!(
        strict.serves(&one(Some("keel"), None), &[]) && strict.serves(&one(None, Some("keel")), &[&ours])
    );
    assert!(!strict.serves(&one(Some("keel"), None), &[&theirs]));
    assert!(!generous.serves(&one(Some("nginx"), None), &[]));
}
