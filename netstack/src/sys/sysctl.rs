//! Kernel variables of the network namespace of the calling thread. Each function fails as `open(2)`, `read(2)`
//! and `write(2)` do: with `EROFS` inside a container, with `ENOENT` where there is no such family or link.

use std::fs;
use std::io;

const IPV4_FORWARDING: &str = "/proc/sys/net/ipv4/ip_forward";
const IPV6_FORWARDING: &str = "/proc/sys/net/ipv6/conf/all/forwarding";
const LIBERAL: &str = "/proc/sys/net/netfilter/nf_conntrack_tcp_be_liberal";
const IPV6_LINKS: &str = "/proc/sys/net/ipv6/conf";

/// Whether IPv4 packets are forwarded between links.
pub(crate) fn forwards_ipv4() -> io::Result<bool> {
    is_on(IPV4_FORWARDING)
}

/// The same of IPv6 packets.
pub(crate) fn forwards_ipv6() -> io::Result<bool> {
    is_on(IPV6_FORWARDING)
}

/// From here on IPv4 packets are forwarded, or not.
pub(crate) fn forward_ipv4(on: bool) -> io::Result<()> {
    fs::write(IPV4_FORWARDING, if on { "1" } else { "0" })
}

/// The same of IPv6 packets.
pub(crate) fn forward_ipv6(on: bool) -> io::Result<()> {
    fs::write(IPV6_FORWARDING, if on { "1" } else { "0" })
}

fn is_on(variable: &str) -> io::Result<bool> {
    Ok(fs::read_to_string(variable)?.trim() != "0")
}

/// The links that learn IPv6 routes from routers unless packets are forwarded.
pub(crate) fn learning_links() -> io::Result<Vec<String>> {
    let mut links = Vec::new();
    for folder in fs::read_dir(IPV6_LINKS)? {
        let folder = folder?;
        // 1: unless packets are forwarded; 2: then, too.
        let learns = fs::read_to_string(folder.path().join("accept_ra")).is_ok_and(|text| text.trim() == "1");
        let name = folder.file_name().into_string();
        links.extend(name.ok().filter(|name| learns && !["all", "default"].contains(&&**name)));
    }
    Ok(links)
}

/// The link learns IPv6 routes from routers also while packets are forwarded, or only while they are not.
pub(crate) fn learn_always(link: &str, always: bool) -> io::Result<()> {
    fs::write(format!("{IPV6_LINKS}/{link}/accept_ra"), if always { "2" } else { "1" })
}

/// Whether connection tracking takes packets of a connection that are not where it expects the next ones.
pub(crate) fn tracks_liberally() -> io::Result<bool> {
    is_on(LIBERAL)
}

/// From here on it does, or does not.
pub(crate) fn track_liberally(on: bool) -> io::Result<()> {
    fs::write(LIBERAL, if on { "1" } else { "0" })
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
