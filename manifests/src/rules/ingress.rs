//! Ingresses and their classes.

use super::probe;
use crate::ingress::{CLASS, IngressAnnotations, restriction, without_effect};
use crate::names;
use crate::path::Path;
use crate::report::Report;
use k8s_openapi::api::networking::v1::{HTTPIngressPath, Ingress, IngressBackend, IngressClass, IngressSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use std::net::IpAddr;

/// What the API server lets into no path. Source: Kubernetes, `validateHTTPIngressPath`.
const SEQUENCES: [&str; 5] = ["//", "/./", "/../", "%2f", "%2F"];
const SUFFIXES: [&str; 2] = ["/..", "/."];

pub(super) fn check(ingress: &Ingress, report: &mut Report<'_>) {
    let at = Path::ROOT.field("spec");
    match &ingress.spec {
        Some(spec) => {
            self::spec(spec, &at, report);
            annotations(ingress, spec, report);
        }
        None => report.error(&Path::ROOT, "missing-field", "field `spec` is missing"),
    }
}

fn annotations(ingress: &Ingress, spec: &IngressSpec, report: &mut Report<'_>) {
    let annotations = ingress.metadata.annotations.as_ref();
    let meta = Path::ROOT.field("metadata");
    let at = meta.field("annotations");
    let has_class = annotations.is_some_and(|all| all.contains_key(CLASS));
    if let Some(name) = spec.ingress_class_name.as_ref().filter(|_| has_class) {
        let help = Some(format!("leave the annotation out; `ingressClassName: {name}` says it"));
        report.error_with(&at.key(CLASS), "not-allowed", "the class is named twice", help);
    }
    // It may be right for the controller of another class.
    for mistake in IngressAnnotations::of(annotations).1 {
        let message = format!("{}; nodes serve the Ingress as if it was not said", mistake.message);
        report.warn(&at.key(&mistake.key), "bad-value", message);
    }
    let kept_out = restriction(annotations);
    for key in without_effect(annotations) {
        let help = Some("docs/usage/ingress.md lists those that have an effect".to_owned());
        let message = if kept_out == Some(key) {
            format!("`{key}` has no effect; it would keep somebody out, so nodes do not serve this Ingress")
        } else {
            format!("`{key}` has no effect")
        };
        report.warn_with(&at.key(key), "no-effect-yet", &message, help);
    }
}

fn spec(spec: &IngressSpec, at: &Path<'_>, report: &mut Report<'_>) {
    if spec.default_backend.is_none() && spec.rules.as_deref().unwrap_or_default().is_empty() {
        report.error(at, "missing-field", "an Ingress needs `defaultBackend` or `rules`");
    }
    if let Some(name) = &spec.ingress_class_name {
        report.name(&at.field("ingressClassName"), name, names::subdomain);
    }
    if let Some(service) = &spec.default_backend {
        backend(service, &at.field("defaultBackend"), report);
    }
    let list = at.field("tls");
    for (index, tls) in spec.tls.iter().flatten().enumerate() {
        let at = list.index(index);
        let hosts = at.field("hosts");
        for (index, name) in tls.hosts.iter().flatten().enumerate() {
            host(name, &hosts.index(index), report);
        }
        if let Some(name) = tls.secret_name.as_ref().filter(|name| !name.is_empty()) {
            report.name(&at.field("secretName"), name, names::subdomain);
        }
    }
    let list = at.field("rules");
    for (index, rule) in spec.rules.iter().flatten().enumerate() {
        let at = list.index(index);
        if let Some(name) = rule.host.as_deref().filter(|name| !name.is_empty()) {
            host(name, &at.field("host"), report);
        }
        let http = at.field("http");
        let paths = http.field("paths");
        if rule.http.as_ref().is_some_and(|http| http.paths.is_empty()) {
            report.error(&paths, "missing-field", "a rule needs a path");
        }
        for (index, one) in rule.http.iter().flat_map(|http| http.paths.iter().enumerate()) {
            let at = paths.index(index);
            path(one, &at, report);
            backend(&one.backend, &at.field("backend"), report);
        }
    }
}

fn path(path: &HTTPIngressPath, at: &Path<'_>, report: &mut Report<'_>) {
    let types = ["Exact", "Prefix", "ImplementationSpecific"];
    report.one_of(&at.field("pathType"), Some(&path.path_type), &types);
    let text = path.path.as_deref().unwrap_or_default();
    let strict = path.path_type != "ImplementationSpecific";
    let at = at.field("path");
    if (strict || !text.is_empty()) && !text.starts_with('/') {
        return report.error(&at, "bad-path", "the path must begin with `/`");
    }
    let within = SEQUENCES.into_iter().find(|word| text.contains(word));
    let wrong = within.or_else(|| SUFFIXES.into_iter().find(|word| text.ends_with(word)));
    if let Some(wrong) = wrong.filter(|_| strict) {
        report.error(&at, "bad-path", format!("a path must not have `{wrong}` in it"));
    }
}

fn host(name: &str, at: &Path<'_>, report: &mut Report<'_>) {
    if name.parse::<IpAddr>().is_ok() {
        return report.error(at, "bad-name", "must be a DNS name, not an IP address");
    }
    let plain = name.strip_prefix("*.").unwrap_or(name);
    report.name(at, plain, names::subdomain);
}

fn backend(backend: &IngressBackend, at: &Path<'_>, report: &mut Report<'_>) {
    match (&backend.service, &backend.resource) {
        (Some(service), None) => {
            let at = at.field("service");
            report.name(&at.field("name"), &service.name, names::label_1035);
            let port = at.field("port");
            match service.port.as_ref().map(|p| (p.name.as_deref().unwrap_or_default(), p.number)) {
                Some((name, None)) if !name.is_empty() => {
                    probe::port(&IntOrString::String(name.to_owned()), &port.field("name"), report);
                }
                Some(("", Some(number))) => report.between(&port.field("number"), Some(number), 1, 65_535),
                Some((_, Some(_))) => {
                    report.error(&port, "not-allowed", "a port has a name or a number, not both");
                }
                _ => report.error(&at, "missing-field", "field `port.name` or `port.number` is missing"),
            }
        }
        (None, Some(_)) => {}
        (None, None) => report.error(at, "missing-field", "field `service` or `resource` is missing"),
        (Some(_), Some(_)) => {
            report.error(at, "not-allowed", "a backend is a service or a resource, not both");
        }
    }
}

pub(super) fn class(class: &IngressClass, report: &mut Report<'_>) {
    let at = Path::ROOT.field("spec");
    let controller = class.spec.as_ref().and_then(|spec| spec.controller.as_deref()).unwrap_or_default();
    let named = controller.split_once('/').is_some_and(|(domain, path)| {
        names::subdomain(domain).is_ok() && !path.is_empty() && controller.len() <= 250
    });
    if !named {
        let help = Some("nodes serve the classes of `evenkeel.dev/ingress`".to_owned());
        let message = "the controller must be a domain with a path, as `evenkeel.dev/ingress`";
        report.error_with(&at.field("controller"), "bad-value", message, help);
    }
}
