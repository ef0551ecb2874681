//! Programs that links ask for each packet, and what they remember: a face for `bpf(2)`.
//!
//! Programs are on links without a descriptor of ours that holds them (`tcx`, Linux 6.6): they stay when we end.
#![allow(unsafe_code, reason = "neither libc, nix nor rustix wraps bpf")]

use nix::libc;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

/// Source: `linux/bpf.h`.
const MAP_CREATE: libc::c_int = 0;
const MAP_LOOKUP: libc::c_int = 1;
const MAP_NEXT_KEY: libc::c_int = 4;
const PROG_LOAD: libc::c_int = 5;
const PROG_ATTACH: libc::c_int = 8;
const PROG_DETACH: libc::c_int = 9;
const PROG_FD_BY_ID: libc::c_int = 13;
const OBJECT_INFO: libc::c_int = 15;
const PROG_QUERY: libc::c_int = 16;
const LRU_HASH: u32 = 9;
const CLASSIFIER: u32 = 3;
const REPLACE: u32 = 4;
/// More than a link has programs.
const MANY: usize = 64;
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

/// Where on a link a program is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// Of what comes from the link.
    Ingress = 46,
    /// Of what goes to the link.
    Egress = 47,
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

#[derive(Default)]
#[repr(C)]
struct Attach {
    link: u32,
    program: u32,
    side: u32,
    flags: u32,
    replaced: u32,
    relative: u32,
    revision: u64,
}

#[derive(Default)]
#[repr(C)]
struct Query {
    link: u32,
    side: u32,
    query_flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
    padding: u32,
    flags: u64,
    link_ids: u64,
    link_flags: u64,
    revision: u64,
}

#[derive(Default)]
#[repr(C)]
struct ById {
    id: u32,
    next: u32,
    flags: u32,
}

#[derive(Default)]
#[repr(C)]
struct ObjectInfo {
    object: u32,
    length: u32,
    info: u64,
}

/// The beginning of `struct bpf_prog_info`.
#[derive(Default)]
#[repr(C)]
struct ProgramInfo {
    kind: u32,
    id: u32,
    tag: [u8; 8],
    machine_length: u32,
    length: u32,
    machine: u64,
    instructions: u64,
    loaded: u64,
    user: u32,
    map_count: u32,
    maps: u64,
    name: Name,
}

/// What is known of a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Program {
    /// The kernel's number for it.
    pub(crate) id: u32,
    /// What it was called when it was loaded.
    pub(crate) name: Name,
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

/// The programs of a link of the calling thread's network namespace, in the order in which they are asked.
///
/// # Errors
/// The kernel's: `EINVAL` before Linux 6.6, `ENODEV` if there is no such link.
pub(crate) fn attached(link: u32, side: Side) -> io::Result<Vec<Program>> {
    let mut ids = [0_u32; MANY];
    let mut query = Query {
        link,
        side: side as u32,
        ids: ids.as_mut_ptr().expose_provenance() as u64,
        count: u32::try_from(MANY).unwrap_or(0),
        ..Query::default()
    };
    match bpf(PROG_QUERY, &mut query) {
        // Nobody has put any there.
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(Vec::new()),
        other => other.map(drop)?,
    }
    let count = usize::try_from(query.count).unwrap_or(0).min(MANY);
    let mut programs = Vec::new();
    for id in ids.iter().take(count) {
        match open(*id) {
            Ok(program) => programs.push(describe(std::os::fd::AsFd::as_fd(&program))?),
            // It has gone since.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(programs)
}

/// The program of that number.
///
/// # Errors
/// The kernel's: `ENOENT` if there is none.
pub(crate) fn open(id: u32) -> io::Result<OwnedFd> {
    descriptor(PROG_FD_BY_ID, &mut ById { id, ..ById::default() })
}

/// What the kernel knows of a program.
///
/// # Errors
/// The kernel's.
pub(crate) fn describe(program: BorrowedFd<'_>) -> io::Result<Program> {
    let mut info = ProgramInfo::default();
    let mut object = ObjectInfo {
        object: number(program),
        length: u32::try_from(size_of::<ProgramInfo>()).unwrap_or(0),
        info: (&raw mut info).expose_provenance() as u64,
    };
    bpf(OBJECT_INFO, &mut object)?;
    Ok(Program { id: info.id, name: info.name })
}

/// The link asks that program, too, after others; or instead of one that it has.
///
/// # Errors
/// The kernel's, as [`attached`].
pub(crate) fn attach(
    (link, side): (u32, Side),
    program: BorrowedFd<'_>,
    instead: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let mut attach = Attach { link, program: number(program), side: side as u32, ..Attach::default() };
    if let Some(instead) = instead {
        (attach.flags, attach.replaced) = (REPLACE, number(instead));
    }
    bpf(PROG_ATTACH, &mut attach).map(drop)
}

/// The link does not ask that program any more.
///
/// # Errors
/// The kernel's: `ENOENT` if it did not.
pub(crate) fn detach((link, side): (u32, Side), program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attach = Attach { link, program: number(program), side: side as u32, ..Attach::default() };
    bpf(PROG_DETACH, &mut attach).map(drop)
}
