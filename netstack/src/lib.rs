//! The network of a node's pods: a bridge, a link from it to each pod, and addresses.
//!
//! Everything goes through netlink; no program is called. Nothing is written to
//! disk: what exists in the kernel is the record. A pod's link is named from the
//! bridge and the pod's uid, and its hardware address carries the pod's IP address,
//! so that a restarted agent finds all of it again, and a crash between two steps
//! leaves nothing that is not found.
//!
//! Several agents share a machine as long as their bridges and networks differ.

mod announce;
mod bgp;
mod bridged;
mod chain;
mod cidr;
pub mod cni;
mod dns;
mod fast_path;
pub mod holder;
pub mod ingress;
mod ipam;
mod kernel;
mod listener;
mod names;
mod network;
mod overlay;
pub mod policies;
mod services;
mod subnet;
mod sys;

pub use announce::{AnnounceError, Announcer, Answered, Placement, announcer};
#[cfg(fuzzing)]
pub use bgp::judge as judge_bgp;
pub use bgp::{BgpOptions, BgpPassword, BgpPeer, BgpState, BgpSummary, Speaker};
pub use cidr::{Cidr, CidrError};
pub use dns::{
    Counters as DnsCounters, Dns, DnsError, DnsOptions, DnsSockets, NamedEndpoint, NamedPort,
    Names as DnsNames, PodNames, RequestCount, ServiceNames, Upstream,
};
#[cfg(fuzzing)]
pub use dns::{judge_answer as judge_dns_answer, judge_question as judge_dns_question};
pub use fast_path::{FastPath, Flow};
pub use ipam::Exhausted;
pub use kernel::{Hop, Kernel, PodLink};
pub use network::{
    AttachError, Attachment, HostPort, Namespace, Network, NetworkError, NetworkOptions, Protocol, Rates,
    Warning,
};
pub use overlay::{
    Backend, Changed, Overlay, OverlayError, OverlayOptions, Peer, PrivateKey, Unreachable, path_mtu,
};
pub use services::{
    Applied, Balancer, Client, Endpoint, Family, Lead, NodeView, Policy, ServiceName, ServiceNetwork,
    ServicePort, Services, ServicesError, ServicesInForce, ServicesOptions, Taken, Target, Transport,
};
pub use subnet::{PodCidrs, Subnet};
