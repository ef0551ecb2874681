//! Pseudo-terminals, made where a process is and handed to whoever shows them.
#![allow(unsafe_code, reason = "no safe crate at hand makes a terminal the controlling one")]

use rustix::fs::{Mode, OFlags, open as open_file};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

/// Both sides.
#[derive(Debug)]
pub(crate) struct Terminal {
    /// For whoever shows it.
    pub(crate) master: OwnedFd,
    /// For the program.
    pub(crate) slave: OwnedFd,
}

/// A terminal of the `/dev/pts` that this process sees.
///
/// # Errors
/// The kernel's errno. Source: `pts(4)`.
pub(crate) fn open() -> io::Result<Terminal> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = openpt(flags)?;
    // A container's devpts gives the terminal to whoever opened it.
    let _ = grantpt(&master);
    unlockpt(&master)?;
    let name = ptsname(&master, Vec::new())?;
    let slave = open_file(name.as_c_str(), OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())?;
    Ok(Terminal { master, slave })
}

/// The terminal is the controlling one of this session, which has none yet.
///
/// # Errors
/// The kernel's errno. Source: `TIOCSCTTY(2const)`.
pub(crate) fn control(slave: &OwnedFd) -> io::Result<()> {
    // SAFETY: the descriptor is open; the argument 0 does not steal anybody's terminal.
    let result = unsafe { libc::ioctl(slave.as_raw_fd(), libc::TIOCSCTTY, 0) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
