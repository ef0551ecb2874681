//! The filter of a container's system calls, from its file to the kernel.

use super::error::{Failure, Step};
use crate::plan::ContainerPlan;
use crate::sys::seccomp;
use std::fs;
use std::io;

/// A compiled profile: flags, and instructions.
#[derive(Debug)]
pub(super) struct Filter {
    flags: u32,
    program: Vec<u8>,
}

impl Filter {
    /// Reads the container's filter, as long as the host's files can be seen; `None` if it has none.
    pub(super) fn of(container: &ContainerPlan) -> Result<Option<Self>, Failure> {
        let Some(path) = &container.security.filter else { return Ok(None) };
        let step = || format!("read the seccomp filter {}", path.display());
        let mut bytes = fs::read(path).step(step)?;
        let Some((flags, _)) = bytes.split_first_chunk() else {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof)).step(step);
        };
        let flags = u32::from_le_bytes(*flags);
        Ok(Some(Self { flags, program: bytes.split_off(size_of::<u32>()) }))
    }

    /// This process, and every one that it makes, is under the filter.
    pub(super) fn set(&self) -> Result<(), Failure> {
        seccomp::set_filter(self.flags, &self.program).step(|| "set the seccomp filter".to_owned())
    }
}
