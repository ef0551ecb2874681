//! Signals that a program does not hear yet.
//!
//! The first process of a PID namespace gets only the signals that it catches. Told to end right
//! after its start, it has perhaps not come to catch that one, and would last its whole grace: it is
//! told again as soon as it does.

use rustix::process::Signal;
use std::fs;
use std::time::Duration;

const FIRST_WAIT: Duration = Duration::from_millis(10);
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// A signal to be sent again.
#[derive(Debug)]
pub(super) struct Unheard {
    pub(super) signal: Signal,
    /// When to look whether it would be heard; since the supervisor's beginning.
    pub(super) at: Duration,
    wait: Duration,
}

impl Unheard {
    pub(super) fn new(signal: Signal, now: Duration) -> Self {
        Self { signal, at: now + FIRST_WAIT, wait: FIRST_WAIT }
    }

    /// Programs that come to it at all do so soon.
    pub(super) fn wait_longer(&mut self, now: Duration) {
        self.wait = (self.wait * 2).min(LONGEST_WAIT);
        self.at = now + self.wait;
    }
}

/// True if the process neither catches the signal nor ignores it on purpose.
pub(super) fn is_deaf(pid: i32, signal: Signal) -> bool {
    signal != Signal::KILL && !is_in(pid, "SigCgt:", signal) && !is_in(pid, "SigIgn:", signal)
}

/// True if the process has a handler for the signal.
pub(super) fn catches(pid: i32, signal: Signal) -> bool {
    is_in(pid, "SigCgt:", signal)
}

/// Source: proc_pid_status(5).
fn is_in(pid: i32, set: &str, signal: Signal) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix(set));
    let mask = mask.and_then(|text| u64::from_str_radix(text.trim(), 16).ok()).unwrap_or(0);
    mask & (1 << (signal.as_raw() - 1)) != 0
}
