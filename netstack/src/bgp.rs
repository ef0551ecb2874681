//! Routers are told which addresses are behind this node: BGP, of which only the telling half is here.
//!
//! `message` is bytes (on `netgauze-bgp-pkt`), `updates` says what differs between what a router was told
//! and what it is to know, `session` is the state machine of RFC 4271: events and the time in, actions
//! out. All of these are pure. `speaker` has a task for each router, `connection` makes what it needs.
//! Whatever routers tell is read and forgotten: the node's routes are those of others.

mod connection;
mod message;
mod session;
mod speaker;
#[cfg(test)]
mod tests;
mod updates;

pub use speaker::Speaker;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, SystemTime};

/// Takes `content` for what a router sends.
#[cfg(fuzzing)]
pub fn judge(content: &[u8]) {
    let mut rest = content;
    while let Ok(Some((_, length))) = message::first(rest) {
        rest = &rest[length..];
    }
}

/// Who tells whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BgpOptions {
    /// The number of the node's own autonomous system.
    pub asn: u32,
    /// What the node calls itself.
    pub router_id: Ipv4Addr,
    /// For how long routers keep what they were told when the connection ends without a word; zero for
    /// not at all. At most 4095 s.
    pub restart_time: Duration,
    /// The node's addresses, for routes of the family that a session does not have.
    pub addresses: Vec<IpAddr>,
    /// The routers.
    pub peers: Vec<BgpPeer>,
}

/// A router.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BgpPeer {
    /// Where it is.
    pub address: IpAddr,
    /// Where it listens.
    pub port: u16,
    /// The number of its autonomous system.
    pub asn: u32,
    /// After how long without a word it is taken for lost, at least 3 s; the router may wish for less.
    pub hold_time: Duration,
    /// It may be further away than the next link, also if it is of another system.
    pub multihop: bool,
    /// Signs each segment (TCP MD5).
    pub password: Option<BgpPassword>,
    /// The address that the node asks from.
    pub source: Option<IpAddr>,
}

/// What segments are signed with, which no log shows. At most 80 bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct BgpPassword(pub Vec<u8>);

impl fmt::Debug for BgpPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BgpPassword(…)")
    }
}

/// How far a session is. Source: RFC 4271, section 8.2.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs, reason = "the names are those of the RFC")]
pub enum BgpState {
    #[default]
    Idle,
    Connect,
    OpenSent,
    OpenConfirm,
    Established,
}

impl BgpState {
    /// As routers show it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "Idle",
            Self::Connect => "Connect",
            Self::OpenSent => "OpenSent",
            Self::OpenConfirm => "OpenConfirm",
            Self::Established => "Established",
        }
    }
}

/// What there is to say of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BgpSummary {
    /// The router's address.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
    /// The number of its autonomous system.
    pub asn: u32,
    /// How far the session is.
    pub state: BgpState,
    /// Since when.
    pub since: SystemTime,
    /// How often it was established.
    pub established: u64,
    /// Networks of IPv4 and of IPv6 that the router was told.
    pub announced: (usize, usize),
    /// Why it ended last.
    pub last_error: Option<String>,
}
