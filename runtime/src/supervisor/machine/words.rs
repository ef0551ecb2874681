//! What is said to the machine, and what it says.

use super::ProbeKind;
use crate::plan::Resources;
use crate::supervisor::news::News;
use jiff::Timestamp;
use std::time::Duration;

/// An instant, on both clocks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Now {
    /// For people.
    pub(crate) wall: Timestamp,
    /// For waiting: since any fixed point; no clock change moves it.
    pub(crate) mono: Duration,
}

/// What happened.
#[derive(Debug, Clone)]
pub(crate) enum Input {
    /// The pod's network is there.
    Start { addresses: Vec<String> },
    /// The container's program runs.
    Started { index: usize, pid: i32 },
    /// The container's run is over, or never came to be.
    Ended { index: usize, outcome: Outcome },
    /// A hook is done.
    Hooked { index: usize, hook: HookKind, result: Answer },
    /// A probe is done.
    Probed { index: usize, kind: ProbeKind, result: Answer },
    /// The container said something of itself.
    Notified { index: usize, news: News },
    /// End the pod.
    Stop { grace: Duration },
    /// The container has other limits, and may have to learn of them by a new start.
    Resized { index: usize, limits: Resources, restart: bool },
    /// Run a container that was added by request.
    StartOne { index: usize },
    /// End one container.
    StopOne { index: usize, grace: Duration },
    /// A time that was waited for has come, perhaps.
    Tick,
}

/// Well, or not, and why.
pub(crate) type Answer = Result<(), String>;

/// Which lifecycle hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HookKind {
    PostStart,
    PreStop,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// 128 + signal if a signal ended it.
    pub(crate) exit_code: i32,
    /// The signal that ended it.
    pub(crate) signal: Option<i32>,
    /// The kernel killed one of its processes for want of memory.
    pub(crate) oom: bool,
    /// Set if the program could not be started: a reason, for `message` to explain.
    pub(crate) failure: Option<&'static str>,
    /// For a person.
    pub(crate) message: String,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Start a run of the container.
    Run { index: usize },
    /// Ask the container's first process to end.
    Terminate { index: usize },
    /// SIGKILL to everything in the container.
    KillContainer { index: usize },
    /// SIGABRT to the container's first process, or if it does not hear that, SIGKILL.
    Abort { index: usize },
    /// Do what the hook says, and tell when it is done.
    Hook { index: usize, hook: HookKind },
    /// The container's hooks have taken too long: leave them.
    CancelHooks { index: usize },
    /// Do what the probe says, and tell when it is done.
    Probe { index: usize, kind: ProbeKind },
    /// SIGKILL to everything in the pod.
    Kill,
    /// Nothing runs and nothing will: say so, and end.
    Finish,
}
