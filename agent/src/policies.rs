//! The network policies of the cluster, in force on this node: needs its own replica of the store, and
//! nobody.
//!
//! A pod of this node starts when what selects it is in the kernel: `Gate` is where it waits.

mod gate;
mod objects;
mod view;

pub(crate) use gate::{Gate, Line};

use crate::chain::chain;
use crate::node::Node;
use gate::Admission;
use netstack::policies::{Applied, Policies, PoliciesError};
use reconciler::store::{Store, Watch};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use view::View;
pub(crate) use view::{told_of_namespace, told_of_pod, told_of_policy};

/// After how long it is tried again where the kernel lacks something.
const RETRY: Duration = Duration::from_secs(30);
/// How often what was dropped is counted.
const COUNTED: Duration = Duration::from_secs(5);

/// Keeps the policies of the store in force on `node` until `stop`, and lets its pods in. They stay in
/// force after it.
///
/// # Errors
/// Never: what the kernel refuses is said, and tried again.
pub(crate) async fn run(
    node: Arc<Node>,
    mut line: Line,
    bridge: String,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    if stop.run_until_cancelled(node.network.opened()).await.is_none() {
        return Ok(());
    }
    while !stop.is_cancelled() {
        let Err(error) = follow(&node, &mut line, &bridge, &stop).await else { continue };
        tracing::warn!(
            error = chain(&error),
            "network policies are not in force on this node; it is tried again"
        );
        refuse_for_a_while(&mut line, &error, &stop).await;
    }
    Ok(())
}

/// Nobody is let in meanwhile.
async fn refuse_for_a_while(line: &mut Line, error: &PoliciesError, stop: &CancellationToken) {
    let pause = tokio::time::sleep(RETRY);
    tokio::pin!(pause);
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = &mut pause => return,
            admission = line.next() => admission.refuse(&chain(error)),
        }
    }
}

/// The state, and what changes after it.
fn read(store: &Store, node: &Node) -> (View, Watch) {
    let held = node.runtime.observe();
    store.read_and_watch(None, |state| View::of(state, &node.facts.node_name, &held))
}

async fn follow(
    node: &Node,
    line: &mut Line,
    bridge: &str,
    stop: &CancellationToken,
) -> Result<(), PoliciesError> {
    let store = &node.store;
    let policies = Policies::open(bridge).await?;
    let (mut changes, mut repairs) = (store.changes(), policies.repairs());
    let (mut view, mut watch) = read(store, node);
    tell(node, policies.replace(view.all()).await);
    let mut count = tokio::time::interval(COUNTED);
    loop {
        let mut waits = None;
        // Every arm is cancel-safe, and none awaits in its body.
        tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(()),
            changed = changes.changed() => {
                if changed.is_err() {
                    return Ok(());
                }
            }
            admission = line.next() => waits = Some(admission),
            repaired = repairs.changed() => {
                if repaired.is_err() {
                    return Err(PoliciesError::Ended);
                }
                tracing::warn!("somebody else changed the rules of network policies; they are put back");
                continue;
            }
            _ = count.tick(), if node.metrics.policies.any() => {
                node.metrics.policies.look(&policies).await;
                continue;
            }
        }
        changes.borrow_and_update();
        match view.follow(&mut watch) {
            Ok(news) if news.is_empty() => {}
            Ok(news) => tell(node, policies.change(news).await),
            Err(_expired) => {
                let admitted = std::mem::take(&mut view).into_admitted();
                (view, watch) = read(store, node);
                view.remember(admitted);
                tell(node, policies.replace(view.all()).await);
            }
        }
        if let Some(admission) = waits {
            admit(&policies, &mut view, admission).await;
        }
    }
}

/// The pod may start, or hears why not.
async fn admit(policies: &Policies, view: &mut View, admission: Admission) {
    let Some((uid, pod)) = view.admit(&admission) else { return admission.allow() };
    match policies.admit(uid, pod).await {
        Ok(_) => admission.allow(),
        Err(error) => admission.refuse(&chain(&error)),
    }
}

fn tell(node: &Node, done: Result<Applied, PoliciesError>) {
    match done {
        Ok(Applied { removed, added, rebuilt, policies, elements }) => {
            tracing::debug!(removed, added, rebuilt, policies, elements, "network policies are in force");
            node.metrics.policies.set(policies, elements);
        }
        // It is known what is wanted, and tried again from there. Who needs it waits at the gate.
        Err(error) => {
            tracing::warn!(error = chain(&error), "a change of network policies is not in force yet");
        }
    }
}
