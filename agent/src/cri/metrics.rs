//! Metrics of sandboxes and containers, in the interface's words.

use super::book::{Container, Sandbox};
use super::{Cri, image, state, v1};
use crate::cadvisor::{Amount, DESCRIPTORS, Kind, LABELS, Sample};
use crate::netdev;
use jiff::Timestamp;
use runtime::cgroup::GroupStats;

/// A counter of nanoseconds is told in whole seconds.
const SECOND: u64 = 1_000_000_000;

/// The metrics of the sample, taken now.
fn metrics(sample: &Sample) -> Vec<v1::Metric> {
    let timestamp = state::nanoseconds(Timestamp::now());
    let one = |value: &crate::cadvisor::Value| {
        let metric_type = match value.kind {
            Kind::Counter => v1::MetricType::Counter,
            Kind::Gauge => v1::MetricType::Gauge,
        };
        let amount = match value.amount {
            Amount::Count(count) => count,
            Amount::Nanoseconds(nanoseconds) => nanoseconds / SECOND,
        };
        v1::Metric {
            name: value.name.to_owned(),
            timestamp,
            metric_type: metric_type.into(),
            label_values: sample.labels.iter().chain(&value.more).cloned().collect(),
            value: Some(v1::UInt64Value { value: amount }),
        }
    };
    sample.values.iter().map(one).collect()
}

pub(super) fn descriptors() -> Vec<v1::MetricDescriptor> {
    let one = |(name, more, help): (&str, &[&str], &str)| v1::MetricDescriptor {
        name: name.to_owned(),
        help: help.to_owned(),
        label_keys: LABELS.iter().chain(more).map(ToString::to_string).collect(),
    };
    DESCRIPTORS.into_iter().map(one).collect()
}

impl Cri {
    fn metrics_of(
        &self,
        sandbox: &Sandbox,
        container: &Container,
        group: &GroupStats,
    ) -> v1::ContainerMetrics {
        let (pod, own) = (sandbox.config.metadata.as_ref(), container.config.metadata.as_ref());
        let (namespace, pod) = pod.map_or(("", ""), |pod| (pod.namespace.as_str(), pod.name.as_str()));
        let name = own.map_or("", |own| own.name.as_str());
        let mut sample = Sample::new([&container.id, name, &container.image_ref, namespace, pod, name]);
        let counters = self.node.runtime.counters(&group.cgroup);
        sample.add_group(group, &counters);
        sample.add_processes(group, &counters);
        let layer = self.node.runtime.pod_folder(&sandbox.id).join("layers").join(&container.id);
        sample.add_disk(image::usage(&layer).used_bytes.map_or(0, |used| used.value), &layer);
        let seconds = |nanoseconds: i64| u64::try_from(nanoseconds).unwrap_or(0) / SECOND;
        let started = state::container_state(self.seen(&sandbox.id).as_ref(), &container.id).started_at;
        sample.add_times(seconds(started), seconds(state::nanoseconds(Timestamp::now())));
        v1::ContainerMetrics { container_id: container.id.clone(), metrics: metrics(&sample) }
    }

    /// Of sandboxes that are ready, and what runs in them. Blocking.
    pub(super) fn sandbox_metrics(&self) -> Vec<v1::PodSandboxMetrics> {
        let observed = self.node.runtime.observe();
        let ready = |sandbox: &Sandbox| {
            state::sandbox_state(observed.get(&sandbox.id)) == v1::PodSandboxState::SandboxReady
        };
        let all = self.book.sandboxes();
        let one = |sandbox: &Sandbox| {
            let metadata = sandbox.config.metadata.clone().unwrap_or_default();
            let mut sample =
                Sample::new([&sandbox.id, &metadata.name, "", &metadata.namespace, &metadata.name, ""]);
            if let Some(seen) =
                observed.get(&sandbox.id).filter(|_| !super::pod::has_host_network(&sandbox.config))
            {
                sample.add_network(&netdev::of_process(seen.supervisor_pid));
            }
            let stats = self.node.runtime.stats(&sandbox.id);
            let containers = self.book.containers_of(&sandbox.id);
            let containers = containers.iter().filter_map(|container| {
                Some(self.metrics_of(sandbox, container, stats.containers.get(&container.id)?))
            });
            v1::PodSandboxMetrics {
                pod_sandbox_id: sandbox.id.clone(),
                container_metrics: containers.collect(),
                metrics: metrics(&sample),
            }
        };
        all.iter().filter(|sandbox| ready(sandbox)).map(|sandbox| one(sandbox)).collect()
    }
}
