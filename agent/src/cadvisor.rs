//! Metrics of pods and containers, under the names and labels that cAdvisor gave them.

mod pods;
mod text;

pub(crate) use pods::Scraper;

use crate::netdev::Interface;
use runtime::cgroup::{Counters, GroupStats};
use std::fs;
use std::path::Path;

/// Name, labels beside the usual ones, what it is.
type Descriptor = (&'static str, &'static [&'static str], &'static str);

/// What every metric is labelled with.
pub(crate) const LABELS: [&str; 6] = ["id", "name", "image", "namespace", "pod", "container"];
/// Every metric. What has no values here is not in it.
pub(crate) const DESCRIPTORS: [Descriptor; 45] = [
    ("container_blkio_device_usage_total", &["device"], "Bytes that went to and from a device"),
    ("container_cpu_cfs_periods_total", &[], "Periods of the CPU quota that had something to run"),
    ("container_cpu_cfs_throttled_periods_total", &[], "Periods that the CPU quota held back"),
    ("container_cpu_cfs_throttled_seconds_total", &[], "How long the CPU quota held back"),
    ("container_cpu_system_seconds_total", &[], "CPU time in the kernel"),
    ("container_cpu_usage_seconds_total", &["cpu"], "CPU time"),
    ("container_cpu_user_seconds_total", &[], "CPU time in programs"),
    ("container_file_descriptors", &[], "Open descriptors"),
    ("container_fs_inodes_free", &["device"], "Inodes that are free"),
    ("container_fs_inodes_total", &["device"], "Inodes of the disk"),
    ("container_fs_limit_bytes", &["device"], "Bytes of the disk"),
    ("container_fs_reads_bytes_total", &["device"], "Bytes that were read"),
    ("container_fs_reads_total", &["device"], "Reads"),
    ("container_fs_usage_bytes", &["device"], "Bytes of the writable layer"),
    ("container_fs_writes_bytes_total", &["device"], "Bytes that were written"),
    ("container_fs_writes_total", &["device"], "Writes"),
    ("container_last_seen", &[], "When it was last looked at"),
    ("container_memory_cache", &[], "Bytes of page cache"),
    ("container_memory_failcnt", &[], "How often the memory limit was hit"),
    ("container_memory_failures_total", &["failure_type", "scope"], "Page faults"),
    ("container_memory_kernel_usage", &[], "Bytes of the kernel's own memory"),
    ("container_memory_mapped_file", &[], "Bytes of mapped files"),
    ("container_memory_max_usage_bytes", &[], "The most bytes that were used"),
    ("container_memory_rss", &[], "Bytes of anonymous memory"),
    ("container_memory_swap", &[], "Bytes that were swapped out"),
    ("container_memory_usage_bytes", &[], "Bytes in use, page cache included"),
    ("container_memory_working_set_bytes", &[], "Bytes in use that cannot be dropped at once"),
    ("container_network_receive_bytes_total", &["interface"], "Bytes that came"),
    ("container_network_receive_errors_total", &["interface"], "Packets that came broken"),
    ("container_network_receive_packets_dropped_total", &["interface"], "Packets that came and were dropped"),
    ("container_network_receive_packets_total", &["interface"], "Packets that came"),
    ("container_network_transmit_bytes_total", &["interface"], "Bytes that went"),
    ("container_network_transmit_errors_total", &["interface"], "Packets that could not go"),
    ("container_network_transmit_packets_dropped_total", &["interface"], "Packets that were dropped instead"),
    ("container_network_transmit_packets_total", &["interface"], "Packets that went"),
    ("container_oom_events_total", &[], "Processes that were killed for want of memory"),
    ("container_processes", &[], "Processes"),
    ("container_sockets", &[], "Open sockets"),
    ("container_spec_cpu_period", &[], "The CPU quota's period in microseconds"),
    ("container_spec_cpu_shares", &[], "CPU shares"),
    ("container_spec_memory_limit_bytes", &[], "The memory limit, 0 for none"),
    ("container_spec_memory_swap_limit_bytes", &[], "The limit of memory and swap, 0 for none"),
    ("container_start_time_seconds", &[], "When it was started"),
    ("container_threads", &[], "Threads"),
    ("container_threads_max", &[], "Most threads, 0 for no limit"),
];

/// How a metric moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Counter,
    Gauge,
}

/// How much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Amount {
    Count(u64),
    /// Told in seconds.
    Nanoseconds(u64),
}

/// One metric of a pod or container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Value {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// Of the labels beside the usual ones.
    pub(crate) more: Vec<String>,
    pub(crate) amount: Amount,
}

/// The metrics of one pod or container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sample {
    /// Of [`LABELS`].
    pub(crate) labels: [String; 6],
    pub(crate) values: Vec<Value>,
}

