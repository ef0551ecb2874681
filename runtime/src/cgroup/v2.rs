//! Control groups v2: one tree.

mod counters;

use super::stats::{GroupStats, field};
use super::v1::{page_size, quota_us};
use super::{CgroupError, SUPERVISOR, devices};
use crate::plan::Resources;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

/// What pods need, in each ancestor's `cgroup.subtree_control`.
const CONTROLLERS: [&str; 3] = ["cpu", "memory", "pids"];
/// What some kernels lack, and few pods need.
const OPTIONAL: [&str; 1] = ["hugetlb"];

/// The unified tree.
#[derive(Debug, Clone)]
pub(super) struct V2 {
    root: PathBuf,
}

impl V2 {
    pub(super) fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    pub(super) fn path(&self, group: &str) -> PathBuf {
        self.root.join(group)
    }

    /// The pod's group with its limits, and the leaf of its supervisor.
    pub(super) fn ensure_pod(&self, pod: &str, limits: &Resources) -> Result<(), CgroupError> {
        let mut folder = self.root.clone();
        for name in Path::new(pod).components() {
            enable_controllers(&folder)?;
            folder.push(name);
            create(&folder)?;
        }
        enable_controllers(&folder)?;
        limit(&folder, limits)?;
        create(&folder.join(SUPERVISOR))
    }

    pub(super) fn ensure_supervisor(&self, pod: &str) -> Result<(), CgroupError> {
        create(&self.path(pod).join(SUPERVISOR))
    }

    pub(super) fn ensure_container(&self, group: &str, limits: &Resources) -> Result<(), CgroupError> {
        let folder = self.path(group);
        create(&folder)?;
        limit(&folder, limits)?;
        if let Some(rules) = limits.devices.rules() {
            let opened = self.open(group)?;
            devices::guard(opened.as_fd(), rules)
                .map_err(|source| CgroupError::Guard { path: folder.clone(), source })?;
        }
        // Kubernetes' choice on v2: a container that lost one process to the OOM killer is
        // not left running half.
        write(&folder.join("memory.oom.group"), "1")
    }

    /// The group, which exists, has these limits.
    ///
    /// # Errors
    /// Also if more memory is used than the limit: the kernel would not refuse, but kill for it.
    pub(super) fn limit(&self, group: &str, limits: &Resources) -> Result<(), CgroupError> {
        let path = self.path(group);
        let used = self.stats(group).working_set_bytes;
        if let Some(wanted) = limits.memory_bytes.filter(|wanted| *wanted < used) {
            return Err(CgroupError::InUse { path, wanted, used });
        }
        limit(&path, limits)
    }

    /// What the group's weight is in v1's shares.
    pub(super) fn cpu_shares(&self, group: &str) -> u64 {
        shares(read(&self.path(group), "cpu.weight").trim().parse().unwrap_or(1))
    }

    pub(super) fn set_cpu_shares(&self, group: &str, shares: u64) -> Result<(), CgroupError> {
        write(&self.path(group).join("cpu.weight"), &weight(shares).to_string())
    }

    pub(super) fn open(&self, group: &str) -> Result<OwnedFd, CgroupError> {
        let path = self.path(group);
        match fs::File::open(&path) {
            Ok(file) => Ok(file.into()),
            Err(source) => Err(CgroupError::Read { path, source }),
        }
    }

    /// This process is in the group.
    pub(super) fn enter(&self, group: &str) -> Result<(), CgroupError> {
        write(&self.path(group).join("cgroup.procs"), "0")
    }

    /// Linux 5.14.
    pub(super) fn kill(&self, group: &str) -> Result<(), CgroupError> {
        write(&self.path(group).join("cgroup.kill"), "1")
    }

    pub(super) fn oom_kills(&self, group: &str) -> u64 {
        let folder = self.path(group);
        let events = read(&folder, "memory.events");
        // A group kill counts once here and per process in oom_kill.
        field(&events, "oom_kill").unwrap_or(0)
    }

    /// The root has no `memory.current`: `/proc/meminfo` says the same.
    pub(super) fn machine_working_set(&self, meminfo: &str) -> Option<u64> {
        let kibibytes = |name: &str| {
            let line = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
            line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
        };
        let used = kibibytes("MemTotal")?.saturating_sub(kibibytes("MemFree")?).saturating_mul(1024);
        let inactive = field(&read(&self.root, "memory.stat"), "inactive_file").unwrap_or(0);
        Some(used.saturating_sub(inactive))
    }

