//! The node loop: makes the pods that are bound to this node real, and reports
//! what became of them.

mod amount;
pub(crate) mod bindings;
mod conditions;
pub(crate) mod config_volumes;
pub(crate) mod ending;
pub(crate) mod ephemeral;
pub(crate) mod hands;
pub(crate) mod hardware;
pub(crate) mod host_ports;
pub(crate) mod image_gc;
pub(crate) mod keeper;
mod memory;
pub(crate) mod network;
mod notes;
mod order;
pub(crate) mod plugins;
pub(crate) mod pressure;
mod pull;
pub(crate) mod reconcile;
pub(crate) mod registration;
pub(crate) mod resize;
pub(crate) mod resources;
mod runtime_class;
mod service_account;
pub(crate) mod shutdown;
pub(crate) mod storage;
pub(crate) mod wireguard;
pub(crate) mod work;

use crate::announce::Announced;
use crate::metrics::Metrics;
use crate::policies::Gate;
use bindings::Binding;
use ending::{Ending, Endings};
use k8s_openapi::api::core::v1::Pod;
use keeper::Keeper;
use manifests::{Object, ObjectKey};
use network::PodNetwork;
use reconciler::controllers::Note;
use reconciler::events::Recorder;
use reconciler::store::Store;
use runtime::image::registry::Puller;
use runtime::plan::NodeFacts;
use runtime::pods::Runtime;
use runtime::token::TokenKey;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::sync::watch;

/// What this node does its work with.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) store: Arc<Store>,
    pub(crate) runtime: Runtime,
    pub(crate) network: PodNetwork,
    /// Where pods wait for the policies that select them.
    pub(crate) gate: Gate,
    pub(crate) images: Arc<Puller>,
    pub(crate) facts: NodeFacts,
    /// Signs the tokens of pods.
    pub(crate) tokens: TokenKey,
    pub(crate) recorder: Recorder,
    pub(crate) metrics: Metrics,
    /// Pods that the node itself ends.
    pub(crate) endings: Endings,
    /// True while the machine goes down: nothing is started then.
    pub(crate) closing: watch::Sender<bool>,
    /// What the world hears of addresses from this node.
    pub(crate) announced: watch::Sender<Announced>,
}

/// Pods, by uid.
type Pods = BTreeMap<String, Arc<Object>>;

impl Node {
    /// The loop that keeps this node's pods, which `binding` tells of.
    pub(crate) fn keeper(self: &Arc<Self>, binding: Binding) -> Keeper<Self> {
        Keeper {
            store: Arc::clone(&self.store),
            binding,
            host_ips: self.facts.host_ips.clone(),
            recorder: self.recorder.clone(),
            metrics: self.metrics.clone(),
            endings: self.endings.clone(),
            closing: self.closing.clone(),
            hands: Arc::clone(self),
        }
    }

    /// What is known of the node, with what its network says.
    pub(crate) fn facts_now(&self) -> NodeFacts {
        let mut facts = self.facts.clone();
        if let (Some(dns), Ok(network)) = (&mut facts.dns, self.network.get()) {
            dns.servers = crate::dns::address(&network).iter().map(ToString::to_string).collect();
        }
        facts
    }

    /// The pods bound to this node.
    pub(crate) fn pods(&self) -> Vec<Arc<Object>> {
        self.store.read(|state| state.bound_to(&self.facts.node_name).cloned().collect())
    }

    /// Nothing is left on the machine of pods that neither the store nor the runtime
    /// knows. What cannot be removed is logged, and tried again at the next start.
    pub(crate) async fn sweep(&self) {
        let mut live: BTreeSet<String> = self.runtime.observe().into_keys().collect();
        live.extend(self.pods().iter().map(|pod| pod.uid().to_owned()));
        match self.network.sweep(&live).await {
            Ok(removed) if removed.is_empty() => {}
            Ok(removed) => tracing::info!(?removed, "links of pods that are gone were removed"),
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "cannot sweep the pod network")
            }
        }
    }

    /// The pod will be ended, and is told why.
    pub(crate) fn evict(&self, pod: &Object, ending: Ending) {
        let message = ending.message.trim_end().to_owned();
        if self.endings.add(pod.uid(), ending) {
            tracing::warn!(pod = %pod.key(), message, "pod is evicted");
            self.note(&pod.key(), true, "Evicted", message);
        }
    }

    /// The pressures that the Node object tells of, as its conditions are called.
    pub(crate) fn pressures(&self) -> Vec<&'static str> {
        conditions::told(self).into_iter().map(conditions::name).collect()
    }

    /// Records an event about a pod.
    fn note(&self, about: &ObjectKey, warning: bool, reason: &'static str, message: String) {
        self.recorder.record(Note { about: about.clone(), warning, reason, message });
    }
}

fn pod_of(object: &Object) -> Option<&Pod> {
    object.try_into().ok()
}
