//! Does what the machine decides, and tells it what happened.

use super::attach::Attachment;
use super::clients::Client;
use super::equipment::Equipment;
use super::machine::{Effect, Input, Now, PodMachine};
use super::protocol::Reply;
use super::requests::Farewell;
use super::runs::{Pipe, Run};
use super::task::Task;
use super::{SCOPE_STOP_SIGNAL, status};
use crate::cgroup::{CgroupError, Cgroups};
use crate::plan::{ContainerPlan, PodPlan};
use crate::sandbox::{Pause, Users};
use crate::state::{PodState, Stage};
use crate::sys::{code, heap};
use jiff::Timestamp;
use nix::sys::signalfd::SignalFd;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::fs;
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

/// A supervisor at work.
#[derive(Debug)]
pub(super) struct Shell {
    pub(super) plan: PodPlan,
    pub(super) cgroups: Cgroups,
    pub(super) machine: PodMachine,
    /// By the machine's index.
    pub(super) runs: Vec<Option<Run>>,
    pub(super) clients: Vec<Client>,
    /// How many clients there have been.
    client_count: u64,
    pub(super) tasks: Vec<Task>,
    /// Of a pod whose containers share their PID namespace, from its first container on.
    pub(super) processes: Option<Pause>,
    pub(super) farewells: Vec<Farewell>,
    pub(super) ends: Ends,
    pub(super) began: Instant,
    /// What was told last, as JSON.
    told: Vec<u8>,
    finished: bool,
    /// A signal stopped the pod, as at the machine's shutdown: it is to go on later.
    interrupted: bool,
}

/// What a supervisor hears, and what it holds for its containers.
#[derive(Debug)]
pub(super) struct Ends {
    pub(super) listener: UnixListener,
    pub(super) signals: SignalFd,
    pub(super) equipment: Equipment,
    /// Of a pod that has its own.
    pub(super) users: Option<Users>,
}

/// Who has something for us.
#[derive(Debug, Clone, Copy)]
enum Source {
    Signals,
    Listener,
    Client(usize),
    Run(usize, Pipe),
    /// The container of this index says something of itself.
    News(usize),
    Task,
}

impl Shell {
    pub(super) fn new(plan: PodPlan, cgroups: Cgroups, before: Option<&PodState>, ends: Ends) -> Self {
        let began = Instant::now();
        let now = Now { wall: Timestamp::now(), mono: Duration::ZERO };
        let pid = i32::try_from(std::process::id()).unwrap_or(0);
        let machine = PodMachine::new(&plan, before, pid, now);
        let count = plan.init_containers.len() + plan.containers.len();
        Self {
            plan,
            cgroups,
            machine,
            runs: std::iter::repeat_with(|| None).take(count).collect(),
            clients: Vec::new(),
            client_count: 0,
            tasks: Vec::new(),
            processes: None,
            farewells: Vec::new(),
            ends,
            began,
            told: Vec::new(),
            finished: false,
            interrupted: false,
        }
    }

    /// Runs until the pod is over.
    ///
    /// # Errors
    /// If this process cannot leave its starter's cgroup: it must not run there.
    pub(super) fn run(mut self) -> Result<(), CgroupError> {
        self.tell();
        self.prepare_first();
        self.cgroups.enter_as_supervisor(&self.plan.cgroup)?;
        let mut changed = true;
        while !self.finished {
            if changed {
                // Nothing more may happen for weeks.
                heap::trim();
                heap::trim_stack();
                code::forget();
            }
            for source in self.wait() {
                self.serve(source);
            }
            self.go_on();
            self.step(Input::Tick);
            self.repeat_signals();
            self.clients.retain(Client::is_open);
            self.flush_attachments();
            changed = self.tell();
        }
        self.reap_all();
        self.tell();
        if let Ok(address) = self.ends.listener.local_addr()
            && let Some(path) = address.as_pathname()
        {
            let _ = fs::remove_file(path);
        }
        Ok(())
    }

    pub(super) fn now(&self) -> Now {
        Now { wall: Timestamp::now(), mono: self.began.elapsed() }
    }