    pub(super) fn stats(&self, group: &str) -> GroupStats {
        let folder = self.path(group);
        let usage = read(&folder, "memory.current").trim().parse().unwrap_or(0);
        let inactive = field(&read(&folder, "memory.stat"), "inactive_file").unwrap_or(0);
        let cpu = read(&folder, "cpu.stat");
        GroupStats {
            cgroup: group.to_owned(),
            memory_bytes: usage,
            working_set_bytes: usage.saturating_sub(inactive),
            cpu_nanoseconds: field(&cpu, "usage_usec").unwrap_or(0).saturating_mul(1000),
            throttled_periods: field(&cpu, "nr_throttled").unwrap_or(0),
            pids: read(&folder, "pids.current").trim().parse().unwrap_or(0),
            processes: read(&folder, "cgroup.procs").lines().filter_map(|line| line.parse().ok()).collect(),
        }
    }
}

fn create(folder: &Path) -> Result<(), CgroupError> {
    match fs::create_dir(folder) {
        Err(source) if source.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(CgroupError::Create { path: folder.to_owned(), source })
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

fn enable_controllers(folder: &Path) -> Result<(), CgroupError> {
    let path = folder.join("cgroup.subtree_control");
    let enabled = read(folder, "cgroup.subtree_control");
    let available = read(folder, "cgroup.controllers");
    let offered = OPTIONAL.iter().filter(|name| available.split_whitespace().any(|one| one == **name));
    let missing: Vec<String> = CONTROLLERS
        .iter()
        .chain(offered)
        .filter(|name| !enabled.split_whitespace().any(|have| have == **name))
        .map(|name| format!("+{name}"))
        .collect();
    if missing.is_empty() { Ok(()) } else { write(&path, &missing.join(" ")) }
}

fn limit(folder: &Path, limits: &Resources) -> Result<(), CgroupError> {
    if let Some(bytes) = limits.memory_bytes {
        write(&folder.join("memory.max"), &bytes.to_string())?;
        // Kernels without swap accounting lack the file.
        let swap = folder.join("memory.swap.max");
        if swap.exists() {
            write(&swap, "0")?;
        }
    }
    if let Some(shares) = limits.cpu_shares {
        write(&folder.join("cpu.weight"), &weight(shares).to_string())?;
    }
    if let Some(millis) = limits.cpu_millis {
        let (quota, period) = quota_us(millis, limits.cpu_period_us);
        write(&folder.join("cpu.max"), &format!("{quota} {period}"))?;
    }
    if let Some(pids) = limits.pids {
        write(&folder.join("pids.max"), &pids.to_string())?;
    }
    limit_hugepages(folder, limits)
}

/// A kernel without the controller cannot keep anybody from huge pages; a kubelet asks for a limit
/// of 0 for every size, also there. Of a size that the machine has not there is nothing to refuse.
fn limit_hugepages(folder: &Path, limits: &Resources) -> Result<(), CgroupError> {
    let controllers = read(folder, "cgroup.controllers");
    if limits.hugepages.is_empty() || !controllers.split_whitespace().any(|one| one == "hugetlb") {
        return Ok(());
    }
    for (size, bytes) in &limits.hugepages {
        let path = folder.join(format!("hugetlb.{}.max", page_size(*size)));
        if *bytes > 0 || path.exists() {
            write(&path, &bytes.to_string())?;
        }
    }
    Ok(())
}

/// v1 shares (2 to 262144) as v2 weight (1 to 10000), by the formula that runtimes share.
pub(crate) fn weight(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142
}

/// The opposite of [`weight`]: the middle of the shares that have this weight, so that a sum of many
/// is as near as it can be. No shares at all stay none.
fn shares(weight: u64) -> u64 {
    match weight.clamp(1, 10_000) {
        1 => 2,
        weight => (2 + (2 * weight - 1) * 262_142 / (2 * 9999)).min(262_144),
    }
}

fn write(path: &Path, value: &str) -> Result<(), CgroupError> {
    fs::write(path, value).map_err(|source| CgroupError::Write {
        path: path.to_owned(),
        value: value.to_owned(),
        source,
    })
}

fn read(folder: &Path, file: &str) -> String {
    fs::read_to_string(folder.join(file)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> (tempfile::TempDir, V2) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let v2 = V2::new(folder.path());
        (folder, v2)
    }

    #[test]
    fn limits_are_written_in_the_kernels_words() {
        let (folder, v2) = tree();
        let limits = Resources {
            memory_bytes: Some(64 << 20),
            cpu_millis: Some(200),
            cpu_shares: Some(1024),
            pids: Some(100),
            hugepages: [(2 << 20, 4 << 20), (1 << 30, 0), (64 << 10, 0)].into(),
            ..Resources::default()
        };
        v2.ensure_pod("keel/podx", &limits).expect("pod");
        let group = folder.path().join("keel/podx/web");
        fs::create_dir(&group).expect("folder");
        fs::write(group.join("cgroup.controllers"), "cpu hugetlb memory pids").expect("write");
        fs::write(group.join("hugetlb.1GB.max"), "max").expect("write");
        v2.ensure_container("keel/podx/web", &limits).expect("container");
        let have =
            |file: &str| fs::read_to_string(folder.path().join("keel/podx/web").join(file)).expect(file);
        assert_eq!(have("memory.max"), "67108864");
        assert_eq!(have("cpu.max"), "20000 100000");
        assert_eq!(have("cpu.weight"), "39");
        assert_eq!(have("pids.max"), "100");
        assert_eq!(have("memory.oom.group"), "1");
        assert_eq!(have("hugetlb.2MB.max"), "4194304");
        assert_eq!(have("hugetlb.1GB.max"), "0");
        // The machine has none of that size; and the pod's own group has no such controller at all.
        assert!(!group.join("hugetlb.64KB.max").exists());
        assert!(!folder.path().join("keel/podx/hugetlb.2MB.max").exists());
    }

    #[test]
    fn controllers_are_enabled_in_every_ancestor_and_the_pod_but_in_no_leaf() {
        let (folder, v2) = tree();
        v2.ensure_pod("keel/podx", &Resources::default()).expect("pod");
        v2.ensure_container("keel/podx/web", &Resources::default()).expect("container");
        for group in ["", "keel", "keel/podx"] {
            let enabled = read(&folder.path().join(group), "cgroup.subtree_control");
            assert_eq!(enabled, "+cpu +memory +pids", "{group:?}");
        }
        for leaf in ["keel/podx/supervisor", "keel/podx/web"] {
            assert!(!folder.path().join(leaf).join("cgroup.subtree_control").exists(), "{leaf}");
        }
    }

    #[test]
    fn only_missing_controllers_are_asked_for() {
        let (folder, v2) = tree();
        fs::write(folder.path().join("cgroup.subtree_control"), "cpuset cpu pids\n").expect("write");
        v2.ensure_pod("keel", &Resources::default()).expect("pod");
        assert_eq!(read(folder.path(), "cgroup.subtree_control"), "+memory");
    }

    #[test]
    fn weight_covers_its_whole_range() {
        assert_eq!((weight(0), weight(2), weight(1024), weight(262_144)), (1, 1, 39, 10_000));
        assert_eq!(weight(u64::MAX), 10_000);
        for one in [1, 2, 39, 100, 9999, 10_000] {
            assert_eq!(weight(shares(one)), one);
        }
    }

    #[test]
    fn the_machines_working_set_leaves_the_idle_page_cache_out() {
        let (folder, v2) = tree();
        fs::write(folder.path().join("memory.stat"), "anon 1\ninactive_file 4096\n").expect("write");
        let meminfo = "MemTotal:       100 kB\nMemFree:         40 kB\nMemAvailable:    90 kB\n";
        assert_eq!(v2.machine_working_set(meminfo), Some(60 * 1024 - 4096));
        assert_eq!(v2.machine_working_set(""), None);
    }

    #[test]
    fn usage_and_kills_are_read_from_the_kernels_files() {
        let (folder, v2) = tree();
        let group = folder.path().join("g");
        fs::create_dir(&group).expect("folder");
        let files = [
            ("memory.current", "1000\n"),
            ("memory.stat", "anon 5\ninactive_file 400\n"),
            ("memory.events", "low 0\noom 3\noom_kill 2\noom_group_kill 1\n"),
            ("cpu.stat", "usage_usec 7\nnr_throttled 4\n"),
            ("pids.current", "3\n"),
            ("cgroup.procs", "10\n11\n"),
        ];
        for (name, text) in files {
            fs::write(group.join(name), text).expect(name);
        }
        assert_eq!(v2.oom_kills("g"), 2);
        let stats = v2.stats("g");
        assert_eq!((stats.memory_bytes, stats.working_set_bytes), (1000, 600));
        assert_eq!((stats.cpu_nanoseconds, stats.throttled_periods), (7000, 4));
        assert_eq!((stats.pids, stats.processes), (3, vec![10, 11]));
    }
}
