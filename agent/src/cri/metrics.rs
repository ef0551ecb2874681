//! Metrics of sandboxes and containers, under the names that cAdvisor gave them.

use super::book::{Container, Sandbox};
use super::{Cri, image, state, v1};
use jiff::Timestamp;
use runtime::cgroup::{Counters, GroupStats};
use std::fs;
use std::path::Path;
use v1::MetricType::{Counter, Gauge};

/// What every metric is labelled with.
const LABELS: [&str; 6] = ["id", "name", "image", "namespace", "pod", "container"];
/// A counter of nanoseconds is told in whole seconds.
const SECOND: u64 = 1_000_000_000;

/// Name, label beside the usual ones, what it is. What has no values here is not in it.
const DESCRIPTORS: [(&str, &str, &str); 45] = [
    ("container_blkio_device_usage_total", "device", "Bytes that went to and from a device"),
    ("container_cpu_cfs_periods_total", "", "Periods of the CPU quota that had something to run"),
    ("container_cpu_cfs_throttled_periods_total", "", "Periods that the CPU quota held back"),
    ("container_cpu_cfs_throttled_seconds_total", "", "How long the CPU quota held back"),
    ("container_cpu_system_seconds_total", "", "CPU time in the kernel"),
    ("container_cpu_usage_seconds_total", "cpu", "CPU time"),
    ("container_cpu_user_seconds_total", "", "CPU time in programs"),
    ("container_file_descriptors", "", "Open descriptors"),
    ("container_fs_inodes_free", "device", "Inodes that are free"),
    ("container_fs_inodes_total", "device", "Inodes of the disk"),
    ("container_fs_limit_bytes", "device", "Bytes of the disk"),
    ("container_fs_reads_bytes_total", "device", "Bytes that were read"),
    ("container_fs_reads_total", "device", "Reads"),
    ("container_fs_usage_bytes", "device", "Bytes of the writable layer"),
    ("container_fs_writes_bytes_total", "device", "Bytes that were written"),
    ("container_fs_writes_total", "device", "Writes"),
    ("container_last_seen", "", "When it was last looked at"),
    ("container_memory_cache", "", "Bytes of page cache"),
    ("container_memory_failcnt", "", "How often the memory limit was hit"),
    ("container_memory_failures_total", "failure_type", "Page faults"),
    ("container_memory_kernel_usage", "", "Bytes of the kernel's own memory"),
    ("container_memory_mapped_file", "", "Bytes of mapped files"),
    ("container_memory_max_usage_bytes", "", "The most bytes that were used"),
    ("container_memory_rss", "", "Bytes of anonymous memory"),
    ("container_memory_swap", "", "Bytes that were swapped out"),
    ("container_memory_usage_bytes", "", "Bytes in use, page cache included"),
    ("container_memory_working_set_bytes", "", "Bytes in use that cannot be dropped at once"),
    ("container_network_receive_bytes_total", "interface", "Bytes that came"),
    ("container_network_receive_errors_total", "interface", "Packets that came broken"),
    ("container_network_receive_packets_dropped_total", "interface", "Packets that came and were dropped"),
    ("container_network_receive_packets_total", "interface", "Packets that came"),
    ("container_network_transmit_bytes_total", "interface", "Bytes that went"),
    ("container_network_transmit_errors_total", "interface", "Packets that could not go"),
    ("container_network_transmit_packets_dropped_total", "interface", "Packets that were dropped instead"),
    ("container_network_transmit_packets_total", "interface", "Packets that went"),
    ("container_oom_events_total", "", "Processes that were killed for want of memory"),
    ("container_processes", "", "Processes"),
    ("container_sockets", "", "Open sockets"),
    ("container_spec_cpu_period", "", "The CPU quota's period in microseconds"),
    ("container_spec_cpu_shares", "", "CPU shares"),
    ("container_spec_memory_limit_bytes", "", "The memory limit, 0 for none"),
    ("container_spec_memory_swap_limit_bytes", "", "The limit of memory and swap, 0 for none"),
    ("container_start_time_seconds", "", "When it was started"),
    ("container_threads", "", "Threads"),
    ("container_threads_max", "", "Most threads, 0 for no limit"),
];

/// Metrics of one sandbox or container in the making.
struct Sample {
    at: i64,
    labels: [String; 6],
    metrics: Vec<v1::Metric>,
}

impl Sample {
    fn new(labels: [&str; 6]) -> Self {
        let at = state::nanoseconds(Timestamp::now());
        Self { at, labels: labels.map(str::to_owned), metrics: Vec::new() }
    }

    fn add(&mut self, kind: v1::MetricType, name: &str, more: &[&str], value: u64) {
        let more = more.iter().map(|label| (*label).to_owned());
        self.metrics.push(v1::Metric {
            name: name.to_owned(),
            timestamp: self.at,
            metric_type: kind.into(),
            label_values: self.labels.iter().cloned().chain(more).collect(),
            value: Some(v1::UInt64Value { value }),
        });
    }
}

pub(super) fn descriptors() -> Vec<v1::MetricDescriptor> {
    let one = |(name, more, help): &(&str, &str, &str)| v1::MetricDescriptor {
        name: (*name).to_owned(),
        help: (*help).to_owned(),
        label_keys: LABELS
            .iter()
            .chain(Some(more).filter(|more| !more.is_empty()))
            .map(ToString::to_string)
            .collect(),
    };
    DESCRIPTORS.iter().map(one).collect()
}

