//! Which backend a request is for, by host and path. Pure.
//!
//! Of the rules' hosts the most precise decides: the name itself, then a wildcard, then rules without a
//! host. Among its paths the longest counts, and of two that are alike the exact one. What none of
//! them wants goes to the default backend of an Ingress that has a rule for the host, then to that
//! of an Ingress without rules. Source: Kubernetes, "Ingress", "Path types" and "Hostname wildcards".

use super::backend::Backend;
use super::host::{HostRule, parent_of};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// An Ingress.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IngressName {
    /// Its namespace.
    pub namespace: String,
    /// Its name in it.
    pub name: String,
}

/// The path of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathRule {
    /// This path, and no other.
    Exact(String),
    /// All paths that begin with these elements.
    Prefix(String),
}

/// How requests are passed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteOptions {
    /// Requests without TLS are sent to where there is.
    pub redirect: bool,
    /// The backend speaks HTTP/2 without TLS, as gRPC servers do.
    pub http2: bool,
    /// For how long the backend may say nothing.
    pub read_timeout: Duration,
    /// The longest body of a request, in bytes.
    pub body_limit: Option<u64>,
}

/// Where requests go.
#[derive(Debug, Clone)]
pub struct Route {
    /// The Ingress that says so.
    pub ingress: Arc<IngressName>,
    /// Who answers.
    pub backend: Arc<Backend>,
    /// How.
    pub options: Arc<RouteOptions>,
}

/// The rules of one host.
#[derive(Debug, Default)]
struct Site {
    exact: HashMap<String, Route>,
    /// By what the paths begin with, without a slash at the end.
    prefixes: HashMap<String, Route>,
    default: Option<Route>,
}

/// All rules of all Ingresses.
#[derive(Debug, Default)]
pub struct Table {
    exact: HashMap<String, Site>,
    /// By what is after the `*.`.
    wildcards: HashMap<String, Site>,
    any: Option<Site>,
    default: Option<Route>,
}

/// Keeps the first of two routes: the one that was there, if it is not the new one.
fn first(place: &mut Option<Route>, route: Route) -> Option<Arc<IngressName>> {
    match place {
        Some(taken) => Some(Arc::clone(&taken.ingress)),
        None => {
            *place = Some(route);
            None
        }
    }
}

impl Table {
    fn site(&mut self, host: &HostRule) -> &mut Site {
        match host {
            HostRule::Any => self.any.get_or_insert_default(),
            HostRule::Exact(name) => self.exact.entry(name.clone()).or_default(),
            HostRule::Wildcard(parent) => self.wildcards.entry(parent.clone()).or_default(),
        }
    }

    /// Requests for `host` and `path` take `route`, unless an earlier one has both: then it is told
    /// whose that is.
    #[must_use]
    pub fn add(&mut self, host: &HostRule, path: &PathRule, route: Route) -> Option<Arc<IngressName>> {
        let site = self.site(host);
        let (routes, key) = match path {
            PathRule::Exact(path) => (&mut site.exact, path.clone()),
            PathRule::Prefix(path) => (&mut site.prefixes, stem(path).to_owned()),
        };
        if let Some(taken) = routes.get(&key) {
            return Some(Arc::clone(&taken.ingress));
        }
        routes.insert(key, route);
        None
    }

    /// What no path of `host` wants takes `route`, unless an earlier one does.
    #[must_use]
    pub fn add_default(&mut self, host: &HostRule, route: Route) -> Option<Arc<IngressName>> {
        first(&mut self.site(host).default, route)
    }

    /// What no rule wants takes `route`, unless an earlier one does.
    #[must_use]
    pub fn add_last(&mut self, route: Route) -> Option<Arc<IngressName>> {
        first(&mut self.default, route)
    }

    /// The route of a request for `path` of `host`, which is in small letters and has no port.
    #[must_use]
    pub fn find(&self, host: &str, path: &str) -> Option<&Route> {
        let exact = self.exact.get(host);
        let site = exact
            .or_else(|| parent_of(host).and_then(|parent| self.wildcards.get(parent)))
            .or(self.any.as_ref());
        site.and_then(|site| site.find(path)).or(self.default.as_ref())
    }
}

impl Site {
    fn find(&self, path: &str) -> Option<&Route> {
        // It is the whole path: none is longer.
        if let Some(route) = self.exact.get(path) {
            return Some(route);
        }
        let mut rest = path;
        loop {
            if let Some(route) = self.prefixes.get(rest) {
                return Some(route);
            }
            match rest.rfind('/') {
                Some(slash) => rest = rest.get(..slash)?,
                None => return self.default.as_ref(),
            }
        }
    }
}

/// Without a slash at the end: of `/` nothing is left.
fn stem(prefix: &str) -> &str {
    prefix.strip_suffix('/').unwrap_or(prefix)
}

#[cfg(test)]
mod tests;
