//! The memory of a process that has come to rest.

use crate::sys::{code, heap};

/// What this process does not use at the moment is the kernel's again: freed heap, and mapped code.
/// Takes a few milliseconds.
pub fn give_back() {
    heap::trim();
    code::forget();
}
