//! The Node object: what this machine is and offers.

use super::hardware::Hardware;
use super::resources::{Resources, huge_pages};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Node, NodeAddress, NodeCondition, NodeSpec, NodeStatus, NodeSystemInfo, Taint,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use manifests::config::{AgentConfiguration, TaintConfiguration};
use manifests::{Kind, Object, ObjectKey};
use reconciler::controllers::nodeipam::STATIC;
use reconciler::store::{Store, Write, WriteError};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// The labels of the Node object that the machine and its configuration set: at the next start,
/// those that are no more wanted go.
const OWN_LABELS: &str = "evenkeel.dev/node-labels";

/// Between two tries to register.
const RETRY: Duration = Duration::from_secs(1);

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
    pub(crate) hardware: Hardware,
    pub(crate) boot_id: String,
    pub(crate) machine_id: String,
}

impl Machine {
    /// The machine under us, as `/proc`, `/etc` and `uname(2)` tell.
    pub(crate) fn observe(name: String, addresses: Vec<IpAddr>, state_dir: &std::path::Path) -> Self {
        let disk = rustix::fs::statvfs(state_dir);
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        Self {
            name,
            addresses,
            cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            memory_bytes: rustix::system::sysinfo().totalram,
            storage_bytes: disk.map_or(0, |disk| disk.f_blocks.saturating_mul(disk.f_frsize)),
            huge_pages: huge_pages(),
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            hardware: Hardware::observe(std::path::Path::new("/")),
            boot_id: read("/proc/sys/kernel/random/boot_id"),
            machine_id: read("/etc/machine-id"),
        }
    }

    /// Its labels: what is known of it, and what the configuration says, which holds.
    fn labels(&self, configuration: &AgentConfiguration) -> BTreeMap<String, String> {
        let mut all = self.hardware.labels(&self.kernel);
        all.insert("kubernetes.io/hostname".into(), self.name.clone());
        all.insert("kubernetes.io/os".into(), "linux".into());
        all.insert("kubernetes.io/arch".into(), architecture().into());
        all.extend(configuration.node_labels.clone());
        all
    }

    fn info(&self) -> NodeSystemInfo {
        let os_name = self.hardware.os_name.as_str();
        NodeSystemInfo {
            architecture: architecture().to_owned(),
            boot_id: self.boot_id.clone(),
            container_runtime_version: concat!("keel://", env!("CARGO_PKG_VERSION")).to_owned(),
            kernel_version: self.kernel.clone(),
            kubelet_version: concat!("keel-", env!("CARGO_PKG_VERSION")).to_owned(),
            machine_id: self.machine_id.clone(),
            operating_system: "linux".to_owned(),
            os_image: if os_name.is_empty() { "Linux" } else { os_name }.to_owned(),
            system_uuid: self.hardware.system_uuid.clone(),
            ..NodeSystemInfo::default()
        }
    }

    /// The Node object of this machine, ready since `since`.
    pub(crate) fn node(&self, configuration: &AgentConfiguration, since: Timestamp) -> Node {
        let labels = self.labels(configuration);
        let own = labels.keys().cloned().collect::<Vec<_>>().join(",");
        let pods: Vec<_> = configuration.pod_networks(&[]).iter().map(ToString::to_string).collect();
        let mut annotations = BTreeMap::from([(OWN_LABELS.to_owned(), own)]);
        if !configuration.network.pod_cidr.is_empty() {
            annotations.insert(STATIC.to_owned(), configuration.network.pod_cidr.clone());
        }
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
                labels: Some(labels),
                annotations: Some(annotations),
                ..ObjectMeta::default()
            },
            spec: Some(NodeSpec {
                pod_cidr: pods.first().cloned(),
                pod_cidrs: (!pods.is_empty()).then_some(pods),
                taints: taints(configuration),
                ..NodeSpec::default()
            }),
            status: Some(NodeStatus {
                addresses: Some(addresses),
                allocatable: Some(capacity.allocatable(&configuration.node).quantities()),
                capacity: Some(capacity.quantities()),
                conditions: Some(vec![ready]),
                node_info: Some(self.info()),
                ..NodeStatus::default()
            }),
        }
    }
}

