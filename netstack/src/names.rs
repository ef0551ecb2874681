//! Names and hardware addresses of links: all that is derived, nothing that is kept.

use crate::subnet::Subnet;
use std::net::{IpAddr, Ipv4Addr};

/// The longest name that a link can have, in bytes.
const LONGEST: usize = 15;
/// First bytes of the hardware address of a pod's own interface and of a bridge:
/// locally administered, as container networks commonly do it.
const POD_SIDE: [u8; 2] = [0x0a, 0x58];
/// The same for the end of a pod's link that stays on the host.
const HOST_SIDE: [u8; 2] = [0x0a, 0x59];
/// The same for the ends of tunnels.
const TUNNEL_SIDE: [u8; 2] = [0x0a, 0x5a];

/// What is wrong with the name of a bridge, as the end of a sentence.
pub(crate) fn check_bridge(name: &str) -> Result<(), &'static str> {
    if name.is_empty() || name.len() > LONGEST {
        return Err("must have 1 to 15 bytes");
    }
    if name == "."
        || name == ".."
        || !name.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'/' | b':' | b'%'))
    {
        return Err("must be of printable ASCII without blank, /, : and %");
    }
    Ok(())
}

/// The host's end of the link of pod `uid` on `bridge`: always 15 bytes, `kl` and a
/// 52 bit hash, so that the pods of several agents do not meet.
pub(crate) fn link_of(bridge: &str, uid: &str) -> String {
    format!("kl{:013x}", hash(bridge, uid) >> 12)
}

/// In the alias of a bridge that was made here, if no other trait of it tells.
pub(crate) const MADE_HERE: &str = "keel";

/// The device that leads to other nodes' pods: called after the bridge, as far as there is room.
pub(crate) fn tunnel_of(bridge: &str) -> String {
    device_of(bridge, "vx")
}

/// The same where what goes through it is secret.
pub(crate) fn secret_tunnel_of(bridge: &str) -> String {
    device_of(bridge, "wg")
}

fn device_of(bridge: &str, kind: &str) -> String {
    let name = format!("{bridge}-{kind}");
    if name.len() <= LONGEST { name } else { format!("{kind}{:013x}", hash(bridge, "tunnel") >> 12) }
}

/// Hardware address of the tunnel's end on the node that has this network for its pods.
pub(crate) fn tunnel_mac_of(subnet: Subnet) -> [u8; 6] {
    match subnet.address() {
        IpAddr::V4(address) => join(TUNNEL_SIDE, address),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = digest(&address.octets()).to_be_bytes();
            join(TUNNEL_SIDE, Ipv4Addr::from([a, b, c, d]))
        }
    }
}

/// What the programs are called that a bridge's links ask.
pub(crate) fn program_of(bridge: &str) -> String {
    format!("keel_{:010x}", hash(bridge, "programs") >> 24)
}

/// The priority of filters of links that ask for a bridge: late, so that others are asked first.
pub(crate) fn priority_of(bridge: &str) -> u16 {
    let [a, b, ..] = hash(bridge, "programs").to_be_bytes();
    u16::from_be_bytes([a, b]) | 0x8000
}

/// The group that links of `bridge` are put into when they are about to be removed.
pub(crate) fn group_of(bridge: &str) -> u32 {
    let [a, b, c, d, ..] = hash(bridge, "").to_be_bytes();
    // Group 0 is where all other links are.
    u32::from_be_bytes([a, b, c, d | 1])
}

/// Whether `name` could be one of [`link_of`].
pub(crate) fn is_link(name: &str) -> bool {
    let digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    name.len() == LONGEST && name.strip_prefix("kl").is_some_and(|rest| rest.bytes().all(digit))
}

/// Hardware address of the interface in the pod, or of the bridge, that has `address`.
pub(crate) fn mac_of(address: Ipv4Addr) -> [u8; 6] {
    join(POD_SIDE, address)
}

/// Hardware address of the host's end of the link of the pod that has `address`.
pub(crate) fn host_mac_of(address: Ipv4Addr) -> [u8; 6] {
    join(HOST_SIDE, address)
}

/// The inverse of [`host_mac_of`].
pub(crate) fn address_of(mac: &[u8]) -> Option<Ipv4Addr> {
    let octets: [u8; 4] = mac.strip_prefix(&HOST_SIDE)?.try_into().ok()?;
    Some(octets.into())
}

fn join([a, b]: [u8; 2], address: Ipv4Addr) -> [u8; 6] {
    let [c, d, e, f] = address.octets();
    [a, b, c, d, e, f]
}

/// FNV-1a, finished by a multiplication that spreads the last bytes to the top.
/// Links outlive the program, so this must never change; the standard library's
/// hashes may.
fn hash(bridge: &str, uid: &str) -> u64 {
    spread(bridge.bytes().chain([0]).chain(uid.bytes()))
}

/// A number that tells some bytes from others.
pub(crate) fn digest(bytes: &[u8]) -> u64 {
    spread(bytes.iter().copied())
}

fn spread(bytes: impl Iterator<Item = u8>) -> u64 {
    let sum =
        bytes.fold(0xcbf2_9ce4_8422_2325_u64, |sum, b| (sum ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    (sum ^ (sum >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_of_links_never_change() {
        assert_eq!(link_of("keel0", "5a0c0ffe-0000-4000-8000-000000000001"), "kl6cefc76c9b0ad");
    }

    #[test]
    fn names_fit_the_kernel_and_do_not_meet() {
        let names: BTreeSet<_> = ["keel0", "keel1"]
            .iter()
            .flat_map(|bridge| (0..20_000).map(|uid| link_of(bridge, &uid.to_string())))
            .collect();
        assert_eq!(names.len(), 40_000);
        assert!(names.iter().all(|name| is_link(name)));
        assert!(!is_link("klever0") && !is_link("kl0123456789abX") && !is_link("eth0"));
    }

    #[test]
    fn a_tunnel_is_called_after_its_bridge() {
        assert_eq!(tunnel_of("keel0"), "keel0-vx");
        let long = tunnel_of("keel-demo-1234");
        assert_eq!((long.len(), &long[..2]), (15, "vx"));
    }

    #[test]
    fn the_hosts_end_tells_the_pods_address() {
        let address = Ipv4Addr::new(10, 88, 3, 250);
        assert_eq!(address_of(&host_mac_of(address)), Some(address));
        assert_eq!(address_of(&mac_of(address)), None);
        assert_eq!(address_of(&[]), None);
    }

    #[test]
    fn a_bridge_needs_a_name_that_the_kernel_takes() {
        assert!(check_bridge("keel-demo_1.x").is_ok());
        for bad in ["", "..", "a/b", "a b", "sixteen-bytes-ab", "käse", "e%d"] {
            assert!(check_bridge(bad).is_err(), "{bad}");
        }
    }
}
