//! The volumes of a pod that are in memory.

use super::build::PodInput;
use super::error::Cause;
use super::{MemoryVolume, mounts, quantity, resource};
use crate::volume;
use k8s_openapi::api::core::v1::{EmptyDirVolumeSource, PodSpec};

/// Size of a pod's `/dev/shm`, as every runtime has it.
const SHARED_MEMORY_BYTES: u64 = 64 << 20;
/// What `medium: HugePages` means without a size.
const USUAL_HUGE_PAGE: &str = "2Mi";

/// The pod's `/dev/shm`, and its `emptyDir`s in memory.
///
/// # Errors
/// If a limit is no quantity.
pub(super) fn volumes(spec: &PodSpec, input: &PodInput<'_>) -> Result<Vec<MemoryVolume>, Cause> {
    let mut all = Vec::new();
    if spec.host_ipc != Some(true) {
        let path = mounts::shared_memory(&input.pod_dir());
        let size_bytes = Some(SHARED_MEMORY_BYTES);
        all.push(MemoryVolume { path, size_bytes, mode: Some(0o1777), ..MemoryVolume::default() });
    }
    let group = volume::fs_group(input).map_err(|id| Cause::BadId { id })?;
    for wanted in spec.volumes.iter().flatten() {
        let Some(empty) = wanted.empty_dir.as_ref().filter(|empty| volume::is_in_memory(empty)) else {
            continue;
        };
        let Some(path) = volume::path(&input.pod_dir(), wanted) else { continue };
        let page_bytes = huge_page(empty, spec)?;
        all.push(MemoryVolume {
            path,
            size_bytes: if page_bytes.is_some() { limit(empty)? } else { Some(size(empty, spec, input)?) },
            mode: volume::empty_dir_mode(empty),
            group,
            page_bytes,
            shared: mounts::bidirectional(input, &wanted.name),
        });
    }
    Ok(all)
}

fn limit(empty: &EmptyDirVolumeSource) -> Result<Option<u64>, Cause> {
    let bytes = empty.size_limit.as_ref().map(quantity::bytes).transpose()?;
    Ok(bytes.filter(|&bytes| bytes > 0))
}

/// As the kubelet sizes it: no more than the limit says, nor than the pod may use at all.
fn size(empty: &EmptyDirVolumeSource, spec: &PodSpec, input: &PodInput<'_>) -> Result<u64, Cause> {
    let whole =
        resource::pod(spec, input.node)?.memory_bytes.unwrap_or(u64::MAX).min(input.node.memory_bytes);
    Ok(limit(empty)?.map_or(whole, |limit| limit.min(whole)))
}

/// The size of the pages that `medium: HugePages…` asks for. Without one, the size that the
/// pod's containers have a limit of.
fn huge_page(empty: &EmptyDirVolumeSource, spec: &PodSpec) -> Result<Option<u64>, Cause> {
    let Some(rest) = empty.medium.as_deref().and_then(|medium| medium.strip_prefix("HugePages")) else {
        return Ok(None);
    };
    let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let limits = containers.filter_map(|container| container.resources.as_ref()?.limits.as_ref());
    let of_limits = limits.flatten().find_map(|(name, _)| name.strip_prefix("hugepages-"));
    let text = rest.strip_prefix('-').or(of_limits).unwrap_or(USUAL_HUGE_PAGE);
    let size = k8s_openapi::apimachinery::pkg::api::resource::Quantity(text.to_owned());
    quantity::bytes(&size).map(Some)
}
