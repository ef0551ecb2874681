//! Programs that links ask for each packet, and what they remember: a face for `bpf(2)`.
#![allow(unsafe_code, reason = "neither libc, nix nor rustix wraps bpf")]

use nix::libc;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

/// Source: `linux/bpf.h`.
const MAP_CREATE: libc::c_int = 0;
const MAP_LOOKUP: libc::c_int = 1;
const MAP_NEXT_KEY: libc::c_int = 4;
const PROG_LOAD: libc::c_int = 5;
const LRU_HASH: u32 = 9;
const CLASSIFIER: u32 = 3;
/// What the kernel may say of a program that it does not take, in bytes.
const LOG_BYTES: usize = 256 * 1024;
const LICENSE: &std::ffi::CStr = c"Apache-2.0";

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

/// A name of the kernel's for a map or a program: at most 15 letters, digits, `_` and `.`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Name([u8; 16]);

impl Name {
    /// What is too long is cut.
    pub(crate) fn of(text: &str) -> Self {
        let mut bytes = [0; 16];
        bytes.iter_mut().zip(text.bytes().take(15)).for_each(|(to, from)| *to = from);
        Self(bytes)
    }
}

/// How large a map's entries are, in bytes, and how many it has; the one that was used least recently goes first.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    pub(crate) key: u32,
    pub(crate) value: u32,
    pub(crate) entries: u32,
}

#[derive(Default)]
#[repr(C)]
struct Map {
    kind: u32,
    key: u32,
    value: u32,
    entries: u32,
    flags: u32,
    inner: u32,
    node: u32,
    name: Name,
}

#[derive(Default)]
#[repr(C)]
struct Element {
    map: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
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
    name: Name,
    interface: u32,
    attach: u32,
}

fn bpf<T>(command: libc::c_int, attributes: &mut T) -> io::Result<libc::c_long> {
    // SAFETY: `attributes` is a whole C structure of the size that is told, and outlives the call;
    // what it points to is the callers' to keep, which all of them do.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attributes, size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn descriptor<T>(command: libc::c_int, attributes: &mut T) -> io::Result<OwnedFd> {
    let descriptor = i32::try_from(bpf(command, attributes)?).map_err(|_| io::ErrorKind::InvalidData)?;
    // SAFETY: the kernel has just made this descriptor, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

fn number(descriptor: BorrowedFd<'_>) -> u32 {
    descriptor.as_raw_fd().cast_unsigned()
}

/// A map that forgets. Its memory is taken at once.
///
/// # Errors
/// The kernel's: `EPERM` without `CAP_BPF`, `ENOSYS` where there is no BPF.
pub(crate) fn create_map(name: Name, size: Size) -> io::Result<OwnedFd> {
    let Size { key, value, entries } = size;
    let mut map = Map { kind: LRU_HASH, key, value, entries, name, ..Map::default() };
    descriptor(MAP_CREATE, &mut map)
}

/// All keys and values of a map, of these sizes in bytes. One that comes or goes meanwhile may be missing.
///
/// # Errors
/// The kernel's.
pub(crate) fn entries(map: BorrowedFd<'_>, size: Size) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut found: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    let (key_bytes, value_bytes) = (size.key as usize, size.value as usize);
    let mut last: Option<Vec<u8>> = None;
    // A key that has gone sends the kernel back to the first.
    for _ in 0..size.entries.saturating_mul(2) {
        let (mut key, mut value) = (vec![0_u8; key_bytes], vec![0_u8; value_bytes]);
        let from = last.as_ref().map_or(0, |last| last.as_ptr().addr() as u64);
        let to = key.as_mut_ptr().expose_provenance() as u64;
        let mut next = Element { map: number(map), key: from, value: to, ..Element::default() };
        match bpf(MAP_NEXT_KEY, &mut next) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => break,
            other => other.map(drop)?,
        }
        let to = value.as_mut_ptr().expose_provenance() as u64;
        let mut look =
            Element { map: number(map), key: key.as_ptr().addr() as u64, value: to, ..Element::default() };
        match bpf(MAP_LOOKUP, &mut look) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
            other => {
                other?;
                found.push((key.clone(), value));
            }
        }
        last = Some(key);
    }
    Ok(found)
}

/// The kernel has checked and taken a program that says what becomes of packets.
///
/// # Errors
/// The kernel's, with what it says of the program: `EINVAL` or `EACCES` for one that it does not take,
/// `EPERM` without `CAP_BPF` and `CAP_NET_ADMIN`.
pub(crate) fn load_classifier(name: Name, program: &[Instruction]) -> io::Result<OwnedFd> {
    let mut load = Load {
        kind: CLASSIFIER,
        count: u32::try_from(program.len()).unwrap_or(u32::MAX),
        instructions: program.as_ptr().addr() as u64,
        license: LICENSE.as_ptr().addr() as u64,
        name,
        ..Load::default()
    };
    let refused = match descriptor(PROG_LOAD, &mut load) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EACCES)) => error,
        other => return other,
    };
    let mut log = vec![0_u8; LOG_BYTES];
    load.log = log.as_mut_ptr().expose_provenance() as u64;
    (load.log_level, load.log_size) = (1, u32::try_from(LOG_BYTES).unwrap_or(0));
    descriptor(PROG_LOAD, &mut load).map_err(|_| {
        let text = String::from_utf8_lossy(&log);
        let said = text.trim_end_matches('\0').trim();
        let end: Vec<&str> = said.lines().rev().take(3).collect();
        io::Error::new(refused.kind(), format!("{refused}: {}", end.join("; ")))
    })
}