impl Sample {
    pub(crate) fn new(labels: [&str; 6]) -> Self {
        Self { labels: labels.map(str::to_owned), values: Vec::new() }
    }

    fn add(&mut self, kind: Kind, name: &'static str, more: &[&str], amount: Amount) {
        let more = more.iter().map(|label| (*label).to_owned()).collect();
        self.values.push(Value { name, kind, more, amount });
    }

    fn gauges<const N: usize>(&mut self, more: &[&str], values: [(&'static str, u64); N]) {
        for (name, value) in values {
            self.add(Kind::Gauge, name, more, Amount::Count(value));
        }
    }

    fn counter(&mut self, name: &'static str, more: &[&str], value: u64) {
        self.add(Kind::Counter, name, more, Amount::Count(value));
    }

    /// CPU and memory.
    pub(crate) fn add_group(&mut self, group: &GroupStats, counters: &Counters) {
        for (name, nanoseconds) in [
            ("container_cpu_cfs_throttled_seconds_total", counters.cpu_throttled),
            ("container_cpu_system_seconds_total", counters.cpu_system),
            ("container_cpu_user_seconds_total", counters.cpu_user),
        ] {
            self.add(Kind::Counter, name, &[], Amount::Nanoseconds(nanoseconds));
        }
        let used = Amount::Nanoseconds(group.cpu_nanoseconds);
        self.add(Kind::Counter, "container_cpu_usage_seconds_total", &["total"], used);
        self.counter("container_cpu_cfs_periods_total", &[], counters.cpu_periods);
        self.counter("container_cpu_cfs_throttled_periods_total", &[], counters.cpu_throttled_periods);
        self.gauges(
            &[],
            [
                ("container_spec_cpu_period", counters.cpu_period),
                ("container_spec_cpu_shares", counters.cpu_shares),
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
            ],
        );
        self.counter("container_memory_failcnt", &[], counters.memory_failures);
        let faults = "container_memory_failures_total";
        self.counter(faults, &["pgfault", "container"], counters.page_faults);
        self.counter(faults, &["pgmajfault", "container"], counters.major_page_faults);
        self.counter("container_oom_events_total", &[], counters.oom_kills);
    }

    /// Processes, and what they have open.
    pub(crate) fn add_processes(&mut self, group: &GroupStats, counters: &Counters) {
        let (mut descriptors, mut sockets) = (0, 0);
        for pid in &group.processes {
            // One that has ended meanwhile has none.
            for entry in fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten() {
                descriptors += 1;
                let target = fs::read_link(entry.path()).unwrap_or_default();
                sockets += u64::from(target.to_string_lossy().starts_with("socket:"));
            }
        }
        self.gauges(
            &[],
            [
                ("container_file_descriptors", descriptors),
                ("container_sockets", sockets),
                ("container_processes", u64::try_from(group.processes.len()).unwrap_or(0)),
                ("container_threads", group.pids),
                ("container_threads_max", counters.pids_limit),
            ],
        );
    }

    /// A writable layer of `used` bytes, on the disk of `folder`.
    pub(crate) fn add_disk(&mut self, used: u64, folder: &Path) {
        let Ok(disk) = rustix::fs::statvfs(if folder.exists() { folder } else { Path::new("/") }) else {
            return;
        };
        self.gauges(
            &["overlay"],
            [
                ("container_fs_inodes_free", disk.f_ffree),
                ("container_fs_inodes_total", disk.f_files),
                ("container_fs_limit_bytes", disk.f_blocks.saturating_mul(disk.f_frsize)),
                ("container_fs_usage_bytes", used),
            ],
        );
    }

    /// What came and went through each interface.
    pub(crate) fn add_network(&mut self, interfaces: &[Interface]) {
        for Interface { name, received, sent } in interfaces {
            for (metric, value) in [
                ("container_network_receive_bytes_total", received.bytes),
                ("container_network_receive_packets_total", received.packets),
                ("container_network_receive_errors_total", received.errors),
                ("container_network_receive_packets_dropped_total", received.dropped),
                ("container_network_transmit_bytes_total", sent.bytes),
                ("container_network_transmit_packets_total", sent.packets),
                ("container_network_transmit_errors_total", sent.errors),
                ("container_network_transmit_packets_dropped_total", sent.dropped),
            ] {
                self.counter(metric, &[name], value);
            }
        }
    }

    /// When it was started, and when it was looked at: seconds since 1970.
    pub(crate) fn add_times(&mut self, started: u64, now: u64) {
        self.gauges(&[], [("container_start_time_seconds", started), ("container_last_seen", now)]);
    }
}
