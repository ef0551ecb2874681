//! The kernel's filter program for a policy.
//!
//! A call's number is searched for in a tree of comparisons, so that the filter takes as many
//! steps for the last call as for the first. Every piece of the program ends with a return, and
//! jumps lead forward over whole pieces only.

use super::error::SeccompError;
use super::policy::{Condition, NOT_THERE, Policy, Rule};
use super::table::Machine;
use oci_spec::runtime::LinuxSeccompOperator as Operator;
use std::collections::BTreeMap;

/// The kernel's limit, `BPF_MAXINSNS`.
const MAX_INSTRUCTIONS: usize = 4096;

// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

const LOAD: u16 = 0x20;
const AND: u16 = 0x54;
const JUMP: u16 = 0x05;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_GREATER: u16 = 0x25;
const JUMP_GREATER_EQUAL: u16 = 0x35;
const RETURN: u16 = 0x06;

/// What happens to speakers of a language that the policy does not name.
const FOREIGN: u32 = 0;

/// One instruction, `struct sock_filter`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Instruction {
    pub(super) code: u16,
    pub(super) if_true: u8,
    pub(super) if_false: u8,
    pub(super) value: u32,
}

impl Instruction {
    pub(super) fn to_bytes(self) -> [u8; 8] {
        let [a, b] = self.code.to_ne_bytes();
        let [c, d, e, f] = self.value.to_ne_bytes();
        [a, b, self.if_true, self.if_false, c, d, e, f]
    }
}

type Program = Vec<Instruction>;

const fn plain(code: u16, value: u32) -> Instruction {
    Instruction { code, if_true: 0, if_false: 0, value }
}

pub(super) fn assemble(policy: &Policy) -> Result<Program, SeccompError> {
    let mut program = vec![plain(RETURN, FOREIGN)];
    // From the last to the first, so that each knows how long what it jumps over is.
    for (machine, calls) in policy.machines.iter().rev() {
        let mut piece = vec![plain(LOAD, NUMBER)];
        piece.extend(search(&leaves(policy, *machine, calls)));
        let mut all = unless(JUMP_EQUAL, machine.audit(), piece);
        all.append(&mut program);
        program = all;
    }
    program.insert(0, plain(LOAD, ARCHITECTURE));
    match program.len() {
        length if length > MAX_INSTRUCTIONS => Err(SeccompError::TooLong { instructions: length }),
        _ => Ok(program),
    }
}

/// `piece` is run if the comparison holds, and jumped over if not.
fn unless(code: u16, value: u32, piece: Program) -> Program {
    let mut program = match u8::try_from(piece.len()) {
        Ok(length) => vec![Instruction { code, if_true: 0, if_false: length, value }],
        Err(_) => vec![
            Instruction { code, if_true: 1, if_false: 0, value },
            plain(JUMP, u32::try_from(piece.len()).unwrap_or(u32::MAX)),
        ],
    };
    program.extend(piece);
    program
}

/// What happens from each number on, up to the next one.
fn leaves(policy: &Policy, machine: Machine, calls: &BTreeMap<u32, Vec<Rule>>) -> Vec<(u32, Program)> {
    let default = vec![plain(RETURN, policy.default)];
    let mut leaves: Vec<(u32, Program)> = vec![(0, default.clone())];
    let mut add = |from: u32, piece: Program| {
        match leaves.last() {
            Some((_, last)) if *last == piece => return,
            Some((start, _)) if *start == from => drop(leaves.pop()),
            Some(_) | None => {}
        }
        match leaves.last() {
            Some((_, last)) if *last == piece => {}
            Some(_) | None => leaves.push((from, piece)),
        }
    };
    for (number, rules) in calls {
        add(*number, decide(rules, policy.default));
        add(number + 1, default.clone());
    }
    if policy.refuses() {
        let last = machine.calls().into_values().max().unwrap_or(0);
        let last = last.max(calls.keys().last().copied().unwrap_or(0));
        add(last + 1, vec![plain(RETURN, NOT_THERE)]);
    }
    leaves
}

fn search(leaves: &[(u32, Program)]) -> Program {
    let [(_, only)] = leaves else {
        let (low, high) = leaves.split_at(leaves.len() / 2);
        let Some((pivot, _)) = high.first() else { return Vec::new() };
        let mut program = unless(JUMP_GREATER_EQUAL, *pivot, search(high));
        program.extend(search(low));
        return program;
    };
    only.clone()
}

