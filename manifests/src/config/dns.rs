//! The names of the cluster, and those of everybody else.

use crate::duration;
use crate::names;
use crate::path::Path;
use crate::report::Report;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// The usual port of name servers.
const PORT: u16 = 53;
/// `serveStale`, if it is not said.
const SERVE_STALE: Duration = Duration::from_secs(24 * 3600);

/// The node's own name server, which pods ask. What it says is called as in CoreDNS and kube-dns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct DnsConfiguration {
    /// Without it, pods ask the host's name servers, and services have no names.
    pub enabled: bool,
    /// The domain of all names of the cluster, the same on every node.
    pub cluster_domain: String,
    /// Who is asked for names of others, `ADDRESS` or `ADDRESS:PORT`; those of the host's
    /// `/etc/resolv.conf`, as they change, if empty.
    pub upstream_nameservers: Vec<String>,
    /// Who is asked instead for names in a domain: `{corp.example: [10.1.2.3]}`.
    pub stub_domains: BTreeMap<String, Vec<String>>,
    /// Names that are known here, before all others.
    pub hosts: Vec<DnsHost>,
    /// The search path of pods is followed here, so that they ask once instead of once for each of
    /// its domains.
    pub autopath: bool,
    /// Answers of others that are kept.
    pub cache_size: u32,
    /// For how long answers are given after their time while nobody answers, as `24h`; `0s` for never.
    pub serve_stale: String,
}

/// An address and what it is called, as a line of `/etc/hosts`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DnsHost {
    /// Of IPv4 or IPv6.
    pub ip: String,
    /// At least one; the first is what the address is called.
    pub hostnames: Vec<String>,
}

impl Default for DnsConfiguration {
    fn default() -> Self {
        Self {
            enabled: true,
            cluster_domain: "cluster.local".into(),
            upstream_nameservers: Vec::new(),
            stub_domains: BTreeMap::new(),
            hosts: Vec::new(),
            autopath: true,
            cache_size: 10_000,
            serve_stale: "24h".into(),
        }
    }
}

impl DnsConfiguration {
    /// `upstreamNameservers`.
    #[must_use]
    pub fn upstreams(&self) -> Vec<SocketAddr> {
        servers(&self.upstream_nameservers)
    }

    /// `stubDomains`.
    #[must_use]
    pub fn stubs(&self) -> Vec<(String, Vec<SocketAddr>)> {
        self.stub_domains.iter().map(|(domain, list)| (domain.clone(), servers(list))).collect()
    }

    /// `hosts`.
    #[must_use]
    pub fn host_names(&self) -> Vec<(IpAddr, Vec<String>)> {
        self.hosts.iter().filter_map(|host| Some((host.ip.parse().ok()?, host.hostnames.clone()))).collect()
    }

    /// `serveStale`.
    #[must_use]
    pub fn stale_time(&self) -> Duration {
        duration::parse(&self.serve_stale).unwrap_or(SERVE_STALE)
    }
}

fn servers(list: &[String]) -> Vec<SocketAddr> {
    list.iter().filter_map(|text| server(text)).collect()
}

fn server(text: &str) -> Option<SocketAddr> {
    let plain = text.parse::<IpAddr>().map(|address| SocketAddr::new(address, PORT));
    plain.or_else(|_| text.parse()).ok()
}

pub(super) fn check(dns: &DnsConfiguration, at: &Path<'_>, report: &mut Report<'_>) {
    report.name(&at.field("clusterDomain"), &dns.cluster_domain, names::subdomain);
    check_servers(&dns.upstream_nameservers, &at.field("upstreamNameservers"), report);
    let stubs = at.field("stubDomains");
    for (domain, list) in &dns.stub_domains {
        let at = stubs.key(domain);
        if let Err((rule, help)) = names::subdomain(domain) {
            report.error_with(&at, "bad-name", format!("`{domain}` {rule}"), help);
        }
        if list.is_empty() {
            report.error(&at, "bad-value", "nobody is named who knows this domain");
        }
        check_servers(list, &at, report);
    }
    let hosts = at.field("hosts");
    for (index, host) in dns.hosts.iter().enumerate() {
        let at = hosts.index(index);
        if host.ip.parse::<IpAddr>().is_err() {
            report.error(&at.field("ip"), "bad-address", format!("`{}` is no address", host.ip));
        }
        let list = at.field("hostnames");
        if host.hostnames.is_empty() {
            report.error(&list, "bad-value", "an address without a name is not asked for");
        }
        for (index, name) in host.hostnames.iter().enumerate() {
            report.name(&list.index(index), name, |text| names::subdomain(&text.to_ascii_lowercase()));
        }
    }
    report.between(&at.field("cacheSize"), Some(dns.cache_size), 0, 1_000_000);
    if duration::parse(&dns.serve_stale).is_none() {
        let help = Some("write it as `24h`, `30m`; `0s` for never".to_owned());
        let message = format!("`{}` is no duration", dns.serve_stale);
        report.error_with(&at.field("serveStale"), "bad-duration", message, help);
    }
}

fn check_servers(list: &[String], at: &Path<'_>, report: &mut Report<'_>) {
    for (index, text) in list.iter().enumerate() {
        if server(text).is_none() {
            let help = Some("write it as `10.1.2.3`, `10.1.2.3:5353` or `[fd00::53]:53`".to_owned());
            let message = format!("`{text}` is no address of a name server");
            report.error_with(&at.index(index), "bad-address", message, help);
        }
    }
}
