//! Pods end in good order before the machine goes down: the agent holds systemd-logind's shutdown
//! back until they have, or their time is over.
//!
//! Pods whose policy is `Never` have failed then, as in Kubernetes, for their controllers to
//! replace. All others are interrupted: the same pods go on when the machine is up again.

use super::ending::{Ending, SHUTDOWN};
use super::pressure::rank::CRITICAL;
use super::storage::is_active;
use super::{Node, conditions, pod_of};
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use manifests::Object;
use runtime::state::Stage;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use zbus::zvariant::OwnedFd;

/// How long the last statuses may take to be stored.
const STORE: Duration = Duration::from_secs(2);

/// What is needed of systemd-logind. Source: `org.freedesktop.login1(5)`.
#[zbus::proxy(
    interface = "org.freedesktop.login1.Manager",
    default_service = "org.freedesktop.login1",
    default_path = "/org/freedesktop/login1",
    gen_blocking = false
)]
trait Logind {
    /// As long as the descriptor is open, what is named waits.
    fn inhibit(&self, what: &str, who: &str, why: &str, mode: &str) -> zbus::Result<OwnedFd>;

    /// The machine is about to go down, or will stay up after all.
    #[zbus(signal)]
    fn prepare_for_shutdown(&self, start: bool) -> zbus::Result<()>;

    /// How long it waits for all, in microseconds.
    #[zbus(property, name = "InhibitDelayMaxUSec")]
    fn inhibit_delay_max_usec(&self) -> zbus::Result<u64>;
}

/// Waits for shutdowns until `stop`. `graces` is what they leave to ordinary and then to critical
/// pods; without it, or without a bus, there is nothing to do.
///
/// # Errors
/// Never; the type is that of every part of the agent.
pub(crate) async fn run(
    node: Arc<Node>,
    graces: Option<(Duration, Duration)>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    if let Some(graces) = graces {
        tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(()),
            result = follow(&node, graces) => if let Err(error) = result {
                tracing::info!(
                    error = &error as &dyn std::error::Error,
                    "systemd-logind cannot be asked to wait for pods: a shutdown will not"
                );
            }
        }
    }
    stop.cancelled().await;
    Ok(())
}

async fn follow(node: &Arc<Node>, graces: (Duration, Duration)) -> zbus::Result<()> {
    let connection = zbus::Connection::system().await?;
    let logind = LogindProxy::new(&connection).await?;
    let mut signals = logind.receive_prepare_for_shutdown().await?;
    let mut lock = Some(inhibit(&logind).await?);
    let most = Duration::from_micros(logind.inhibit_delay_max_usec().await.unwrap_or(0));
    if most < graces.0 + graces.1 {
        tracing::warn!(
            logind_waits = ?most,
            "systemd-logind waits less than shutdownGracePeriod: set InhibitDelayMaxSec= in logind.conf(5)"
        );
    }
    while let Some(signal) = signals.next().await {
        if signal.args()?.start {
            tracing::info!("the machine goes down: pods are stopped");
            node.closing.send_replace(true);
            close(node, graces).await;
            // From here on the machine may go.
            lock = None;
        } else {
            tracing::info!("the machine stays up: pods go on");
            node.closing.send_replace(false);
            lock = Some(inhibit(&logind).await?);
        }
    }
    drop(lock);
    Err(zbus::Error::InvalidReply)
}

async fn inhibit(logind: &LogindProxy<'_>) -> zbus::Result<OwnedFd> {
    logind.inhibit("shutdown", "keel", "pods have to end in good order", "delay").await
}

/// Ordinary pods have ended, then critical ones, each within its time.
async fn close(node: &Arc<Node>, (ordinary, critical): (Duration, Duration)) {
    conditions::report(node, &conditions::told(node)).await;
    for (is_critical, grace) in [(false, ordinary), (true, critical)] {
        let chosen = |object: &Arc<Object>| {
            pod_of(object).is_some_and(|pod| {
                let priority = pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or(0);
                is_active(pod) && (priority >= CRITICAL) == is_critical
            })
        };
        let pods: Vec<_> = node.pods().into_iter().filter(chosen).collect();
        let mut failing = BTreeSet::new();
        let mut stops = JoinSet::new();
        for object in &pods {
            if stop(node, object, grace, &mut stops) {
                failing.insert(object.uid().to_owned());
            }
        }
        let uids: BTreeSet<_> = pods.iter().map(|object| object.uid().to_owned()).collect();
        let _late = tokio::time::timeout(grace, ended(node, &uids)).await;
        let _late = tokio::time::timeout(STORE, told(node, &failing)).await;
        stops.abort_all();
    }
}

/// The pod is asked to end. True if it will have failed then.
fn stop(node: &Arc<Node>, object: &Arc<Object>, most: Duration, stops: &mut JoinSet<()>) -> bool {
    let Some(pod) = pod_of(object) else { return false };
    let grace = grace(pod, most);
    if never_again(pod) {
        return node.endings.add(object.uid(), Ending::shut_down(grace));
    }
    node.note(&object.key(), false, "Terminated", SHUTDOWN.into());
    let (node, uid) = (Arc::clone(node), object.uid().to_owned());
    stops.spawn(async move {
        if let Err(error) = node.runtime.interrupt(&uid, grace).await {
            tracing::info!(uid, error = &error as &dyn std::error::Error, "pod is not running");
        }
    });
    false
}

fn never_again(pod: &Pod) -> bool {
    pod.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref()) == Some("Never")
}

/// The pod's own grace, but no more than there is.
fn grace(pod: &Pod, most: Duration) -> u32 {
    let own = pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds).unwrap_or(30);
    let most = u32::try_from(most.as_secs()).unwrap_or(u32::MAX);
    u32::try_from(own).unwrap_or(0).min(most)
}

/// Returns when none of the pods runs.
async fn ended(node: &Node, uids: &BTreeSet<String>) {
    let mut changes = node.runtime.changes();
    loop {
        changes.borrow_and_update();
        let observed = node.runtime.observe();
        let runs = |uid: &String| {
            observed.get(uid).is_some_and(|pod| !matches!(pod.stage, Stage::Finished | Stage::Lost))
        };
        if !uids.iter().any(runs) || changes.changed().await.is_err() {
            return;
        }
    }
}

/// Returns when the store says of each of the pods that it is over.
async fn told(node: &Node, uids: &BTreeSet<String>) {
    let mut changes = node.store.changes();
    loop {
        changes.borrow_and_update();
        let pods = node.pods();
        let open =
            |object: &&Arc<Object>| uids.contains(object.uid()) && pod_of(object).is_some_and(is_active);
        if pods.iter().find(open).is_none() || changes.changed().await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_pod_has_its_own_grace_but_no_more_than_there_is() {
        let pod = |seconds: Option<i64>| -> Pod {
            let spec = json!({"containers": [], "terminationGracePeriodSeconds": seconds});
            serde_json::from_value(json!({"spec": spec})).unwrap()
        };
        let of = |own, most| grace(&pod(own), Duration::from_secs(most));
        assert_eq!([of(Some(5), 20), of(Some(60), 20), of(None, 20), of(None, 60)], [5, 20, 20, 30]);
    }
}
