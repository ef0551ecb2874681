//! Gives running containers what their pods ask for now.

use super::{Node, pod_of};
use crate::chain::chain;
use k8s_openapi::api::core::v1::Pod;
use manifests::Object;
use runtime::plan::{pod_limits, resizes};
use runtime::state::{PodState, Stage};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// What was tried for a pod, so that a refusal is not repeated: its resource version.
type Tried = BTreeMap<String, u64>;

/// Watches pods until `stop`.
///
/// # Errors
/// If the store or the runtime ended under it.
pub(crate) async fn run(node: Arc<Node>, stop: CancellationToken) -> anyhow::Result<()> {
    let mut tried = Tried::new();
    let (mut stored, mut supervised) = (node.store.changes(), node.runtime.changes());
    loop {
        stored.borrow_and_update();
        supervised.borrow_and_update();
        let pods = node.pods();
        let observed = node.runtime.observe();
        tried.retain(|uid, _| pods.iter().any(|pod| pod.uid() == uid));
        for object in &pods {
            let uid = object.uid();
            let version = object.metadata().generation.unwrap_or(0).cast_unsigned();
            if let Some(state) = observed.get(uid).filter(|state| state.stage == Stage::Started)
                && tried.get(uid) != Some(&version)
                && let Some(pod) = pod_of(object)
                && !apply(&node, object, pod, state).await
            {
                tried.insert(uid.to_owned(), version);
            }
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(()),
            changed = stored.changed() => changed?,
            changed = supervised.changed() => changed?,
        }
    }
}

/// False if something was refused.
async fn apply(node: &Node, object: &Object, pod: &Pod, state: &PodState) -> bool {
    let (Ok(changes), Ok(whole)) = (resizes(pod, &node.facts, state), pod_limits(pod, &node.facts)) else {
        return false;
    };
    let mut well = true;
    for change in changes {
        let container = change.container.clone();
        match node.runtime.resize(&state.uid, change, whole.clone()).await {
            Ok(()) => {
                let message = format!("Container {container} has the resources that it asks for now");
                node.note(&object.key(), false, "ResizeCompleted", message);
            }
            Err(error) => {
                let message = format!("Container {container}: {}", chain(&error));
                node.note(&object.key(), true, "ResizeError", message);
                well = false;
            }
        }
    }
    well
}
