//! The Node object: what this machine is and offers.

use super::resources::{Resources, huge_pages};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, NodeAddress, NodeCondition, NodeSpec, NodeStatus, NodeSystemInfo};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use manifests::config::AgentConfiguration;
use manifests::{Kind, Object, ObjectKey};
use reconciler::store::{Store, Write, WriteError};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Facts about the machine that its Node object tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Machine {
    pub(crate) name: String,
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) cores: usize,
    pub(crate) memory_bytes: u64,
    /// Of the disk that holds what pods write.
    pub(crate) storage_bytes: u64,
    /// Bytes of huge pages by their size, as `2Mi`.
    pub(crate) huge_pages: BTreeMap<String, u64>,
    pub(crate) kernel: String,
    pub(crate) os_image: String,
    pub(crate) boot_id: String,
    pub(crate) machine_id: String,
}

impl Machine {
    /// The machine under us, as `/proc`, `/etc` and `uname(2)` tell.
    pub(crate) fn observe(name: String, addresses: Vec<IpAddr>, state_dir: &std::path::Path) -> Self {
        let disk = rustix::fs::statvfs(state_dir);
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        let release = read("/etc/os-release");
        let pretty = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
        Self {
            name,
            addresses,
            cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            memory_bytes: rustix::system::sysinfo().totalram,
            storage_bytes: disk.map_or(0, |disk| disk.f_blocks.saturating_mul(disk.f_frsize)),
            huge_pages: huge_pages(),
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            os_image: pretty.unwrap_or("Linux").trim_matches('"').to_owned(),
            boot_id: read("/proc/sys/kernel/random/boot_id"),
            machine_id: read("/etc/machine-id"),
        }
    }

    /// The Node object of this machine, ready since `since`.
    pub(crate) fn node(&self, configuration: &AgentConfiguration, since: Timestamp) -> Node {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        let mut all = BTreeMap::from([
            ("kubernetes.io/hostname".to_owned(), self.name.clone()),
            ("kubernetes.io/os".to_owned(), "linux".to_owned()),
            ("kubernetes.io/arch".to_owned(), architecture.to_owned()),
        ]);
        all.extend(configuration.node_labels.clone());
        let capacity = Resources::capacity(self);
        let address = |ip: &IpAddr| NodeAddress { address: ip.to_string(), type_: "InternalIP".into() };
        let mut addresses: Vec<_> = self.addresses.iter().map(address).collect();
        addresses.push(NodeAddress { address: self.name.clone(), type_: "Hostname".into() });
        let ready = NodeCondition {
            type_: "Ready".into(),
            status: "True".into(),
            reason: Some("AgentReady".into()),
            message: Some("keel runs pods on this node".into()),
            last_transition_time: Some(Time(since)),
            last_heartbeat_time: None,
        };
        Node {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                labels: Some(all),
                ..ObjectMeta::default()
            },
            spec: Some(NodeSpec::default()),
            status: Some(NodeStatus {
                addresses: Some(addresses),
                allocatable: Some(capacity.allocatable(&configuration.node).quantities()),
                capacity: Some(capacity.quantities()),
                conditions: Some(vec![ready]),
                node_info: Some(NodeSystemInfo {
                    architecture: architecture.to_owned(),
                    boot_id: self.boot_id.clone(),
                    container_runtime_version: concat!("keel://", env!("CARGO_PKG_VERSION")).to_owned(),
                    kernel_version: self.kernel.clone(),
                    kubelet_version: concat!("keel-", env!("CARGO_PKG_VERSION")).to_owned(),
                    machine_id: self.machine_id.clone(),
                    operating_system: "linux".to_owned(),
                    os_image: self.os_image.clone(),
                    ..NodeSystemInfo::default()
                }),
                ..NodeStatus::default()
            }),
        }
    }
}

/// The store's Node object says what the machine is now.
///
/// # Errors
/// If the store cannot be written.
pub(crate) async fn register(
    store: &Store,
    machine: &Machine,
    configuration: &AgentConfiguration,
) -> Result<(), WriteError> {
    let key = ObjectKey::new(Kind::Node, "", machine.name.clone());
    let stored = store.get(&key);
    let known = stored.as_deref().and_then(|object| <&Node>::try_from(object).ok());
    let ready_since = known
        .and_then(|node| node.status.as_ref()?.conditions.as_ref()?.iter().find(|c| c.type_ == "Ready"))
        .and_then(|condition| condition.last_transition_time.as_ref())
        .map_or_else(Timestamp::now, |time| time.0);
    let node = machine.node(configuration, ready_since);
    let Some(known) = known else {
        store.write(vec![Write::Create(Object::from(node.clone()))]).await?;
        return store.write(vec![Write::UpdateStatus(Object::from(node))]).await.map(drop);
    };
    // `unschedulable` and taints are somebody else's to set, and so are the other conditions.
    let mut node = Node { spec: known.spec.clone(), ..node };
    let conditions = known.status.as_ref().and_then(|status| status.conditions.as_ref());
    let others = conditions.into_iter().flatten().filter(|condition| condition.type_ != "Ready").cloned();
    node.status.get_or_insert_default().conditions.get_or_insert_default().extend(others);
    store
        .write(vec![Write::Update(Object::from(node.clone())), Write::UpdateStatus(Object::from(node))])
        .await
        .map(drop)
}
