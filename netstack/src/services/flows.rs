//! Flows that lead to endpoints that are gone.

use super::model::{Family, Target, Transport};
use super::table::Frontend;
use crate::sys::conntrack;
use crate::sys::nfnetlink::Socket;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::io;
use std::net::IpAddr;

/// UDP flows from those frontends to those targets are forgotten: the protocol itself would not tell
/// their clients. Returns how many there were.
///
/// # Errors
/// The kernel's.
pub(super) fn forget(
    socket: &mut Socket,
    families: &[Family],
    forsaken: &BTreeSet<(Frontend, Target)>,
) -> io::Result<usize> {
    let mut count = 0;
    for family in families.iter().copied() {
        let of_family = |(frontend, _): &&(Frontend, Target)| Family::of(frontend.address) == family;
        let mut wanted: HashMap<(IpAddr, u16), HashSet<(IpAddr, u16)>> = HashMap::new();
        for (frontend, target) in forsaken.iter().filter(of_family) {
            let frontend = (frontend.address, frontend.port);
            wanted.entry((target.address, target.port)).or_default().insert(frontend);
        }
        if wanted.is_empty() {
            continue;
        }
        let is_wanted = |flow: &conntrack::Flow| {
            wanted.get(&flow.answerer).is_some_and(|frontends| {
                let (_, port) = flow.destination;
                frontends.contains(&flow.destination) || frontends.contains(&(family.any(), port))
            })
        };
        let udp = Transport::Udp.number();
        for flow in conntrack::list(socket, family.number(), udp, is_wanted)? {
            conntrack::forget(socket, &flow)?;
            count += 1;
        }
    }
    Ok(count)
}
