//! How much the machine has left, as the kubelet reads it.

use super::decide::{Observation, Observations};
use crate::node::Node;
use manifests::config::Signal;
use rustix::fs::statvfs;
use std::path::Path;

/// What can be told now. Blocks.
pub(super) fn observe(node: &Node) -> Observations {
    let mut all = Observations::new();
    let capacity = rustix::system::sysinfo();
    let memory = capacity.totalram.saturating_mul(u64::from(capacity.mem_unit));
    if let Some(used) = node.runtime.machine_working_set() {
        let available = memory.saturating_sub(used);
        all.insert(Signal::MemoryAvailable, Observation { available, capacity: memory });
    }
    let state = &node.facts.state_dir;
    disk(state, Signal::NodefsAvailable, Signal::NodefsInodesFree, &mut all);
    disk(&state.join("images"), Signal::ImagefsAvailable, Signal::ImagefsInodesFree, &mut all);
    if let Some(pids) = pids() {
        all.insert(Signal::PidAvailable, pids);
    }
    all
}

fn disk(folder: &Path, bytes: Signal, inodes: Signal, all: &mut Observations) {
    let Ok(found) = statvfs(folder) else { return };
    let size = found.f_frsize;
    all.insert(
        bytes,
        Observation {
            available: found.f_bavail.saturating_mul(size),
            capacity: found.f_blocks.saturating_mul(size),
        },
    );
    // Some filesystems make inodes as they need them, and count none.
    if found.f_files > 0 {
        all.insert(inodes, Observation { available: found.f_ffree, capacity: found.f_files });
    }
}

/// Processes and threads that can still be made.
fn pids() -> Option<Observation> {
    let number = |path: &str| std::fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let most = number("/proc/sys/kernel/pid_max")?.min(number("/proc/sys/kernel/threads-max")?);
    let load = std::fs::read_to_string("/proc/loadavg").ok()?;
    // `0.20 0.18 0.12 1/80 11206`: the fourth is what runs and what there is.
    let there = load.split_whitespace().nth(3)?.split_once('/')?.1.parse::<u64>().ok()?;
    Some(Observation { available: most.saturating_sub(there), capacity: most })
}
