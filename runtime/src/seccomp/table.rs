//! The numbers of Linux' system calls.
//!
//! One line per call in `syscalls.txt`: its name, and its number on x86_64, i386 and aarch64.
//! Source: the kernel's own headers up to Linux 6.17.

use std::collections::HashMap;

const CALLS: &str = include_str!("syscalls.txt");

/// A machine language, as a filter sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Machine {
    X86_64,
    I386,
    Aarch64,
}

impl Machine {
    /// This program's own.
    pub(super) const NATIVE: Self = if cfg!(target_arch = "aarch64") { Self::Aarch64 } else { Self::X86_64 };

    /// `AUDIT_ARCH_*`.
    pub(super) const fn audit(self) -> u32 {
        match self {
            Self::X86_64 => 0xc000_003e,
            Self::I386 => 0x4000_0003,
            Self::Aarch64 => 0xc000_00b7,
        }
    }

    const fn column(self) -> usize {
        match self {
            Self::X86_64 => 1,
            Self::I386 => 2,
            Self::Aarch64 => 3,
        }
    }

    /// Every call that the machine has.
    pub(super) fn calls(self) -> HashMap<&'static str, u32> {
        let call = |line: &'static str| {
            let mut words = line.split(' ');
            let name = words.next()?;
            Some((name, words.nth(self.column() - 1)?.parse().ok()?))
        };
        CALLS.lines().filter_map(call).collect()
    }
}