/// What keeps pods away from the beginning on; for a node that is known, `onto` keeps what it has.
fn taints(configuration: &AgentConfiguration) -> Option<Vec<Taint>> {
    let taint = |taint: &TaintConfiguration| Taint {
        key: taint.key.clone(),
        value: (!taint.value.is_empty()).then(|| taint.value.clone()),
        effect: taint.effect.clone(),
        time_added: None,
    };
    let taints: Vec<_> = configuration.register_with_taints.iter().map(taint).collect();
    (!taints.is_empty()).then_some(taints)
}

/// The processor's, as Kubernetes calls it.
const fn architecture() -> &'static str {
    if cfg!(target_arch = "x86_64") {
        "amd64"
    } else if cfg!(target_arch = "aarch64") {
        "arm64"
    } else {
        std::env::consts::ARCH
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
    let node = onto(node, known);
    store
        .write(vec![Write::Update(Object::from(node.clone())), Write::UpdateStatus(Object::from(node))])
        .await
        .map(drop)
}

/// Registers the node as soon as the cluster takes it, then waits for `stop`. Until then the node
/// runs what it knows to be its own.
///
/// # Errors
/// Never: what fails is tried again.
pub(crate) async fn run(
    store: Arc<Store>,
    machine: Machine,
    configuration: Arc<AgentConfiguration>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let mut said = String::new();
    loop {
        match stop.run_until_cancelled(register(&store, &machine, &configuration)).await {
            None => return Ok(()),
            Some(Ok(())) => break,
            Some(Err(error)) => {
                let reason = crate::chain::chain(&error);
                if reason != said {
                    tracing::warn!(reason, "the node is not registered yet");
                    said = reason;
                }
            }
        }
        if stop.run_until_cancelled(tokio::time::sleep(RETRY)).await.is_none() {
            return Ok(());
        }
    }
    tracing::info!("the node is registered");
    stop.cancelled().await;
    Ok(())
}

