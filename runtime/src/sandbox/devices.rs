//! The device nodes and links that every container has.

use super::error::{Failure, Step};
use super::target::Root;
use rustix::fs::{FileType, Mode, makedev, mknodat, symlinkat};
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

/// `/dev`, an empty tmpfs, has its nodes and links.
pub(super) fn populate(root: &Root) -> Result<(), Failure> {
    let dev = root.folder(Path::new("/dev"))?;
    for (name, major, minor) in NODES {
        mknodat(&dev, name, FileType::CharacterDevice, Mode::from_raw_mode(0o666), makedev(major, minor))
            .step(|| format!("make the device /dev/{name}"))?;
    }
    for (name, to) in LINKS {
        symlinkat(to, &dev, name).step(|| format!("link /dev/{name}"))?;
    }
    Ok(())
}
