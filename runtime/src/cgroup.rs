//! Control groups on v1, hybrid and v2 hosts, behind one face.
//!
//! A pod has a group of its own, and in it one per container. Where no process may live
//! beside children (v2) the supervisor has the leaf `supervisor`; v1 lets it live in the
//! pod's group. `cgroups-rs` finds the hierarchies and sets limits on v1; what it lacks
//! (v2 events, kill, a descriptor to be born into, waiting for the end) is here.

mod counters;
mod devices;
mod pressure;
mod stats;
mod v1;
mod v2;

pub(crate) use v2::weight;

pub use counters::Counters;
pub use pressure::{Pressure, Stall};
pub use stats::{GroupStats, PodStats};

use crate::plan::{Resources, TIERS};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The leaf of a pod's group that holds its supervisor, on v2.
const SUPERVISOR: &str = "supervisor";

/// How often removal waits for processes to end before it gives up.
const REMOVE_ROUNDS: usize = 200;

/// What can fail with control groups.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum CgroupError {
    #[error("no cgroup hierarchy with the {0} controller is mounted")]
    Controller(&'static str),
    #[error("cannot make the cgroup {path}")]
    Create { path: PathBuf, source: io::Error },
    #[error("cannot write {value:?} to {path}")]
    Write { path: PathBuf, value: String, source: io::Error },
    #[error("cannot set the {what} limit of {path}")]
    Limit { what: &'static str, path: PathBuf, source: cgroups_rs::fs::error::Error },
    #[error("cannot limit the memory of {path} to {wanted} bytes: {used} are in use")]
    InUse { path: PathBuf, wanted: u64, used: u64 },
    #[error("cannot read {path}")]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot keep {path} from devices")]
    Guard { path: PathBuf, source: io::Error },
    #[error("cannot remove the cgroup {path}")]
    Remove { path: PathBuf, source: io::Error },
}

impl CgroupError {
    /// What the kernel said, if it was asked.
    pub(crate) fn into_io(self) -> io::Error {
        match self {
            Self::Create { source, .. }
            | Self::Write { source, .. }
            | Self::Read { source, .. }
            | Self::Guard { source, .. }
            | Self::Remove { source, .. } => source,
            other @ (Self::Controller(_) | Self::Limit { .. } | Self::InUse { .. }) => {
                io::Error::other(other)
            }
        }
    }
}

/// The machine's control group hierarchies.
#[derive(Debug, Clone)]
pub struct Cgroups {
    kind: Kind,
}

#[derive(Debug, Clone)]
enum Kind {
    V1(v1::V1),
    V2(v2::V2),
}

impl Cgroups {
    /// Finds what is mounted.
    ///
    /// # Errors
    /// [`CgroupError::Controller`] if a controller that pods need is not there.
    pub fn detect() -> Result<Self, CgroupError> {
        let kind = if cgroups_rs::fs::hierarchies::is_cgroup2_unified_mode() {
            Kind::V2(v2::V2::new(Path::new(cgroups_rs::fs::hierarchies::UNIFIED_MOUNTPOINT)))
        } else {
            Kind::V1(v1::V1::detect()?)
        };
        Ok(Self { kind })
    }

    /// True on a host with the unified hierarchy alone.
    #[must_use]
    pub fn is_v2(&self) -> bool {
        matches!(self.kind, Kind::V2(_))
    }

    /// The pod's group exists with its limits.
    pub(crate) fn ensure_pod(&self, pod: &str, limits: &Resources) -> Result<(), CgroupError> {
        match &self.kind {
            Kind::V1(v1) => v1.ensure(pod, limits),
            Kind::V2(v2) => v2.ensure_pod(pod, limits),
        }
    }

    /// If the pod's group is in a tier of pods that were not guaranteed all that they may have,
    /// that tier has the share of CPU that its pods asked for together.
    pub(crate) fn balance(&self, pod: &str) {
        let Some((folder, _)) = pod.rsplit_once('/') else { return };
        let Some((_, tier)) = folder.rsplit_once('/').filter(|(_, tier)| TIERS.contains(tier)) else {
            return;
        };
        let asked = if tier == TIERS[0] {
            let pods = self.children(folder).into_iter().filter(|name| name.starts_with("pod"));
            pods.map(|pod| self.cpu_shares(&format!("{folder}/{pod}"))).sum()
        } else {
            0
        };
        // Refused when the tier is gone with its last pod's supervisor.
        let _ = self.set_cpu_shares(folder, asked);
    }

    fn cpu_shares(&self, group: &str) -> u64 {
        match &self.kind {
            Kind::V1(v1) => v1.cpu_shares(group),
            Kind::V2(v2) => v2.cpu_shares(group),
        }
    }

    fn set_cpu_shares(&self, group: &str, shares: u64) -> Result<(), CgroupError> {
        match &self.kind {
            Kind::V1(v1) => v1.set_cpu_shares(group, shares),
            Kind::V2(v2) => v2.set_cpu_shares(group, shares),
        }
    }

    /// The group, which exists, has these limits.
    pub(crate) fn limit(&self, group: &str, limits: &Resources) -> Result<(), CgroupError> {
        match &self.kind {
            Kind::V1(v1) => v1.limit(group, limits),
            Kind::V2(v2) => v2.limit(group, limits),
        }
    }

    /// The group of a container exists with its limits. Its pod's does.
    pub(crate) fn ensure_container(&self, group: &str, limits: &Resources) -> Result<(), CgroupError> {
        match &self.kind {
            Kind::V1(v1) => v1.ensure(group, limits).and_then(|()| v1.guard(group, limits)),
            Kind::V2(v2) => v2.ensure_container(group, limits),
        }
    }

    /// Where in the pod's group its supervisor lives.
    pub(crate) fn supervisor_group(&self, pod: &str) -> String {
        match &self.kind {
            Kind::V1(_) => pod.to_owned(),
            Kind::V2(_) => format!("{pod}/{SUPERVISOR}"),
        }
    }

    /// This process is in the supervisor's place in the pod's group.
    pub(crate) fn enter_as_supervisor(&self, pod: &str) -> Result<(), CgroupError> {
        let group = self.supervisor_group(pod);
        match &self.kind {
            Kind::V1(v1) => v1.enter(&group),
            Kind::V2(v2) => v2.enter(&group),
        }
    }

    /// This process is in the supervisor's place of the pod's group, which others made: on v2
    /// no process may stay in a group that has children with limits.
    pub(crate) fn descend(&self, pod: &str) -> Result<(), CgroupError> {
        if let Kind::V2(v2) = &self.kind {
            v2.ensure_supervisor(pod)?;
        }
        self.enter_as_supervisor(pod)
    }

    /// What a process can be born into; `None` on v1, where it has to [`Cgroups::enter`].
    pub(crate) fn birthplace(&self, group: &str) -> Result<Option<OwnedFd>, CgroupError> {
        match &self.kind {
            Kind::V1(_) => Ok(None),
            Kind::V2(v2) => v2.open(group).map(Some),
        }
    }

    /// This process, which has one thread and was born at the group's birthplace if it has one,
    /// is in the group.
    pub(crate) fn enter(&self, group: &str) -> Result<(), CgroupError> {
        match &self.kind {
            Kind::V1(v1) => v1.enter(group),
            Kind::V2(_) => Ok(()),
        }
    }

    /// Every process in the group and below it.
    #[must_use]
    pub fn processes(&self, group: &str) -> Vec<i32> {
        let mut found = Vec::new();
        for root in self.roots(group) {
            collect_processes(&root, &mut found);
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    /// SIGKILL was sent to every process in the group and below it, this one excepted.
    pub fn kill(&self, group: &str) {
        match &self.kind {
            Kind::V2(v2) => {
                if v2.kill(group).is_err() {
                    self.kill_one_by_one(group);
                }
            }
            Kind::V1(v1) => {
                // No new process can be born while the old ones are being killed.
                v1.forbid_forks(group);
                self.kill_one_by_one(group);
            }
        }
    }

    fn kill_one_by_one(&self, group: &str) {
        let own = i32::try_from(std::process::id()).unwrap_or(0);
        let mut before = Vec::new();
        loop {
            let mut now = self.processes(group);
            now.retain(|pid| *pid != own);
            for pid in now.iter().filter_map(|pid| Pid::from_raw(*pid)) {
                let _ = kill_process(pid, Signal::KILL);
            }
            if now.iter().all(|pid| before.contains(pid)) {
                return;
            }
            before = now;
        }
    }

    /// How many processes of this very group the kernel killed for want of memory.
    pub(crate) fn oom_kills(&self, group: &str) -> u64 {
        match &self.kind {
            Kind::V1(v1) => v1.oom_kills(group),
            Kind::V2(v2) => v2.oom_kills(group),
        }
    }

    /// What the group's controllers count and limit.
    #[must_use]
    pub fn counters(&self, group: &str) -> Counters {
        match &self.kind {
            Kind::V1(v1) => v1.counters(group),
            Kind::V2(v2) => v2.counters(group),
        }
    }

    /// What the group uses now.
    #[must_use]
    pub fn stats(&self, group: &str) -> GroupStats {
        match &self.kind {
            Kind::V1(v1) => v1.stats(group),
            Kind::V2(v2) => v2.stats(group),
        }
    }

    /// What the whole machine uses of its memory, without the page cache that could be dropped at
    /// once: as the kubelet computes it. `None` if the kernel does not say.
    pub(crate) fn machine_working_set(&self) -> Option<u64> {
        match &self.kind {
            Kind::V1(v1) => Some(v1.stats("").working_set_bytes).filter(|&bytes| bytes > 0),
            Kind::V2(v2) => v2.machine_working_set(&std::fs::read_to_string("/proc/meminfo").ok()?),
        }
    }

    /// How long the group's processes wait for what they lack; `None` on v1.
    #[must_use]
    pub fn pressure(&self, group: &str) -> Option<Pressure> {
        match &self.kind {
            Kind::V1(_) => None,
            Kind::V2(v2) => Pressure::read(&v2.path(group)),
        }
    }

    /// v1 trees as a container is to see them: folder name and controllers. Empty on v2.
    pub(crate) fn v1_mounts(&self) -> Vec<(String, Vec<&'static str>)> {
        match &self.kind {
            Kind::V1(v1) => v1.mounts(),
            Kind::V2(_) => Vec::new(),
        }
    }

    /// The group's folders, one per hierarchy.
    fn roots(&self, group: &str) -> Vec<PathBuf> {
        match &self.kind {
            Kind::V1(v1) => v1.roots(group),
            Kind::V2(v2) => vec![v2.path(group)],
        }
    }

    /// The names of the groups right below `group`, in any hierarchy.
    #[must_use]
    pub fn children(&self, group: &str) -> Vec<String> {
        let mut names: Vec<String> = self
            .roots(group)
            .iter()
            .flat_map(|root| folders(root))
            .filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()))
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The group and all below it are gone. Its processes must have been killed; this waits
    /// for the last of them to end. A group that does not exist is gone.
    ///
    /// # Errors
    /// [`CgroupError::Remove`] if a process would not end.
    pub fn remove(&self, group: &str) -> Result<(), CgroupError> {
        let mut result = Ok(());
        for _ in 0..REMOVE_ROUNDS {
            result = self.roots(group).iter().try_for_each(|root| remove_tree(root));
            if result.is_ok() {
                return result;
            }
            wait_for_end(&self.processes(group));
        }
        result
    }
}

fn folders(root: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(root) else { return Vec::new() };
    entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

fn collect_processes(root: &Path, found: &mut Vec<i32>) {
    if let Ok(text) = std::fs::read_to_string(root.join("cgroup.procs")) {
        found.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()).filter(|pid| *pid > 0));
        for folder in folders(root) {
            collect_processes(&folder, found);
        }
    }
}

fn remove_tree(root: &Path) -> Result<(), CgroupError> {
    match std::fs::remove_dir(root) {
        Ok(()) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(_) => {}
    }
    folders(root).iter().try_for_each(|folder| remove_tree(folder))?;
    match std::fs::remove_dir(root) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(CgroupError::Remove { path: root.to_owned(), source })
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Returns when one of the processes has ended, or after a moment if none can be watched:
/// a process leaves its group a little after its end is announced.
fn wait_for_end(pids: &[i32]) {
    let watched: Vec<OwnedFd> =
        pids.iter().filter_map(|pid| pidfd_open(Pid::from_raw(*pid)?, PidfdFlags::empty()).ok()).collect();
    let mut polls: Vec<PollFd<'_>> = watched.iter().map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
    let patience = if polls.is_empty() { Duration::from_millis(5) } else { Duration::from_millis(100) };
    let _ = poll(&mut polls, Timespec::try_from(patience).ok().as_ref());
}
