//! The device controllers of both versions: a list of words, and a program.

use crate::plan::DeviceRule;
use crate::sys::bpf::{self, Instruction};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

/// A rule as v1's `devices.allow` takes it.
pub(super) fn word(rule: DeviceRule) -> String {
    let number = |number: Option<u32>| number.map_or_else(|| "*".to_owned(), |number| number.to_string());
    let kind = if rule.block { 'b' } else { 'c' };
    let letters = [(rule.read, 'r'), (rule.write, 'w'), (rule.make, 'm')];
    let access: String = letters.iter().filter(|(may, _)| *may).map(|(_, letter)| letter).collect();
    format!("{kind} {}:{} {access}", number(rule.major), number(rule.minor))
}

/// Processes in the v2 cgroup may use devices by these rules only. Repeating it is harmless.
pub(super) fn guard(cgroup: BorrowedFd<'_>, rules: impl Iterator<Item = DeviceRule>) -> io::Result<()> {
    if bpf::device_programs(cgroup)? == 0 {
        let program = bpf::load_device_program(&program(rules))?;
        bpf::attach_device_program(cgroup, program.as_fd())?;
    }
    Ok(())
}

// Source: the kernel's `struct bpf_cgroup_dev_ctx` and `BPF_DEVCG_*`.
const BLOCK: i32 = 1;
const CHARACTER: i32 = 2;
const MAKE: i32 = 1;
const READ: i32 = 2;
const WRITE: i32 = 4;

// Registers: the answer, the context, and what is asked about.
const ANSWER: u8 = 0;
const CONTEXT: u8 = 1;
const KIND: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

const LOAD: u8 = 0x61;
const MOVE: u8 = 0xbf;
const SET: u8 = 0xb7;
const AND: u8 = 0x54;
const SHIFT_RIGHT: u8 = 0x74;
const JUMP_UNLESS: u8 = 0x55;
const EXIT: u8 = 0x95;

const fn with(code: u8, register: u8, value: i32) -> Instruction {
    Instruction { code, registers: register, offset: 0, value }
}

const fn load(into: u8, offset: i16) -> Instruction {
    Instruction { code: LOAD, registers: CONTEXT << 4 | into, offset, value: 0 }
}

const fn copy(into: u8, from: u8) -> Instruction {
    Instruction { code: MOVE, registers: from << 4 | into, offset: 0, value: 0 }
}

/// Says 1 as soon as a rule fits, and 0 after the last.
fn program(rules: impl Iterator<Item = DeviceRule>) -> Vec<Instruction> {
    let mut program = vec![
        load(KIND, 0),
        copy(ACCESS, KIND),
        with(AND, KIND, 0xffff),
        with(SHIFT_RIGHT, ACCESS, 16),
        load(MAJOR, 4),
        load(MINOR, 8),
    ];
    for rule in rules {
        let ways = [(rule.make, MAKE), (rule.read, READ), (rule.write, WRITE)];
        let may_not = ways.iter().filter(|(may, _)| !may).map(|(_, bit)| bit).sum();
        let mut piece = vec![
            with(JUMP_UNLESS, KIND, if rule.block { BLOCK } else { CHARACTER }),
            copy(ANSWER, ACCESS),
            with(AND, ANSWER, may_not),
            with(JUMP_UNLESS, ANSWER, 0),
        ];
        for (register, number) in [(MAJOR, rule.major), (MINOR, rule.minor)] {
            piece.extend(number.map(|number| with(JUMP_UNLESS, register, number.cast_signed())));
        }
        piece.extend([with(SET, ANSWER, 1), with(EXIT, 0, 0)]);
        let end = piece.len();
        for (place, instruction) in piece.iter_mut().enumerate() {
            if instruction.code == JUMP_UNLESS {
                instruction.offset = i16::try_from(end - place - 1).unwrap_or(0);
            }
        }
        program.extend(piece);
    }
    program.extend([with(SET, ANSWER, 0), with(EXIT, 0, 0)]);
    program
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::USUAL;

    #[test]
    fn rules_have_their_words() {
        let words: Vec<String> = USUAL.into_iter().map(word).collect();
        assert_eq!(words[..3], ["c *:* m", "b *:* m", "c 1:3 rwm"]);
        assert_eq!(words[10], "c 136:* rwm");
    }

    #[test]
    fn every_jump_leads_to_the_next_rule() {
        let program = program(USUAL.into_iter());
        for (place, instruction) in program.iter().enumerate().filter(|(_, one)| one.code == JUMP_UNLESS) {
            let target = place + 1 + usize::try_from(instruction.offset).expect("forward");
            assert_eq!(program[target - 1].code, EXIT, "{place}");
        }
    }

    /// The group of a test on the hybrid or unified tree, gone at the end.
    struct Group(std::path::PathBuf);

    impl Drop for Group {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir(&self.0);
        }
    }

    #[test]
    #[cfg_attr(not(root), ignore = "needs root")]
    fn the_kernel_asks_the_program() {
        let tree = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"].map(std::path::Path::new);
        let tree = tree.into_iter().find(|tree| tree.join("cgroup.procs").exists()).expect("a v2 tree");
        let group = Group(tree.join(format!("keel-test-devices-{}", std::process::id())));
        std::fs::create_dir(&group.0).expect("a group");
        let opened = std::fs::File::open(&group.0).expect("open");
        for _ in 0..2 {
            guard(opened.as_fd(), USUAL.into_iter()).expect("guard");
        }
        assert_eq!(bpf::device_programs(opened.as_fd()).expect("count"), 1);
        let folder = tempfile::tempdir().expect("a folder");
        let script = format!(
            "echo $$ > {}/cgroup.procs; cd {}; mknod n c 1 3 && mknod k c 1 11 && mknod d b 254 0 && \
             echo x > n && echo wrote; cat k; cat d; cat /dev/urandom | head -c 1 >/dev/null && echo read",
            group.0.display(),
            folder.path().display(),
        );
        let output = std::process::Command::new("sh").args(["-c", &script]).output().expect("sh");
        let (said, why) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(said, "wrote\nread\n", "{why}");
        assert!(why.contains("k: Operation not permitted") && why.contains("d: Operation not permitted"));
    }
}
