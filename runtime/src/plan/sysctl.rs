//! Kernel parameters: only those that a pod has for itself.

use super::build::PodInput;
use super::error::Cause;
use std::collections::HashMap;

/// What the network and the IPC namespace have each for itself. Source: `sysctl(8)` of runc and
/// Kubernetes' "namespaced sysctls".
const OF_IPC: [&str; 4] = ["kernel.shm", "kernel.msg", "kernel.sem", "fs.mqueue."];
const OF_NETWORK: &str = "net.";

/// What cannot harm other pods, nor the node. Source: Kubernetes, "Safe and Unsafe Sysctls".
const SAFE: [&str; 12] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
];

/// The kernel parameters of the pod by name, with dots.
///
/// # Errors
/// If one would change the host, is not allowed here, or is no name of a parameter.
pub(super) fn of_pod(input: &PodInput<'_>) -> Result<HashMap<String, String>, Cause> {
    let spec = input.spec();
    let context = spec.and_then(|spec| spec.security_context.as_ref());
    let all = context.and_then(|context| context.sysctls.as_deref()).unwrap_or_default();
    let own_network = spec.and_then(|spec| spec.host_network) != Some(true);
    let own_ipc = spec.and_then(|spec| spec.host_ipc) != Some(true);
    let allowed = &input.node.rules.allowed_unsafe_sysctls;
    let one = |sysctl: &k8s_openapi::api::core::v1::Sysctl| {
        // A name may be written with slashes throughout, for parts that have dots in them.
        let name = &sysctl.name;
        let dotted = name.replace('/', ".");
        let of_network = own_network && dotted.starts_with(OF_NETWORK);
        let of_ipc = own_ipc && OF_IPC.iter().any(|prefix| dotted.starts_with(prefix));
        if !is_name(name) || !(of_network || of_ipc) {
            let feature = format!("the kernel parameter \"{name}\", which is the host's,");
            return Err(Cause::Unsupported { feature });
        }
        if !SAFE.contains(&dotted.as_str()) && !allowed.iter().any(|pattern| fits(pattern, &dotted)) {
            return Err(Cause::ForbiddenSysctl { name: name.clone() });
        }
        Ok((name.clone(), sysctl.value.clone()))
    };
    all.iter().map(one).collect()
}

/// `pattern` is a name, or the beginning of one and `*`.
fn fits(pattern: &str, name: &str) -> bool {
    let pattern = pattern.replace('/', ".");
    pattern.strip_suffix('*').map_or(pattern == name, |beginning| name.starts_with(beginning))
}

/// No part is empty, or leads up.
fn is_name(name: &str) -> bool {
    name.split(['.', '/']).all(|part| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
    })
}