/// The first rule that fits decides.
fn decide(rules: &[Rule], default: u32) -> Program {
    let mut program = Vec::new();
    for rule in rules {
        program.extend(one(rule));
        if rule.conditions.is_empty() {
            return program;
        }
    }
    program.push(plain(RETURN, default));
    program
}

/// Returns the action if all conditions hold, and leads to its end if not.
fn one(rule: &Rule) -> Program {
    let mut program = vec![plain(RETURN, rule.action)];
    for condition in rule.conditions.iter().rev() {
        program = check(*condition, program);
    }
    program
}

fn load(condition: Condition, high: bool) -> Instruction {
    // Both words of an argument lie in the order of the machine; these machines are little-endian.
    plain(LOAD, ARGUMENTS + 8 * condition.index + if high { 4 } else { 0 })
}

/// `then` is run if the condition holds, and jumped over if not.
fn check(condition: Condition, then: Program) -> Program {
    let halves = |value: u64| [(value >> 32) as u32, (value & 0xffff_ffff) as u32];
    let ([high, low], [second_high, second_low]) = (halves(condition.value), halves(condition.second));
    match condition.operator {
        Operator::ScmpCmpEq => equal(condition, [None, None], [high, low], then),
        Operator::ScmpCmpMaskedEq => {
            equal(condition, [Some(high), Some(low)], [second_high, second_low], then)
        }
        Operator::ScmpCmpNe => {
            let length = then.len();
            let mut program = vec![
                load(condition, true),
                // Not equal at once, or only maybe equal.
                Instruction { code: JUMP_EQUAL, if_true: 0, if_false: 2, value: high },
                load(condition, false),
                Instruction { code: JUMP_EQUAL, if_true: offset(length), if_false: 0, value: low },
            ];
            program.extend(then);
            program
        }
        Operator::ScmpCmpGt => above(condition, [high, low], JUMP_GREATER, then),
        Operator::ScmpCmpGe => above(condition, [high, low], JUMP_GREATER_EQUAL, then),
        Operator::ScmpCmpLe => below(condition, [high, low], JUMP_GREATER, then),
        Operator::ScmpCmpLt => below(condition, [high, low], JUMP_GREATER_EQUAL, then),
    }
}

/// Six conditions of at most six instructions each are shorter than a jump can be.
fn offset(length: usize) -> u8 {
    u8::try_from(length).unwrap_or(u8::MAX)
}

fn equal(condition: Condition, masks: [Option<u32>; 2], values: [u32; 2], then: Program) -> Program {
    let mut program = then;
    for (place, high) in [(1, false), (0, true)] {
        let skip = offset(program.len());
        let mut half = vec![load(condition, high)];
        half.extend(masks[place].map(|mask| plain(AND, mask)));
        half.push(Instruction { code: JUMP_EQUAL, if_true: 0, if_false: skip, value: values[place] });
        half.append(&mut program);
        program = half;
    }
    program
}

/// Above by the high words, or equal there and `code` holds for the low ones.
fn above(condition: Condition, [high, low]: [u32; 2], code: u16, then: Program) -> Program {
    let skip = offset(then.len());
    let mut program = vec![
        load(condition, true),
        Instruction { code: JUMP_GREATER, if_true: 3, if_false: 0, value: high },
        Instruction { code: JUMP_EQUAL, if_true: 0, if_false: skip + 2, value: high },
        load(condition, false),
        Instruction { code, if_true: 0, if_false: skip, value: low },
    ];
    program.extend(then);
    program
}

/// The opposite of [`above`].
fn below(condition: Condition, [high, low]: [u32; 2], code: u16, then: Program) -> Program {
    let skip = offset(then.len());
    let mut program = vec![
        load(condition, true),
        Instruction { code: JUMP_GREATER, if_true: skip + 3, if_false: 0, value: high },
        Instruction { code: JUMP_EQUAL, if_true: 0, if_false: 2, value: high },
        load(condition, false),
        Instruction { code, if_true: skip, if_false: 0, value: low },
    ];
    program.extend(then);
    program
}
