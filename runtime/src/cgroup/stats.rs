//! What a pod uses.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What one group uses now.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupStats {
    /// The group's name below each hierarchy's root.
    pub cgroup: String,
    /// Memory charged to it, page cache included.
    pub memory_bytes: u64,
    /// Without the page cache that could be dropped at once.
    pub working_set_bytes: u64,
    /// CPU time used since it was made, in nanoseconds.
    pub cpu_nanoseconds: u64,
    /// Times that the quota held it back.
    pub throttled_periods: u64,
    /// Processes and threads.
    pub pids: u64,
    /// Processes right in it.
    pub processes: Vec<i32>,
}

/// What a pod uses now.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodStats {
    /// The whole pod, its supervisor included.
    pub pod: GroupStats,
    /// The supervisor's own group, where it has one.
    pub supervisor: Option<GroupStats>,
    /// By the container's name.
    pub containers: BTreeMap<String, GroupStats>,
}

/// The number after `key` in a file of `key value` lines.
pub(super) fn field(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once(' ')?;
        if name == key { value.trim().parse().ok() } else { None }
    })
}
