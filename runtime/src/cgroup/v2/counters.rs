//! What v2's controllers count.

use super::{V2, read};
use crate::cgroup::counters::{Counters, limit};
use crate::cgroup::stats::field;

impl V2 {
    pub(in crate::cgroup) fn counters(&self, group: &str) -> Counters {
        let folder = self.path(group);
        let (cpu, memory) = (read(&folder, "cpu.stat"), read(&folder, "memory.stat"));
        let events = read(&folder, "memory.events");
        let of = |text: &str, key: &str| field(text, key).unwrap_or(0);
        let number = |file: &str| read(&folder, file).trim().parse().unwrap_or(0);
        let quota = read(&folder, "cpu.max");
        let (quota, period) = quota.trim().split_once(' ').unwrap_or(("max", "0"));
        let weight: u64 = number("cpu.weight");
        Counters {
            cpu_user: of(&cpu, "user_usec") * 1000,
            cpu_system: of(&cpu, "system_usec") * 1000,
            cpu_periods: of(&cpu, "nr_periods"),
            cpu_throttled_periods: of(&cpu, "nr_throttled"),
            cpu_throttled: of(&cpu, "throttled_usec") * 1000,
            cpu_shares: super::shares(weight),
            cpu_period: period.parse().unwrap_or(0),
            cpu_quota: limit(quota),
            memory_cache: of(&memory, "file"),
            memory_rss: of(&memory, "anon"),
            memory_mapped: of(&memory, "file_mapped"),
            memory_swap: number("memory.swap.current"),
            memory_max: number("memory.peak"),
            memory_kernel: of(&memory, "kernel"),
            memory_failures: of(&events, "max"),
            memory_limit: limit(&read(&folder, "memory.max")),
            memory_swap_limit: limit(&read(&folder, "memory.swap.max")),
            page_faults: of(&memory, "pgfault"),
            major_page_faults: of(&memory, "pgmajfault"),
            oom_kills: of(&events, "oom_kill"),
            pids_limit: limit(&read(&folder, "pids.max")),
        }
    }
}
