//! The pod's volumes in memory, mounted where only the pod is.

use crate::plan::MemoryVolume;
use rustix::mount::{MountFlags, MountPropagationFlags, mount as mount_at, mount_change};
use std::ffi::CString;
use std::fs;
use std::io;

const DEFAULT_MODE: u32 = 0o777;

/// The volume is mounted at its place.
pub(super) fn mount(volume: &MemoryVolume) -> io::Result<()> {
    fs::create_dir_all(&volume.path)?;
    let kind = if volume.page_bytes.is_some() { "hugetlbfs" } else { "tmpfs" };
    let options = CString::new(options(volume))?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    mount_at(kind, &volume.path, kind, flags, options.as_c_str())?;
    if volume.shared {
        mount_change(&volume.path, MountPropagationFlags::SHARED)?;
    }
    Ok(())
}

fn options(volume: &MemoryVolume) -> String {
    let mode = volume.mode.unwrap_or(DEFAULT_MODE);
    let mode = if volume.group.is_some() { mode | 0o2770 } else { mode };
    let mut options = format!("mode={mode:04o}");
    for (name, value) in
        [("size", volume.size_bytes), ("gid", volume.group.map(u64::from)), ("pagesize", volume.page_bytes)]
    {
        if let Some(value) = value {
            options = format!("{options},{name}={value}");
        }
    }
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_the_kernels() {
        let plain = MemoryVolume { size_bytes: Some(4096), ..MemoryVolume::default() };
        assert_eq!(options(&plain), "mode=0777,size=4096");
        let grouped = MemoryVolume { group: Some(7), mode: Some(0o700), ..MemoryVolume::default() };
        assert_eq!(options(&grouped), "mode=2770,gid=7");
        let huge = MemoryVolume { page_bytes: Some(2 << 20), ..MemoryVolume::default() };
        assert_eq!(options(&huge), "mode=0777,pagesize=2097152");
    }
}
