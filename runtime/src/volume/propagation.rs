//! Whether mounts can go from a container to the host at all.

use super::VolumeError;
use std::fs;
use std::path::{Path, PathBuf};

/// The host passes on what is mounted below `path`.
///
/// # Errors
/// [`VolumeError::NotShared`] if it does not.
pub(super) fn check(volume: &str, path: &Path) -> Result<(), VolumeError> {
    let real = fs::canonicalize(path).map_err(|source| VolumeError::io("look at", path, source))?;
    let table = Path::new("/proc/self/mountinfo");
    let mounts = fs::read_to_string(table).map_err(|source| VolumeError::io("read", table, source))?;
    match mount_of(&mounts, &real) {
        Some((_, true)) => Ok(()),
        Some((mount, false)) => Err(VolumeError::NotShared {
            volume: volume.to_owned(),
            path: path.display().to_string(),
            mount: mount.display().to_string(),
        }),
        None => Ok(()),
    }
}

/// The mount that `path` is on, and whether it is shared. Of several at one place the last one
/// is on top. Source: `proc_pid_mountinfo(5)`.
fn mount_of(mounts: &str, path: &Path) -> Option<(PathBuf, bool)> {
    let mut best: Option<(PathBuf, bool)> = None;
    for line in mounts.lines() {
        let mut fields = line.split(' ');
        let Some(point) = fields.nth(4).map(unescape) else { continue };
        let deeper = best.as_ref().is_none_or(|(best, _)| point.starts_with(best));
        if path.starts_with(&point) && deeper {
            let shared = fields.skip(1).take_while(|field| *field != "-").any(|f| f.starts_with("shared:"));
            best = Some((point, shared));
        }
    }
    best
}

/// Blanks and backslashes are octal there.
fn unescape(text: &str) -> PathBuf {
    let codes = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    PathBuf::from(codes.iter().fold(text.to_owned(), |text, (code, plain)| text.replace(code, plain)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deepest_and_topmost_mount_decides() {
        let mounts = "27 1 254:0 / / rw - ext4 /dev/vda rw\n\
                      28 27 0:30 / /mnt/a\\040b rw,relatime shared:7 - tmpfs tmpfs rw\n\
                      29 27 0:31 / /srv rw shared:8 master:1 - tmpfs tmpfs rw\n\
                      30 29 0:32 / /srv rw - tmpfs tmpfs rw\n";
        let of = |path: &str| mount_of(mounts, Path::new(path)).unwrap();
        assert_eq!(of("/mnt"), ("/".into(), false));
        assert_eq!(of("/mnt/a b/c"), ("/mnt/a b".into(), true));
        assert_eq!(of("/srv/x"), ("/srv".into(), false));
    }
}