fn cpu(sample: &mut Sample, group: &GroupStats, counters: &Counters) {
    for (name, value) in [
        ("container_cpu_cfs_periods_total", counters.cpu_periods),
        ("container_cpu_cfs_throttled_periods_total", counters.cpu_throttled_periods),
        ("container_cpu_cfs_throttled_seconds_total", counters.cpu_throttled / SECOND),
        ("container_cpu_system_seconds_total", counters.cpu_system / SECOND),
        ("container_cpu_user_seconds_total", counters.cpu_user / SECOND),
    ] {
        sample.add(Counter, name, &[], value);
    }
    sample.add(Counter, "container_cpu_usage_seconds_total", &["total"], group.cpu_nanoseconds / SECOND);
    sample.add(Gauge, "container_spec_cpu_period", &[], counters.cpu_period);
    sample.add(Gauge, "container_spec_cpu_shares", &[], counters.cpu_shares);
}

fn memory(sample: &mut Sample, group: &GroupStats, counters: &Counters) {
    for (name, value) in [
        ("container_memory_cache", counters.memory_cache),
        ("container_memory_kernel_usage", counters.memory_kernel),
        ("container_memory_mapped_file", counters.memory_mapped),
        ("container_memory_max_usage_bytes", counters.memory_max),
        ("container_memory_rss", counters.memory_rss),
        ("container_memory_swap", counters.memory_swap),
        ("container_memory_usage_bytes", group.memory_bytes),
        ("container_memory_working_set_bytes", group.working_set_bytes),
        ("container_spec_memory_limit_bytes", counters.memory_limit),
        ("container_spec_memory_swap_limit_bytes", counters.memory_swap_limit),
    ] {
        sample.add(Gauge, name, &[], value);
    }
    sample.add(Counter, "container_memory_failcnt", &[], counters.memory_failures);
    sample.add(Counter, "container_memory_failures_total", &["pgfault"], counters.page_faults);
    sample.add(Counter, "container_memory_failures_total", &["pgmajfault"], counters.major_page_faults);
    sample.add(Counter, "container_oom_events_total", &[], counters.oom_kills);
}

fn processes(sample: &mut Sample, group: &GroupStats, counters: &Counters) {
    let (mut descriptors, mut sockets) = (0, 0);
    for pid in &group.processes {
        // One that has ended meanwhile has none.
        for entry in fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten() {
            descriptors += 1;
            let target = fs::read_link(entry.path()).unwrap_or_default();
            sockets += u64::from(target.to_string_lossy().starts_with("socket:"));
        }
    }
    let count = u64::try_from(group.processes.len()).unwrap_or(0);
    for (name, value) in [
        ("container_file_descriptors", descriptors),
        ("container_sockets", sockets),
        ("container_processes", count),
        ("container_threads", group.pids),
        ("container_threads_max", counters.pids_limit),
    ] {
        sample.add(Gauge, name, &[], value);
    }
}

fn disk(sample: &mut Sample, layer: &Path) {
    let used = image::usage(layer).used_bytes.map_or(0, |used| used.value);
    let folder = if layer.exists() { layer } else { Path::new("/") };
    let Ok(disk) = rustix::fs::statvfs(folder) else { return };
    for (name, value) in [
        ("container_fs_inodes_free", disk.f_ffree),
        ("container_fs_inodes_total", disk.f_files),
        ("container_fs_limit_bytes", disk.f_blocks.saturating_mul(disk.f_frsize)),
        ("container_fs_usage_bytes", used),
    ] {
        sample.add(Gauge, name, &["overlay"], value);
    }
}

/// Every interface but the loopback. Source: proc_pid_net(5).
fn network(sample: &mut Sample, pid: i32) {
    let text = fs::read_to_string(format!("/proc/{pid}/net/dev")).unwrap_or_default();
    for (name, numbers) in text.lines().filter_map(|line| line.split_once(':')) {
        let numbers: Vec<u64> = numbers.split_whitespace().map_while(|word| word.parse().ok()).collect();
        let (name, [rx @ .., _, _, _, _, _, _, _, _]) = (name.trim(), numbers.as_slice()) else { continue };
        let ([bytes, packets, errors, dropped, ..], tx) = (rx, &numbers[rx.len()..]) else { continue };
        if name == "lo" || tx.len() < 4 {
            continue;
        }
        for (way, values) in
            [("receive", [*bytes, *packets, *errors, *dropped]), ("transmit", [tx[0], tx[1], tx[2], tx[3]])]
        {
            for (what, value) in ["bytes", "packets", "errors", "packets_dropped"].into_iter().zip(values) {
                sample.add(Counter, &format!("container_network_{way}_{what}_total"), &[name], value);
            }
        }
    }
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
        cpu(&mut sample, group, &counters);
        memory(&mut sample, group, &counters);
        processes(&mut sample, group, &counters);
        disk(&mut sample, &self.node.runtime.pod_folder(&sandbox.id).join("layers").join(&container.id));
        let seconds = |nanoseconds: i64| u64::try_from(nanoseconds).unwrap_or(0) / SECOND;
        let started = state::container_state(self.seen(&sandbox.id).as_ref(), &container.id).started_at;
        let now = sample.at;
        sample.add(Gauge, "container_start_time_seconds", &[], seconds(started));
        sample.add(Gauge, "container_last_seen", &[], seconds(now));
        v1::ContainerMetrics { container_id: container.id.clone(), metrics: sample.metrics }
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
                network(&mut sample, seen.supervisor_pid);
            }
            let stats = self.node.runtime.stats(&sandbox.id);
            let containers = self.book.containers_of(&sandbox.id);
            let containers = containers.iter().filter_map(|container| {
                Some(self.metrics_of(sandbox, container, stats.containers.get(&container.id)?))
            });
            v1::PodSandboxMetrics {
                pod_sandbox_id: sandbox.id.clone(),
                container_metrics: containers.collect(),
                metrics: sample.metrics,
            }
        };
        all.iter().filter(|sandbox| ready(sandbox)).map(|sandbox| one(sandbox)).collect()
    }
}
