//! The pod's own `/etc/hosts`, `/etc/hostname` and `/etc/resolv.conf`.

use super::VolumeError;
use super::resolver::resolver;
use crate::plan::PodInput;
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
    put(&folder.join(HOSTS), &hosts(input, addresses, host_hosts.as_deref()))?;
    put(&folder.join(HOSTNAME), &format!("{}\n", input.hostname()))?;
    put(&folder.join(RESOLV_CONF), &resolver(input).to_string())
}

fn put(path: &Path, text: &str) -> Result<(), VolumeError> {
    fs::write(path, text).map_err(|source| VolumeError::io("write", path, source))
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
