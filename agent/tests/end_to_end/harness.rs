//! Runs the tests, in the words of the standard harness: each on a thread, a
//! network namespace and a [`Machine`] of its own, some at a time.

use crate::machine::{Machine, PREFIX};
use crate::traces;
use nix::sched::{CloneFlags, unshare};
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, ExitCode};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// More wait for one another on a small machine.
const AT_A_TIME: usize = 4;

pub(crate) type Test = fn(&mut Machine);

/// Runs what the command line asks for.
pub(crate) fn run(tests: &[(&'static str, Test)]) -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let filter = words.iter().find(|word| !word.starts_with('-'));
    let chosen = tests.iter().filter(|(name, _)| filter.is_none_or(|filter| name.contains(filter.as_str())));
    if words.iter().any(|word| word == "--list") {
        let ignored_only = words.iter().any(|word| word == "--ignored");
        chosen.filter(|_| !ignored_only).for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    if !rustix::process::geteuid().is_root() {
        chosen.for_each(|(name, _)| println!("test {name} ... ignored, needs root"));
        return ExitCode::SUCCESS;
    }
    traces::sweep();
    let waiting: Mutex<VecDeque<_>> = Mutex::new(chosen.copied().enumerate().collect());
    let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    let failed: usize = std::thread::scope(|scope| {
        let worker = || {
            let mut failed = 0;
            while let Some((number, (name, test))) = next() {
                // A thread of its own: nothing leads back out of a network namespace.
                let began = Instant::now();
                let thread = std::thread::Builder::new().name(name.to_owned());
                let thread = thread.spawn_scoped(scope, move || run_one(number, test)).unwrap();
                let passed = thread.join().unwrap_or(false);
                let word = if passed { "ok" } else { "FAILED" };
                println!("test {name} ... {word} ({:.1} s)", began.elapsed().as_secs_f64());
                failed += usize::from(!passed);
            }
            failed
        };
        let workers: Vec<_> = (0..AT_A_TIME).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().map(|worker| worker.join().unwrap_or(1)).sum()
    });
    println!("\ntest result: {failed} failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// True if the test held, and left nothing on the machine.
fn run_one(number: usize, test: Test) -> bool {
    unshare(CloneFlags::CLONE_NEWNET).unwrap();
    let up = Command::new("busybox").args(["ip", "link", "set", "lo", "up"]).status().unwrap();
    assert!(up.success());
    let name = format!("{PREFIX}{}-{number}", std::process::id());
    let mut machine = Machine::new(&name);
    let passed = catch_unwind(AssertUnwindSafe(|| {
        test(&mut machine);
        machine.leave_nothing();
    }))
    .is_ok();
    if !passed {
        println!("---- the agent's last lines\n{}", machine.agent_log_tail());
    }
    machine.clear();
    passed
}
