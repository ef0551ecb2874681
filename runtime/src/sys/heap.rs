//! The C library's heap, kept small in a process that lives long and does little.
#![allow(unsafe_code, reason = "mallopt and malloc_trim are C functions")]

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
