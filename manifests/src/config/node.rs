//! What a node keeps for itself, when it ends pods to stay alive, and how it goes down. The names
//! and their meaning are those of `KubeletConfiguration`.

use crate::duration;
use crate::path::Path;
use crate::quantity::Quantity;
use crate::report::Report;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

type Words = BTreeMap<String, String>;

/// How the node cares for itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct NodeConfiguration {
    /// What the agent and its like need: `cpu`, `memory`, `ephemeral-storage`, `pid`.
    pub kube_reserved: Words,
    /// What the rest of the system needs.
    pub system_reserved: Words,
    /// Below so much of a signal, pods are ended at once: `memory.available: 100Mi`, or `10%`.
    pub eviction_hard: Words,
    /// Below so much for longer than its grace period, pods are ended gracefully.
    pub eviction_soft: Words,
    /// How long a soft threshold may be crossed, as `1m30s`.
    pub eviction_soft_grace_period: Words,
    /// Most seconds that a pod may take to end when a soft threshold is crossed.
    pub eviction_max_pod_grace_period: u32,
    /// So much more than the threshold is reclaimed.
    pub eviction_minimum_reclaim: Words,
    /// A pressure is over when it has not been seen for so long.
    pub eviction_pressure_transition_period: String,
    /// How often the disk usage of pods is measured.
    pub volume_stats_agg_period: String,
    /// How long a shutdown of the machine waits for its pods; `0s` for not at all.
    pub shutdown_grace_period: String,
    /// The part of it that is kept for critical pods.
    pub shutdown_grace_period_critical_pods: String,
}

impl Default for NodeConfiguration {
    fn default() -> Self {
        let hard = [
            ("imagefs.available", "15%"),
            ("imagefs.inodesFree", "5%"),
            ("memory.available", "100Mi"),
            ("nodefs.available", "10%"),
            ("nodefs.inodesFree", "5%"),
        ];
        Self {
            kube_reserved: Words::new(),
            system_reserved: Words::new(),
            eviction_hard: hard.map(|(signal, value)| (signal.to_owned(), value.to_owned())).into(),
            eviction_soft: Words::new(),
            eviction_soft_grace_period: Words::new(),
            eviction_max_pod_grace_period: 0,
            eviction_minimum_reclaim: Words::new(),
            eviction_pressure_transition_period: "5m".into(),
            volume_stats_agg_period: "1m".into(),
            shutdown_grace_period: "0s".into(),
            shutdown_grace_period_critical_pods: "0s".into(),
        }
    }
}

/// What a node runs short of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the names are Kubernetes' own")]
pub enum Signal {
    MemoryAvailable,
    NodefsAvailable,
    NodefsInodesFree,
    ImagefsAvailable,
    ImagefsInodesFree,
    PidAvailable,
}

impl Signal {
    /// In the order in which pressures are looked at: memory first.
    pub const ALL: [Self; 6] = [
        Self::MemoryAvailable,
        Self::NodefsAvailable,
        Self::NodefsInodesFree,
        Self::ImagefsAvailable,
        Self::ImagefsInodesFree,
        Self::PidAvailable,
    ];

    /// As the configuration has it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::MemoryAvailable => "memory.available",
            Self::NodefsAvailable => "nodefs.available",
            Self::NodefsInodesFree => "nodefs.inodesFree",
            Self::ImagefsAvailable => "imagefs.available",
            Self::ImagefsInodesFree => "imagefs.inodesFree",
            Self::PidAvailable => "pid.available",
        }
    }

    fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|signal| signal.name() == name)
    }
}

/// An amount, or a share of a capacity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// In whole units of the signal.
    Amount(u64),
    /// In thousandths of a percent.
    MilliPercent(u64),
}

impl Share {
    fn parse(text: &str) -> Option<Self> {
        let quantity = Quantity::parse(text.strip_suffix('%').unwrap_or(text)).ok()?;
        if text.ends_with('%') {
            u64::try_from(quantity.millis_ceil()).ok().map(Self::MilliPercent)
        } else {
            u64::try_from(quantity.bytes_ceil()).ok().map(Self::Amount)
        }
    }

    /// Of this capacity.
    #[must_use]
    pub fn of(self, capacity: u64) -> u64 {
        match self {
            Self::Amount(amount) => amount,
            Self::MilliPercent(share) => {
                let part = u128::from(capacity) * u128::from(share) / 100_000;
                u64::try_from(part).unwrap_or(u64::MAX)
            }
        }
    }

