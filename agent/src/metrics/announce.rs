//! What the world hears of addresses, as Prometheus sees it.

use super::Maker;
use netstack::{BgpState, BgpSummary};
use prometheus::{Gauge, GaugeVec};

/// Addresses that this node answers for, and sessions with routers.
#[derive(Debug, Clone)]
pub(crate) struct AnnounceMetrics {
    answered: Gauge,
    /// By `peer`.
    up: GaugeVec,
    established: GaugeVec,
    /// By `peer` and `family`.
    prefixes: GaugeVec,
}

impl AnnounceMetrics {
    pub(super) fn new(make: &Maker) -> prometheus::Result<Self> {
        Ok(Self {
            answered: make.gauge(
                "keel_announced_addresses",
                "Addresses of load balancers that this node answers for on its links.",
            )?,
            up: make.gauges("keel_bgp_session_up", "1 while a router is told.", &["peer"])?,
            established: make.gauges(
                "keel_bgp_sessions_established_total",
                "How often a session with the router was established.",
                &["peer"],
            )?,
            prefixes: make.gauges(
                "keel_bgp_announced_prefixes",
                "Networks that the router was told.",
                &["peer", "family"],
            )?,
        })
    }

    #[allow(clippy::cast_precision_loss, reason = "counts of what a machine holds")]
    pub(crate) fn answer(&self, addresses: usize) {
        self.answered.set(addresses as f64);
    }

    #[allow(clippy::cast_precision_loss, reason = "counts of what a machine holds")]
    pub(crate) fn tell(&self, summary: &BgpSummary) {
        let peer = summary.address.to_string();
        let up = if summary.state == BgpState::Established { 1.0 } else { 0.0 };
        self.up.with_label_values(&[&peer]).set(up);
        self.established.with_label_values(&[&peer]).set(summary.established as f64);
        let (v4, v6) = summary.announced;
        self.prefixes.with_label_values(&[peer.as_str(), "ipv4"]).set(v4 as f64);
        self.prefixes.with_label_values(&[peer.as_str(), "ipv6"]).set(v6 as f64);
    }

    /// The router is not told any more.
    pub(crate) fn forget(&self, summary: &BgpSummary) {
        let peer = summary.address.to_string();
        // What was never shown need not go.
        let _ = self.up.remove_label_values(&[&peer]);
        let _ = self.established.remove_label_values(&[&peer]);
        for family in ["ipv4", "ipv6"] {
            let _ = self.prefixes.remove_label_values(&[peer.as_str(), family]);
        }
    }
}
