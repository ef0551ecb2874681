//! The agent's own configuration, `kind: AgentConfiguration` of
//! `evenkeel.dev/v1alpha1`: every path, port, cgroup root and interface name
//! that an agent uses comes from here, so that several agents fit one machine.

mod balancer;
mod bgp;
mod cluster;
mod cni;
mod dns;
mod images;
mod ingress;
mod network;
mod node;
mod read;
mod runtimes;
mod security;
mod taint;

pub use balancer::{Announcement, IpRange, LoadBalancerConfiguration, PoolConfiguration};
pub use bgp::{BgpAnnouncement, BgpConfiguration, BgpPeerConfiguration};
pub use cluster::{ClusterConfiguration, JoinConfiguration, is_host_and_port};
pub use cni::{CniConfiguration, CniMode};
pub use dns::{DnsConfiguration, DnsHost};
pub use images::{ImagesConfiguration, RegistryConfiguration, RegistryMirror};
pub use ingress::IngressConfiguration;
pub use network::{IpNetwork, NetworkBackend, VxlanConfiguration, WireguardConfiguration, networks};
pub use node::{NodeConfiguration, Share, Signal, Threshold};
pub use read::parse_configuration;
pub use runtimes::RuntimeConfiguration;
pub use security::SecurityConfiguration;
pub use taint::TaintConfiguration;

use crate::quantity::Quantity;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

/// The kubelet's.
const DEFAULT_LOG_BYTES: u64 = 10 << 20;

/// The configuration file of `keel agent`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct AgentConfiguration {
    /// `evenkeel.dev/v1alpha1`.
    pub api_version: String,
    /// `AgentConfiguration`.
    pub kind: String,
    /// The node's name; the host's name if empty. RFC 1123 subdomain.
    pub node_name: String,
    /// Labels of the Node object.
    pub node_labels: BTreeMap<String, String>,
    /// Taints that the Node object is made with; later they are changed by `keel taint` alone.
    pub register_with_taints: Vec<TaintConfiguration>,
    /// What must survive a reboot: store, images, pods' volumes and logs' positions.
    pub state_dir: PathBuf,
    /// Sockets; may be emptied at boot.
    pub run_dir: PathBuf,
    /// Pods' log folders: `<namespace>_<pod>_<uid>/<container>/<n>.log`.
    pub log_dir: PathBuf,
    /// The cgroup, from the hierarchy's root, under which every pod's cgroup is made.
    pub cgroup_root: String,
    /// Where `/metrics` and `/healthz` are served, `ADDRESS:PORT`; nowhere if empty.
    pub metrics_address: String,
    /// Most processes and threads of one container, as the kubelet's `podPidsLimit`; 0 is no limit.
    pub pod_pids_limit: u64,
    /// A container's log that is longer gives way to a new one, as the kubelet's.
    pub container_log_max_size: String,
    /// How many files of a container's log are kept, the one in use included; at least 2.
    pub container_log_max_files: u32,
    /// What pods may do on this node.
    pub security: SecurityConfiguration,
    /// Other OCI runtimes that RuntimeClasses can name.
    pub runtimes: Vec<RuntimeConfiguration>,
    /// The network of the node's pods.
    pub network: NetworkConfiguration,
    /// The node serves Ingresses; without it, it serves none, and opens no port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ingress: Option<IngressConfiguration>,
    /// Where images come from, and when unused ones go.
    pub images: ImagesConfiguration,
    /// What the node keeps for itself, and when it ends pods.
    pub node: NodeConfiguration,
    /// The Container Runtime Interface, for who wants to run pods by request.
    pub cri: CriConfiguration,
    /// The node's peers; without it, it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<ClusterConfiguration>,
    /// The Git repositories that say what runs.
    pub sources: Vec<GitSource>,
}

impl Default for AgentConfiguration {
    fn default() -> Self {
        Self {
            api_version: "evenkeel.dev/v1alpha1".into(),
            kind: "AgentConfiguration".into(),
            node_name: String::new(),
            node_labels: BTreeMap::new(),
            register_with_taints: Vec::new(),
            state_dir: "/var/lib/keel".into(),
            run_dir: "/run/keel".into(),
            log_dir: "/var/log/pods".into(),
            cgroup_root: "keel".into(),
            metrics_address: "127.0.0.1:10250".into(),
            pod_pids_limit: 4096,
            container_log_max_size: "10Mi".into(),
            container_log_max_files: 5,
            security: SecurityConfiguration::default(),
            runtimes: Vec::new(),
            network: NetworkConfiguration::default(),
            ingress: None,
            images: ImagesConfiguration::default(),
            node: NodeConfiguration::default(),
            cri: CriConfiguration::default(),
            cluster: None,
            sources: Vec::new(),
        }
    }
}

impl AgentConfiguration {
    /// `containerLogMaxSize` in bytes.
    #[must_use]
    pub fn log_bytes(&self) -> u64 {
        let size = Quantity::parse(&self.container_log_max_size);
        size.map_or(DEFAULT_LOG_BYTES, |size| size.bytes_ceil().unsigned_abs())
    }
}

