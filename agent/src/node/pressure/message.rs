//! What an evicted pod is told, in the kubelet's words. Pure.

use super::decide::Exceeded;
use crate::node::amount::{binary, whole};
use k8s_openapi::api::core::v1::Pod;
use manifests::config::Signal;
use runtime::pods::PodDisk;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// What a signal counts.
pub(super) const fn resource(signal: Signal) -> &'static str {
    match signal {
        Signal::MemoryAvailable => "memory",
        Signal::NodefsAvailable | Signal::ImagefsAvailable => "ephemeral-storage",
        Signal::NodefsInodesFree | Signal::ImagefsInodesFree => "inodes",
        Signal::PidAvailable => "pids",
    }
}

/// Why a pod was chosen. `used` is by the container's name, of what is scarce.
pub(super) fn message(exceeded: &Exceeded, pod: &Pod, used: &BTreeMap<String, u64>) -> String {
    let resource = resource(exceeded.threshold.signal);
    let (least, available) = (binary(exceeded.least), binary(exceeded.available));
    let mut text = format!(
        "The node was low on resource: {resource}. Threshold quantity: {least}, available: {available}. "
    );
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    for container in containers {
        let Some(&used) = used.get(&container.name) else { continue };
        let requests = container.resources.as_ref().and_then(|resources| resources.requests.as_ref());
        let request =
            requests.and_then(|requests| requests.get(resource)).map_or("0", |quantity| &quantity.0);
        if used > whole(request) {
            let _infallible = write!(
                text,
                "Container {} was using {}, request is {request}, has larger consumption of {resource}. ",
                container.name,
                binary(used)
            );
        }
    }
    text
}

/// What containers take up on disk, by name.
pub(super) fn disk_of_containers(disk: &PodDisk) -> BTreeMap<String, u64> {
    let of = |one: &runtime::pods::ContainerDisk| (one.layer + one.logs).bytes;
    disk.containers.iter().map(|(name, one)| (name.clone(), of(one))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use manifests::config::{Share, Threshold};
    use serde_json::json;

    #[test]
    fn the_words_are_the_kubelets() {
        let container = |name: &str, request: Option<&str>| {
            let requests = request.map(|request| json!({"memory": request})).unwrap_or_default();
            json!({"name": name, "resources": {"requests": requests}})
        };
        let pod = json!({"spec": {"containers": [container("a", Some("1Mi")), container("b", None)]}});
        let pod: Pod = serde_json::from_value(pod).unwrap();
        let threshold = Threshold {
            signal: Signal::MemoryAvailable,
            least: Share::Amount(100 << 20),
            grace: None,
            reclaim: None,
        };
        let exceeded = Exceeded { threshold, least: 100 << 20, available: 1536 << 10 };
        let used = BTreeMap::from([("a".to_owned(), 1 << 20), ("b".to_owned(), 5000)]);
        assert_eq!(
            message(&exceeded, &pod, &used),
            "The node was low on resource: memory. Threshold quantity: 100Mi, available: 1536Ki. \
             Container b was using 5000, request is 0, has larger consumption of memory. "
        );
    }
}
