//! Ends a pod's containers, and takes notice of their end.

use super::deaf::{self, Unheard};
use super::machine::Input;
use super::requests::Farewell;
use super::runs::Run;
use super::shell::Shell;
use super::task::Purpose;
use crate::sandbox::{self, Launch};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use rustix::process::Signal;
use std::fs;
use std::io::{self, Read};

/// As much of a termination message as Kubernetes keeps.
const MESSAGE_BYTES: u64 = 4096;
/// The signal that an image wants to be stopped with.
const STOP_SIGNAL_ANNOTATION: &str = "org.opencontainers.image.stopSignal";

impl Shell {
    /// A child ended: a container's first process, or an orphan that we adopted.
    pub(super) fn note_end(&mut self, status: WaitStatus) {
        let pid = status.pid().map(Pid::as_raw);
        let found = self.runs.iter_mut().position(|run| {
            run.as_ref().is_some_and(|run| Some(run.launched.pid) == pid && run.exit.is_none())
        });
        if let Some(index) = found {
            if self.adopt(index, status) {
                return;
            }
            if let Some(run) = &mut self.runs[index] {
                run.exit = Some(status);
            }
            self.settle(index);
            return;
        }
        if let Some(pid) = pid {
            let _ = self.tasks.iter_mut().any(|task| task.take_exit(pid, status));
        }
    }

    /// Tells the machine of the end of a run that was let through the gate.
    pub(super) fn settle(&mut self, index: usize) {
        let now = self.now();
        if !self.runs[index].as_ref().is_some_and(|run| run.released && run.exit.is_some()) {
            return;
        }
        let Some(mut run) = self.runs[index].take() else { return };
        self.leave_tasks(|task| task.index == index && !matches!(task.purpose, Purpose::Client { .. }));
        run.drain(now.wall);
        run.blame_runtime();
        let attached = std::mem::take(&mut run.attachments);
        // The next run shall not be taken for this one.
        let _ = self.ends.equipment.hear(index);
        let launch = self.launch(index);
        let group = launch.group();
        if launch.shares_processes() {
            // No process namespace has taken its orphans with it.
            self.cgroups.kill(&group);
        }
        let oom = self.cgroups.oom_kills(&group) > run.oom_kills_before;
        let message = message(&launch, &run);
        let layer = launch.layer();
        let outcome = run.outcome(oom, message);
        self.farewells.extend(attached.into_iter().map(|one| Farewell::new(one, outcome.exit_code)));
        if !run.started && run.report_is_clean() {
            self.step(Input::Started { index, pid: run.launched.pid });
        }
        sandbox::aside(|| drop(fs::remove_dir_all(&layer)));
        self.step(Input::Ended { index, outcome });
    }

    pub(super) fn terminate(&mut self, index: usize) {
        let Some(run) = &self.runs[index] else { return };
        let signal = if run.started { self.stop_signal(index) } else { Signal::KILL };
        let _ = run.signal(signal);
        let is_deaf = deaf::is_deaf(run.launched.pid, signal);
        let now = self.began.elapsed();
        if let Some(run) = self.runs[index].as_mut().filter(|_| is_deaf) {
            run.unheard = Some(Unheard::new(signal, now));
        }
    }

    /// Signals that came too early are sent again to those who hear them now.
    pub(super) fn repeat_signals(&mut self) {
        let now = self.began.elapsed();
        for run in self.runs.iter_mut().flatten() {
            run.repeat_signal(now);
        }
    }

    /// A program that wants to leave a picture of itself can; another is killed.
    pub(super) fn abort(&self, index: usize) {
        let Some(run) = &self.runs[index] else { return };
        let signal =
            if deaf::catches(run.launched.pid, Signal::ABORT) { Signal::ABORT } else { Signal::KILL };
        let _ = run.signal(signal);
    }

    fn stop_signal(&self, index: usize) -> Signal {
        let annotations = self.container(index).spec.annotations();
        let of_image = annotations.as_ref().and_then(|all| all.get(STOP_SIGNAL_ANNOTATION));
        let wanted = self.container(index).stop_signal.as_ref().or(of_image);
        wanted.and_then(|text| parse_signal(text)).unwrap_or(Signal::TERM)
    }

    pub(super) fn kill(&mut self) {
        for index in 0..self.runs.len() {
            self.kill_container(index);
        }
    }

    pub(super) fn kill_container(&self, index: usize) {
        if let Some(run) = &self.runs[index] {
            let _ = run.signal(Signal::KILL);
        }
        self.cgroups.kill(&self.launch(index).group());
    }

    /// Every descendant has ended: as their subreaper we are the parent of each.
    pub(super) fn reap_all(&mut self) {
        if let Some(processes) = &self.processes {
            processes.end();
        }
        while waitpid(None, None).is_ok() {}
        for index in 0..self.runs.len() {
            self.runs[index] = None;
        }
        let layers = self.plan.state_dir.join("layers");
        let _ = fs::remove_dir_all(layers);
    }
}

fn parse_signal(text: &str) -> Option<Signal> {
    if let Ok(number) = text.parse() {
        return Signal::from_named_raw(number);
    }
    let name = if text.starts_with("SIG") { text.to_owned() } else { format!("SIG{text}") };
    let signal: nix::sys::signal::Signal = name.parse().ok()?;
    Signal::from_named_raw(signal as i32)
}

/// What the container wrote for this, or with `FallbackToLogsOnError` the end of its log.
fn message(launch: &Launch<'_>, run: &Run) -> String {
    let own = read_message(launch);
    if own.is_empty() && launch.container.message_from_log && run.has_failed() {
        return run.last_words();
    }
    own
}

fn read_message(launch: &Launch<'_>) -> String {
    let mut text = Vec::new();
    let read = |text: &mut Vec<u8>| -> io::Result<usize> {
        fs::File::open(launch.termination_log())?.take(MESSAGE_BYTES).read_to_end(text)
    };
    match read(&mut text) {
        Ok(_) => String::from_utf8_lossy(&text).into_owned(),
        Err(_) => String::new(),
    }
}
