//! The device nodes and links that every container has.

use super::Launch;
use super::error::{Failure, Step};
use super::target::Root;
use oci_spec::runtime::{LinuxDevice, LinuxDeviceType};
use rustix::fs::{AtFlags, OFlags};
use rustix::fs::{FileType, Gid, Mode, Uid, chownat, makedev, mkdirat, mknodat, openat, symlinkat};
use rustix::io::Errno;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

/// Name and numbers. Source: OCI runtime specification, "Default Devices".
const NODES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// What in the host's `/dev` a container has of its own, or is no device.
const OWN: [&str; 8] = ["pts", "shm", "mqueue", "fd", "console", "core", "ptmx", "hugepages"];

/// `/dev`, an empty tmpfs, has its nodes and links; the host's too if the container is privileged.
pub(super) fn populate(launch: &Launch<'_>, root: &Root) -> Result<(), Failure> {
    let dev = root.folder(Path::new("/dev"))?;
    for (name, major, minor) in NODES {
        mknodat(&dev, name, FileType::CharacterDevice, Mode::from_raw_mode(0o666), makedev(major, minor))
            .step(|| format!("make the device /dev/{name}"))?;
    }
    for (name, to) in LINKS {
        symlinkat(to, &dev, name).step(|| format!("link /dev/{name}"))?;
    }
    if launch.container.security.privileged {
        copy_nodes(Path::new("/dev"), &dev)?;
    }
    let linux = launch.container.spec.linux().as_ref();
    let more = linux.and_then(|linux| linux.devices().as_deref()).unwrap_or_default();
    more.iter().try_for_each(|device| make(root, device))
}

/// Every node of the host's folder is in the container's too; what is there already stays.
fn copy_nodes(from: &Path, to: &OwnedFd) -> Result<(), Failure> {
    let step = || format!("copy the devices of {}", from.display());
    let entries = fs::read_dir(from).step(step)?;
    for entry in entries.flatten() {
        let name = entry.file_name();
        // A device that has gone meanwhile is none to copy.
        let Ok(found) = entry.metadata() else { continue };
        let kind = found.file_type();
        if OWN.iter().any(|own| name == *own) {
            continue;
        }
        if kind.is_dir() {
            let mode = Mode::from_raw_mode(found.mode() & 0o777);
            made(mkdirat(to, &name, mode)).step(step)?;
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            copy_nodes(&entry.path(), &openat(to, &name, flags, Mode::empty()).step(step)?)?;
        } else if kind.is_char_device() || kind.is_block_device() {
            let kind = if kind.is_block_device() { FileType::BlockDevice } else { FileType::CharacterDevice };
            let mode = Mode::from_raw_mode(found.mode() & 0o777);
            if made(mknodat(to, &name, kind, mode, found.rdev())).step(step)? {
                let owner = (Uid::from_raw(found.uid()), Gid::from_raw(found.gid()));
                chownat(to, &name, Some(owner.0), Some(owner.1), AtFlags::SYMLINK_NOFOLLOW).step(step)?;
            }
        }
    }
    Ok(())
}

/// False if something was there already.
fn made(result: rustix::io::Result<()>) -> rustix::io::Result<bool> {
    match result {
        Ok(()) => Ok(true),
        Err(Errno::EXIST) => Ok(false),
        Err(error) => Err(error),
    }
}

fn make(root: &Root, device: &LinuxDevice) -> Result<(), Failure> {
    let path = device.path();
    let step = || format!("make the device {}", path.display());
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Errno::INVAL).step(step);
    };
    let folder = root.folder(folder)?;
    let kind = match device.typ() {
        LinuxDeviceType::B => FileType::BlockDevice,
        LinuxDeviceType::P => FileType::Fifo,
        LinuxDeviceType::C | LinuxDeviceType::U | LinuxDeviceType::A => FileType::CharacterDevice,
    };
    let number = |number: i64| u32::try_from(number).unwrap_or(0);
    let mode = Mode::from_raw_mode(device.file_mode().unwrap_or(0o666) & 0o777);
    let device_number = makedev(number(device.major()), number(device.minor()));
    if made(mknodat(&folder, name, kind, mode, device_number)).step(step)? {
        let owner = (device.uid().map(Uid::from_raw), device.gid().map(Gid::from_raw));
        chownat(&folder, name, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW).step(step)?;
    }
    Ok(())
}
