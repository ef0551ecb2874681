//! One run of a container: its process, its output, its end.

use super::attach::Attachment;
use super::deaf::{self, Unheard};
use super::foreign::Foreign;
use super::logs::{LogFile, Pending, Stream};
use super::machine::Outcome;
use crate::sandbox::{Launched, Output, StartFailure};
use crate::sys::descriptors;
use jiff::Timestamp;
use nix::sys::wait::WaitStatus;
use rustix::io::Errno;
use rustix::process::Signal;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// How much is read from a pipe at a time.
const READ_BYTES: usize = 64 * 1024;
/// Reads in a row from one pipe before others have their turn.
const READS: usize = 8;
/// The longest report of a failed start that is kept.
const REPORT_BYTES: usize = 4096;

/// One of a run's pipes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pipe {
    Report,
    Output(Stream),
}

/// A container's process from launch to settlement.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) launched: Launched,
    pub(super) oom_kills_before: u64,
    /// Let through the gate.
    pub(super) released: bool,
    /// Told to the machine.
    pub(super) started: bool,
    pub(super) exit: Option<WaitStatus>,
    /// A signal to end that came before the program could hear it.
    pub(super) unheard: Option<Unheard>,
    /// Of a container that another runtime makes.
    pub(super) foreign: Option<Foreign>,
    report: Vec<u8>,
    open: [bool; 3],
    pending: [Pending; 2],
    log: LogFile,
    pub(super) attachments: Vec<Attachment>,
}

impl Run {
    pub(super) fn new(launched: Launched, log: LogFile, oom_kills_before: u64) -> Self {
        let two = matches!(launched.output, Output::Pipes(_));
        let run = Self {
            launched,
            oom_kills_before,
            released: false,
            started: false,
            exit: None,
            unheard: None,
            foreign: None,
            report: Vec::new(),
            open: [true, true, two],
            pending: [Pending::default(), Pending::default()],
            log,
            attachments: Vec::new(),
        };
        for (_, fd) in run.open_pipes() {
            let _ = rustix::io::ioctl_fionbio(fd, true);
        }
        run
    }

    /// The pipes that may still bring something.
    pub(super) fn open_pipes(&self) -> impl Iterator<Item = (Pipe, BorrowedFd<'_>)> {
        let all = [Pipe::Report, Pipe::Output(Stream::Stdout), Pipe::Output(Stream::Stderr)];
        all.into_iter().filter(|pipe| self.open[place(*pipe)]).map(|pipe| (pipe, self.fd(pipe).as_fd()))
    }

    /// Those of them from which can be taken: who is attached and slow holds up the output.
    pub(super) fn readable_pipes(&self) -> impl Iterator<Item = (Pipe, BorrowedFd<'_>)> {
        let held = self.attachments.iter().any(Attachment::is_stuck);
        self.open_pipes().filter(move |(pipe, _)| !held || *pipe == Pipe::Report)
    }

    fn fd(&self, pipe: Pipe) -> &OwnedFd {
        match (pipe, &self.launched.output) {
            (Pipe::Report, _) => &self.launched.report,
            (Pipe::Output(Stream::Stdout), Output::Pipes([stdout, _])) => stdout,
            (Pipe::Output(Stream::Stderr), Output::Pipes([_, stderr])) => stderr,
            (Pipe::Output(_), Output::Awaited(one) | Output::Terminal(one)) => one,
        }
    }

    /// What those who attach write to: the terminal, or standard input if it is still open.
    pub(super) fn input(&self) -> Option<&OwnedFd> {
        match &self.launched.output {
            Output::Terminal(terminal) => Some(terminal),
            Output::Pipes(_) | Output::Awaited(_) => self.launched.stdin.as_ref(),
        }
    }

    /// The program sees the end of its input when all who have it have left.
    pub(super) fn close_input(&mut self) {
        self.launched.stdin = None;
    }

    /// The log is written to a new file if the old one was moved away.
    pub(super) fn reopen_log(&mut self) -> std::io::Result<()> {
        self.log.reopen()
    }

    /// Reads what is there, though not for ever; true if there may be more.
    pub(super) fn read(&mut self, pipe: Pipe, now: Timestamp) -> bool {
        let mut buffer = vec![0; if pipe == Pipe::Report { REPORT_BYTES } else { READ_BYTES }];
        let mut lines = Vec::new();
        for _ in 0..READS {
            if !self.open[place(pipe)] {
                return false;
            }
            if let (Pipe::Output(_), Output::Awaited(socket)) = (pipe, &self.launched.output) {
                match await_terminal(socket) {
                    Ok(terminal) => {
                        let _ = rustix::io::ioctl_fionbio(&terminal, true);
                        self.launched.output = Output::Terminal(terminal);
                    }
                    Err(Errno::AGAIN) => return false,
                    Err(_) => self.open[place(pipe)] = false,
                }
                continue;
            }
            match rustix::io::read(self.fd(pipe), &mut buffer[..]) {
                Ok(0) => self.open[place(pipe)] = false,
                Ok(count) => self.take(pipe, &buffer[..count], now, &mut lines),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return false,
                Err(_) => self.open[place(pipe)] = false,
            }
        }
        true
    }

