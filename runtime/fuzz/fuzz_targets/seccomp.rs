//! Any bytes, as a seccomp profile: a filter that the kernel would take for a program, or an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use runtime::seccomp::{compile, parse};

/// The kernel's limit.
const MAX_INSTRUCTIONS: usize = 4096;

fuzz_target!(|content: &[u8]| {
    let Ok(profile) = parse(content) else { return };
    let Ok(filter) = compile(&profile) else { return };
    let program: Vec<&[u8]> = filter[4..].chunks(8).collect();
    assert!(!program.is_empty() && program.len() <= MAX_INSTRUCTIONS);
    for (place, instruction) in program.iter().enumerate() {
        let code = u16::from_ne_bytes([instruction[0], instruction[1]]);
        let value = u32::from_ne_bytes(instruction[4..8].try_into().unwrap());
        // As the kernel checks them: every way leads forward, to an instruction that is there.
        let furthest = match code {
            0x05 => value as usize,
            0x15 | 0x25 | 0x35 => usize::from(instruction[2].max(instruction[3])),
            0x20 => {
                assert!(value % 4 == 0 && value < 64);
                0
            }
            0x54 => 0,
            0x06 => continue,
            other => panic!("instruction {other:#x}"),
        };
        assert!(place + 1 + furthest < program.len());
    }
});
