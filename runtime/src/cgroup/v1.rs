//! Control groups v1: one tree per controller.

mod counters;

use super::stats::{GroupStats, field};
use super::{CgroupError, devices};
use crate::plan::Resources;
use cgroups_rs::fs::cpu::CpuController;
use cgroups_rs::fs::memory::MemController;
use cgroups_rs::fs::pid::PidController;
use cgroups_rs::fs::{Hierarchy, MaxValue, Subsystem, hierarchies};
use std::fs;
use std::path::{Path, PathBuf};

/// The CPU quota's period in microseconds, as Kubernetes has it.
const PERIOD_US: u64 = 100_000;

/// Where the controllers that pods need are mounted.
#[derive(Debug, Clone)]
pub(super) struct V1 {
    cpu: PathBuf,
    cpuacct: PathBuf,
    memory: PathBuf,
    pids: PathBuf,
    devices: PathBuf,
    hugetlb: Option<PathBuf>,
    /// systemd's tree of names, so that a pod is not taken for a part of the agent's unit.
    named: Option<PathBuf>,
}

impl V1 {
    pub(super) fn detect() -> Result<Self, CgroupError> {
        let (mut cpu, mut cpuacct, mut memory, mut pids) = (None, None, None, None);
        let (mut devices, mut hugetlb, mut named) = (None, None, None);
        for subsystem in hierarchies::V1::new().subsystems() {
            let path = subsystem.to_controller().path().to_owned();
            #[allow(clippy::wildcard_enum_match_arm, reason = "pods need no other controller")]
            match subsystem {
                Subsystem::Cpu(_) => cpu = Some(path),
                Subsystem::CpuAcct(_) => cpuacct = Some(path),
                Subsystem::Mem(_) => memory = Some(path),
                Subsystem::Pid(_) => pids = Some(path),
                Subsystem::Devices(_) => devices = Some(path),
                Subsystem::HugeTlb(_) => hugetlb = Some(path),
                Subsystem::Systemd(_) => named = Some(path),
                _ => {}
            }
        }
        Ok(Self {
            cpu: cpu.ok_or(CgroupError::Controller("cpu"))?,
            cpuacct: cpuacct.ok_or(CgroupError::Controller("cpuacct"))?,
            memory: memory.ok_or(CgroupError::Controller("memory"))?,
            pids: pids.ok_or(CgroupError::Controller("pids"))?,
            devices: devices.ok_or(CgroupError::Controller("devices"))?,
            hugetlb,
            named,
        })
    }

    /// Distinct trees: cpu and cpuacct are often one.
    pub(super) fn roots(&self, group: &str) -> Vec<PathBuf> {
        let mut roots: Vec<PathBuf> = [&self.memory, &self.cpu, &self.cpuacct, &self.pids, &self.devices]
            .into_iter()
            .chain(&self.named)
            .map(|root| root.join(group))
            .collect();
        // Made for those only who have pages there.
        roots.extend(self.hugetlb.iter().map(|root| root.join(group)).filter(|group| group.is_dir()));
        roots.dedup();
        roots
    }

