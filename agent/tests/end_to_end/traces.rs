//! What a test's agent has on the machine, found by its names.

use crate::machine::{PREFIX, until};
use runtime::cgroup::Cgroups;
use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Everything that belongs to the pods of the agent called `name`, in words; the
/// links are those of this thread's network namespace. Empty once no pod is left.
pub(crate) fn of_pods(name: &str, folder: &Path, bridge: &str) -> BTreeSet<String> {
    let mut traces = BTreeSet::new();
    for (pid, words) in processes(name, folder) {
        // Sockets of the name server and of Ingresses are the agent's, which another may want.
        if !words.contains(" agent ") && !words.contains(" hold-sockets ") {
            traces.insert(format!("process {pid} {words}"));
        }
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    traces.extend(mounts.lines().filter(|line| line.contains(name)).map(|line| format!("mount {line}")));
    let links = fs::read_to_string("/proc/thread-self/net/dev").unwrap();
    let links = links.lines().skip(2).filter_map(|line| Some(line.split_once(':')?.0.trim()));
    let tunnel = format!("{bridge}-vx");
    let of_node = [bridge, &tunnel, "lo"];
    traces.extend(links.filter(|link| !of_node.contains(link)).map(|link| format!("link {link}")));
    // Those of the qualities of service stay, for the next pods.
    let (cgroups, tiers) = (Cgroups::detect().unwrap(), ["burstable", "besteffort"]);
    let groups = cgroups.children(name).into_iter().filter(|group| !tiers.contains(&group.as_str()));
    let below = tiers.iter().flat_map(|tier| cgroups.children(&format!("{name}/{tier}")));
    traces.extend(groups.chain(below).map(|group| format!("cgroup {group}")));
    for inside in ["state/pods", "run/pods", "logs"] {
        for entry in fs::read_dir(folder.join(inside)).into_iter().flatten().flatten() {
            traces.insert(format!("file {}", entry.path().display()));
        }
    }
    traces
}

/// The living processes in the cgroup `name`, and those that were given `folder`.
fn processes(name: &str, folder: &Path) -> Vec<(i32, String)> {
    let folder = folder.display().to_string();
    let own = std::process::id().cast_signed();
    let pids = fs::read_dir("/proc").unwrap().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| *pid != own && is_alive(*pid))
        .filter_map(|pid| {
            let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
            let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let words = String::from_utf8_lossy(&words).replace('\0', " ");
            let in_group = groups.lines().any(|line| line.split('/').any(|part| part == name));
            (in_group || words.contains(&folder)).then_some((pid, words))
        })
        .collect()
}

/// A zombie is not alive.
pub(crate) fn is_alive(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
}

pub(crate) fn kill(pid: i32, signal: Signal) {
    kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
}

/// No process, cgroup or file of the agent called `name` is left, whatever state it was in.
pub(crate) fn clear(name: &str, folder: &Path) {
    until("the end of every process", || {
        let left = processes(name, folder);
        for (pid, _) in &left {
            // It may have ended meanwhile.
            let _gone = kill_process(Pid::from_raw(*pid)?, Signal::KILL);
        }
        left.is_empty().then_some(())
    });
    // A cgroup is busy for a moment after its last process.
    until("the end of the cgroups", || Cgroups::detect().ok()?.remove(name).ok());
    fs::remove_dir_all(folder).unwrap();
}

/// Clears up after runs of the tests that were killed.
pub(crate) fn sweep() {
    for entry in fs::read_dir(std::env::temp_dir()).unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let pid = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next()?.parse().ok());
        if pid.is_some_and(|pid| !is_alive(pid)) {
            clear(&name, &entry.path());
        }
    }
}
