//! The rows of Namespace and Node.

use super::age::since;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, Node, NodeStatus};

pub(super) const NAMESPACE_HEADS: (&[&str], &[&str]) = (&["NAME", "STATUS", "AGE"], &[]);
pub(super) const NODE_HEADS: (&[&str], &[&str]) = (
    &["NAME", "STATUS", "ROLES", "AGE", "VERSION"],
    &["INTERNAL-IP", "EXTERNAL-IP", "OS-IMAGE", "KERNEL-VERSION", "CONTAINER-RUNTIME"],
);

pub(super) fn namespace_row(o: &Namespace, now: Timestamp) -> Vec<String> {
    let phase = o.status.as_ref().and_then(|status| status.phase.clone());
    let phase = match &o.metadata.deletion_timestamp {
        Some(_) => "Terminating".into(),
        None => phase.unwrap_or_else(|| "Active".into()),
    };
    vec![
        o.metadata.name.clone().unwrap_or_default(),
        phase,
        since(o.metadata.creation_timestamp.as_ref(), now),
    ]
}

pub(super) fn node_row(o: &Node, wide: bool, now: Timestamp) -> Vec<String> {
    let status = o.status.clone().unwrap_or_default();
    let info = status.node_info.clone().unwrap_or_default();
    let mut cells = vec![
        o.metadata.name.clone().unwrap_or_default(),
        node_status(o, &status),
        roles(o),
        since(o.metadata.creation_timestamp.as_ref(), now),
        info.kubelet_version,
    ];
    if wide {
        let unknown = |text: String| if text.is_empty() { "<unknown>".into() } else { text };
        cells.push(address(&status, "InternalIP"));
        cells.push(address(&status, "ExternalIP"));
        cells.push(unknown(info.os_image));
        cells.push(unknown(info.kernel_version));
        cells.push(unknown(info.container_runtime_version));
    }
    cells
}

fn node_status(node: &Node, status: &NodeStatus) -> String {
    let ready = status.conditions.iter().flatten().find(|c| c.type_ == "Ready");
    let mut words = vec![match ready.map(|c| c.status.as_str()) {
        Some("True") => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    }];
    if node.spec.as_ref().is_some_and(|spec| spec.unschedulable == Some(true)) {
        words.push("SchedulingDisabled");
    }
    words.join(",")
}

fn roles(node: &Node) -> String {
    const PREFIX: &str = "node-role.kubernetes.io/";
    let roles: Vec<_> =
        node.metadata.labels.iter().flatten().filter_map(|(key, _)| key.strip_prefix(PREFIX)).collect();
    super::or_none(roles.join(","))
}

fn address(status: &NodeStatus, kind: &str) -> String {
    let found = status.addresses.iter().flatten().find(|address| address.type_ == kind);
    found.map_or_else(|| "<none>".into(), |address| address.address.clone())
}