    /// 0 % and 100 % mean that there is no threshold.
    const fn is_none(self) -> bool {
        matches!(self, Self::MilliPercent(0 | 100_000))
    }
}

/// Below which amount of a signal something is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Threshold {
    /// Of what.
    pub signal: Signal,
    /// How much must be there.
    pub least: Share,
    /// How long less may be there; `None` if not at all.
    pub grace: Option<Duration>,
    /// How much more must be there before enough was done.
    pub reclaim: Option<Share>,
}

impl NodeConfiguration {
    /// Every threshold, hard ones before soft ones of the same signal.
    #[must_use]
    pub fn thresholds(&self) -> Vec<Threshold> {
        let mut all = Vec::new();
        for signal in Signal::ALL {
            let share = |words: &Words| words.get(signal.name()).and_then(|text| Share::parse(text));
            let reclaim = share(&self.eviction_minimum_reclaim);
            let soft_grace = self.eviction_soft_grace_period.get(signal.name());
            let soft_grace = soft_grace.and_then(|text| duration::parse(text));
            let hard = share(&self.eviction_hard).map(|least| (least, None));
            let soft = share(&self.eviction_soft).zip(soft_grace).map(|(least, grace)| (least, Some(grace)));
            for (least, grace) in hard.into_iter().chain(soft).filter(|(least, _)| !least.is_none()) {
                all.push(Threshold { signal, least, grace, reclaim });
            }
        }
        all
    }

    /// What is kept of `resource` for other things than pods, in thousandths for `cpu`, else in
    /// whole units.
    #[must_use]
    pub fn reserved(&self, resource: &str) -> u64 {
        let amount = |words: &Words| {
            let quantity = words.get(resource).and_then(|text| Quantity::parse(text).ok());
            let whole = quantity.map_or(0, |quantity| {
                if resource == "cpu" { quantity.millis_ceil() } else { quantity.bytes_ceil() }
            });
            u64::try_from(whole).unwrap_or(0)
        };
        amount(&self.kube_reserved).saturating_add(amount(&self.system_reserved))
    }

    /// `evictionPressureTransitionPeriod` as a duration.
    #[must_use]
    pub fn transition_period(&self) -> Duration {
        duration::parse(&self.eviction_pressure_transition_period).unwrap_or(Duration::from_secs(300))
    }

    /// `volumeStatsAggPeriod` as a duration of at least 100 milliseconds.
    #[must_use]
    pub fn measure_period(&self) -> Duration {
        let period = duration::parse(&self.volume_stats_agg_period).unwrap_or(Duration::from_secs(60));
        period.max(Duration::from_millis(100))
    }

    /// What a shutdown leaves to ordinary pods and then to critical ones; `None` if it does not
    /// wait.
    #[must_use]
    pub fn shutdown_graces(&self) -> Option<(Duration, Duration)> {
        let whole = duration::parse(&self.shutdown_grace_period).filter(|whole| !whole.is_zero())?;
        let critical = duration::parse(&self.shutdown_grace_period_critical_pods).unwrap_or_default();
        Some((whole.saturating_sub(critical), critical))
    }
}

const RESERVABLE: [&str; 4] = ["cpu", "memory", "ephemeral-storage", "pid"];

pub(super) fn check(node: &NodeConfiguration, at: &Path<'_>, report: &mut Report<'_>) {
    for (field, words) in [("kubeReserved", &node.kube_reserved), ("systemReserved", &node.system_reserved)] {
        let at = at.field(field);
        for (name, text) in words {
            report.one_of(&at.key(name), Some(name), &RESERVABLE);
            if Quantity::parse(text).map_or(true, |quantity| quantity.is_negative()) {
                let message = format!("`{text}` is no amount");
                report.error_with(&at.key(name), "bad-quantity", message, Some("write `500m`, `1Gi`".into()));
            }
        }
    }
    shares(&node.eviction_hard, &at.field("evictionHard"), report);
    shares(&node.eviction_soft, &at.field("evictionSoft"), report);
    shares(&node.eviction_minimum_reclaim, &at.field("evictionMinimumReclaim"), report);
    let soft = at.field("evictionSoft");
    for signal in node.eviction_soft.keys() {
        if !node.eviction_soft_grace_period.contains_key(signal) {
            let message = format!("a soft threshold needs its evictionSoftGracePeriod; {signal} has none");
            report.error(&soft.key(signal), "missing-field", message);
        }
    }
    let graces = at.field("evictionSoftGracePeriod");
    for (signal, text) in &node.eviction_soft_grace_period {
        known(signal, &graces.key(signal), report);
        time(text, &graces.key(signal), report);
    }
    time(&node.eviction_pressure_transition_period, &at.field("evictionPressureTransitionPeriod"), report);
    time(&node.volume_stats_agg_period, &at.field("volumeStatsAggPeriod"), report);
    shutdown(node, at, report);
}

