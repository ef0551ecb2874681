//! Requests from outside, served by the node.

use super::IpNetwork;
use crate::duration;
use crate::names;
use crate::path::Path;
use crate::report::Report;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

/// `shutdownGracePeriod`, if it is not said.
const GRACE: Duration = Duration::from_secs(10);

/// The node serves Ingresses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct IngressConfiguration {
    /// Labels that the Node object has to have; without any, the node serves in any case.
    pub node_selector: BTreeMap<String, String>,
    /// The address to listen on; all of the node's if empty.
    pub address: String,
    /// The port of HTTP; 0 for none.
    pub http_port: u16,
    /// The port of HTTPS; 0 for none.
    pub https_port: u16,
    /// Ingresses of this class are served. If there is an IngressClass of this name, its controller
    /// has to be `evenkeel.dev/ingress`.
    pub class_name: String,
    /// Ingresses without a class are served, unless an IngressClass is the default.
    pub default: bool,
    /// `NAMESPACE/NAME` of the Secret whose certificate is shown to who asks for a name without one;
    /// such handshakes are refused if empty.
    pub default_certificate: String,
    /// Addresses or names that Ingresses have in their status instead of the node's, as those of a
    /// load balancer before it.
    pub publish_addresses: Vec<String>,
    /// Networks of proxies whose `X-Forwarded-…` are true.
    pub trusted_proxies: Vec<String>,
    /// For how long requests under way may go on when the agent ends.
    pub shutdown_grace_period: String,
}

impl Default for IngressConfiguration {
    fn default() -> Self {
        Self {
            node_selector: BTreeMap::new(),
            address: String::new(),
            http_port: 80,
            https_port: 443,
            class_name: "keel".into(),
            default: true,
            default_certificate: String::new(),
            publish_addresses: Vec::new(),
            trusted_proxies: Vec::new(),
            shutdown_grace_period: "10s".into(),
        }
    }
}

impl IngressConfiguration {
    /// `address`.
    #[must_use]
    pub fn listen_address(&self) -> Option<IpAddr> {
        self.address.parse().ok()
    }

    /// `defaultCertificate`: namespace and name.
    #[must_use]
    pub fn default_secret(&self) -> Option<(&str, &str)> {
        self.default_certificate.split_once('/')
    }

    /// `trustedProxies`.
    #[must_use]
    pub fn trusted(&self) -> Vec<IpNetwork> {
        self.trusted_proxies.iter().filter_map(|text| network(text)).collect()
    }

    /// `shutdownGracePeriod`.
    #[must_use]
    pub fn grace(&self) -> Duration {
        duration::parse(&self.shutdown_grace_period).unwrap_or(GRACE)
    }
}

/// A network, or the one of a single address.
fn network(text: &str) -> Option<IpNetwork> {
    let alone = |address: IpAddr| IpNetwork { address, prefix: if address.is_ipv4() { 32 } else { 128 } };
    IpNetwork::parse(text).or_else(|| text.parse().ok().map(alone))
}

pub(super) fn check(ingress: &IngressConfiguration, at: &Path<'_>, report: &mut Report<'_>) {
    let labels = at.field("nodeSelector");
    for (key, value) in &ingress.node_selector {
        report.key(&labels.key(key), names::qualified);
        if let Err((rule, help)) = names::label_value(value) {
            report.error_with(&labels.key(key), "bad-name", format!("`{key}` {rule}"), help);
        }
    }
    if !ingress.address.is_empty() && ingress.listen_address().is_none() {
        let help = Some("write it as `192.0.2.7`; leave it empty for all addresses".to_owned());
        let message = format!("`{}` is no address", ingress.address);
        report.error_with(&at.field("address"), "bad-address", message, help);
    }
    match (ingress.http_port, ingress.https_port) {
        (0, 0) => report.error(
            at,
            "bad-value",
            "without a port for HTTP or HTTPS nothing is served; leave `ingress` out",
        ),
        (http, https) if http == https => {
            report.error(&at.field("httpsPort"), "bad-value", "HTTP and HTTPS need a port each");
        }
        _ => {}
    }
    report.name(&at.field("className"), &ingress.class_name, names::subdomain);
    if !ingress.default_certificate.is_empty() {
        let named = ingress.default_secret();
        let named =
            named.filter(|(space, name)| names::label(space).is_ok() && names::subdomain(name).is_ok());
        if named.is_none() {
            let help = Some("write it as NAMESPACE/NAME, `default/fallback-tls`".to_owned());
            let message = format!("`{}` names no Secret", ingress.default_certificate);
            report.error_with(&at.field("defaultCertificate"), "bad-name", message, help);
        }
    }
    let published = at.field("publishAddresses");
    for (index, text) in ingress.publish_addresses.iter().enumerate() {
        if text.parse::<IpAddr>().is_err() {
            report.name(&published.index(index), text, names::subdomain);
        }
    }
    let trusted = at.field("trustedProxies");
    for (index, text) in ingress.trusted_proxies.iter().enumerate() {
        if network(text).is_none() {
            let help = Some("write it as `10.0.0.0/8` or `192.0.2.7`".to_owned());
            report.error_with(&trusted.index(index), "bad-address", format!("`{text}` is no network"), help);
        }
    }
    if duration::parse(&ingress.shutdown_grace_period).is_none() {
        let help = Some("write it as `10s`, `1m`".to_owned());
        let message = format!("`{}` is no duration", ingress.shutdown_grace_period);
        report.error_with(&at.field("shutdownGracePeriod"), "bad-duration", message, help);
    }
}
