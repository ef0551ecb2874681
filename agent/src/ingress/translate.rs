//! Ingresses with what they name → routes, certificates, and what is wrong. Pure.

#[cfg(test)]
mod tests;

use crate::catalog::Catalog;
use crate::services::endpoints;
use k8s_openapi::api::core::v1::{Secret, Service, ServicePort};
use k8s_openapi::api::networking::v1::{HTTPIngressPath, Ingress, IngressBackend, IngressTLS};
use manifests::ingress::{IngressAnnotations, restriction};
use manifests::{Object, ObjectKey};
use netstack::ServiceName;
use netstack::ingress::{
    Backend, Certificate, Certificates, HostRule, IngressName, PathRule, Route, RouteOptions, Table, usable,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Namespace and name.
pub(super) type SecretName = (String, String);

/// What routes are made from.
pub(super) struct Objects<'a> {
    /// Those that are served.
    pub(super) ingresses: Vec<Arc<Object>>,
    pub(super) catalog: &'a Catalog,
    pub(super) secret: &'a dyn Fn(&SecretName) -> Option<Arc<Object>>,
    /// Whose certificate is shown to who asks for none that is known.
    pub(super) default: Option<&'a SecretName>,
}

/// Something that keeps an Ingress from being served as it says.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Problem {
    pub(super) about: ObjectKey,
    pub(super) reason: &'static str,
    pub(super) message: String,
}

/// A certificate that is shown for a host.
#[derive(Debug)]
pub(crate) struct ShownCertificate {
    pub(crate) host: String,
    pub(crate) secret: SecretName,
    pub(crate) certificate: Certificate,
}

/// What is to be in force.
#[derive(Debug, Default)]
pub(super) struct Translation {
    pub(super) table: Table,
    pub(super) certificates: Certificates,
    pub(super) shown: Vec<ShownCertificate>,
    pub(super) problems: Vec<Problem>,
    /// All that were asked for.
    pub(super) secrets: BTreeSet<SecretName>,
}

/// A port of a service, as an Ingress names it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum PortName {
    Number(i32),
    Name(String),
}

/// What one translation leaves to the next.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// The backends of all routes, so that turns go on.
    backends: BTreeMap<ServiceName, BTreeMap<PortName, Arc<Backend>>>,
    /// What was read of Secrets, by their versions.
    certificates: BTreeMap<SecretName, (String, Certificate)>,
}

impl Memory {
    /// Whether a route names `service`, which need not be there.
    pub(super) fn leads_to(&self, service: &ServiceName) -> bool {
        self.backends.contains_key(service)
    }

    /// The backends of `service` have its endpoints of now.
    pub(super) fn refresh(&self, service: &ServiceName, catalog: &Catalog) {
        for (port, backend) in self.backends.get(service).into_iter().flatten() {
            let known = catalog.get(service);
            let found = known.and_then(|(service, slices)| Some((find_port(service, port)?, slices)));
            let endpoints = found.map(|(port, slices)| {
                slices.into_iter().flat_map(|slice| endpoints(slice, port)).collect::<Vec<_>>()
            });
            backend.set(usable(&endpoints.unwrap_or_default()));
        }
    }

    fn backend(&mut self, service: ServiceName, port: PortName, catalog: &Catalog) -> Arc<Backend> {
        let ports = self.backends.entry(service.clone()).or_default();
        if let Some(backend) = ports.get(&port) {
            return Arc::clone(backend);
        }
        let backend = Arc::new(Backend::new(service.name.clone()));
        ports.insert(port, Arc::clone(&backend));
        self.refresh(&service, catalog);
        backend
    }

    /// What `translation` has no use for is forgotten.
    fn sweep(&mut self, translation: &Translation) {
        self.backends.retain(|_, ports| {
            // Those of the table before this one go with the next.
            ports.retain(|_, backend| Arc::strong_count(backend) > 1);
            !ports.is_empty()
        });
        self.certificates.retain(|name, _| translation.secrets.contains(name));
    }
}

fn find_port<'a>(service: &'a Service, wanted: &PortName) -> Option<&'a ServicePort> {
    let mut ports = service.spec.as_ref()?.ports.iter().flatten();
    ports.find(|port| match wanted {
        PortName::Number(number) => port.port == *number,
        PortName::Name(name) => port.name.as_ref() == Some(name),
    })
}

