//! Ends pods that take up more of the disk than they may.

use super::amount::{binary, whole};
use super::ending::{AT_ONCE, Ending};
use super::{Node, pod_of};
use k8s_openapi::api::core::v1::{Container, Pod, Volume};
use k8s_openapi::apimachinery::pkg::api::resource;
use runtime::pods::PodDisk;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const STORAGE: &str = "ephemeral-storage";

/// Measures, every `period` until `stop`, the pods that have a limit.
///
/// # Errors
/// If a look panicked.
pub(crate) async fn run(node: Arc<Node>, period: Duration, stop: CancellationToken) -> anyhow::Result<()> {
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(period) => {}
        }
        let node = Arc::clone(&node);
        tokio::task::spawn_blocking(move || look(&node)).await?;
    }
}

fn look(node: &Node) {
    for object in node.pods() {
        let Some(pod) = pod_of(&object).filter(|pod| is_active(pod)) else { continue };
        if !has_limit(pod) {
            continue;
        }
        if let Some(message) = excess(pod, &node.runtime.disk(object.uid())) {
            node.evict(&object, Ending::evicted(message, AT_ONCE));
        }
    }
}

/// True if the pod is neither over nor being deleted.
pub(super) fn is_active(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    pod.metadata.deletion_timestamp.is_none() && !matches!(phase, Some("Succeeded" | "Failed"))
}

fn has_limit(pod: &Pod) -> bool {
    let Some(spec) = &pod.spec else { return false };
    volumes(pod).next().is_some()
        || spec.containers.iter().chain(spec.init_containers.iter().flatten()).any(|c| limit(c).is_some())
}

/// The pod's `emptyDir`s on disk that have a limit, and that.
fn volumes(pod: &Pod) -> impl Iterator<Item = (&Volume, &resource::Quantity)> {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    let limited = volumes.filter_map(|volume| {
        let empty =
            volume.empty_dir.as_ref().filter(|empty| empty.medium.as_deref().unwrap_or("").is_empty())?;
        Some((volume, empty.size_limit.as_ref()?))
    });
    limited.filter(|(_, limit)| whole(&limit.0) > 0)
}

fn limit(container: &Container) -> Option<&resource::Quantity> {
    container.resources.as_ref()?.limits.as_ref()?.get(STORAGE)
}

/// Why the pod must go, in the kubelet's words.
fn excess(pod: &Pod, disk: &PodDisk) -> Option<String> {
    for (volume, limit) in volumes(pod) {
        if disk.volumes.get(&volume.name).is_some_and(|used| used.bytes > whole(&limit.0)) {
            let (name, limit) = (&volume.name, &limit.0);
            return Some(format!("Usage of EmptyDir volume \"{name}\" exceeds the limit \"{limit}\". "));
        }
    }
    let spec = pod.spec.as_ref()?;
    let of_pod = total(pod, limit);
    if of_pod > 0 && disk.total().bytes > of_pod {
        let limit = binary(of_pod);
        return Some(format!(
            "Pod ephemeral local storage usage exceeds the total limit of containers {limit}. "
        ));
    }
    for container in spec.containers.iter().chain(spec.init_containers.iter().flatten()) {
        let used = disk.containers.get(&container.name).map_or(0, |one| (one.layer + one.logs).bytes);
        if let Some(limit) = limit(container).filter(|limit| used > whole(&limit.0)) {
            let (name, limit) = (&container.name, &limit.0);
            return Some(format!(
                "Container {name} exceeded its local ephemeral storage limit \"{limit}\". "
            ));
        }
    }
    None
}

/// What the pod asks for of `resource`, in whole units.
pub(super) fn requested(pod: &Pod, resource: &str) -> u64 {
    total(pod, |container| container.resources.as_ref()?.requests.as_ref()?.get(resource))
}

/// The sum over the containers, or what one init container has alone, whichever is more.
fn total(pod: &Pod, of: impl Fn(&Container) -> Option<&resource::Quantity>) -> u64 {
    let Some(spec) = &pod.spec else { return 0 };
    let amount = |container: &Container| of(container).map_or(0, |quantity| whole(&quantity.0));
    let sum = spec.containers.iter().map(amount).fold(0, u64::saturating_add);
    spec.init_containers.iter().flatten().map(amount).fold(sum, u64::max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use runtime::pods::{ContainerDisk, DiskUsage};
    use serde_json::json;
    use std::collections::BTreeMap;

    fn bytes(bytes: u64) -> DiskUsage {
        DiskUsage { bytes, inodes: 1 }
    }

    fn disk(layer: u64, logs: u64, volume: u64) -> PodDisk {
        let container = ContainerDisk { layer: bytes(layer), logs: bytes(logs) };
        PodDisk {
            containers: BTreeMap::from([("app".to_owned(), container)]),
            volumes: BTreeMap::from([("data".to_owned(), bytes(volume))]),
        }
    }

    fn pod(limits: &[(&str, &str)], size: serde_json::Value) -> Pod {
        let container = |(name, limit): &(&str, &str)| json!({"name": name, "resources": {"limits": {"ephemeral-storage": limit}}});
        let containers: Vec<_> = limits.iter().map(container).collect();
        serde_json::from_value(json!({"spec": {
            "containers": containers, "volumes": [{"name": "data", "emptyDir": size}],
        }}))
        .unwrap()
    }

    #[test]
    fn volumes_pod_and_containers_each_have_their_limit() {
        let small = json!({"sizeLimit": "1Ki"});
        let table = [
            (pod(&[], json!({})), disk(1 << 40, 0, 1 << 40), None),
            (pod(&[], small.clone()), disk(0, 0, 1024), None),
            (
                pod(&[], small.clone()),
                disk(0, 0, 1025),
                Some("Usage of EmptyDir volume \"data\" exceeds the limit \"1Ki\". "),
            ),
            (pod(&[], json!({"sizeLimit": "1Ki", "medium": "Memory"})), disk(0, 0, 1025), None),
            (
                pod(&[("app", "1Mi"), ("other", "1Mi")], json!({})),
                disk(1 << 20, 1 << 20, 1),
                Some("Pod ephemeral local storage usage exceeds the total limit of containers 2Mi. "),
            ),
            (
                pod(&[("app", "1Mi"), ("other", "9Mi")], json!({})),
                disk(1 << 20, 1, 0),
                Some("Container app exceeded its local ephemeral storage limit \"1Mi\". "),
            ),
            (pod(&[("app", "1Mi")], json!({})), disk(1 << 19, 1 << 19, 0), None),
        ];
        for (pod, disk, wanted) in table {
            assert_eq!(excess(&pod, &disk).as_deref(), wanted);
            assert!(wanted.is_none() || has_limit(&pod));
        }
        assert!(!has_limit(&pod(&[], json!({}))));
    }
}
