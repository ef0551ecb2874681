//! Keeps the machine alive: when memory, disk or processes run short, what can be given back is,
//! and then pods are ended, one at a time, until there is enough.
//!
//! [`decide`] and [`rank`] are the kubelet's rules; here are the effects.

pub(crate) mod decide;
mod message;
mod observe;
pub(crate) mod rank;

use super::ending::{AT_ONCE, Ending};
use super::storage::{is_active, requested};
use super::{Node, conditions, image_gc, pod_of};
use decide::{Exceeded, History, Pressure, crossed};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use manifests::config::{AgentConfiguration, Signal};
use manifests::{Kind, Object, ObjectKey};
use observe::observe;
use rank::{Candidate, rank};
use runtime::pods::PodDisk;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// The kubelet's period.
const PERIOD: Duration = Duration::from_secs(10);
/// How long the end of one pod is waited for before the next one goes.
const PATIENCE: SignedDuration = SignedDuration::from_secs(30);

/// Looks at the machine now and then, until `stop`.
///
/// # Errors
/// If a look panicked.
pub(crate) async fn run(
    node: Arc<Node>,
    configuration: Arc<AgentConfiguration>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let thresholds = configuration.node.thresholds();
    let transition = configuration.node.transition_period();
    let period = PERIOD.min(configuration.node.measure_period());
    let mut history = History::default();
    loop {
        let seen = {
            let node = Arc::clone(&node);
            tokio::task::spawn_blocking(move || observe(&node)).await?
        };
        let verdict = history.look(&thresholds, &seen, transition, Timestamp::now());
        conditions::report(&node, &verdict.pressures).await;
        if let Some(exceeded) = verdict.exceeded.filter(|_| !is_waiting(&node)) {
            let (node, configuration) = (Arc::clone(&node), Arc::clone(&configuration));
            tokio::task::spawn_blocking(move || relieve(&node, &configuration, exceeded)).await?;
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(period) => {}
        }
    }
}

/// True while a pod is being ended that has still time to do so.
fn is_waiting(node: &Node) -> bool {
    let young = Timestamp::now() - PATIENCE;
    let endings = node.endings.all();
    let active = |uid: &String| active_pods(node).iter().any(|pod| pod.uid() == uid);
    endings.iter().any(|(uid, ending)| ending.at > young && active(uid))
}

fn active_pods(node: &Node) -> Vec<Arc<Object>> {
    let mut pods = node.pods();
    pods.retain(|object| pod_of(object).is_some_and(is_active));
    pods
}

/// Gives back what nobody needs, and if that is not enough, ends one pod.
fn relieve(node: &Node, configuration: &AgentConfiguration, exceeded: Exceeded) {
    let signal = exceeded.threshold.signal;
    let about = ObjectKey::new(Kind::Node, "", node.facts.node_name.clone());
    let words = format!("Attempting to reclaim {}", message::resource(signal));
    node.note(&about, true, "EvictionThresholdMet", words);
    if Pressure::of(signal) == Pressure::Disk {
        let enough = || crossed(&exceeded.threshold, &observe(node), true).is_none();
        node.runtime.reclaim();
        let age = configuration.images.minimum_age();
        match node.images.store().prune(&image_gc::in_use(node), age, enough) {
            Ok(removed) if removed.references.is_empty() && removed.layers == 0 => {}
            Ok(removed) => tracing::info!(?removed, "unused images were removed: the disk is full"),
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "unused images could not be removed"
                );
            }
        }
        if enough() {
            return;
        }
    }
    let pods = active_pods(node);
    let mut disks = BTreeMap::new();
    let ending = node.endings.all();
    let candidates = pods.iter().filter(|object| !ending.contains_key(object.uid())).filter_map(|object| {
        let pod = pod_of(object)?;
        Some(candidate(node, object.uid(), pod, signal, &mut disks))
    });
    let Some(first) = rank(candidates.collect()).into_iter().next() else {
        let [available, least] = [exceeded.available, exceeded.least].map(super::amount::binary);
        tracing::warn!(
            signal = signal.name(),
            available,
            least,
            "the node runs short, and there is no pod to end: it takes no more (node.evictionHard)"
        );
        return;
    };
    let Some(object) = pods.iter().find(|object| object.uid() == first.uid) else { return };
    let Some(pod) = pod_of(object) else { return };
    let used = used_by_containers(node, &first.uid, signal, &disks);
    let grace = grace(pod, &exceeded, configuration.node.eviction_max_pod_grace_period);
    node.evict(object, Ending::evicted(message::message(&exceeded, pod, &used), grace));
}

fn candidate(
    node: &Node,
    uid: &str,
    pod: &Pod,
    signal: Signal,
    disks: &mut BTreeMap<String, PodDisk>,
) -> Candidate {
    let mut disk = || disks.entry(uid.to_owned()).or_insert_with(|| node.runtime.disk(uid)).total();
    let (used, requested) = match signal {
        Signal::MemoryAvailable => (node.runtime.stats(uid).pod.working_set_bytes, requested(pod, "memory")),
        Signal::NodefsAvailable | Signal::ImagefsAvailable => {
            (disk().bytes, requested(pod, "ephemeral-storage"))
        }
        Signal::NodefsInodesFree | Signal::ImagefsInodesFree => (disk().inodes, 0),
        Signal::PidAvailable => (node.runtime.stats(uid).pod.pids, 0),
    };
    let priority = pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or(0);
    Candidate { uid: uid.to_owned(), priority, used, requested }
}

fn used_by_containers(
    node: &Node,
    uid: &str,
    signal: Signal,
    disks: &BTreeMap<String, PodDisk>,
) -> BTreeMap<String, u64> {
    match signal {
        Signal::MemoryAvailable => {
            let containers = node.runtime.stats(uid).containers;
            containers.into_iter().map(|(name, stats)| (name, stats.working_set_bytes)).collect()
        }
        Signal::NodefsAvailable | Signal::ImagefsAvailable => {
            disks.get(uid).map(message::disk_of_containers).unwrap_or_default()
        }
        Signal::NodefsInodesFree | Signal::ImagefsInodesFree | Signal::PidAvailable => BTreeMap::new(),
    }
}

/// Hardly any where the threshold is hard; else the pod's own, but no more than `most`.
fn grace(pod: &Pod, exceeded: &Exceeded, most: u32) -> u32 {
    if exceeded.threshold.grace.is_none() {
        return AT_ONCE;
    }
    let own = pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds).unwrap_or(30);
    u32::try_from(own).unwrap_or(0).min(most)
}
