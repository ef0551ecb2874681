//! `fieldRef`: a pod's own fields as text.

use super::address;
use super::build::NodeFacts;
use super::error::Cause;
use k8s_openapi::api::core::v1::{Pod, PodSpec};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// The value of `path` in `pod`, for an environment variable or a file.
///
/// # Errors
/// [`Cause::UnknownField`] if Kubernetes has no such field here.
pub(crate) fn field_value(path: &str, pod: &Pod, node: &NodeFacts) -> Result<String, Cause> {
    let meta = &pod.metadata;
    if let Some((map, key)) = subscript(path) {
        let map = match map {
            "metadata.labels" => &meta.labels,
            "metadata.annotations" => &meta.annotations,
            _ => return Err(Cause::UnknownField { path: path.to_owned() }),
        };
        return Ok(map.as_ref().and_then(|map| map.get(key)).cloned().unwrap_or_default());
    }
    let spec = pod.spec.as_ref();
    let host_network = spec.and_then(|spec| spec.host_network).unwrap_or(false);
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    Ok(match path {
        "metadata.name" => text(&meta.name),
        "metadata.namespace" => text(&meta.namespace),
        "metadata.uid" => text(&meta.uid),
        "spec.nodeName" => node.node_name.clone(),
        "spec.serviceAccountName" => spec.map_or("default", service_account).to_owned(),
        "status.hostIP" => node.host_ips.first().cloned().unwrap_or_default(),
        "status.hostIPs" => node.host_ips.join(","),
        "status.podIP" if host_network => node.host_ips.first().cloned().unwrap_or_default(),
        "status.podIPs" if host_network => node.host_ips.join(","),
        "status.podIP" => address::POD_IP.to_owned(),
        "status.podIPs" => address::POD_IPS.to_owned(),
        _ => return Err(Cause::UnknownField { path: path.to_owned() }),
    })
}

/// The name of the pod's ServiceAccount.
pub(crate) fn service_account(spec: &PodSpec) -> &str {
    spec.service_account_name.as_deref().filter(|name| !name.is_empty()).unwrap_or("default")
}

/// `metadata.labels['x']` as (`metadata.labels`, `x`).
fn subscript(path: &str) -> Option<(&str, &str)> {
    let (map, key) = path.strip_suffix("']")?.split_once("['")?;
    Some((map, key))
}

/// All labels, as a downward-API file has them: `key="value"`, one per line.
pub(crate) fn labels_file(pod: &Pod) -> String {
    lines(pod.metadata.labels.as_ref())
}

/// All annotations, in the same form.
pub(crate) fn annotations_file(pod: &Pod) -> String {
    lines(pod.metadata.annotations.as_ref())
}

fn lines(map: Option<&BTreeMap<String, String>>) -> String {
    let mut out = String::new();
    for (index, (key, value)) in map.into_iter().flatten().enumerate() {
        let separator = if index == 0 { "" } else { "\n" };
        // `{:?}` quotes and escapes as Go's %q does for the text that labels and annotations hold.
        let _infallible = write!(out, "{separator}{key}={value:?}");
    }
    out
}
