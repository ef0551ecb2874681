//! Which of the host's ids are whose: each pod with users of its own has a range for itself, and
//! keeps it as long as its folder is there.

use super::RuntimeOptions;
use crate::sandbox::IDS;
use std::collections::BTreeSet;
use std::fs;
use std::io;

/// The file of a pod's folder with the first of its ids.
const FILE: &str = "first-id";
/// Above what users, containers of systemd and subordinate ids of users are given.
const FIRST: u32 = 0x7000_0000;
/// As many pods as there is room for below the ids that systemd keeps for foreign images.
const PODS: u32 = 0xffe;

/// The first id of the pod's range, which no other pod has. One call at a time.
///
/// # Errors
/// If the folders cannot be read or written, or all ranges are taken.
pub(super) fn allot(options: &RuntimeOptions, uid: &str) -> io::Result<u32> {
    let own = options.pod_folder(uid).join(FILE);
    if let Some(first) = read(&own) {
        return Ok(first);
    }
    let folders = fs::read_dir(options.state_dir.join("pods"))?;
    let taken: BTreeSet<u32> =
        folders.flatten().filter_map(|folder| read(&folder.path().join(FILE))).collect();
    let free = (0..PODS).map(|place| FIRST + place * IDS).find(|first| !taken.contains(first));
    let first = free.ok_or_else(|| io::Error::other("every range of user ids is taken"))?;
    if let Some(folder) = own.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(&own, first.to_string())?;
    Ok(first)
}

fn read(path: &std::path::Path) -> Option<u32> {
    fs::read_to_string(path).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_never_overlap_and_are_kept() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        let options = RuntimeOptions {
            state_dir: at("state"),
            run_dir: at("run"),
            log_dir: at("logs"),
            cgroup_root: "keel".into(),
            seccomp_profiles: at("seccomp"),
            supervisor: Vec::new(),
        };
        fs::create_dir_all(at("state/pods")).expect("folders");
        let firsts = ["a", "b", "c"].map(|uid| allot(&options, uid).expect("a range"));
        assert_eq!(firsts, [FIRST, FIRST + IDS, FIRST + 2 * IDS]);
        assert_eq!(allot(&options, "b").expect("its range"), firsts[1]);
        fs::remove_dir_all(options.pod_folder("b")).expect("remove");
        assert_eq!(allot(&options, "d").expect("the free range"), firsts[1]);
    }
}
