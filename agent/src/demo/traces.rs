//! What a demo may leave on the machine: found again by its names, and removed.

use super::DemoError;
use super::stage::Stage;
use netstack::Network;
use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeSet;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::{Instant, interval};

/// How long killed processes may take to be gone.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often is looked whether they are.
const LOOK: Duration = Duration::from_millis(20);

/// All that is left of a demo, for a person; empty if nothing is.
pub(super) fn left(stage: &Stage, links: &BTreeSet<String>) -> Vec<String> {
    let mut left = Vec::new();
    left.extend(processes(stage).into_iter().map(|pid| format!("process {pid} ({})", command(pid))));
    left.extend(mounts(stage).into_iter().map(|mount| format!("mount {mount}")));
    left.extend(cgroups(stage).into_iter().map(|path| format!("cgroup {}", path.display())));
    let there = |link: &&String| Path::new("/sys/class/net").join(link).exists();
    left.extend(links.iter().filter(there).map(|link| format!("link {link}")));
    if stage.folder.exists() {
        left.push(format!("folder {}", stage.folder.display()));
    }
    left
}

/// The bridge and the links that are its ports.
pub(super) fn links(stage: &Stage) -> BTreeSet<String> {
    let ports = std::fs::read_dir(Path::new("/sys/class/net").join(&stage.bridge).join("brif"));
    let ports =
        ports.into_iter().flatten().flatten().map(|port| port.file_name().to_string_lossy().into_owned());
    ports.chain([stage.bridge.clone()]).collect()
}

/// Removes what there is, whatever state it is in: processes by SIGKILL, then
/// links, cgroups and the folder.
///
/// # Errors
/// The first thing that could not be removed; the rest was tried all the same.
pub(super) async fn remove(stage: &Stage) -> Result<(), DemoError> {
    let killed = kill(stage).await;
    let network = remove_network(stage).await;
    let cgroups = remove_cgroups(stage).await;
    let folder = match std::fs::remove_dir_all(&stage.folder) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(DemoError::Folder { path: stage.folder.clone(), source })
        }
        Ok(()) | Err(_) => Ok(()),
    };
    killed.and(network).and(cgroups).and(folder)
}

async fn kill(stage: &Stage) -> Result<(), DemoError> {
    let deadline = Instant::now() + PATIENCE;
    let mut looks = interval(LOOK);
    loop {
        looks.tick().await;
        let found = processes(stage);
        if found.is_empty() {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(DemoError::Late { what: "killed processes to be gone".into() });
        }
        for pid in found.into_iter().filter_map(Pid::from_raw) {
            // It may have ended meanwhile.
            let _gone = kill_process(pid, Signal::KILL);
        }
    }
}

async fn remove_network(stage: &Stage) -> Result<(), DemoError> {
    if !Path::new("/sys/class/net").join(&stage.bridge).exists() {
        return Ok(());
    }
    let options = stage.network().map_err(DemoError::Cidr)?;
    let network = Network::open(options).await.map_err(DemoError::Network)?;
    network.remove().await.map_err(DemoError::Network)
}

/// A cgroup is busy for a moment after its last process.
async fn remove_cgroups(stage: &Stage) -> Result<(), DemoError> {
    let deadline = Instant::now() + PATIENCE;
    let mut looks = interval(LOOK);
    loop {
        looks.tick().await;
        let mut failed = None;
        for path in cgroups(stage) {
            if let Err(source) = remove_tree(&path) {
                failed = Some(DemoError::Folder { path, source });
            }
        }
        match failed {
            None => return Ok(()),
            Some(error) if Instant::now() > deadline => return Err(error),
            Some(_busy) => {}
        }
    }
}

/// Removes a cgroup and those in it; files in cgroups go with them.
fn remove_tree(cgroup: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(cgroup)?.flatten() {
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    std::fs::remove_dir(cgroup)
}

/// The demo's cgroup in every hierarchy that is mounted.
fn cgroups(stage: &Stage) -> Vec<PathBuf> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mounted = table.lines().filter_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        kind.starts_with("cgroup").then(|| PathBuf::from(mount.split(' ').nth(4).unwrap_or_default()))
    });
    let roots: BTreeSet<_> = mounted.map(|mount| mount.join(&stage.cgroup)).collect();
    roots.into_iter().filter(|root| root.is_dir()).collect()
}

fn mounts(stage: &Stage) -> Vec<String> {
    let folder = stage.folder.display().to_string();
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    table.lines().filter(|line| line.contains(&folder)).map(str::to_owned).collect()
}

/// The processes in the demo's cgroups, and those of this executable that were
/// given its folder; never this one.
fn processes(stage: &Stage) -> Vec<i32> {
    let own = std::process::id();
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| u32::try_from(*pid) != Ok(own) && is_of(stage, *pid)).collect()
}

fn is_of(stage: &Stage, pid: i32) -> bool {
    let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let path = |line: &str| line.splitn(3, ':').nth(2).unwrap_or_default().to_owned();
    let in_group = |line: &str| path(line).split('/').any(|name| name == stage.cgroup);
    if groups.lines().any(in_group) {
        return !is_dead(pid);
    }
    let same_program = || {
        let of = |path: String| std::fs::metadata(path).ok().map(|file| (file.dev(), file.ino()));
        let its = of(format!("/proc/{pid}/exe"));
        its.is_some() && its == of("/proc/self/exe".into())
    };
    let folder = stage.folder.display().to_string();
    same_program() && command(pid).contains(&folder) && !is_dead(pid)
}

/// True for a process that has ended and waits for its parent to take note.
fn is_dead(pid: i32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    status.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['Z', 'X']))
}

fn command(pid: i32) -> String {
    let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&words).replace('\0', " ").trim().to_owned()
}
