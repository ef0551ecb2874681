//! Kernel variables of the network namespace of the calling thread.

use std::fs;
use std::io;

const IPV4_FORWARDING: &str = "/proc/sys/net/ipv4/ip_forward";

/// IPv4 packets are forwarded between links. Returns whether they were not before.
///
/// # Errors
/// As `open(2)` and `write(2)`, such as `EROFS` inside a container.
pub(crate) fn ensure_ipv4_forwarding() -> io::Result<bool> {
    if fs::read_to_string(IPV4_FORWARDING)?.trim() != "0" {
        return Ok(false);
    }
    fs::write(IPV4_FORWARDING, "1")?;
    Ok(true)
}

/// IPv6 packets are forwarded between links, and links but `bridge`, where there are pods, go on
/// learning routes from routers if they did. Returns whether they were not forwarded before.
///
/// # Errors
/// As `open(2)` and `write(2)`; `ENOENT` where there is no IPv6.
pub(crate) fn ensure_ipv6_forwarding(bridge: &str) -> io::Result<bool> {
    const INTERFACES: &str = "/proc/sys/net/ipv6/conf";
    let forwarding = format!("{INTERFACES}/all/forwarding");
    if fs::read_to_string(&forwarding)?.trim() != "0" {
        return Ok(false);
    }
    for interface in fs::read_dir(INTERFACES)? {
        // 1: unless packets are forwarded; 2: then, too.
        let folder = interface?.path();
        let accept = folder.join("accept_ra");
        let name = folder.file_name().unwrap_or_default();
        if ["all", "default", bridge].iter().all(|other| name != *other)
            && fs::read_to_string(&accept).is_ok_and(|text| text.trim() == "1")
        {
            // An interface may go while we look.
            let _gone = fs::write(accept, "2");
        }
    }
    fs::write(forwarding, "1")?;
    Ok(true)
}

/// Whether netfilter can see what goes from port to port of a bridge.
pub(crate) fn can_see_bridged() -> bool {
    std::path::Path::new("/proc/sys/net/bridge/bridge-nf-call-iptables").exists()
}

/// Netfilter sees nothing of bridges of this network namespace but of those that ask for it: the module that
/// can do that begins with all.
///
/// # Errors
/// As `open(2)` and `write(2)`.
pub(crate) fn hide_bridged() -> io::Result<()> {
    let switches = ["iptables", "ip6tables", "arptables"];
    switches.iter().try_for_each(|kind| fs::write(format!("/proc/sys/net/bridge/bridge-nf-call-{kind}"), "0"))
}

/// Whether packets from and for the loopback's addresses may pass this interface.
///
/// # Errors
/// As `open(2)` and `write(2)`.
pub(crate) fn route_loopback(interface: &str, allowed: bool) -> io::Result<()> {
    let word = if allowed { "1" } else { "0" };
    fs::write(format!("/proc/sys/net/ipv4/conf/{interface}/route_localnet"), word)
}
