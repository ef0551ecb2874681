//! Writes programs for the kernel's machine: instructions, and jumps to places that have names.
//!
//! Only what is needed here. Source: RFC 9669.

use crate::sys::bpf::Instruction;
use std::collections::BTreeMap;
use std::os::fd::{AsRawFd as _, BorrowedFd};

/// A register. What is called leaves its result in the first, takes what it needs from the next five, and forgets all
/// six; the last is the end of the stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Register {
    R0,
    R1,
    R2,
    R3,
    R4,
    R5,
    R6,
    R7,
    R8,
    R9,
    Stack,
}

/// How much is read or written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Width {
    Byte = 0x10,
    Half = 0x08,
    Word = 0x00,
    Double = 0x18,
}

/// When it is jumped. Numbers have no sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum If {
    Equal = 0x10,
    Above = 0x20,
    /// One of these bits is set.
    AnyOf = 0x40,
    Unequal = 0x50,
    AtMost = 0xb0,
}

/// What is done with two numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sum {
    Add = 0x00,
    And = 0x50,
    Move = 0xb0,
}

/// What the kernel does for programs. Source: `linux/bpf.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Helper {
    MapLookup = 1,
    MapUpdate = 2,
    MapDelete = 3,
    Nanoseconds = 5,
    StoreBytes = 9,
    ReplaceSum = 10,
    Redirect = 23,
    LoadBytes = 26,
    ChangeType = 32,
    RedirectPeer = 155,
}

// Classes and modes of codes.
const LOAD_IMMEDIATE: u8 = 0x18;
const LOAD: u8 = 0x61;
const STORE_VALUE: u8 = 0x62;
const STORE: u8 = 0x63;
const ATOMIC: u8 = 0xc3;
const JUMP: u8 = 0x05;
const SUM: u8 = 0x07;
const BY_REGISTER: u8 = 0x08;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;
/// The value is the descriptor of a map.
const MAP: u8 = 1;

/// A program that is being written.
#[derive(Debug, Default)]
pub(super) struct Assembler {
    steps: Vec<Instruction>,
    places: BTreeMap<&'static str, usize>,
    jumps: Vec<(usize, &'static str)>,
}

impl Assembler {
    fn push(&mut self, code: u8, (to, from): (Register, Register), offset: i16, value: i32) {
        let registers = to as u8 | (from as u8) << 4;
        self.steps.push(Instruction { code, registers, offset, value });
    }

    /// Jumps to `place` lead here.
    pub(super) fn place(&mut self, place: &'static str) {
        self.places.insert(place, self.steps.len());
    }

    /// The descriptor of a map, for helpers.
    pub(super) fn map(&mut self, to: Register, map: BorrowedFd<'_>) {
        let registers = to as u8 | MAP << 4;
        let code = LOAD_IMMEDIATE;
        self.steps.push(Instruction { code, registers, offset: 0, value: map.as_raw_fd() });
        self.push(0, (Register::R0, Register::R0), 0, 0);
    }

    /// `to = to ∘ value`.
    pub(super) fn sum(&mut self, sum: Sum, to: Register, value: i32) {
        self.push(SUM | sum as u8, (to, Register::R0), 0, value);
    }

    /// `to = from`.
    pub(super) fn copy(&mut self, to: Register, from: Register) {
        self.push(SUM | BY_REGISTER | Sum::Move as u8, (to, from), 0, 0);
    }

    /// `to` is where on the stack so many bytes before its end are.
    pub(super) fn on_stack(&mut self, to: Register, offset: i16) {
        self.copy(to, Register::Stack);
        self.sum(Sum::Add, to, i32::from(offset));
    }

    /// `to = *(from + offset)`.
    pub(super) fn load(&mut self, width: Width, to: Register, (from, offset): (Register, i16)) {
        self.push(LOAD | width as u8, (to, from), offset, 0);
    }

    /// `*(to + offset) = from`.
    pub(super) fn store(&mut self, width: Width, (to, offset): (Register, i16), from: Register) {
        self.push(STORE | width as u8, (to, from), offset, 0);
    }

    /// `*(to + offset) = value`.
    pub(super) fn store_value(&mut self, width: Width, (to, offset): (Register, i16), value: i32) {
        self.push(STORE_VALUE | width as u8, (to, Register::R0), offset, value);
    }

    /// `*(to + offset) += from`, of double width and at once.
    pub(super) fn add_at_once(&mut self, (to, offset): (Register, i16), from: Register) {
        self.push(ATOMIC | Width::Double as u8, (to, from), offset, 0);
    }

    /// To `place`, if `a` and `value` are so.
    pub(super) fn jump_if(&mut self, condition: If, a: Register, value: i32, place: &'static str) {
        self.jumps.push((self.steps.len(), place));
        self.push(JUMP | condition as u8, (a, Register::R0), 0, value);
    }

    /// To `place`, if `a` and `b` are so.
    pub(super) fn jump_if_both(&mut self, condition: If, a: Register, b: Register, place: &'static str) {
        self.jumps.push((self.steps.len(), place));
        self.push(JUMP | BY_REGISTER | condition as u8, (a, b), 0, 0);
    }

    /// To `place`.
    pub(super) fn jump(&mut self, place: &'static str) {
        self.jumps.push((self.steps.len(), place));
        self.push(JUMP, (Register::R0, Register::R0), 0, 0);
    }

    /// Asks the kernel.
    pub(super) fn call(&mut self, helper: Helper) {
        self.push(CALL, (Register::R0, Register::R0), 0, helper as i32);
    }

    /// Ends with what is in the first register.
    pub(super) fn exit(&mut self) {
        self.push(EXIT, (Register::R0, Register::R0), 0, 0);
    }

    /// The program, with all jumps led to their places; none if one has no place.
    pub(super) fn finish(mut self) -> Option<Vec<Instruction>> {
        for (at, place) in self.jumps {
            let target = *self.places.get(place)?;
            // Counted from the next one.
            let distance = i64::try_from(target).ok()? - i64::try_from(at).ok()? - 1;
            self.steps.get_mut(at)?.offset = i16::try_from(distance).ok()?;
        }
        Some(self.steps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_are_as_the_standard_has_them() {
        let mut program = Assembler::default();
        program.load(Width::Word, Register::R0, (Register::R6, 16));
        program.jump_if(If::Equal, Register::R0, 8, "end");
        program.store_value(Width::Double, (Register::Stack, -40), 0);
        program.copy(Register::R6, Register::R1);
        program.place("end");
        program.exit();
        let is = |code, registers, offset, value| Instruction { code, registers, offset, value };
        let wanted = vec![
            is(0x61, 0x60, 16, 0),
            is(0x15, 0x00, 2, 8),
            is(0x7a, 0x0a, -40, 0),
            is(0xbf, 0x16, 0, 0),
            is(0x95, 0, 0, 0),
        ];
        assert_eq!(program.finish(), Some(wanted));
    }

    #[test]
    fn a_jump_to_nowhere_makes_no_program() {
        let mut program = Assembler::default();
        program.jump("nowhere");
        assert_eq!(program.finish(), None);
    }
}
