//! The terminal that a command was called on.

use nix::sys::signal::{SigSet, Signal, raise};
use rustix::fd::AsFd;
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};
use std::io;
use std::os::fd::OwnedFd;

/// True if keys come from a terminal, and output goes to one.
pub(super) fn shown() -> bool {
    isatty(io::stdin()) && isatty(io::stdout())
}

/// Every key goes through as it is, until this is dropped.
pub(super) struct RawMode {
    saved: Termios,
}

impl RawMode {
    /// # Errors
    /// If standard input is no terminal.
    pub(super) fn enter() -> io::Result<Self> {
        let stdin = io::stdin();
        let saved = tcgetattr(&stdin)?;
        let mut raw = saved.clone();
        raw.make_raw();
        tcsetattr(&stdin, OptionalActions::Drain, &raw)?;
        Ok(Self { saved })
    }

    /// How it was before.
    pub(super) fn saved(&self) -> Termios {
        self.saved.clone()
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        restore(&self.saved);
    }
}

fn restore(saved: &Termios) {
    // There may be no terminal any more.
    let _ = tcsetattr(io::stdin(), OptionalActions::Drain, saved);
}

/// Signals that concern the terminal, kept for one thread.
pub(super) struct Watch {
    signals: SigSet,
}

impl Watch {
    /// No thread gets these signals any more; to be called before there are threads.
    pub(super) fn before_threads() -> Self {
        let wanted = [Signal::SIGWINCH, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT];
        let signals: SigSet = wanted.into_iter().collect();
        // Worst, the window's size is not followed.
        let _ = signals.thread_block();
        Self { signals }
    }

    /// `theirs` has our window's size from now on. If we are told to end, our terminal is
    /// as `saved` again.
    pub(super) fn follow(self, theirs: OwnedFd, saved: Option<Termios>) {
        resize(&theirs);
        std::thread::spawn(move || {
            while let Ok(signal) = self.signals.wait() {
                if signal == Signal::SIGWINCH {
                    resize(&theirs);
                    continue;
                }
                if let Some(saved) = &saved {
                    restore(saved);
                }
                // Now it does what it usually does: our end.
                let _ = self.signals.thread_unblock();
                let _ = raise(signal);
                return;
            }
        });
    }
}

fn resize(theirs: impl AsFd) {
    if let Ok(size) = tcgetwinsize(io::stdout()) {
        let _ = tcsetwinsize(theirs, size);
    }
}
