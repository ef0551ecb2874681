//! The pages of a program's own code that a process has mapped.
#![allow(unsafe_code, reason = "dl_iterate_phdr and madvise are C functions")]

use std::ffi::{c_int, c_void};

const PAGE_BYTES: usize = 4096;

/// Of the program's code this process has mapped no page: what it executes next comes back from
/// the page cache, piece by piece. A process that does one thing after another for a moment, and
/// then rests, would else keep all that it ever executed.
pub(crate) fn forget() {
    let (start, end) = place();
    if start < end {
        let code = std::ptr::with_exposed_provenance_mut::<c_void>(start);
        // SAFETY: nobody has written to these pages, which are executable and not writable: what
        // they hold is what the file has.
        unsafe { libc::madvise(code, end - start, libc::MADV_DONTNEED) };
    }
}

/// Where the program's code is; nowhere if the loader does not say.
fn place() -> (usize, usize) {
    let mut found = (0, 0);
    // SAFETY: `first` fits, and gets a pointer to `found` while it lives.
    unsafe { libc::dl_iterate_phdr(Some(first), (&raw mut found).cast::<c_void>()) };
    found
}

/// Finds the code of the first object, which is the program itself.
unsafe extern "C" fn first(info: *mut libc::dl_phdr_info, _: usize, found: *mut c_void) -> c_int {
    // SAFETY: the loader describes an object that is mapped, for the time of this call.
    let info = unsafe { &*info };
    // SAFETY: it has so many headers there.
    let headers = unsafe { std::slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into()) };
    let is_code = |header: &&libc::Elf64_Phdr| {
        header.p_type == libc::PT_LOAD && header.p_flags & (libc::PF_X | libc::PF_W) == libc::PF_X
    };
    if let Some(code) = headers.iter().find(is_code)
        && let Ok(start) = usize::try_from(info.dlpi_addr + code.p_vaddr)
        && let Ok(bytes) = usize::try_from(code.p_memsz)
    {
        // SAFETY: `forget` has given this pointer.
        let found = unsafe { &mut *found.cast::<(usize, usize)>() };
        *found = (start - start % PAGE_BYTES, (start + bytes).next_multiple_of(PAGE_BYTES));
    }
    1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_goes_on_with_the_code_that_it_has_forgotten() {
        let (start, end) = place();
        let program = std::env::current_exe().expect("a program").display().to_string();
        let maps = std::fs::read_to_string("/proc/self/maps").expect("readable");
        let mut of_program = maps.lines().filter(|line| line.ends_with(&program));
        let line = of_program.find(|line| line.starts_with(&format!("{start:x}-{end:x} ")));
        assert!(line.expect("one mapping").contains(" r-xp "), "{maps}");
        forget();
        assert_eq!(place(), (start, end));
    }
}