/// All that `objects` say. Of what two Ingresses want the older has it.
pub(super) fn translate(objects: &Objects<'_>, memory: &mut Memory) -> Translation {
    let mut work = Work { objects, memory, done: Translation::default() };
    let mut ingresses: Vec<_> = objects
        .ingresses
        .iter()
        .filter_map(|object| Some((object.key(), <&Ingress>::try_from(&**object).ok()?)))
        .collect();
    ingresses.sort_by_key(|(key, ingress)| {
        (ingress.metadata.creation_timestamp.as_ref().map(|time| time.0), key.clone())
    });
    for (key, ingress) in ingresses {
        work.ingress(&key, ingress);
    }
    if let Some(default) = objects.default
        && let Ok(certificate) = work.certificate(default)
    {
        work.show(HostRule::Any, default, certificate);
    }
    let done = work.done;
    memory.sweep(&done);
    done
}

struct Work<'a> {
    objects: &'a Objects<'a>,
    memory: &'a mut Memory,
    done: Translation,
}

/// What is the same for all routes of an Ingress.
struct Whole<'a> {
    key: &'a ObjectKey,
    name: Arc<IngressName>,
    said: IngressAnnotations,
    /// The hosts that have a certificate.
    secure: Vec<HostRule>,
}

impl Whole<'_> {
    fn options(&self, host: &HostRule) -> RouteOptions {
        let secure = self.secure.iter().any(|rule| rule.covers(host));
        RouteOptions {
            redirect: self.said.force_ssl_redirect || (self.said.ssl_redirect && secure),
            http2: self.said.grpc,
            read_timeout: self.said.read_timeout,
            body_limit: self.said.body_limit,
        }
    }
}

