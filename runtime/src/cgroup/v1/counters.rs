//! What v1's controllers count.

use super::{V1, number, read};
use crate::cgroup::counters::{Counters, limit};
use crate::cgroup::stats::field;

/// `cpuacct.stat` counts in hundredths of a second.
const TICK_NS: u64 = 10_000_000;

impl V1 {
    pub(in crate::cgroup) fn counters(&self, group: &str) -> Counters {
        let (cpu, accounting) = (self.cpu.join(group), self.cpuacct.join(group));
        let (memory, pids) = (self.memory.join(group), self.pids.join(group));
        let (times, throttling) = (read(&accounting, "cpuacct.stat"), read(&cpu, "cpu.stat"));
        let stat = read(&memory, "memory.stat");
        let of = |text: &str, key: &str| field(text, key).unwrap_or(0);
        Counters {
            cpu_user: of(&times, "user") * TICK_NS,
            cpu_system: of(&times, "system") * TICK_NS,
            cpu_periods: of(&throttling, "nr_periods"),
            cpu_throttled_periods: of(&throttling, "nr_throttled"),
            cpu_throttled: of(&throttling, "throttled_time"),
            cpu_shares: number(&cpu, "cpu.shares"),
            cpu_period: number(&cpu, "cpu.cfs_period_us"),
            // No quota is -1, which is no number here.
            cpu_quota: number(&cpu, "cpu.cfs_quota_us"),
            memory_cache: of(&stat, "total_cache"),
            memory_rss: of(&stat, "total_rss"),
            memory_mapped: of(&stat, "total_mapped_file"),
            memory_swap: of(&stat, "total_swap"),
            memory_max: number(&memory, "memory.max_usage_in_bytes"),
            memory_kernel: number(&memory, "memory.kmem.usage_in_bytes"),
            memory_failures: number(&memory, "memory.failcnt"),
            memory_limit: limit(&read(&memory, "memory.limit_in_bytes")),
            memory_swap_limit: limit(&read(&memory, "memory.memsw.limit_in_bytes")),
            page_faults: of(&stat, "total_pgfault"),
            major_page_faults: of(&stat, "total_pgmajfault"),
            oom_kills: self.oom_kills(group),
            pids_limit: limit(&read(&pids, "pids.max")),
        }
    }
}
