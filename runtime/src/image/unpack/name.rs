//! Paths in an archive that stay in it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The longest path that the kernel takes.
const MAX_PATH_BYTES: usize = 4095;

/// A relative path of ordinary names; empty for the layer's own folder.
#[derive(Debug)]
pub(super) struct Name(PathBuf);

impl Name {
    /// # Errors
    /// What is wrong with it: absolute, `..`, NUL, or too long.
    pub(super) fn parse(raw: &[u8]) -> Result<Self, &'static str> {
        if raw.starts_with(b"/") {
            return Err("its path is absolute");
        }
        if raw.contains(&0) {
            return Err("its path has a NUL byte");
        }
        if raw.len() > MAX_PATH_BYTES {
            return Err("its path is too long");
        }
        let mut path = PathBuf::new();
        for part in raw.split(|&byte| byte == b'/') {
            match part {
                b"" | b"." => {}
                b".." => return Err("its path has '..'"),
                part => path.push(OsStr::from_bytes(part)),
            }
        }
        Ok(Self(path))
    }

    /// The name that a whiteout hides.
    ///
    /// # Errors
    /// If it is none.
    pub(super) fn whiteout(hidden: &[u8]) -> Result<&[u8], &'static str> {
        if matches!(hidden, b"" | b"." | b"..") { Err("it hides nothing") } else { Ok(hidden) }
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// The path of the folder that it is in.
    pub(super) fn parent(&self) -> &Path {
        self.0.parent().unwrap_or(Path::new(""))
    }

    /// The name in that folder; `None` for the layer's own folder.
    pub(super) fn last(&self) -> Option<&[u8]> {
        self.0.file_name().map(OsStr::as_bytes)
    }
}
