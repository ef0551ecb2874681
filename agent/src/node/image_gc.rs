//! Unused images go when the disk fills up, by the kubelet's thresholds.

use super::{Node, pod_of};
use manifests::config::ImagesConfiguration;
use runtime::image::PullPolicy;
use rustix::fs::statvfs;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// The kubelet's period.
const PERIOD: Duration = Duration::from_secs(300);

/// Looks at the disk of `folder` now and then, until `stop`.
pub(crate) async fn run(
    node: Arc<Node>,
    images: ImagesConfiguration,
    folder: PathBuf,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(PERIOD) => {}
        }
        let (node, images, folder) = (Arc::clone(&node), images.clone(), folder.clone());
        tokio::task::spawn_blocking(move || collect(&node, &images, &folder)).await?;
    }
}

fn collect(node: &Node, images: &ImagesConfiguration, folder: &std::path::Path) {
    if used_percent(folder).is_none_or(|used| used < images.image_gc_high_threshold_percent) {
        return;
    }
    let enough = || used_percent(folder).is_none_or(|used| used <= images.image_gc_low_threshold_percent);
    match node.images.store().prune(&in_use(node), images.minimum_age(), enough) {
        Ok(removed) if removed.references.is_empty() => {
            tracing::warn!(folder = %folder.display(), "the disk of the images is full, and no image is unused");
        }
        Ok(removed) => tracing::info!(?removed, "unused images were removed"),
        Err(error) => {
            tracing::warn!(error = &error as &dyn std::error::Error, "unused images could not be removed");
        }
    }
}

/// How full the disk is, as `df` counts it.
fn used_percent(folder: &std::path::Path) -> Option<u32> {
    let disk = statvfs(folder).ok()?;
    let used = disk.f_blocks.saturating_sub(disk.f_bfree);
    let whole = used + disk.f_bavail;
    u32::try_from(used.checked_mul(100)?.div_ceil(whole.max(1))).ok()
}

/// The ids of the images of every pod that is on this node.
pub(crate) fn in_use(node: &Node) -> BTreeSet<String> {
    let pods = node.runtime.observe();
    let containers = pods.values().flat_map(|pod| pod.init_containers.iter().chain(&pod.containers));
    let ids = containers.map(|container| container.image_id.clone()).filter(|id| !id.is_empty());
    ids.chain(of_volumes(node)).collect()
}

/// The ids of the images that pods of this node have as volumes.
fn of_volumes(node: &Node) -> Vec<String> {
    let pods = node.pods();
    let mine = pods.iter().filter_map(|object| pod_of(object));
    let volumes = mine.flat_map(|pod| pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()));
    let references = volumes.filter_map(|volume| volume.image.as_ref()?.reference.as_deref());
    let present = |reference| node.images.store().resolve(reference, PullPolicy::Never).ok();
    references.filter_map(present).map(|image| image.id).collect()
}
