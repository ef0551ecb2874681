//! Answers what clients ask of a pod.

use super::doing::ClientExec;
use super::machine::Input;
use super::protocol::{Reply, Request};
use super::shell::Shell;
use super::task::{Purpose, Task};
use rustix::process::Signal;
use std::time::Duration;

impl Shell {
    pub(super) fn serve_client(&mut self, index: usize) {
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
                self.fill_in(&addresses);
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