/// The bridge that joins this node's pods.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct NetworkConfiguration {
    /// Name of the bridge, at most 15 bytes.
    pub bridge: String,
    /// Networks of the pods on this node, `ADDRESS/PREFIX`, one or an IPv4 and an IPv6 one with a comma
    /// between; the first host address is the bridge's. If empty, a node with peers gets a block of
    /// `clusterCIDR`.
    #[serde(rename = "podCIDR")]
    pub pod_cidr: String,
    /// The networks that nodes' blocks are from, the same on every node.
    #[serde(rename = "clusterCIDR")]
    pub cluster_cidr: String,
    /// Length of the prefix of a node's IPv4 block.
    #[serde(rename = "nodeCIDRMaskSize")]
    pub node_cidr_mask_size: u8,
    /// Length of the prefix of a node's IPv6 block.
    #[serde(rename = "nodeCIDRMaskSizeIPv6")]
    pub node_cidr_mask_size_ipv6: u8,
    /// Networks of the services' addresses, `ADDRESS/PREFIX`, the same on every node; empty for a node
    /// on which services lead nowhere.
    #[serde(rename = "serviceCIDR")]
    pub service_cidr: String,
    /// How nodes with peers reach one another's pods: `vxlan`, `host-gw`, `wireguard`, `none`. The same on every node.
    pub backend: String,
    /// How, if by `vxlan`.
    pub vxlan: VxlanConfiguration,
    /// How, if by `wireguard`.
    pub wireguard: WireguardConfiguration,
    /// Whoever is asked by a pod, and is outside of the pods' networks, sees the node.
    pub ip_masq: bool,
    /// Packets of connections that netfilter knows go past it, where the kernel can do that.
    pub fast_path: bool,
    /// Maximum transmission unit of the pods' links in bytes; 0 takes what fits the way to other nodes.
    pub mtu: u32,
    /// The node's own name server.
    pub dns: DnsConfiguration,
    /// Addresses for services of type LoadBalancer.
    pub load_balancer: LoadBalancerConfiguration,
    /// The routers that are told of the node's addresses; none without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bgp: Option<BgpConfiguration>,
    /// Plugins that make the pods' network instead.
    pub cni: CniConfiguration,
}

impl Default for NetworkConfiguration {
    fn default() -> Self {
        Self {
            bridge: "keel0".into(),
            pod_cidr: String::new(),
            cluster_cidr: "10.244.0.0/16".into(),
            node_cidr_mask_size: 24,
            node_cidr_mask_size_ipv6: 64,
            service_cidr: "10.96.0.0/16".into(),
            backend: "vxlan".into(),
            vxlan: VxlanConfiguration::default(),
            wireguard: WireguardConfiguration::default(),
            ip_masq: true,
            fast_path: true,
            mtu: 0,
            dns: DnsConfiguration::default(),
            load_balancer: LoadBalancerConfiguration::default(),
            bgp: None,
            cni: CniConfiguration::default(),
        }
    }
}

impl NetworkConfiguration {
    /// The services' network of IPv4 addresses and its prefix, if there is one.
    #[must_use]
    pub fn service_network(&self) -> Option<(Ipv4Addr, u8)> {
        networks(&self.service_cidr).into_iter().find_map(|network| match network.address {
            IpAddr::V4(address) => Some((address, network.prefix)),
            IpAddr::V6(_) => None,
        })
    }
}

/// The Container Runtime Interface, v1.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct CriConfiguration {
    /// Where it is served, an absolute path; nowhere if not set. Whoever may open it is root on
    /// this machine: its mode is 0600.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub socket: Option<PathBuf>,
}

/// A Git repository, or a part of one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GitSource {
    /// RFC 1123 label; names the source in every output.
    pub name: String,
    /// `file://`, `https://`, `http://`, `ssh://`, `user@host:path` or an absolute path.
    pub url: String,
    /// At most one of `branch`, `tag`, `commit`; without any, the remote's HEAD.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// A tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// A full commit id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// Folders or files from the repository's root; the whole repository if empty.
    #[serde(default)]
    pub paths: Vec<String>,
    /// How often to look, as `30s`, `5m`, `1h30m`; up to a tenth is added by chance.
    #[serde(default = "default_interval")]
    pub interval: String,
    /// Consent to delete everything when the paths hold no object any more.
    #[serde(default)]
    pub allow_empty: bool,
    /// Consent to follow a branch whose history was rewritten (force-pushed).
    #[serde(default)]
    pub allow_history_rewrite: bool,
    /// Credentials, each from a file of its own.
    #[serde(default)]
    pub auth: GitAuth,
}

fn default_interval() -> String {
    "1m".into()
}

/// Files that hold credentials; read at each fetch, so that they can be rotated.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GitAuth {
    /// User name for https; `git` if a password is given without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// File with the https password or token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
    /// File with a bearer token for https.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// PEM file with the authorities to trust for https beside the host's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// Private key for ssh.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssh_key_file: Option<PathBuf>,
    /// `known_hosts` for ssh.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known_hosts_file: Option<PathBuf>,
}
