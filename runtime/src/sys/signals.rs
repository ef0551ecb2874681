//! Signal dispositions and masks, as a fresh program expects them.
#![allow(unsafe_code, reason = "nix's sigaction is unsafe because handlers are code")]

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, sigaction, sigprocmask};

/// Children leave nothing to wait for when they end.
pub(crate) fn ignore_children() {
    let ignore = SigAction::new(SigHandler::SigIgn, SaFlags::empty(), SigSet::empty());
    // SAFETY: to ignore a signal runs no code of ours. There is no reason to refuse it.
    let _ = unsafe { sigaction(Signal::SIGCHLD, &ignore) };
}

/// Every signal has its default action and none is blocked.
pub(crate) fn reset() {
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    for signal in Signal::iterator().filter(|s| !matches!(s, Signal::SIGKILL | Signal::SIGSTOP)) {
        // SAFETY: the default action runs no code of ours. A refusal means that it is default.
        let _ = unsafe { sigaction(signal, &default) };
    }
    let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None);
}
