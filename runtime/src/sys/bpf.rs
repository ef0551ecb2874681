//! Programs that a v2 cgroup asks before a device is opened or made: a face for `bpf(2)`.
#![allow(unsafe_code, reason = "neither libc, nix nor rustix wraps bpf")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

const PROG_LOAD: libc::c_int = 5;
const PROG_ATTACH: libc::c_int = 8;
const PROG_QUERY: libc::c_int = 16;
const TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_CGROUP_DEVICE: u32 = 6;
const ALLOW_MULTI: u32 = 2;

/// One instruction, `struct bpf_insn`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Instruction {
    pub(crate) code: u8,
    /// The destination in the low half, the source in the high one.
    pub(crate) registers: u8,
    pub(crate) offset: i16,
    pub(crate) value: i32,
}

#[derive(Default)]
#[repr(C)]
struct Load {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel: u32,
    flags: u32,
    name: [u8; 16],
    interface: u32,
    attach: u32,
}

#[derive(Default)]
#[repr(C)]
struct Attach {
    cgroup: u32,
    program: u32,
    attach: u32,
    flags: u32,
}

#[derive(Default)]
#[repr(C)]
struct Query {
    cgroup: u32,
    attach: u32,
    query_flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
    padding: u32,
}

fn bpf<T>(command: libc::c_int, attributes: &mut T) -> io::Result<libc::c_long> {
    // SAFETY: `attributes` is a whole C structure of the size that is told, and outlives the call;
    // what it points to is the callers' to keep, which both do.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attributes, size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// The kernel has checked and taken the device program.
///
/// # Errors
/// The kernel's errno: `EINVAL` or `EACCES` for a program that it does not take, `EPERM` without
/// `CAP_BPF`. Source: `bpf(2)`.
pub(crate) fn load_device_program(program: &[Instruction]) -> io::Result<OwnedFd> {
    let license = c"Apache-2.0";
    let mut attributes = Load {
        kind: TYPE_CGROUP_DEVICE,
        count: u32::try_from(program.len()).unwrap_or(u32::MAX),
        instructions: program.as_ptr().addr() as u64,
        license: license.as_ptr().addr() as u64,
        attach: ATTACH_CGROUP_DEVICE,
        ..Load::default()
    };
    let descriptor = bpf(PROG_LOAD, &mut attributes)?;
    let descriptor = i32::try_from(descriptor).map_err(|_| io::ErrorKind::InvalidData)?;
    // SAFETY: the kernel has just made this descriptor, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Processes in the cgroup, and in those below it, are asked by the program too.
///
/// # Errors
/// The kernel's errno. Source: `bpf(2)`.
pub(crate) fn attach_device_program(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attributes = Attach {
        cgroup: cgroup.as_raw_fd().cast_unsigned(),
        program: program.as_raw_fd().cast_unsigned(),
        attach: ATTACH_CGROUP_DEVICE,
        flags: ALLOW_MULTI,
    };
    bpf(PROG_ATTACH, &mut attributes).map(|_| ())
}

/// How many device programs the cgroup itself has.
///
/// # Errors
/// The kernel's errno. Source: `bpf(2)`.
pub(crate) fn device_programs(cgroup: BorrowedFd<'_>) -> io::Result<u32> {
    let mut attributes = Query {
        cgroup: cgroup.as_raw_fd().cast_unsigned(),
        attach: ATTACH_CGROUP_DEVICE,
        ..Query::default()
    };
    bpf(PROG_QUERY, &mut attributes)?;
    Ok(attributes.count)
}
