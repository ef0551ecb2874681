//! One kernel facility per file: mechanism only, no pod and no policy.

pub(crate) mod address;
pub(crate) mod attributes;
pub(crate) mod bpf;
pub(crate) mod conntrack;
pub(crate) mod datagrams;
pub(crate) mod ear;
pub(crate) mod filter;
pub(crate) mod link;
pub(crate) mod neighbour;
pub(crate) mod netns;
pub(crate) mod nfnetlink;
pub(crate) mod nft;
pub(crate) mod packet;
pub(crate) mod route;
pub(crate) mod socket;
pub(crate) mod sysctl;
pub(crate) mod tc;
pub(crate) mod tcp;
pub(crate) mod wireguard;