fn shutdown(node: &NodeConfiguration, at: &Path<'_>, report: &mut Report<'_>) {
    let whole = time(&node.shutdown_grace_period, &at.field("shutdownGracePeriod"), report);
    let path = at.field("shutdownGracePeriodCriticalPods");
    let critical = time(&node.shutdown_grace_period_critical_pods, &path, report);
    let (Some(whole), Some(critical)) = (whole, critical) else { return };
    if critical > whole {
        let message = "critical pods get a part of shutdownGracePeriod: it cannot be longer than that";
        report.error(&path, "out-of-range", message);
    }
    if !whole.is_zero() && whole < Duration::from_secs(1) {
        let message = "a shutdown waits for at least a second, or with `0s` not at all";
        report.error(&at.field("shutdownGracePeriod"), "out-of-range", message);
    }
}

fn known(signal: &str, at: &Path<'_>, report: &mut Report<'_>) {
    report.one_of(at, Some(signal), &Signal::ALL.map(Signal::name));
}

fn shares(words: &Words, at: &Path<'_>, report: &mut Report<'_>) {
    for (signal, text) in words {
        let at = at.key(signal);
        known(signal, &at, report);
        if Signal::parse(signal).is_none() {
            continue;
        }
        match Share::parse(text) {
            Some(Share::MilliPercent(share)) if share > 100_000 => {
                report.error(&at, "out-of-range", format!("{text} is more than there can be"));
            }
            Some(_) => {}
            None => {
                let help = Some("write it as `500Mi` or `10%`".to_owned());
                report.error_with(&at, "bad-quantity", format!("`{text}` is no amount and no share"), help);
            }
        }
    }
}

/// The duration at `at`, or an error there.
fn time(text: &str, at: &Path<'_>, report: &mut Report<'_>) -> Option<Duration> {
    let parsed = duration::parse(text);
    if parsed.is_none() {
        let help = Some("write it like `30s`, `5m` or `1h30m`".to_owned());
        report.error_with(at, "bad-duration", format!("`{text}` is no duration"), help);
    }
    parsed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_are_read_as_the_kubelet_does() {
        let words = |list: &[(&str, &str)]| {
            list.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect::<Words>()
        };
        let node = NodeConfiguration {
            eviction_hard: words(&[("memory.available", "1Gi"), ("nodefs.available", "0%")]),
            eviction_soft: words(&[("memory.available", "12.5%")]),
            eviction_soft_grace_period: words(&[("memory.available", "1m30s")]),
            eviction_minimum_reclaim: words(&[("memory.available", "10Mi")]),
            ..NodeConfiguration::default()
        };
        let reclaim = Some(Share::Amount(10 << 20));
        let signal = Signal::MemoryAvailable;
        let hard = Threshold { signal, least: Share::Amount(1 << 30), grace: None, reclaim };
        let grace = Some(Duration::from_secs(90));
        let soft = Threshold { signal, least: Share::MilliPercent(12_500), grace, reclaim };
        assert_eq!(node.thresholds(), [hard, soft]);
        assert_eq!(soft.least.of(8 << 30), 1 << 30);
    }

    #[test]
    fn a_shutdown_is_shared_between_ordinary_and_critical_pods() {
        let of = |whole: &str, critical: &str| {
            let node = NodeConfiguration {
                shutdown_grace_period: whole.into(),
                shutdown_grace_period_critical_pods: critical.into(),
                ..NodeConfiguration::default()
            };
            node.shutdown_graces().map(|(one, other)| (one.as_secs(), other.as_secs()))
        };
        assert_eq!(of("0s", "0s"), None);
        assert_eq!(of("30s", "10s"), Some((20, 10)));
    }
}
