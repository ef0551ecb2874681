//! Network policies, as Prometheus sees them.

use super::Maker;
use netstack::policies::Policies;
use prometheus::{Gauge, GaugeVec};

/// What is in force on this node, and what it has ended.
#[derive(Debug, Clone)]
pub(crate) struct PolicyMetrics {
    in_force: Gauge,
    elements: Gauge,
    /// The kernel counts; by `direction`.
    dropped: GaugeVec,
}

impl PolicyMetrics {
    pub(super) fn new(make: &Maker) -> prometheus::Result<Self> {
        let dropped = make.gauges(
            "keel_network_policy_dropped_packets_total",
            "Packets of connections that no network policy allows, since the rules were made.",
            &["direction"],
        )?;
        for direction in ["ingress", "egress"] {
            dropped.with_label_values(&[direction]).set(0.0);
        }
        Ok(Self {
            in_force: make
                .gauge("keel_network_policies", "Network policies that select pods of this node.")?,
            elements: make.gauge(
                "keel_network_policy_elements",
                "Elements of the kernel's sets and maps that network policies came to.",
            )?,
            dropped,
        })
    }

    /// What is in force now.
    #[allow(clippy::cast_precision_loss, reason = "counts of what a machine holds")]
    pub(crate) fn set(&self, policies: usize, elements: usize) {
        self.in_force.set(policies as f64);
        self.elements.set(elements as f64);
    }

    /// Whether there are any in force.
    pub(crate) fn any(&self) -> bool {
        self.in_force.get() > 0.0
    }

    /// What was dropped so far; if it cannot be read, what it was before.
    #[allow(clippy::cast_precision_loss, reason = "beyond 2^53 packets it is near enough")]
    pub(crate) async fn look(&self, policies: &Policies) {
        if let Ok(dropped) = policies.dropped().await {
            self.dropped.with_label_values(&["ingress"]).set(dropped.ingress as f64);
            self.dropped.with_label_values(&["egress"]).set(dropped.egress as f64);
        }
    }
}