    /// Folder name and controllers of each tree; controllers that share a tree come together.
    pub(super) fn mounts(&self) -> Vec<(String, Vec<&'static str>)> {
        let all =
            [("memory", &self.memory), ("cpu", &self.cpu), ("cpuacct", &self.cpuacct), ("pids", &self.pids)];
        let mut mounts: Vec<(String, Vec<&'static str>)> = Vec::new();
        for (controller, path) in all {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            match mounts.iter_mut().find(|(have, _)| *have == name) {
                Some((_, controllers)) => controllers.push(controller),
                None => mounts.push((name, vec![controller])),
            }
        }
        mounts
    }

    pub(super) fn ensure(&self, group: &str, limits: &Resources) -> Result<(), CgroupError> {
        for path in self.roots(group) {
            fs::create_dir_all(&path).map_err(|source| CgroupError::Create { path, source })?;
        }
        self.limit(group, limits)
    }

    /// The group, which exists, has its limits.
    pub(super) fn limit(&self, group: &str, limits: &Resources) -> Result<(), CgroupError> {
        self.limit_hugepages(group, limits)?;
        self.limit_memory(group, limits)?;
        self.limit_cpu(group, limits)?;
        let path = self.pids.join(group);
        let most = match limits.pids {
            Some(pids) => MaxValue::Value(i64::try_from(pids).unwrap_or(i64::MAX)),
            None => MaxValue::Max,
        };
        PidController::new(path.clone(), self.pids.clone(), false)
            .set_pid_max(most)
            .map_err(|source| CgroupError::Limit { what: "pids", path, source })
    }

    /// Only the devices that `limits` names can be used in the group, which has no process yet.
    pub(super) fn guard(&self, group: &str, limits: &Resources) -> Result<(), CgroupError> {
        let Some(rules) = limits.devices.rules() else { return Ok(()) };
        let folder = self.devices.join(group);
        write(folder.join("devices.deny"), "a")?;
        rules.into_iter().try_for_each(|rule| write(folder.join("devices.allow"), &devices::word(rule)))
    }

    /// A kernel without the controller cannot keep anybody from huge pages; a kubelet asks for a
    /// limit of 0 for every size, also there. Of a size that the machine has not there is nothing
    /// to refuse.
    fn limit_hugepages(&self, group: &str, limits: &Resources) -> Result<(), CgroupError> {
        let Some(root) = self.hugetlb.as_ref().filter(|_| !limits.hugepages.is_empty()) else {
            return Ok(());
        };
        let path = root.join(group);
        fs::create_dir_all(&path).map_err(|source| CgroupError::Create { path: path.clone(), source })?;
        for (size, bytes) in &limits.hugepages {
            let file = path.join(format!("hugetlb.{}.limit_in_bytes", page_size(*size)));
            if *bytes > 0 || file.exists() {
                write(file, &bytes.to_string())?;
            }
        }
        Ok(())
    }

    fn limit_memory(&self, group: &str, limits: &Resources) -> Result<(), CgroupError> {
        let Some(bytes) = limits.memory_bytes else { return Ok(()) };
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        let path = self.memory.join(group);
        let memory = MemController::new(path.clone(), self.memory.clone(), false);
        // A limit with swap below the one without is refused, in either order.
        let swap = path.join("memory.memsw.limit_in_bytes");
        let grows = number(&path, "memory.limit_in_bytes") < bytes.cast_unsigned();
        if grows && swap.exists() {
            write(swap, &bytes.to_string())?;
        }
        memory.set_limit(bytes).map_err(|source| CgroupError::Limit {
            what: "memory",
            path: path.clone(),
            source,
        })?;
        // No swap beside it. Kernels without swap accounting lack the file.
        if path.join("memory.memsw.limit_in_bytes").exists() {
            memory.set_memswap_limit(bytes).map_err(|source| CgroupError::Limit {
                what: "swap",
                path,
                source,
            })?;
        }
        Ok(())
    }

    fn limit_cpu(&self, group: &str, limits: &Resources) -> Result<(), CgroupError> {
        let path = self.cpu.join(group);
        let cpu = CpuController::new(path.clone(), self.cpu.clone(), false);
        let fail = |source| CgroupError::Limit { what: "cpu", path: path.clone(), source };
        if let Some(shares) = limits.cpu_shares {
            cpu.set_shares(shares.clamp(2, cgroups_rs::CPU_SHARES_V1_MAX)).map_err(fail)?;
        }
        if let Some(millis) = limits.cpu_millis {
            let (quota, period) = quota_us(millis, limits.cpu_period_us);
            let quota = i64::try_from(quota).unwrap_or(i64::MAX);
            cpu.set_cfs_quota_and_period(Some(quota), Some(period)).map_err(fail)?;
        }
        Ok(())
    }

    pub(super) fn cpu_shares(&self, group: &str) -> u64 {
        number(&self.cpu.join(group), "cpu.shares")
    }

    pub(super) fn set_cpu_shares(&self, group: &str, shares: u64) -> Result<(), CgroupError> {
        let shares = shares.clamp(2, cgroups_rs::CPU_SHARES_V1_MAX);
        write(self.cpu.join(group).join("cpu.shares"), &shares.to_string())
    }

    /// The calling thread is in the group. For another process, and for all threads of one, the
    /// kernel first keeps every process of the machine from forking, which takes it about 10 ms.
    pub(super) fn enter(&self, group: &str) -> Result<(), CgroupError> {
        self.roots(group).into_iter().try_for_each(|root| write(root.join("tasks"), "0"))
    }

    /// Nothing in the group can fork any more; what was configured before is set again by `ensure`.
    pub(super) fn forbid_forks(&self, group: &str) {
        let _ = fs::write(self.pids.join(group).join("pids.max"), "0");
    }

    pub(super) fn oom_kills(&self, group: &str) -> u64 {
        let text = read(&self.memory.join(group), "memory.oom_control");
        field(&text, "oom_kill").unwrap_or(0)
    }

    pub(super) fn stats(&self, group: &str) -> GroupStats {
        let memory = self.memory.join(group);
        let usage = number(&memory, "memory.usage_in_bytes");
        let inactive = field(&read(&memory, "memory.stat"), "total_inactive_file").unwrap_or(0);
        let cpu = read(&self.cpu.join(group), "cpu.stat");
        let processes = read(&self.pids.join(group), "cgroup.procs");
        GroupStats {
            cgroup: group.to_owned(),
            memory_bytes: usage,
            working_set_bytes: usage.saturating_sub(inactive),
            cpu_nanoseconds: number(&self.cpuacct.join(group), "cpuacct.usage"),
            throttled_periods: field(&cpu, "nr_throttled").unwrap_or(0),
            pids: number(&self.pids.join(group), "pids.current"),
            processes: processes.lines().filter_map(|line| line.parse().ok()).collect(),
        }
    }
}

/// Microseconds of CPU per period, and the period; the kernel takes no less than one millisecond.
pub(super) fn quota_us(millis: u64, period_us: u64) -> (u64, u64) {
    let period = if period_us == 0 { PERIOD_US } else { period_us };
    ((millis.saturating_mul(period) / 1000).max(1000), period)
}

/// The size of a page as the kernel's files have it in their names.
pub(super) fn page_size(bytes: u64) -> String {
    match bytes {
        0..0x10_0000 => format!("{}KB", bytes >> 10),
        0x10_0000..0x4000_0000 => format!("{}MB", bytes >> 20),
        _ => format!("{}GB", bytes >> 30),
    }
}

fn write(path: PathBuf, value: &str) -> Result<(), CgroupError> {
    fs::write(&path, value).map_err(|source| CgroupError::Write { path, value: value.to_owned(), source })
}

fn read(group: &Path, file: &str) -> String {
    fs::read_to_string(group.join(file)).unwrap_or_default()
}

fn number(group: &Path, file: &str) -> u64 {
    read(group, file).trim().parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(folder: &Path, hugetlb: Option<PathBuf>) -> V1 {
        let at = |name: &str| folder.join(name);
        V1 {
            cpu: at("cpu"),
            cpuacct: at("cpuacct"),
            memory: at("memory"),
            pids: at("pids"),
            devices: at("devices"),
            hugetlb,
            named: None,
        }
    }

    #[test]
    fn huge_pages_are_limited_where_the_kernel_can() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let limits = |bytes| Resources { hugepages: [(2 << 20, bytes)].into(), ..Resources::default() };
        let without = tree(folder.path(), None);
        without.limit_hugepages("podx", &limits(0)).expect("nothing to do");
        without.limit_hugepages("podx", &limits(4 << 20)).expect("nothing that could be done");
        let hugetlb = folder.path().join("hugetlb");
        let with = tree(folder.path(), Some(hugetlb.clone()));
        let file = hugetlb.join("podx/hugetlb.2MB.limit_in_bytes");
        with.limit_hugepages("podx", &limits(0)).expect("a size that the machine has not");
        assert!(!file.exists());
        fs::write(&file, "9223372036854771712").expect("write");
        with.limit_hugepages("podx", &limits(0)).expect("a limit of nothing");
        assert_eq!(fs::read_to_string(&file).expect("read"), "0");
        with.limit_hugepages("podx", &limits(4 << 20)).expect("a limit");
        assert_eq!(fs::read_to_string(&file).expect("read"), "4194304");
    }
}
