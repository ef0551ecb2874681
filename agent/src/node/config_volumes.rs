//! Brings the files of ConfigMaps and Secrets in running pods up to date.

use super::work::Inputs;
use super::{Node, pod_of};
use k8s_openapi::api::core::v1::{Pod, Volume};
use manifests::{Kind, Object};
use runtime::volume;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Watches ConfigMaps and Secrets until `stop`, and swaps new content into the
/// pods that mount them. Pods that waited for one are tried at once, through `retry`.
///
/// # Errors
/// If the store ended under it.
pub(crate) async fn run(
    node: Arc<Node>,
    retry: Arc<tokio::sync::Notify>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let mut changes = node.store.changes();
    let mut seen = None;
    loop {
        changes.borrow_and_update();
        let newest = Some(newest_configuration(&node));
        // At first too: an agent may have ended between a change and its swap.
        if newest != seen {
            seen = newest;
            retry.notify_one();
            let node = Arc::clone(&node);
            tokio::task::spawn_blocking(move || update_all(&node)).await?;
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(()),
            changed = changes.changed() => changed?,
        }
    }
}

/// The resource version of the newest ConfigMap or Secret.
fn newest_configuration(node: &Node) -> u64 {
    node.store.read(|state| {
        let configuration = state.list(Kind::ConfigMap, None).chain(state.list(Kind::Secret, None));
        configuration.map(|object| object.resource_version()).max().unwrap_or(0)
    })
}

fn update_all(node: &Node) {
    let (pods, _) = node.store.list(Kind::Pod, None);
    let running = node.runtime.observe();
    for object in pods.iter().filter(|object| running.contains_key(object.uid())) {
        let Some(pod) = pod_of(object).filter(|pod| node.is_mine(pod) && mounts_configuration(pod)) else {
            continue;
        };
        update(node, object, pod);
    }
}

fn mounts_configuration(pod: &Pod) -> bool {
    let shows = |volume: &Volume| {
        volume.config_map.is_some() || volume.secret.is_some() || volume.projected.is_some()
    };
    pod.spec.as_ref().is_some_and(|spec| spec.volumes.iter().flatten().any(shows))
}

fn update(node: &Node, object: &Object, pod: &Pod) {
    let inputs = Inputs::gather(node, pod);
    match volume::update(&inputs.input(node)) {
        Ok(changed) if changed.is_empty() => {}
        Ok(changed) => tracing::info!(pod = %object.key(), volumes = ?changed, "new content swapped in"),
        Err(error) => {
            node.note(&object.key(), true, "FailedMount", error.to_string());
        }
    }
}
