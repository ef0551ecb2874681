//! What a pod asks for names, as the kubelet writes it into `/etc/resolv.conf`.

use crate::plan::{ClusterDns, PodInput};
use k8s_openapi::api::core::v1::PodDNSConfig;
use std::fmt;
use std::fs;

/// Name servers that the C library looks at. Source: resolv.conf(5), and the kubelet.
const MOST_SERVERS: usize = 3;
/// Domains to search, and their bytes in all. Source: the kubelet.
const MOST_SEARCHES: usize = 32;
const MOST_SEARCH_BYTES: usize = 2048;
/// Names with fewer dots are searched for first: `_service._tcp.name.namespace.svc` is, too.
const CLUSTER_OPTIONS: &str = "ndots:5";

/// The lines of a `resolv.conf`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Resolver {
    servers: Vec<String>,
    searches: Vec<String>,
    options: Vec<String>,
}

/// As the pod's `dnsPolicy` and `dnsConfig` say.
pub(super) fn resolver(input: &PodInput<'_>) -> Resolver {
    let spec = input.spec();
    let host_network = spec.and_then(|spec| spec.host_network) == Some(true);
    let asks_cluster = match spec.and_then(|spec| spec.dns_policy.as_deref()).unwrap_or("ClusterFirst") {
        "None" => return Resolver::default().with(spec.and_then(|spec| spec.dns_config.as_ref())),
        "Default" => false,
        "ClusterFirstWithHostNet" => true,
        _ => !host_network,
    };
    let host = Resolver::read(&host_resolv_conf(host_network));
    let known = input.node.dns.as_ref().filter(|dns| asks_cluster && !dns.servers.is_empty());
    let resolver = match known {
        Some(dns) => host.behind(dns, input.namespace()),
        None => host,
    };
    resolver.with(spec.and_then(|spec| spec.dns_config.as_ref()))
}

/// The host's resolvers as a pod can use them: behind systemd-resolved's stub,
/// which listens on the host's loopback only, the ones that it asks itself.
fn host_resolv_conf(host_network: bool) -> String {
    let own = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    if host_network || !own.contains("nameserver 127.0.0.53") {
        return own;
    }
    fs::read_to_string("/run/systemd/resolve/resolv.conf").unwrap_or(own)
}

impl Resolver {
    fn read(text: &str) -> Self {
        let mut read = Self::default();
        for line in text.lines() {
            let mut words = line.split_whitespace().map(str::to_owned);
            match words.next().as_deref() {
                Some("nameserver") => read.servers.extend(words.next()),
                Some("search" | "domain") => read.searches = words.collect(),
                Some("options") => read.options = words.collect(),
                _ => {}
            }
        }
        read
    }

    /// The cluster's names are looked for first, in the pod's namespace first of all; of the host only
    /// the domains to search are left.
    fn behind(self, dns: &ClusterDns, namespace: &str) -> Self {
        let domain = &dns.domain;
        let mut searches = vec![format!("{namespace}.svc.{domain}"), format!("svc.{domain}"), domain.clone()];
        append_new(&mut searches, self.searches.iter().filter(|search| *search != "."));
        Self { servers: dns.servers.clone(), searches, options: vec![CLUSTER_OPTIONS.to_owned()] }
    }

    /// With what the pod's `dnsConfig` adds: name servers and searches are appended once each,
    /// options replaced by name.
    fn with(mut self, config: Option<&PodDNSConfig>) -> Self {
        let Some(config) = config else { return self };
        append_new(&mut self.servers, config.nameservers.iter().flatten());
        append_new(&mut self.searches, config.searches.iter().flatten());
        for option in config.options.iter().flatten() {
            let Some(name) = &option.name else { continue };
            self.options.retain(|known| known.split(':').next() != Some(name.as_str()));
            let whole = option.value.as_ref().map_or_else(|| name.clone(), |value| format!("{name}:{value}"));
            self.options.push(whole);
        }
        self
    }
}

impl fmt::Display for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for server in self.servers.iter().take(MOST_SERVERS) {
            writeln!(f, "nameserver {server}")?;
        }
        let mut bytes = 0;
        let fits = |search: &&String| {
            bytes += search.len() + 1;
            bytes <= MOST_SEARCH_BYTES
        };
        let searches: Vec<&str> =
            self.searches.iter().take(MOST_SEARCHES).take_while(fits).map(String::as_str).collect();
        if !searches.is_empty() {
            writeln!(f, "search {}", searches.join(" "))?;
        }
        if !self.options.is_empty() {
            writeln!(f, "options {}", self.options.join(" "))?;
        }
        Ok(())
    }
}

fn append_new<'a>(list: &mut Vec<String>, more: impl Iterator<Item = &'a String>) {
    for one in more {
        if !list.contains(one) {
            list.push(one.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::PodDNSConfigOption;

    const HOST: &str = "# comment\nnameserver 1.1.1.1\nsearch example.org\noptions ndots:2 rotate\n";

    fn config() -> PodDNSConfig {
        let option = |name: &str, value: Option<&str>| PodDNSConfigOption {
            name: Some(name.into()),
            value: value.map(Into::into),
        };
        PodDNSConfig {
            nameservers: Some(vec!["1.1.1.1".into(), "9.9.9.9".into()]),
            searches: Some(vec!["pods.example".into()]),
            options: Some(vec![option("ndots", Some("3")), option("edns0", None)]),
        }
    }

    #[test]
    fn dns_config_is_merged_into_the_hosts() {
        let wanted = "nameserver 1.1.1.1\nnameserver 9.9.9.9\nsearch example.org pods.example\n\
                      options rotate ndots:3 edns0\n";
        assert_eq!(Resolver::read(HOST).with(Some(&config())).to_string(), wanted);
        assert_eq!(Resolver::read("").with(None).to_string(), "");
    }

    #[test]
    fn the_cluster_is_asked_first_and_the_hosts_domains_are_searched_last() {
        let dns = ClusterDns { servers: vec!["10.88.0.1".into()], domain: "k8s.corp".into() };
        let resolver = Resolver::read(HOST).behind(&dns, "shop");
        let wanted = "nameserver 10.88.0.1\n\
                      search shop.svc.k8s.corp svc.k8s.corp k8s.corp example.org\noptions ndots:5\n";
        assert_eq!(resolver.to_string(), wanted);
        let wanted = "nameserver 10.88.0.1\nnameserver 1.1.1.1\nnameserver 9.9.9.9\n\
                      search shop.svc.k8s.corp svc.k8s.corp k8s.corp example.org pods.example\n\
                      options ndots:3 edns0\n";
        assert_eq!(resolver.with(Some(&config())).to_string(), wanted);
    }

    #[test]
    fn no_more_is_written_than_is_read() {
        let servers = (1..9).map(|n| format!("192.0.2.{n}")).collect();
        let searches = (0..40).map(|n| format!("d{n}.example")).collect();
        let text = Resolver { servers, searches, options: Vec::new() }.to_string();
        assert_eq!(text.lines().filter(|line| line.starts_with("nameserver")).count(), 3);
        assert_eq!(text.lines().last().map(|line| line.split(' ').count()), Some(33));
        let long = Resolver { searches: vec!["x".repeat(250); 40], ..Resolver::default() }.to_string();
        assert_eq!(long.len(), "search".len() + 8 * 251 + 1);
    }
}
