//! Why a container's system calls cannot be filtered as it asks.

use std::io;
use std::path::PathBuf;

/// A seccomp profile that cannot be used.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum SeccompError {
    #[error("the seccomp profile {path} is not a path inside of the folder of profiles")]
    Outside { path: PathBuf },
    #[error("cannot load the seccomp profile {path}")]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot understand the seccomp profile")]
    Parse(#[source] serde_json::Error),
    #[error("cannot keep the seccomp filter {path}")]
    Write { path: PathBuf, source: io::Error },
    #[error("the seccomp profile uses {what}, which cannot be done here")]
    Unsupported { what: String },
    #[error("the seccomp profile looks at argument {index}: a system call has six, from 0")]
    NoSuchArgument { index: usize },
    #[error("the seccomp profile returns errno {errno}, which is over 4095")]
    BadErrno { errno: u32 },
    #[error("the seccomp profile makes a filter of {instructions} instructions, more than the kernel takes")]
    TooLong { instructions: usize },
}
