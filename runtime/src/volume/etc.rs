//! The pod's own `/etc/hosts`, `/etc/hostname` and `/etc/resolv.conf`.

use super::VolumeError;
use crate::plan::PodInput;
use k8s_openapi::api::core::v1::PodDNSConfig;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

/// File name in the pod's folder.
pub(crate) const HOSTS: &str = "hosts";
/// File name in the pod's folder.
pub(crate) const HOSTNAME: &str = "hostname";
/// File name in the pod's folder.
pub(crate) const RESOLV_CONF: &str = "resolv.conf";

/// Writes the three files into the pod's folder. The addresses are known only
/// when the pod is joined to its network: to be called then, before it starts.
/// Files that containers have mounted already are changed in place.
///
/// # Errors
/// If one cannot be written.
pub fn write(input: &PodInput<'_>, addresses: &[String]) -> Result<(), VolumeError> {
    let folder = input.pod_dir();
    fs::create_dir_all(&folder).map_err(|source| VolumeError::io("create", &folder, source))?;
    let host_network = input.spec().and_then(|spec| spec.host_network) == Some(true);
    let host_hosts = if host_network { fs::read_to_string("/etc/hosts").ok() } else { None };
    let dns = input.spec().and_then(|spec| spec.dns_config.as_ref());
    let own = input.spec().and_then(|spec| spec.dns_policy.as_deref()) == Some("None");
    let host = if own { String::new() } else { host_resolv_conf(host_network) };
    put(&folder.join(HOSTS), &hosts(input, addresses, host_hosts.as_deref()))?;
    put(&folder.join(HOSTNAME), &format!("{}\n", input.hostname()))?;
    put(&folder.join(RESOLV_CONF), &resolv_conf(&host, dns))
}

fn put(path: &Path, text: &str) -> Result<(), VolumeError> {
    fs::write(path, text).map_err(|source| VolumeError::io("write", path, source))
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

fn hosts(input: &PodInput<'_>, addresses: &[String], host: Option<&str>) -> String {
    let mut out = match host {
        Some(host) => format!("# Managed by keel (host network).\n{host}"),
        None => "# Managed by keel.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n\
                 fe00::\tip6-localnet\nfe00::\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n"
            .to_owned(),
    };
    let name = input.hostname();
    let spec = input.spec();
    let full = input.domain().map(|domain| format!("{name}.{domain}\t")).unwrap_or_default();
    for address in addresses.iter().filter(|_| host.is_none()) {
        let _infallible = writeln!(out, "{address}\t{full}{name}");
    }
    let aliases = spec.and_then(|spec| spec.host_aliases.as_deref()).unwrap_or_default();
    if !aliases.is_empty() {
        out.push_str("\n# Entries added by HostAliases.\n");
    }
    for alias in aliases {
        let names = alias.hostnames.clone().unwrap_or_default().join("\t");
        let _infallible = writeln!(out, "{}\t{names}", alias.ip);
    }
    out
}

/// `host` with what the pod's `dnsConfig` adds: name servers and searches are
/// appended once each, options replaced by name.
fn resolv_conf(host: &str, config: Option<&PodDNSConfig>) -> String {
    let (mut servers, mut searches, mut options) = (Vec::new(), Vec::new(), Vec::new());
    for line in host.lines() {
        let mut words = line.split_whitespace().map(str::to_owned);
        match words.next().as_deref() {
            Some("nameserver") => servers.extend(words.next()),
            Some("search" | "domain") => searches = words.collect(),
            Some("options") => options = words.collect(),
            _ => {}
        }
    }
    if let Some(config) = config {
        append_new(&mut servers, config.nameservers.iter().flatten());
        append_new(&mut searches, config.searches.iter().flatten());
        for option in config.options.iter().flatten() {
            let Some(name) = &option.name else { continue };
            options.retain(|known| known.split(':').next() != Some(name.as_str()));
            options
                .push(option.value.as_ref().map_or_else(|| name.clone(), |value| format!("{name}:{value}")));
        }
    }
    let mut out = String::new();
    for server in servers {
        let _infallible = writeln!(out, "nameserver {server}");
    }
    for (word, list) in [("search", searches), ("options", options)] {
        if !list.is_empty() {
            let _infallible = writeln!(out, "{word} {}", list.join(" "));
        }
    }
    out
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
    use super::resolv_conf;
    use k8s_openapi::api::core::v1::{PodDNSConfig, PodDNSConfigOption};

    #[test]
    fn dns_config_is_merged_into_the_hosts() {
        let option = |name: &str, value: Option<&str>| PodDNSConfigOption {
            name: Some(name.into()),
            value: value.map(Into::into),
        };
        let config = PodDNSConfig {
            nameservers: Some(vec!["1.1.1.1".into(), "9.9.9.9".into()]),
            searches: Some(vec!["pods.example".into()]),
            options: Some(vec![option("ndots", Some("2")), option("edns0", None)]),
        };
        let host = "# comment\nnameserver 1.1.1.1\nsearch example.org\noptions ndots:5 rotate\n";
        let wanted = "nameserver 1.1.1.1\nnameserver 9.9.9.9\nsearch example.org pods.example\n\
                      options rotate ndots:2 edns0\n";
        assert_eq!(resolv_conf(host, Some(&config)), wanted);
        assert_eq!(resolv_conf("", None), "");
    }
}
