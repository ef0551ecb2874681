//! Whether a Pod may run on a node.

use super::amounts::Amounts;
use super::ledger::Room;
use super::ports::{HostPort, host_ports};
use super::selection::is_selected;
use super::taint::tolerates;
use manifests::k8s_openapi::api::core::v1::{Node, Pod, PodSpec, Taint};
use manifests::quantity::Quantity;
use std::borrow::Cow;

/// That a Pod does not want to be there.
pub(super) const UNSELECTED: &str = "node(s) didn't match Pod's node affinity/selector";
/// Every Pod but those of class BestEffort tolerates it, as Kubernetes has it.
const MEMORY_PRESSURE: &str = "node.kubernetes.io/memory-pressure";

/// What a Pod wants of a node, read once for all nodes.
#[derive(Debug)]
pub(super) struct Wanted<'p> {
    pub(super) spec: &'p PodSpec,
    pub(super) amounts: Amounts,
    ports: Vec<HostPort>,
    asks_for_something: bool,
}

impl<'p> Wanted<'p> {
    /// `None` for a Pod without a spec.
    pub(super) fn of(pod: &'p Pod) -> Option<Self> {
        let spec = pod.spec.as_ref()?;
        let amounts = Amounts::of_pod(spec);
        Some(Self { spec, amounts, ports: host_ports(spec), asks_for_something: asks_for_something(spec) })
    }

    /// True if the Pod lives with `taint`.
    pub(super) fn tolerates(&self, taint: &Taint) -> bool {
        self.spec.tolerations.iter().flatten().any(|toleration| tolerates(toleration, taint))
            || (taint.key == MEMORY_PRESSURE && taint.effect == "NoSchedule" && self.asks_for_something)
    }

    /// Why the Pod may not run on `node`, which has `room`, in the words of Kubernetes'
    /// scheduler; nothing if it may.
    pub(super) fn refusals(&self, node: &Node, room: &Room) -> Vec<Cow<'static, str>> {
        if let Some(refusal) = self.repelled(node) {
            return vec![refusal];
        }
        if !is_selected(self.spec, node) {
            return vec![UNSELECTED.into()];
        }
        if self.ports.iter().any(|port| room.ports.iter().any(|taken| port.collides(taken))) {
            return vec!["node(s) didn't have free ports for the requested pod ports".into()];
        }
        self.lacks(room)
    }

    /// By the node's cordon and taints.
    fn repelled(&self, node: &Node) -> Option<Cow<'static, str>> {
        let spec = node.spec.as_ref()?;
        if spec.unschedulable == Some(true) {
            let cordon = Taint {
                key: "node.kubernetes.io/unschedulable".into(),
                effect: "NoSchedule".into(),
                ..Taint::default()
            };
            if !self.tolerates(&cordon) {
                return Some("node(s) were unschedulable".into());
            }
        }
        let mut taints = spec.taints.iter().flatten();
        let taint = taints.find(|taint| taint.effect != "PreferNoSchedule" && !self.tolerates(taint))?;
        let value = taint.value.as_deref().unwrap_or_default();
        Some(format!("node(s) had untolerated taint {{{}: {value}}}", taint.key).into())
    }

    /// What there is not enough of. Who asks for nothing of a resource gets that everywhere.
    fn lacks(&self, room: &Room) -> Vec<Cow<'static, str>> {
        let (wanted, used, all) = (&self.amounts, &room.used, &room.allocatable);
        let short = |wanted: i64, used: i64, all: i64| wanted > 0 && wanted > all.saturating_sub(used);
        let mut lacks = Vec::new();
        let mut check = |is_short: bool, refusal: &'static str| {
            if is_short {
                lacks.push(Cow::Borrowed(refusal));
            }
        };
        check(short(wanted.pods, used.pods, all.pods), "Too many pods");
        check(short(wanted.cpu_millis, used.cpu_millis, all.cpu_millis), "Insufficient cpu");
        check(short(wanted.memory_bytes, used.memory_bytes, all.memory_bytes), "Insufficient memory");
        check(
            short(wanted.storage_bytes, used.storage_bytes, all.storage_bytes),
            "Insufficient ephemeral-storage",
        );
        for (name, amount) in &wanted.other {
            let of = |amounts: &Amounts| amounts.other.get(name).copied().unwrap_or(0);
            if short(*amount, of(used), of(all)) {
                lacks.push(format!("Insufficient {name}").into());
            }
        }
        lacks
    }
}

/// False for a Pod of class BestEffort.
fn asks_for_something(spec: &PodSpec) -> bool {
    let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let mut all = containers.filter_map(|container| container.resources.as_ref()).chain(&spec.resources);
    all.any(|resources| {
        let amounts = [&resources.requests, &resources.limits].into_iter().flatten();
        amounts.flatten().any(|(name, amount)| {
            matches!(name.as_str(), "cpu" | "memory")
                && Quantity::parse(&amount.0).is_ok_and(|amount| amount.millis_ceil() > 0)
        })
    })
}
