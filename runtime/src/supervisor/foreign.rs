//! Containers that another runtime makes: created, adopted, and then started.

use super::shell::Shell;
use nix::sys::wait::WaitStatus;

/// How far the other runtime is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Foreign {
    /// The run's process is the runtime, which creates the container.
    Creating,
    /// The run's process is the container's first, and waits.
    Created,
    /// It was told to go on.
    Started,
}

impl Shell {
    /// True if it was the runtime that ended, and well: the container is there.
    pub(super) fn adopt(&mut self, index: usize, status: WaitStatus) -> bool {
        let creating = self.runs[index].as_ref().is_some_and(|run| run.foreign == Some(Foreign::Creating));
        if !creating || !matches!(status, WaitStatus::Exited(_, 0)) {
            return false;
        }
        let pid = self.launch(index).foreign_pid();
        let Some(run) = &mut self.runs[index] else { return false };
        if pid.is_none_or(|pid| run.launched.adopt(pid).is_err()) {
            return false;
        }
        run.foreign = Some(Foreign::Created);
        self.go_on_foreign(index);
        true
    }

    /// A container that is created, and may run, is started.
    pub(super) fn go_on_foreign(&mut self, index: usize) {
        let ready = self.runs[index]
            .as_ref()
            .is_some_and(|run| run.released && run.foreign == Some(Foreign::Created));
        if ready && self.launch(index).start_foreign().is_ok() {
            if let Some(run) = &mut self.runs[index] {
                run.foreign = Some(Foreign::Started);
            }
            self.note_start(index);
        }
    }
}
