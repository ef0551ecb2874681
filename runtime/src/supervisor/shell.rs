//! Does what the machine decides, and tells it what happened.

use super::attach::Attachment;
use super::clients::Client;
use super::deaf::{self, Unheard};
use super::doing::ClientExec;
use super::equipment::Equipment;
use super::foreign::Foreign;
use super::logs::LogFile;
use super::machine::{Effect, Input, Now, Outcome, PodMachine};
use super::protocol::{Reply, Request};
use super::requests::Farewell;
use super::runs::{Pipe, Run};
use super::task::{Purpose, Task};
use super::{SCOPE_STOP_SIGNAL, status};
use crate::cgroup::{CgroupError, Cgroups};
use crate::plan::{ContainerPlan, LogPlace, PodPlan};
use crate::sandbox::{self, Launch, LaunchError, Pause, StartFailure, Users};
use crate::state::{PodState, Stage};
use crate::sys::{code, heap};
use jiff::Timestamp;
use nix::sys::signalfd::SignalFd;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Signal;
use std::fs;
use std::io::{self, Read};
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

/// As much of a termination message as Kubernetes keeps.
const MESSAGE_BYTES: u64 = 4096;

/// The signal that an image wants to be stopped with.
const STOP_SIGNAL_ANNOTATION: &str = "org.opencontainers.image.stopSignal";

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
    processes: Option<Pause>,
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

    fn now(&self) -> Now {
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

    /// A child ended: a container's first process, or an orphan that we adopted.
    fn note_end(&mut self, status: WaitStatus) {
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
    fn settle(&mut self, index: usize) {
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

    fn read(&mut self, index: usize, pipe: Pipe) {
        let now = self.now();
        // A container before it may have gone since it was waited for.
        let Some(Some(run)) = self.runs.get_mut(index) else { return };
        run.read(pipe, now.wall);
        self.note_start(index);
    }

    pub(super) fn note_start(&mut self, index: usize) {
        let Some(run) = &mut self.runs[index] else { return };
        let waits = run.foreign.is_some_and(|foreign| foreign != Foreign::Started);
        if !waits && run.released && !run.started && run.report_is_clean() {
            run.started = true;
            let pid = run.launched.pid;
            self.step(Input::Started { index, pid });
        }
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

    pub(super) fn launch(&self, index: usize) -> Launch<'_> {
        Launch {
            pod: &self.plan,
            container: self.container(index),
            run: self.machine.run_number(index),
            processes: self.processes.as_ref(),
            users: self.ends.users.as_ref(),
            sockets: self.ends.equipment.sockets(index),
            beside: self.beside(index),
        }
    }

    /// The first process of the container whose processes this one shares, while it runs.
    fn beside(&self, index: usize) -> Option<i32> {
        let other = self.index_of(self.container(index).processes_of.as_deref()?)?;
        let run = self.runs.get(other)?.as_ref().filter(|run| run.started && run.exit.is_none())?;
        Some(run.launched.pid)
    }

    /// Brings the first containers to their gates, so that the start finds them there.
    fn prepare_first(&mut self) {
        for index in self.machine.first() {
            // If it fails it is tried again, and the error told, when the container is to run.
            if let Ok(run) = self.launch_run(index, self.machine.next_run_number(index)) {
                self.runs[index] = Some(run);
            }
        }
    }

    /// The PID namespace of the pod is there, if it is to have one.
    fn ensure_processes(&mut self) -> Result<(), LaunchError> {
        let there = self.processes.as_ref().is_some_and(Pause::lives);
        if self.plan.security.share_processes && !there {
            let pause = Pause::start(&self.cgroups, &self.plan.cgroup, &self.plan.state_dir)?;
            self.processes = Some(pause);
        }
        Ok(())
    }

    /// The container has the variables that other containers have written down for it by now.
    fn read_variables(&mut self, index: usize) -> Result<(), LaunchError> {
        let mut all = self.plan.init_containers.iter_mut().chain(&mut self.plan.containers);
        let Some(container) = all.nth(index) else { return Ok(()) };
        match container.spec.process_mut() {
            Some(process) => Ok(container.file_variables.fill_in(process)?),
            None => Ok(()),
        }
    }

    fn launch_run(&mut self, index: usize, run: u32) -> Result<Run, LaunchError> {
        self.ensure_processes()?;
        self.read_variables(index)?;
        let launch = Launch { run, ..self.launch(index) };
        let group = launch.group();
        self.cgroups.ensure_container(&group, &launch.container.resources)?;
        let log = match &launch.container.log {
            LogPlace::Own => {
                LogFile::open(&self.plan.log_dir.join(&launch.container.name), run, self.plan.log_limits)
            }
            LogPlace::File(path) => LogFile::at(path),
            LogPlace::Nowhere => LogFile::nowhere(),
        };
        empty_message(&launch);
        let before = self.cgroups.oom_kills(&group);
        let mut run = Run::new(launch.start(&self.cgroups)?, log, before);
        run.foreign = self.plan.security.handler.as_ref().map(|_| Foreign::Creating);
        Ok(run)
    }

    fn run_container(&mut self, index: usize) {
        if self.runs[index].is_none() {
            match self.launch_run(index, self.machine.run_number(index)) {
                Ok(run) => self.runs[index] = Some(run),
                Err(error) => {
                    let failure = StartFailure::of_setup(&error);
                    let StartFailure { exit_code, reason, message } = failure;
                    let outcome =
                        Outcome { exit_code, signal: None, oom: false, failure: Some(reason), message };
                    self.step(Input::Ended { index, outcome });
                    return;
                }
            }
        }
        if let Some(run) = &mut self.runs[index] {
            run.released = true;
            run.launched.release();
        }
        self.go_on_foreign(index);
        // A process that was prepared can have failed already.
        self.settle(index);
    }

    fn terminate(&mut self, index: usize) {
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
    fn repeat_signals(&mut self) {
        let now = self.began.elapsed();
        for run in self.runs.iter_mut().flatten() {
            run.repeat_signal(now);
        }
    }

    /// A program that wants to leave a picture of itself can; another is killed.
    fn abort(&self, index: usize) {
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

    fn kill(&mut self) {
        for index in 0..self.runs.len() {
            self.kill_container(index);
        }
    }

    fn kill_container(&self, index: usize) {
        if let Some(run) = &self.runs[index] {
            let _ = run.signal(Signal::KILL);
        }
        self.cgroups.kill(&self.launch(index).group());
    }

    /// Every descendant has ended: as their subreaper we are the parent of each.
    fn reap_all(&mut self) {
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

    fn serve_client(&mut self, index: usize) {
        self.clients[index].flush();
        for request in self.clients[index].receive() {
            let reply = match request {
                Ok(request) => self.answer(index, request),
                Err(message) => Some(Reply::Error { message }),
            };
            if let Some(reply) = reply {
                self.clients[index].send(&reply);
            }
        }
    }

    /// The answer, unless it comes later or has gone already.
    fn answer(&mut self, client: usize, request: Request) -> Option<Reply> {
        Some(match request {
            Request::Exec { container, args, env, cwd, user, tty } => {
                return self.exec(client, &ClientExec { container, args, env, cwd, user, tty });
            }
            Request::KillExec => {
                let id = self.clients[client].id;
                let own = |task: &&Task| task.purpose == Purpose::Client { id };
                self.tasks.iter().filter(own).for_each(Task::leave);
                return None;
            }
            Request::Dial { port } => return self.dial(client, port),
            Request::Socket { udp, port } => return self.hand_over(client, udp, port),
            Request::Attach { container, stdin } => return self.attach(client, &container, stdin),
            Request::AddContainer { container } => self.add_container(&container),
            Request::StartContainer { container } => self.start_container(&container),
            Request::StopContainer { container, grace_seconds } => {
                self.stop_container(&container, Duration::from_secs(u64::from(grace_seconds)))
            }
            Request::RemoveContainer { container } => self.remove_container(&container),
            Request::ReopenLog { container } => self.reopen_log(&container),
            Request::Status => self.report(),
            Request::Subscribe => {
                self.clients[client].subscribe();
                self.report()
            }
            Request::Start { addresses } => {
                self.step(Input::Start { addresses });
                Reply::Done
            }
            Request::Stop { grace_seconds } => {
                self.step(Input::Stop { grace: Duration::from_secs(u64::from(grace_seconds)) });
                Reply::Done
            }
            Request::Resize { container, limits, pod, restart } => {
                self.resize(&container, limits, pod, restart)
            }
            Request::Signal { container, signal } => self.signal(&container, signal),
        })
    }

    fn report(&self) -> Reply {
        Reply::State(Box::new(self.machine.state().clone()))
    }

    fn hand_over(&mut self, client: usize, udp: bool, port: u16) -> Option<Reply> {
        let refuse = |message: &str| Some(Reply::Error { message: message.to_owned() });
        let Some(socket) = self.ends.equipment.find(&self.plan, udp, port) else {
            return refuse("there is no such socket");
        };
        if self.clients[client].send_with(&Reply::Done, socket) {
            None
        } else {
            refuse("it could not go along")
        }
    }

    fn signal(&self, container: &str, number: i32) -> Reply {
        let Some(signal) = Signal::from_named_raw(number) else {
            return Reply::Error { message: format!("there is no signal {number}") };
        };
        let index = (0..self.runs.len()).find(|index| self.container(*index).name == container);
        let run = index.and_then(|index| self.runs[index].as_ref()).filter(|run| run.started);
        match run.map(|run| run.signal(signal)) {
            Some(Ok(())) => Reply::Done,
            Some(Err(error)) => Reply::Error { message: format!("cannot signal {container}: {error}") },
            None => Reply::Error { message: format!("the container {container:?} does not run") },
        }
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

/// An empty file for the program to write why it ended.
fn empty_message(launch: &Launch<'_>) {
    if launch.container.message_path.is_empty() {
        return;
    }
    let path = launch.termination_log();
    if let Some(folder) = path.parent() {
        let _ = fs::create_dir_all(folder);
    }
    if fs::write(&path, "").is_ok() {
        use std::os::unix::fs::PermissionsExt;
        let _ = fs::set_permissions(&path, fs::Permissions::from_mode(0o666));
    }
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
