//! An OCI profile, checked: what is left to do is to write it down for the kernel.

use super::error::SeccompError;
use super::table::Machine;
use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompFilterFlag, LinuxSeccompOperator,
    LinuxSyscall,
};
use std::collections::BTreeMap;

const ALLOW: u32 = 0x7fff_0000;
const LOG: u32 = 0x7ffc_0000;
const TRACE: u32 = 0x7ff0_0000;
const ERRNO: u32 = 0x0005_0000;
const TRAP: u32 = 0x0003_0000;
const KILL_PROCESS: u32 = 0x8000_0000;
const KILL_THREAD: u32 = 0;
/// A call that this table of calls is too old for: programs then use an older one.
pub(super) const NOT_THERE: u32 = ERRNO | libc::ENOSYS.cast_unsigned();
/// The kernel's own limit.
const MAX_ERRNO: u32 = 4095;

const FLAG_LOG: u32 = 2;
const FLAG_SPEC_ALLOW: u32 = 4;

/// What a profile means on this machine.
#[derive(Debug)]
pub(super) struct Policy {
    /// For calls that nothing is said of.
    pub(super) default: u32,
    /// For the kernel.
    pub(super) flags: u32,
    /// Each machine language that may be spoken, with its calls by number.
    pub(super) machines: Vec<(Machine, BTreeMap<u32, Vec<Rule>>)>,
}

/// What happens to a call if all conditions hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) action: u32,
    pub(super) conditions: Vec<Condition>,
}

/// How an argument must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Condition {
    /// 0 to 5.
    pub(super) index: u32,
    pub(super) operator: LinuxSeccompOperator,
    /// The mask, for a masked comparison.
    pub(super) value: u64,
    /// What is left under the mask.
    pub(super) second: u64,
}

impl Policy {
    pub(super) fn read(profile: &LinuxSeccomp) -> Result<Self, SeccompError> {
        if profile.listener_path().is_some() {
            return Err(SeccompError::Unsupported { what: "a listener".into() });
        }
        let default = action(profile.default_action(), profile.default_errno_ret())?;
        let mut machines = Vec::new();
        for machine in machines_of(profile) {
            machines.push((machine, calls(profile, machine, default)?));
        }
        Ok(Self { default, flags: flags(profile), machines })
    }

    /// True if calls that nothing is said of are refused in some way.
    pub(super) fn refuses(&self) -> bool {
        !matches!(self.default, ALLOW | LOG) && self.default & 0xffff_0000 != TRACE
    }
}

fn machines_of(profile: &LinuxSeccomp) -> Vec<Machine> {
    let named = |arch: Arch| profile.architectures().iter().flatten().any(|one| *one == arch);
    let mut all = vec![Machine::NATIVE];
    if Machine::NATIVE == Machine::X86_64 && named(Arch::ScmpArchX86) {
        all.push(Machine::I386);
    }
    all
}

fn flags(profile: &LinuxSeccomp) -> u32 {
    let named = |flag: LinuxSeccompFilterFlag| profile.flags().iter().flatten().any(|one| *one == flag);
    let mut flags = 0;
    if named(LinuxSeccompFilterFlag::SeccompFilterFlagLog) {
        flags |= FLAG_LOG;
    }
    if named(LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow) {
        flags |= FLAG_SPEC_ALLOW;
    }
    flags
}

fn calls(
    profile: &LinuxSeccomp,
    machine: Machine,
    default: u32,
) -> Result<BTreeMap<u32, Vec<Rule>>, SeccompError> {
    let known = machine.calls();
    let mut all: BTreeMap<u32, Vec<Rule>> = BTreeMap::new();
    for entry in profile.syscalls().iter().flatten() {
        let rules = rules(entry)?;
        if rules.iter().all(|rule| rule.action == default) {
            continue;
        }
        // A call that this machine does not have cannot be made either.
        for number in entry.names().iter().filter_map(|name| known.get(name.as_str())) {
            all.entry(*number).or_default().extend(rules.iter().cloned());
        }
    }
    for rules in all.values_mut() {
        // What is said of special arguments stands over what is said of all.
        rules.sort_by_key(|rule| rule.conditions.is_empty());
    }
    Ok(all)
}

/// Conditions on different arguments must all hold; if two are on one argument, each stands
/// alone, as in every other runtime.
fn rules(entry: &LinuxSyscall) -> Result<Vec<Rule>, SeccompError> {
    let action = action(entry.action(), entry.errno_ret())?;
    let conditions: Vec<Condition> =
        entry.args().iter().flatten().map(condition).collect::<Result<_, _>>()?;
    let twice = conditions
        .iter()
        .enumerate()
        .any(|(place, one)| conditions[..place].iter().any(|other| other.index == one.index));
    Ok(if twice {
        conditions.into_iter().map(|one| Rule { action, conditions: vec![one] }).collect()
    } else {
        vec![Rule { action, conditions }]
    })
}

fn condition(argument: &LinuxSeccompArg) -> Result<Condition, SeccompError> {
    let index = argument.index();
    let number = u32::try_from(index).ok().filter(|index| *index < 6);
    Ok(Condition {
        index: number.ok_or(SeccompError::NoSuchArgument { index })?,
        operator: argument.op(),
        value: argument.value(),
        second: argument.value_two().unwrap_or(0),
    })
}

fn action(action: LinuxSeccompAction, errno: Option<u32>) -> Result<u32, SeccompError> {
    use LinuxSeccompAction as A;
    let errno = errno.unwrap_or(libc::EPERM.cast_unsigned());
    match action {
        A::ScmpActErrno | A::ScmpActTrace if errno > MAX_ERRNO => Err(SeccompError::BadErrno { errno }),
        A::ScmpActErrno => Ok(ERRNO | errno),
        A::ScmpActTrace => Ok(TRACE | errno),
        A::ScmpActKill | A::ScmpActKillThread => Ok(KILL_THREAD),
        A::ScmpActKillProcess => Ok(KILL_PROCESS),
        A::ScmpActTrap => Ok(TRAP),
        A::ScmpActLog => Ok(LOG),
        A::ScmpActAllow => Ok(ALLOW),
        // Somebody outside would have to answer for each call.
        A::ScmpActNotify => Err(SeccompError::Unsupported { what: "SCMP_ACT_NOTIFY".into() }),
    }
}
