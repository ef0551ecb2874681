//! Probes, hooks and clients' processes: begun, gone on with, told of.

use super::check::{Check, begin_connection};
use super::machine::{Effect, HookKind, Input, ProbeKind};
use super::protocol::Reply;
use super::shell::Shell;
use super::task::{Doing, Ended, Process, Purpose, Task};
use crate::plan::{Action, Place};
use crate::sandbox::{self, Exec, ExecStreams};
use crate::state::ContainerState;
use rustix::fs::{Mode, OFlags, open};
use rustix::pipe::{PipeFlags, pipe_with};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::Duration;

/// Effects of the machine that begin or end tasks; whether this was one.
impl Shell {
    pub(super) fn do_beside(&mut self, effect: &Effect) {
        match effect {
            Effect::Probe { index, kind } => self.probe(*index, *kind),
            Effect::Hook { index, hook } => self.hook(*index, *hook),
            Effect::CancelHooks { index } => {
                self.leave_tasks(|task| task.index == *index && matches!(task.purpose, Purpose::Hook { .. }));
            }
            Effect::Run { .. }
            | Effect::Terminate { .. }
            | Effect::KillContainer { .. }
            | Effect::Abort { .. }
            | Effect::Kill
            | Effect::Finish => {}
        }
    }

    fn probe(&mut self, index: usize, kind: ProbeKind) {
        let probes = &self.container(index).probes;
        let plan = match kind {
            ProbeKind::Startup => &probes.startup,
            ProbeKind::Readiness => &probes.readiness,
            ProbeKind::Liveness => &probes.liveness,
        };
        let Some(plan) = plan.clone() else { return };
        let deadline = self.began.elapsed() + Duration::from_secs(u64::from(plan.timeout));
        self.begin_task(Purpose::Probe { index, kind }, index, &plan.action, Some(deadline));
    }

    fn hook(&mut self, index: usize, hook: HookKind) {
        let hooks = &self.container(index).hooks;
        let action = match hook {
            HookKind::PostStart => hooks.post_start.clone(),
            HookKind::PreStop => hooks.pre_stop.clone(),
        };
        if let Some(action) = action {
            self.begin_task(Purpose::Hook { index, hook }, index, &action, None);
        }
    }

    fn begin_task(&mut self, purpose: Purpose, index: usize, action: &Action, deadline: Option<Duration>) {
        let doing = match action {
            Action::Exec(args) => self.begin_exec(index, args),
            Action::Sleep(seconds) => {
                Ok(Doing::Wait(self.began.elapsed() + Duration::from_secs(u64::from(*seconds))))
            }
            Action::Tcp(place) => match self.address(place) {
                Some(address) => {
                    Check::begin(address, None).map(Doing::Check).map_err(|error| error.to_string())
                }
                None => self.begin_helper(action),
            },
            Action::Http(http) => match self.address(&http.place).filter(|_| !http.tls) {
                Some(address) => {
                    Check::begin(address, Some(http)).map(Doing::Check).map_err(|error| error.to_string())
                }
                None => self.begin_helper(action),
            },
            Action::Grpc { .. } => self.begin_helper(action),
        };
        match doing {
            Ok(doing) => self.tasks.push(Task { purpose, index, doing, deadline }),
            Err(message) => self.tell_end(purpose, Ended { exit_code: 128, message }),
        }
    }

    /// Where to connect to, unless that has to be looked up.
    fn address(&self, place: &Place) -> Option<SocketAddr> {
        let own = || self.machine.state().addresses.first().map(String::as_str);
        let host = match place.host.as_deref() {
            Some("localhost") => "127.0.0.1",
            Some(host) => host,
            None => own().unwrap_or("127.0.0.1"),
        };
        let address: IpAddr = host.parse().ok()?;
        Some(SocketAddr::new(address, place.port))
    }

    fn begin_exec(&self, index: usize, args: &[String]) -> Result<Doing, String> {
        let text = |error: rustix::io::Errno| std::io::Error::from(error).to_string();
        let (output, theirs) = pipe_with(PipeFlags::CLOEXEC).map_err(text)?;
        let null = open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map_err(text)?;
        let errors = theirs.try_clone().map_err(|error| error.to_string())?;
        let target = self.target(index).ok_or("the container does not run")?;
        let exec = Exec { launch: self.launch(index), target, args, env: &[], cwd: None, user: None };
        let streams = ExecStreams::Three([null, theirs, errors]);
        let executed = exec.start(&self.cgroups, streams).map_err(|error| error.to_string())?;
        Ok(Doing::Process(Process::new(executed, Some(output))))
    }

