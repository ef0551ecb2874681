//! What a group's controllers count and limit, for metrics.

/// Of one group; 0 where the kernel does not say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// In programs, in nanoseconds.
    pub cpu_user: u64,
    /// In the kernel, in nanoseconds.
    pub cpu_system: u64,
    /// Periods of the quota that had something to run.
    pub cpu_periods: u64,
    /// Those in which the quota held something back.
    pub cpu_throttled_periods: u64,
    /// For how long, in nanoseconds.
    pub cpu_throttled: u64,
    /// In v1 shares.
    pub cpu_shares: u64,
    /// Of the quota, in microseconds.
    pub cpu_period: u64,
    /// In microseconds per period; 0 for no quota.
    pub cpu_quota: u64,
    /// Page cache, in bytes.
    pub memory_cache: u64,
    /// Anonymous memory, in bytes.
    pub memory_rss: u64,
    /// Mapped files, in bytes.
    pub memory_mapped: u64,
    /// Swapped out, in bytes.
    pub memory_swap: u64,
    /// The most that was used, in bytes.
    pub memory_max: u64,
    /// The kernel's own for it, in bytes.
    pub memory_kernel: u64,
    /// How often the limit was hit.
    pub memory_failures: u64,
    /// In bytes; 0 for none.
    pub memory_limit: u64,
    /// In bytes; 0 for none.
    pub memory_swap_limit: u64,
    /// Page faults.
    pub page_faults: u64,
    /// Those that needed the disk.
    pub major_page_faults: u64,
    /// Processes that were killed for want of memory.
    pub oom_kills: u64,
    /// Most processes and threads; 0 for no limit.
    pub pids_limit: u64,
}

/// A limit as a number, 0 for none: `max`, or more than any machine has.
pub(super) fn limit(text: &str) -> u64 {
    text.trim().parse().ok().filter(|value| *value < 1 << 60).unwrap_or(0)
}