impl Work<'_> {
    fn warn(&mut self, about: &ObjectKey, reason: &'static str, message: String) {
        self.done.problems.push(Problem { about: about.clone(), reason, message });
    }

    fn ingress(&mut self, key: &ObjectKey, ingress: &Ingress) {
        let Some(spec) = &ingress.spec else { return };
        let annotations = ingress.metadata.annotations.as_ref();
        if let Some(restriction) = restriction(annotations) {
            let message =
                format!("it is not served: `{restriction}`, which would keep somebody out, has no effect");
            return self.warn(key, "NotServed", message);
        }
        let (said, mistakes) = IngressAnnotations::of(annotations);
        for mistake in mistakes {
            self.warn(key, "BadAnnotation", format!("{}: {}", mistake.key, mistake.message));
        }
        let rules = spec.rules.as_deref().unwrap_or_default();
        let hosts: Vec<_> =
            rules.iter().map(|rule| HostRule::parse(rule.host.as_deref().unwrap_or_default())).collect();
        let mut secure = Vec::new();
        for tls in spec.tls.iter().flatten() {
            secure.extend(self.tls(key, tls, &hosts));
        }
        let name = Arc::new(IngressName { namespace: key.namespace.clone(), name: key.name.clone() });
        let whole = Whole { key, name, said, secure };
        for (rule, host) in rules.iter().zip(&hosts) {
            for path in rule.http.iter().flat_map(|http| &http.paths) {
                self.path(&whole, host, path);
            }
        }
        let Some(default) = &spec.default_backend else { return };
        if rules.is_empty() {
            // A certificate for nobody in particular is one for everybody.
            let host = HostRule::Any;
            if let Some(route) = self.route(&whole, &host, default) {
                let taken = self.done.table.add_last(route);
                self.taken(&whole, taken, "requests that no rule wants");
            }
        }
        for host in hosts {
            if let Some(route) = self.route(&whole, &host, default) {
                let taken = self.done.table.add_default(&host, route);
                let what = format!("requests for {} that no path wants", words(&host));
                self.taken(&whole, taken.filter(|name| **name != *whole.name), &what);
            }
        }
    }

    fn path(&mut self, whole: &Whole<'_>, host: &HostRule, path: &HTTPIngressPath) {
        let text = path.path.clone().filter(|text| !text.is_empty()).unwrap_or_else(|| "/".into());
        let what = format!("{}{text}", words(host));
        // `ImplementationSpecific` is for the implementation to say.
        let rule = if path.path_type == "Exact" { PathRule::Exact(text) } else { PathRule::Prefix(text) };
        if let Some(route) = self.route(whole, host, &path.backend) {
            let taken = self.done.table.add(host, &rule, route);
            self.taken(whole, taken, &what);
        }
    }

    fn taken(&mut self, whole: &Whole<'_>, by: Option<Arc<IngressName>>, what: &str) {
        if let Some(by) = by {
            let message = format!("{what}: Ingress {}/{} has it, which is older", by.namespace, by.name);
            self.warn(whole.key, "PathTaken", message);
        }
    }

    fn route(&mut self, whole: &Whole<'_>, host: &HostRule, backend: &IngressBackend) -> Option<Route> {
        let Some(service) = &backend.service else {
            self.warn(whole.key, "NotServed", "a backend is a resource; only services are led to".to_owned());
            return None;
        };
        let port = service.port.as_ref();
        let port = match port.and_then(|port| port.number) {
            Some(number) => PortName::Number(number),
            None => PortName::Name(port.and_then(|port| port.name.clone())?),
        };
        let name = ServiceName { namespace: whole.key.namespace.clone(), name: service.name.clone() };
        if let Some((reason, message)) = self.wrong(&name, &port) {
            self.warn(whole.key, reason, message);
        }
        Some(Route {
            ingress: Arc::clone(&whole.name),
            backend: self.memory.backend(name, port, self.objects.catalog),
            options: Arc::new(whole.options(host)),
        })
    }

    /// Why nobody will answer.
    fn wrong(&self, name: &ServiceName, port: &PortName) -> Option<(&'static str, String)> {
        let Some((service, _)) = self.objects.catalog.get(name) else {
            return Some(("MissingService", format!("there is no Service {}", name.name)));
        };
        if service.spec.as_ref().and_then(|spec| spec.type_.as_deref()) == Some("ExternalName") {
            let message = format!("Service {} is of type ExternalName, which has no endpoints", name.name);
            return Some(("MissingService", message));
        }
        let known = find_port(service, port);
        if known.is_some_and(|port| port.protocol.as_deref().unwrap_or("TCP") != "TCP") {
            return Some(("MissingPort", format!("the port of Service {} is not one of TCP", name.name)));
        }
        let asked = match port {
            PortName::Number(number) => number.to_string(),
            PortName::Name(name) => format!("`{name}`"),
        };
        known.is_none().then(|| ("MissingPort", format!("Service {} has no port {asked}", name.name)))
    }

    /// The hosts that `tls` is about, also while its certificate is missing: what is to be kept from
    /// others' eyes is not said without.
    fn tls(&mut self, key: &ObjectKey, tls: &IngressTLS, hosts: &[HostRule]) -> Vec<HostRule> {
        let named = tls.hosts.as_deref().unwrap_or_default();
        let mut covered: Vec<_> = named.iter().map(|host| HostRule::parse(host)).collect();
        if covered.is_empty() {
            covered.extend(hosts.iter().cloned());
        }
        match tls.secret_name.as_ref().filter(|name| !name.is_empty()) {
            Some(name) => {
                let secret = (key.namespace.clone(), name.clone());
                match self.certificate(&secret) {
                    Ok(certificate) => {
                        for host in &covered {
                            self.show(host.clone(), &secret, certificate.clone());
                        }
                    }
                    Err((reason, message)) => self.warn(key, reason, message),
                }
            }
            None if self.objects.default.is_none() => {
                let message = "`tls` names no Secret, and the node has no `ingress.defaultCertificate`";
                self.warn(key, "MissingSecret", message.to_owned());
            }
            None => {}
        }
        covered
    }

    fn show(&mut self, host: HostRule, secret: &SecretName, certificate: Certificate) {
        let words = words(&host);
        if self.done.certificates.add(host, certificate.clone()) {
            self.done.shown.push(ShownCertificate { host: words, secret: secret.clone(), certificate });
        }
    }

    fn certificate(&mut self, name: &SecretName) -> Result<Certificate, (&'static str, String)> {
        self.done.secrets.insert(name.clone());
        let object = (self.objects.secret)(name);
        let secret = object.as_deref().and_then(|object| <&Secret>::try_from(object).ok());
        let Some(secret) = secret else {
            return Err(("MissingSecret", format!("there is no Secret {}", name.1)));
        };
        let version = secret.metadata.resource_version.clone().unwrap_or_default();
        if let Some((known, certificate)) = self.memory.certificates.get(name)
            && *known == version
        {
            return Ok(certificate.clone());
        }
        let of =
            |key: &str| secret.data.as_ref().and_then(|data| data.get(key)).map(|bytes| bytes.0.as_slice());
        let (Some(certificate), Some(key)) = (of("tls.crt"), of("tls.key")) else {
            return Err(("BadSecret", format!("Secret {} has no `tls.crt` or no `tls.key`", name.1)));
        };
        let read = Certificate::parse(certificate, key);
        let read = read.map_err(|error| format!("Secret {}: {}", name.1, crate::chain::chain(&error)));
        let certificate = read.map_err(|message| ("BadSecret", message))?;
        self.memory.certificates.insert(name.clone(), (version, certificate.clone()));
        Ok(certificate)
    }
}

/// A host as users write it.
fn words(host: &HostRule) -> String {
    match host {
        HostRule::Any => "*".to_owned(),
        HostRule::Exact(name) => name.clone(),
        HostRule::Wildcard(parent) => format!("*.{parent}"),
    }
}
