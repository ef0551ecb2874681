//! What netfilter marks: packets of connections that it knows in both directions, and whose addresses it leaves alone.

use crate::chain::Chain;
use crate::sys::nft::{Expression as Do, Hook, Meta, Register, interface};

/// Bit of a packet's mark: the next packets like this one may take its way without being asked for.
/// Neither kube-proxy nor Calico, Cilium or Tailscale take it by themselves.
pub(super) const MARK: u32 = 0x0200_0000;
/// Of what is passed on, and after everything else that may not let it. What the node itself sends comes from no link
/// that could take a fast path.
const LAST: Hook = Hook { kind: "filter", hook: 2, priority: 300 };
const AT: Register = Register(0);
const TCP: u8 = 6;
/// What connection tracking says of a packet that both ends have talked before.
const ESTABLISHED: u32 = 1 << 1;
/// What it says of a connection whose packets it changes (source, destination, numbers), or listens to.
const HANDLED: u32 = 1 << 4 | 1 << 5 | 1 << 6 | 1 << 13;

/// The chain that marks what comes from pods of that bridge, or goes to them.
pub(super) fn chain(bridge: &str) -> Chain {
    let rules = [Meta::OutputName, Meta::InputName].map(|side| mark(bridge, side));
    Chain { name: "forward", hook: LAST, rules: rules.into() }
}

fn mark(bridge: &str, side: Meta) -> Vec<Do> {
    let none = || vec![0; 4];
    vec![
        Do::Meta(AT, side),
        Do::Compare(AT, true, interface(bridge)),
        Do::Meta(AT, Meta::Protocol),
        Do::Compare(AT, true, vec![TCP]),
        Do::State(AT),
        Do::Bits(AT, ESTABLISHED.to_ne_bytes().into(), none()),
        Do::Compare(AT, false, none()),
        Do::Status(AT),
        Do::Bits(AT, HANDLED.to_ne_bytes().into(), none()),
        Do::Compare(AT, true, none()),
        Do::Meta(AT, Meta::Mark),
        Do::Bits(AT, (!MARK).to_ne_bytes().into(), MARK.to_ne_bytes().into()),
        Do::SetMeta(Meta::Mark, AT),
    ]
}