    /// Blocks until something happens or a time has come.
    fn wait(&self) -> Vec<Source> {
        let mut sources = vec![Source::Signals, Source::Listener];
        let mut polls = vec![
            PollFd::new(&self.ends.signals, PollFlags::IN),
            PollFd::new(&self.ends.listener, PollFlags::IN),
        ];
        for (index, client) in self.clients.iter().enumerate() {
            let out = if client.wants_write() { PollFlags::OUT } else { PollFlags::empty() };
            sources.push(Source::Client(index));
            polls.push(PollFd::new(client, PollFlags::IN | out));
        }
        for (index, run) in self.runs.iter().enumerate() {
            for (pipe, fd) in run.iter().flat_map(Run::readable_pipes) {
                sources.push(Source::Run(index, pipe));
                polls.push(PollFd::from_borrowed_fd(fd, PollFlags::IN));
            }
        }
        for fd in self.attachments().flat_map(Attachment::full_pipes) {
            sources.push(Source::Task);
            polls.push(PollFd::from_borrowed_fd(fd, PollFlags::OUT));
        }
        for (index, fd) in self.ends.equipment.polls() {
            sources.push(Source::News(index));
            polls.push(PollFd::from_borrowed_fd(fd, PollFlags::IN));
        }
        for task in &self.tasks {
            for (fd, flags) in task.polls() {
                sources.push(Source::Task);
                polls.push(PollFd::from_borrowed_fd(fd, flags));
            }
        }
        let attached = self.attachments().filter_map(Attachment::wake_at);
        let unheard = self.runs.iter().flatten().filter_map(Run::wake_at);
        let tasks = self.tasks.iter().filter_map(Task::wake_at).chain(attached).chain(unheard);
        let left =
            tasks.chain(self.machine.wake_at()).min().map(|at| at.saturating_sub(self.began.elapsed()));
        let timeout = left.and_then(|left| Timespec::try_from(left).ok());
        if poll(&mut polls, timeout.as_ref()).is_err() {
            return Vec::new();
        }
        let ready = polls.iter().map(|poll| !poll.revents().is_empty());
        sources.into_iter().zip(ready).filter(|(_, ready)| *ready).map(|(source, _)| source).collect()
    }

    fn serve(&mut self, source: Source) {
        match source {
            Source::Signals => self.take_signals(),
            Source::Listener => {
                while let Ok((stream, _)) = self.ends.listener.accept() {
                    self.client_count += 1;
                    self.clients.push(Client::new(stream, self.client_count));
                }
            }
            Source::Client(index) => self.serve_client(index),
            Source::Run(index, pipe) => self.read(index, pipe),
            Source::News(index) => {
                let news = self.ends.equipment.hear(index);
                self.step(Input::Notified { index, news });
            }
            // All tasks and attachments are gone on with at the end of the round.
            Source::Task => {}
        }
    }

    fn take_signals(&mut self) {
        let mut stop = false;
        while let Ok(Some(signal)) = self.ends.signals.read_signal() {
            let number = signal.ssi_signo.cast_signed();
            stop |= [libc::SIGTERM, libc::SIGINT, SCOPE_STOP_SIGNAL].contains(&number);
        }
        if stop {
            self.interrupted = self.machine.state().stage != Stage::Stopping;
            let grace = Duration::from_secs(u64::from(self.plan.grace_seconds));
            self.step(Input::Stop { grace });
        }
        while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            if status == WaitStatus::StillAlive {
                break;
            }
            self.note_end(status);
        }
    }

    fn read(&mut self, index: usize, pipe: Pipe) {
        let now = self.now();
        // A container before it may have gone since it was waited for.
        let Some(Some(run)) = self.runs.get_mut(index) else { return };
        run.read(pipe, now.wall);
        self.note_start(index);
    }

    pub(super) fn step(&mut self, input: Input) {
        let now = self.now();
        for effect in self.machine.step(input, now) {
            self.apply(effect);
        }
    }

    fn apply(&mut self, effect: Effect) {
        match effect {
            Effect::Run { index } => self.run_container(index),
            Effect::Terminate { index } => self.terminate(index),
            Effect::KillContainer { index } => self.kill_container(index),
            Effect::Abort { index } => self.abort(index),
            Effect::Kill => self.kill(),
            Effect::Finish => self.finished = true,
            Effect::Probe { .. } | Effect::Hook { .. } | Effect::CancelHooks { .. } => {
                self.do_beside(&effect);
            }
        }
    }

    pub(super) fn container(&self, index: usize) -> &ContainerPlan {
        let inits = self.plan.init_containers.len();
        if index < inits { &self.plan.init_containers[index] } else { &self.plan.containers[index - inits] }
    }

    pub(super) fn plan_mut(&mut self, index: usize) -> &mut ContainerPlan {
        let inits = self.plan.init_containers.len();
        if index < inits {
            &mut self.plan.init_containers[index]
        } else {
            &mut self.plan.containers[index - inits]
        }
    }

    /// Subscribers and the status file know the present state; true if it is a new one.
    fn tell(&mut self) -> bool {
        let mut state = self.machine.state().clone();
        if self.interrupted && state.stage == Stage::Finished {
            state.stage = Stage::Lost;
        }
        let Ok(text) = serde_json::to_vec(&state) else { return false };
        if text == self.told {
            return false;
        }
        let _ = status::write_status(&self.plan.state_dir, &state);
        let reply = Reply::State(Box::new(state));
        for client in self.clients.iter_mut().filter(|client| client.is_subscribed()) {
            client.send(&reply);
        }
        self.told = text;
        true
    }
}
