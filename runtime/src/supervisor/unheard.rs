//! Stop signals that a program was sent before it could hear them.
//!
//! The first process of a process namespace gets no signal that it does not catch. A program that
//! was executed a moment ago catches nothing yet: told to end then, it would go on until the end of
//! its grace. It is told again as soon as it can hear.

use super::shell::{Shell, catches};
use rustix::process::Signal;
use std::time::Duration;

/// Until the first look whether it can hear now; twice as long until each next one.
const FIRST: Duration = Duration::from_millis(4);
/// The longest time between two looks.
const MOST: Duration = Duration::from_millis(500);

/// A signal that is still to be heard.
#[derive(Debug)]
pub(super) struct Unheard {
    signal: Signal,
    pause: Duration,
    pub(super) wake_at: Duration,
}

impl Shell {
    /// The container's first process has been sent the signal, or will be when it can hear it.
    pub(super) fn tell_to_end(&mut self, index: usize, signal: Signal) {
        let now = self.began.elapsed();
        let Some(run) = &mut self.runs[index] else { return };
        let _ = run.signal(signal);
        // Looked at after: who catches it by then has perhaps heard it, and is not told twice.
        let unheard = signal != Signal::KILL && !catches(run.launched.pid, signal);
        run.unheard = unheard.then(|| Unheard { signal, pause: FIRST, wake_at: now + FIRST });
    }

    /// Signals are sent again to those who can hear them now.
    pub(super) fn tell_again(&mut self) {
        let now = self.began.elapsed();
        for run in self.runs.iter_mut().flatten() {
            let Some(unheard) = run.unheard.as_mut().filter(|unheard| unheard.wake_at <= now) else {
                continue;
            };
            if catches(run.launched.pid, unheard.signal) {
                let signal = unheard.signal;
                run.unheard = None;
                let _ = run.signal(signal);
            } else {
                unheard.pause = (2 * unheard.pause).min(MOST);
                unheard.wake_at = now + unheard.pause;
            }
        }
    }
}
