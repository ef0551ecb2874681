//! Filters of system calls: a face for `seccomp(2)`.
#![allow(unsafe_code, reason = "neither libc, nix nor rustix wraps seccomp")]

use std::io;

const SET_MODE_FILTER: libc::c_uint = 1;

/// This thread, and whatever it becomes and makes, is under the filter for ever. `program` is an
/// array of `struct sock_filter` in the machine's order.
///
/// Needs `CAP_SYS_ADMIN` in the user namespace, or `no_new_privs`.
///
/// # Errors
/// The kernel's errno: `EACCES` without either, `EINVAL` for a program that it does not take.
/// Source: `seccomp(2)`.
pub(crate) fn set_filter(flags: u32, program: &[u8]) -> io::Result<()> {
    let instructions: Vec<libc::sock_filter> = program
        .chunks_exact(size_of::<libc::sock_filter>())
        .map(|bytes| libc::sock_filter {
            code: u16::from_ne_bytes([bytes[0], bytes[1]]),
            jt: bytes[2],
            jf: bytes[3],
            k: u32::from_ne_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
        })
        .collect();
    let len = u16::try_from(instructions.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let program = libc::sock_fprog { len, filter: instructions.as_ptr().cast_mut() };
    // SAFETY: `program` and the `len` instructions that it points to outlive the call; the
    // kernel only reads them.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, SET_MODE_FILTER, flags, &raw const program) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