    /// A short-lived process of our own program, for what would make the supervisor big.
    fn begin_helper(&self, action: &Action) -> Result<Doing, String> {
        let text = serde_json::to_string(action).map_err(|error| error.to_string())?;
        let own = self.machine.state().addresses.first().cloned().unwrap_or_default();
        let (executed, output) = sandbox::helper(&[text, own]).map_err(|error| error.to_string())?;
        Ok(Doing::Process(Process::new(executed, Some(output))))
    }

    /// The container's first process, while it runs.
    fn target(&self, index: usize) -> Option<i32> {
        match self.machine.container(index).state {
            ContainerState::Running { pid, .. } => Some(pid),
            ContainerState::Waiting { .. } | ContainerState::Terminated(_) => None,
        }
    }

    /// Tasks that have come to an end are told of.
    pub(super) fn go_on(&mut self) {
        let now = self.began.elapsed();
        let mut place = 0;
        while place < self.tasks.len() {
            match self.tasks[place].go_on(now) {
                Some(ended) => {
                    let task = self.tasks.remove(place);
                    self.tell_end(task.purpose, ended);
                    // Whatever follows may have changed the list.
                    place = 0;
                }
                None => place += 1,
            }
        }
        if self.tasks.is_empty() {
            self.tasks = Vec::new();
        }
    }

    fn tell_end(&mut self, purpose: Purpose, ended: Ended) {
        let Ended { exit_code, message } = ended;
        let failed = || match (message.is_empty(), exit_code) {
            (false, _) => message.clone(),
            (true, code) => format!("command exited with {code}"),
        };
        let result = if exit_code == 0 { Ok(()) } else { Err(failed()) };
        match purpose {
            Purpose::Probe { index, kind } => self.step(Input::Probed { index, kind, result }),
            Purpose::Hook { index, hook } => self.step(Input::Hooked { index, hook, result }),
            Purpose::Client { id } => {
                if let Some(client) = self.clients.iter_mut().find(|client| client.id == id) {
                    client.send(&Reply::Exited { exit_code, message });
                }
            }
        }
    }

    /// Tasks of a container whose run is over mean nothing any more.
    pub(super) fn leave_tasks(&mut self, which: impl Fn(&Task) -> bool) {
        self.tasks.retain(|task| {
            let leave = which(task);
            if leave {
                task.leave();
            }
            !leave
        });
    }

    /// A client's process; its end is answered later.
    pub(super) fn exec(&mut self, client: usize, request: &ClientExec) -> Option<Reply> {
        let refuse = |message: String| Some(Reply::Error { message });
        let count = if request.tty { 1 } else { 3 };
        let Some(descriptors) = self.clients[client].take_descriptors(count) else {
            return refuse(format!("{count} descriptors have to come with the request"));
        };
        let found = (0..self.runs.len()).find(|index| self.container(*index).name == request.container);
        let Some((index, target)) = found.and_then(|index| Some((index, self.target(index)?))) else {
            return refuse(format!("the container {:?} does not run", request.container));
        };
        let streams = match <[OwnedFd; 3]>::try_from(descriptors) {
            Ok(three) => ExecStreams::Three(three),
            Err(mut one) => match one.pop() {
                Some(socket) => ExecStreams::Terminal(socket),
                None => return refuse("a descriptor is missing".to_owned()),
            },
        };
        let exec = Exec {
            launch: self.launch(index),
            target,
            args: &request.args,
            env: &request.env,
            cwd: request.cwd.as_deref(),
            user: request.user.as_deref(),
        };
        match exec.start(&self.cgroups, streams) {
            Ok(executed) => {
                let purpose = Purpose::Client { id: self.clients[client].id };
                let doing = Doing::Process(Process::new(executed, None));
                self.tasks.push(Task { purpose, index, doing, deadline: None });
                None
            }
            Err(error) => refuse(error.to_string()),
        }
    }

    /// A connection to a port of the pod's own loopback.
    pub(super) fn dial(&mut self, client: usize, port: u16) -> Option<Reply> {
        let places = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
        let mut result = Err(std::io::Error::from(std::io::ErrorKind::ConnectionRefused));
        for place in places {
            result = begin_connection(SocketAddr::new(place, port));
            if result.is_ok() {
                break;
            }
        }
        match result {
            Ok(socket) if self.clients[client].send_with(&Reply::Done, &socket) => None,
            Ok(_) => Some(Reply::Error { message: "the connection could not be handed over".to_owned() }),
            Err(error) => Some(Reply::Error { message: format!("cannot connect to port {port}: {error}") }),
        }
    }
}

/// What a client wants to run.
#[derive(Debug)]
pub(super) struct ClientExec {
    pub(super) container: String,
    pub(super) args: Vec<String>,
    pub(super) env: Vec<String>,
    pub(super) cwd: Option<String>,
    pub(super) user: Option<String>,
    pub(super) tty: bool,
}