    fn take(&mut self, pipe: Pipe, bytes: &[u8], now: Timestamp, lines: &mut Vec<u8>) {
        match pipe {
            Pipe::Report => {
                let room = REPORT_BYTES - self.report.len().min(REPORT_BYTES);
                self.report.extend_from_slice(&bytes[..bytes.len().min(room)]);
            }
            Pipe::Output(stream) => {
                lines.clear();
                self.pending[place(pipe) - 1].format(stream, now, bytes, lines);
                self.log.append(lines, now);
                for attachment in &mut self.attachments {
                    attachment.take(stream, bytes);
                }
            }
        }
    }

    /// The exec happened, or the process ended before it without a word.
    pub(super) fn report_is_clean(&self) -> bool {
        !self.open[place(Pipe::Report)] && self.report.is_empty()
    }

    /// Sends a signal to the first process.
    pub(super) fn signal(&self, signal: Signal) -> rustix::io::Result<()> {
        rustix::process::pidfd_send_signal(&self.launched.pidfd, signal)
    }

    /// When to see whether the first process hears by now.
    pub(super) fn wake_at(&self) -> Option<Duration> {
        self.unheard.as_ref().filter(|_| self.exit.is_none()).map(|unheard| unheard.at)
    }

    /// The signal that was not heard is sent again, if it is time and it will be.
    pub(super) fn repeat_signal(&mut self, now: Duration) {
        let pid = self.launched.pid;
        let Some(unheard) = self.unheard.as_mut().filter(|unheard| unheard.at <= now) else { return };
        let signal = unheard.signal;
        if deaf::catches(pid, signal) {
            self.unheard = None;
            let _ = self.signal(signal);
        } else {
            unheard.wait_longer(now);
        }
    }

    /// Takes the rest of the output of a process that has ended.
    pub(super) fn drain(&mut self, now: Timestamp) {
        for pipe in [Pipe::Report, Pipe::Output(Stream::Stdout), Pipe::Output(Stream::Stderr)] {
            while self.read(pipe, now) {}
        }
        let mut rest = Vec::new();
        for (place, stream) in [(0, Stream::Stdout), (1, Stream::Stderr)] {
            self.pending[place].finish(stream, now, &mut rest);
        }
        self.log.append(&rest, now);
    }

    /// What another runtime could not create has not run: its own words are in the log.
    pub(super) fn blame_runtime(&mut self) {
        if self.foreign == Some(Foreign::Creating) && self.report.is_empty() {
            let words = self.log.last_words();
            self.report = format!("128 the runtime could not create it: {}", words.trim()).into_bytes();
        }
    }

    /// True if it has ended otherwise than with 0.
    pub(super) fn has_failed(&self) -> bool {
        !matches!(self.exit, None | Some(WaitStatus::Exited(_, 0)))
    }

    /// The end of its log: 2048 bytes or 80 lines, whichever is less.
    pub(super) fn last_words(&self) -> String {
        self.log.last_words()
    }

    /// What became of the run; it has ended and was drained.
    pub(super) fn outcome(&self, oom: bool, message: String) -> Outcome {
        if let Some(failure) = StartFailure::decode(&self.report) {
            return Outcome {
                exit_code: failure.exit_code,
                signal: None,
                oom: false,
                failure: Some(failure.reason),
                message: failure.message,
            };
        }
        #[allow(clippy::wildcard_enum_match_arm, reason = "only two statuses are an end")]
        let (exit_code, signal) = match self.exit {
            Some(WaitStatus::Exited(_, code)) => (code, None),
            Some(WaitStatus::Signaled(_, signal, _)) => (128 + signal as i32, Some(signal as i32)),
            _ => (255, None),
        };
        Outcome { exit_code, signal, oom, failure: None, message }
    }
}

/// The terminal, when it has come; an error if the program will never have one.
fn await_terminal(socket: &OwnedFd) -> Result<OwnedFd, Errno> {
    let mut received = Vec::new();
    match descriptors::receive(socket, &mut [0; 8], &mut received) {
        Ok(1..) => received.pop().ok_or(Errno::PIPE),
        Ok(0) => Err(Errno::PIPE),
        Err(error) => Err(Errno::from_io_error(&error).unwrap_or(Errno::PIPE)),
    }
}

fn place(pipe: Pipe) -> usize {
    match pipe {
        Pipe::Report => 0,
        Pipe::Output(Stream::Stdout) => 1,
        Pipe::Output(Stream::Stderr) => 2,
    }
}
