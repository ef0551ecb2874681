//! A container's files, as the container sees them.

use super::error::InsideError;
use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::{Gid, Uid, setfsgid, setfsuid};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::io;
use std::os::fd::OwnedFd;

/// Does `work` on a thread whose root and mounts are those of the container with the first
/// process `pid` and the cgroup `cgroup`, with that process's user and group: links lead
/// nowhere else, and nothing opens that the container could not open. Descriptors may be
/// handed out.
///
/// # Errors
/// If the container has ended. Needs `CAP_SYS_ADMIN`. Source: `setns(2)`.
pub fn in_files_of<T: Send>(
    pid: i32,
    cgroup: &str,
    work: impl FnOnce() -> T + Send,
) -> Result<T, InsideError> {
    let process = Pid::from_raw(pid).ok_or(InsideError::Ended)?;
    let target = pidfd_open(process, PidfdFlags::empty()).map_err(|_| InsideError::Ended)?;
    let read = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}"));
    // The number could be somebody else's by now; as long as `target` is open, it stays whose it is.
    let groups = read("cgroup").map_err(|_| InsideError::Ended)?;
    if cgroup.is_empty() || !groups.lines().any(|line| line.contains(cgroup)) {
        return Err(InsideError::Ended);
    }
    let status = read("status").map_err(|_| InsideError::Ended)?;
    let (Some(user), Some(group)) = (filesystem_id(&status, "Uid:"), filesystem_id(&status, "Gid:")) else {
        return Err(InsideError::Ended);
    };
    std::thread::scope(|scope| {
        let thread = scope.spawn(move || {
            enter(&target, user, group)?;
            Ok(work())
        });
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread panicked")))
    })
    .map_err(InsideError::Files)
}

fn enter(target: &OwnedFd, user: u32, group: u32) -> io::Result<()> {
    // A thread's own root and working folder, as `setns` wants it.
    unshare(CloneFlags::CLONE_FS)?;
    setns(target, CloneFlags::CLONE_NEWNS)?;
    // In this order: without root's the group could not be changed any more.
    setfsgid(Gid::from_raw(group));
    setfsuid(Uid::from_raw(user));
    Ok(())
}

/// The fourth number of a line of `/proc/PID/status`.
fn filesystem_id(status: &str, key: &str) -> Option<u32> {
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_whitespace().nth(3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filesystem_id_is_the_fourth() {
        let status = "Name:\tsh\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\n";
        assert_eq!((filesystem_id(status, "Uid:"), filesystem_id(status, "Gid:")), (Some(4), Some(8)));
        assert_eq!(filesystem_id("", "Uid:"), None);
    }
}
