//! The terminal of a process that is about to run in a container.

use super::error::{Failure, Step};
use crate::sys::{descriptors, terminal};
use std::os::fd::{AsFd, OwnedFd};

/// A terminal of the container's own is the controlling one of this process; its other side
/// went through `socket`. `/` is the container's root by now.
pub(super) fn take(socket: &OwnedFd) -> Result<OwnedFd, Failure> {
    // Refused if we lead a session already, which is as good.
    let _ = rustix::process::setsid();
    let terminal = terminal::open().step(|| "open a terminal".to_owned())?;
    descriptors::send(socket, b"t", &[terminal.master.as_fd()])
        .step(|| "hand the terminal over".to_owned())?;
    terminal::control(&terminal.slave).step(|| "take the terminal".to_owned())?;
    Ok(terminal.slave)
}