/// `node`, as the machine says it, with what others have set in `known`: `unschedulable` and
/// taints, conditions, and labels and annotations that are not the machine's.
fn onto(node: Node, known: &Node) -> Node {
    let is_static = node.metadata.annotations.as_ref().is_some_and(|all| all.contains_key(STATIC));
    let mut next = Node { spec: known.spec.clone(), ..node };
    let spec = next.spec.get_or_insert_default();
    let own = node.spec.unwrap_or_default();
    // What it was given it keeps, unless it is told otherwise.
    if is_static || spec.pod_cidr.is_none() {
        spec.pod_cidr = own.pod_cidr;
        spec.pod_cidrs = own.pod_cidrs;
    }
    let conditions = known.status.as_ref().and_then(|status| status.conditions.as_ref());
    let others = conditions.into_iter().flatten().filter(|condition| condition.type_ != "Ready").cloned();
    next.status.get_or_insert_default().conditions.get_or_insert_default().extend(others);
    let meta = &known.metadata;
    let before = meta.annotations.as_ref().and_then(|all| all.get(OWN_LABELS)).map_or("", String::as_str);
    let stays = |key: &&String| !before.split(',').any(|own| own == key.as_str());
    for (known, next, all) in [
        (&meta.labels, &mut next.metadata.labels, false),
        (&meta.annotations, &mut next.metadata.annotations, true),
    ] {
        let next = next.get_or_insert_default();
        for (key, value) in known.iter().flatten().filter(|(key, _)| all || stays(key)) {
            next.entry(key.clone()).or_insert_with(|| value.clone());
        }
    }
    if !is_static && let Some(annotations) = &mut next.metadata.annotations {
        annotations.remove(STATIC);
    }
    next
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn machine() -> Machine {
        Machine {
            name: "n".into(),
            addresses: vec![
                "192.0.2.7".parse().expect("an address"),
                "2001:db8::7".parse().expect("an address"),
            ],
            cores: 4,
            memory_bytes: 8 << 30,
            storage_bytes: 100 << 30,
            huge_pages: BTreeMap::new(),
            kernel: "6.18.0".into(),
            hardware: Hardware { product: "Box 1".into(), system_uuid: "u".into(), ..Hardware::default() },
            boot_id: "b".into(),
            machine_id: "m".into(),
        }
    }

    #[test]
    fn the_node_tells_what_the_machine_is_and_the_configuration_holds() {
        let mut configuration = AgentConfiguration::default();
        let zone = ("topology.kubernetes.io/zone".to_owned(), "z".to_owned());
        let kind = ("node.kubernetes.io/instance-type".to_owned(), "mine".to_owned());
        configuration.node_labels.extend([zone, kind]);
        let node = serde_json::to_value(machine().node(&configuration, Timestamp::UNIX_EPOCH)).expect("JSON");
        let labels = &node["metadata"]["labels"];
        assert_eq!(labels["topology.kubernetes.io/zone"], "z");
        assert_eq!(labels["node.kubernetes.io/instance-type"], "mine");
        assert_eq!(labels["evenkeel.dev/product"], "Box-1");
        let addresses = json!([{"type": "InternalIP", "address": "192.0.2.7"},
            {"type": "InternalIP", "address": "2001:db8::7"}, {"type": "Hostname", "address": "n"}]);
        assert_eq!(node["status"]["addresses"], addresses);
        assert_eq!(node["status"]["nodeInfo"]["systemUUID"], "u");
        assert_eq!(node["status"]["nodeInfo"]["osImage"], "Linux");
        assert_eq!(node["spec"]["podCIDR"], "10.99.0.0/16");
    }

    #[test]
    fn what_others_set_survives_a_restart_and_what_the_machine_said_is_said_anew() {
        let mut configuration = AgentConfiguration::default();
        configuration.node_labels.insert("old".into(), "1".into());
        let mut known = machine().node(&configuration, Timestamp::UNIX_EPOCH);
        known.metadata.labels.get_or_insert_default().insert("theirs".into(), "2".into());
        known.metadata.annotations.get_or_insert_default().insert("note".into(), "3".into());
        let spec = known.spec.get_or_insert_default();
        spec.unschedulable = Some(true);
        spec.pod_cidr = Some("10.1.0.0/24".into());
        spec.taints =
            Some(vec![serde_json::from_value(json!({"key": "k", "effect": "NoSchedule"})).expect("a taint")]);
        let conditions = known.status.get_or_insert_default().conditions.get_or_insert_default();
        conditions.push(NodeCondition {
            type_: "DiskPressure".into(),
            status: "True".into(),
            ..NodeCondition::default()
        });
        configuration.node_labels.clear();
        configuration.node_labels.insert("new".into(), "4".into());
        let next = onto(machine().node(&configuration, Timestamp::UNIX_EPOCH), &known);
        let node = serde_json::to_value(&next).expect("JSON");
        let labels = &node["metadata"]["labels"];
        assert_eq!(
            (labels["theirs"].as_str(), labels["new"].as_str(), labels["old"].as_str()),
            (Some("2"), Some("4"), None)
        );
        assert_eq!(node["metadata"]["annotations"]["note"], "3");
        assert_eq!(
            (&node["spec"]["unschedulable"], &node["spec"]["taints"][0]["key"]),
            (&json!(true), &json!("k"))
        );
        assert_eq!(node["spec"]["podCIDR"], "10.1.0.0/24", "what it was given it keeps");
        configuration.network.pod_cidr = "10.2.0.0/24,fd02::/64".into();
        let told = onto(machine().node(&configuration, Timestamp::UNIX_EPOCH), &next);
        let cidrs = told.spec.as_ref().and_then(|spec| spec.pod_cidrs.clone());
        assert_eq!(cidrs, Some(vec!["10.2.0.0/24".into(), "fd02::/64".into()]));
        assert!(told.metadata.annotations.as_ref().is_some_and(|all| all.contains_key(STATIC)));
        configuration.network.pod_cidr.clear();
        let again = onto(machine().node(&configuration, Timestamp::UNIX_EPOCH), &told);
        assert_eq!(again.spec.and_then(|spec| spec.pod_cidr), Some("10.2.0.0/24".into()));
        assert!(again.metadata.annotations.is_some_and(|all| !all.contains_key(STATIC)));
        let kinds: Vec<_> = next
            .status
            .as_ref()
            .expect("a status")
            .conditions
            .iter()
            .flatten()
            .map(|c| c.type_.as_str())
            .collect();
        assert_eq!(kinds, ["Ready", "DiskPressure"]);
        assert_eq!(
            onto(machine().node(&configuration, Timestamp::UNIX_EPOCH), &next),
            next,
            "again, nothing changes"
        );
    }
}
