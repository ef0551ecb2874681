//! Heap and stack, kept small in a process that lives long and does little.
#![allow(unsafe_code, reason = "mallopt, malloc_trim and madvise are C functions")]

/// One arena, and big blocks straight from the kernel so that they go back to it.
pub(crate) fn keep_small() {
    // SAFETY: mallopt only sets parameters; the process has one thread.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
    // SAFETY: as above.
    unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, 32 * 1024) };
    // SAFETY: as above.
    unsafe { libc::mallopt(libc::M_TRIM_THRESHOLD, 16 * 1024) };
    // SAFETY: as above.
    unsafe { libc::mallopt(libc::M_TOP_PAD, 0) };
}

/// Gives free pages back to the kernel.
pub(crate) fn trim() {
    // SAFETY: malloc_trim has no precondition.
    unsafe { libc::malloc_trim(0) };
}

/// How far down the stack may have reached before.
const STACK_BYTES: usize = 1024 * 1024;
/// What stays below the caller's frame.
const STACK_KEPT_BYTES: usize = 4 * 1024;
const PAGE_BYTES: usize = 4096;

/// Gives the stack's pages far below the caller back to the kernel: what was deep once, in the
/// main thread, does not stay in memory for ever.
#[inline(never)]
pub(crate) fn trim_stack() {
    let here = 0_u8;
    let here = (&raw const here).cast_mut().cast::<libc::c_void>();
    let end = here.wrapping_byte_sub(STACK_KEPT_BYTES + here.addr() % PAGE_BYTES);
    let start = end.wrapping_byte_sub(STACK_BYTES);
    // SAFETY: the main thread's stack grows down from here, nothing below the stack pointer is
    // in use, and Linux maps nothing else within 128 MiB below it. Parts that were never
    // reached are not mapped, which is reported after the rest was done.
    unsafe { libc::madvise(start, STACK_BYTES, libc::MADV_DONTNEED) };
}
