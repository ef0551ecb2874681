//! Something that the supervisor does beside running containers: a probe, a hook, a
//! process that a client asked for.

use super::check::Check;
use super::machine::{HookKind, ProbeKind};
use crate::sandbox::{Executed, StartFailure};
use nix::sys::wait::WaitStatus;
use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::process::Signal;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// As much of a probe's output as is told.
const OUTPUT_BYTES: usize = 1024;
const REPORT_BYTES: usize = 4096;

/// For whom it is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Probe { index: usize, kind: ProbeKind },
    Hook { index: usize, hook: HookKind },
    Client { id: u64 },
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ended {
    pub(super) exit_code: i32,
    /// Why it failed, for a person; of a process that could not be started, always.
    pub(super) message: String,
}

/// Being done.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) purpose: Purpose,
    /// The container, by the machine's index, that it belongs to.
    pub(super) index: usize,
    pub(super) doing: Doing,
    /// When it counts as failed.
    pub(super) deadline: Option<Duration>,
}

#[derive(Debug)]
pub(super) enum Doing {
    Process(Process),
    Check(Check),
    /// Over at that time.
    Wait(Duration),
}

/// A process beside the container's own.
#[derive(Debug)]
pub(super) struct Process {
    pid: i32,
    pidfd: OwnedFd,
    pipes: [Option<OwnedFd>; 2],
    texts: [Vec<u8>; 2],
    exit: Option<WaitStatus>,
}

impl Process {
    /// `output` is what it says, where that is for us.
    pub(super) fn new(executed: Executed, output: Option<OwnedFd>) -> Self {
        let Executed { pid, pidfd, report } = executed;
        for fd in [Some(&report), output.as_ref()].into_iter().flatten() {
            let _ = rustix::io::ioctl_fionbio(fd, true);
        }
        Self { pid, pidfd, pipes: [Some(report), output], texts: [Vec::new(), Vec::new()], exit: None }
    }

    fn kill(&self) {
        let _ = rustix::process::pidfd_send_signal(&self.pidfd, Signal::KILL);
    }

    fn read(&mut self) {
        let mut buffer = [0; 4096];
        for (place, limit) in [(0, REPORT_BYTES), (1, OUTPUT_BYTES)] {
            while let Some(pipe) = &self.pipes[place] {
                match rustix::io::read(pipe, &mut buffer[..]) {
                    Ok(0) => self.pipes[place] = None,
                    Ok(count) => {
                        let room = limit - self.texts[place].len().min(limit);
                        self.texts[place].extend_from_slice(&buffer[..count.min(room)]);
                    }
                    Err(Errno::INTR) => {}
                    Err(Errno::AGAIN) => break,
                    Err(_) => self.pipes[place] = None,
                }
            }
        }
    }

    fn ended(&mut self) -> Option<Ended> {
        let exit = self.exit?;
        self.read();
        if let Some(failure) = StartFailure::decode(&self.texts[0]) {
            return Some(Ended { exit_code: failure.exit_code, message: failure.message });
        }
        #[allow(clippy::wildcard_enum_match_arm, reason = "only two statuses are an end")]
        let exit_code = match exit {
            WaitStatus::Exited(_, code) => code,
            WaitStatus::Signaled(_, signal, _) => 128 + signal as i32,
            _ => 255,
        };
        let said = String::from_utf8_lossy(&self.texts[1]).trim().to_owned();
        Some(Ended { exit_code, message: said })
    }
}

impl Task {
    /// What it waits for.
    pub(super) fn polls(&self) -> Vec<(BorrowedFd<'_>, PollFlags)> {
        match &self.doing {
            Doing::Process(process) => {
                process.pipes.iter().flatten().map(|pipe| (pipe.as_fd(), PollFlags::IN)).collect()
            }
            Doing::Check(check) => vec![(check.as_fd(), check.wants())],
            Doing::Wait(_) => Vec::new(),
        }
    }

    pub(super) fn wake_at(&self) -> Option<Duration> {
        match self.doing {
            Doing::Wait(at) => Some(at),
            Doing::Process(_) | Doing::Check(_) => self.deadline,
        }
    }

    /// True if the process was this task's own.
    pub(super) fn take_exit(&mut self, pid: i32, status: WaitStatus) -> bool {
        match &mut self.doing {
            Doing::Process(process) if process.pid == pid && process.exit.is_none() => {
                process.exit = Some(status);
                true
            }
            Doing::Process(_) | Doing::Check(_) | Doing::Wait(_) => false,
        }
    }

    /// Goes on as far as it can; how it ended, if it has.
    pub(super) fn go_on(&mut self, now: Duration) -> Option<Ended> {
        let ended = match &mut self.doing {
            Doing::Process(process) => {
                process.read();
                process.ended()
            }
            Doing::Check(check) => check.go_on().map(|result| match result {
                Ok(()) => Ended { exit_code: 0, message: String::new() },
                Err(message) => Ended { exit_code: 1, message },
            }),
            Doing::Wait(at) if *at <= now => Some(Ended { exit_code: 0, message: String::new() }),
            Doing::Wait(_) => None,
        };
        if ended.is_some() || self.deadline.is_none_or(|at| at > now) {
            return ended;
        }
        let message = match &self.doing {
            Doing::Process(process) => {
                process.kill();
                "command timed out".to_owned()
            }
            Doing::Check(check) => check.timed_out(),
            Doing::Wait(_) => String::new(),
        };
        Some(Ended { exit_code: 1, message })
    }

    /// Nobody waits for it any more.
    pub(super) fn leave(&self) {
        if let Doing::Process(process) = &self.doing {
            process.kill();
        }
    }
}
