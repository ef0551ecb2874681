//! What the allocator keeps for itself.
#![allow(unsafe_code, reason = "malloc_trim is a C function")]

/// Pages of the heap on which nothing is go back to the system. It takes milliseconds for 100 MiB.
pub(crate) fn trim() {
    // SAFETY: malloc_trim has no precondition.
    unsafe { libc::malloc_trim(0) };
}
