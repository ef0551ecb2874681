//! What others want of single containers: add, start, stop and remove them, look at their streams.

use super::attach::Attachment;
use super::init::InitError;
use super::machine::Input;
use super::protocol::Reply;
use super::shell::Shell;
use super::task::Purpose;
use super::{image_volume, shared};
use crate::plan::ContainerPlan;
use crate::sandbox;
use rustix::process::Signal;
use std::error::Error as _;
use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The folder of the plans of containers that are added by request, in the pod's folder.
pub(crate) const CONTAINERS_FOLDER: &str = "containers";

/// Where the plan of such a container is.
pub(crate) fn container_plan_path(pod_folder: &Path, container: &str) -> PathBuf {
    pod_folder.join(CONTAINERS_FOLDER).join(format!("{container}.json"))
}

const OWN_CONTAINERS: &str = "this pod's containers are those of its specification";

/// The last output of a container that has ended, on its way to somebody who was attached.
#[derive(Debug)]
pub(super) struct Farewell {
    attachment: Attachment,
    exit_code: i32,
}

impl Farewell {
    pub(super) fn new(attachment: Attachment, exit_code: i32) -> Self {
        Self { attachment, exit_code }
    }
}

fn refuse(message: String) -> Reply {
    Reply::Error { message }
}

/// What only such a container mounts is there.
fn mount(plan: &ContainerPlan) -> Result<(), InitError> {
    shared::tie(&plan.ties)?;
    for volume in &plan.image_volumes {
        image_volume::mount(volume)
            .map_err(|source| InitError::ImageVolume { path: volume.path.clone(), source })?;
    }
    Ok(())
}

fn unmount(plan: &ContainerPlan) {
    shared::untie(&plan.ties);
    image_volume::unmount_all(&plan.image_volumes);
}

fn unknown(container: &str) -> Reply {
    refuse(format!("the pod has no container {container:?}"))
}

impl Shell {
    pub(super) fn index_of(&self, container: &str) -> Option<usize> {
        (0..self.runs.len()).find(|index| self.container(*index).name == container)
    }

    /// The container waits for its start. Repeating it is harmless.
    pub(super) fn add_container(&mut self, container: &str) -> Reply {
        if self.index_of(container).is_some() {
            return Reply::Done;
        }
        let path = container_plan_path(&self.plan.state_dir, container);
        let read = fs::read(&path).map_err(|error| error.to_string());
        let plan = read.and_then(|text| {
            serde_json::from_slice::<ContainerPlan>(&text).map_err(|error| error.to_string())
        });
        match plan {
            Ok(plan) if !self.plan.by_request && !plan.ephemeral => refuse(OWN_CONTAINERS.to_owned()),
            Ok(plan) if plan.name == container => {
                if let Err(error) = mount(&plan) {
                    unmount(&plan);
                    let source = error.source().map(|source| format!(": {source}")).unwrap_or_default();
                    return refuse(format!("{error}{source}"));
                }
                self.machine.add(&plan);
                self.plan.containers.push(plan);
                self.runs.push(None);
                Reply::Done
            }
            Ok(plan) => refuse(format!("{} is the plan of {:?}", path.display(), plan.name)),
            Err(error) => refuse(format!("cannot read {}: {error}", path.display())),
        }
    }

    /// The container's program is being started, once.
    pub(super) fn start_container(&mut self, container: &str) -> Reply {
        match self.index_of(container) {
            Some(index) if self.machine.waits(index) => {
                self.step(Input::StartOne { index });
                Reply::Done
            }
            Some(_) => refuse(format!("the container {container:?} was started already")),
            None => unknown(container),
        }
    }

    /// The container is being ended; one that does not run stays as it is.
    pub(super) fn stop_container(&mut self, container: &str, grace: Duration) -> Reply {
        match self.index_of(container) {
            Some(index) => {
                self.step(Input::StopOne { index, grace });
                Reply::Done
            }
            None => unknown(container),
        }
    }

    /// Nothing of the container is left but its log. One that is not known is gone.
    pub(super) fn remove_container(&mut self, container: &str) -> Reply {
        let Some(index) = self.index_of(container) else { return Reply::Done };
        if !self.plan.by_request && !self.container(index).ephemeral {
            return refuse(OWN_CONTAINERS.to_owned());
        }
        if !self.machine.is_idle(index) {
            return refuse(format!("the container {container:?} still runs"));
        }
        self.leave_tasks(|task| task.index == index);
        let launch = self.launch(index);
        let (group, layers, message) = (launch.group(), launch.layers(), launch.termination_log());
        if let Some(run) = &self.runs[index] {
            let _ = run.signal(Signal::KILL);
        }
        self.cgroups.kill(&group);
        let _ = self.cgroups.remove(&group);
        unmount(self.container(index));
        let _ = fs::remove_file(message);
        sandbox::aside(|| drop(fs::remove_dir_all(&layers)));
        self.machine.remove(index);
        self.plan.containers.remove(index - self.plan.init_containers.len());
        self.runs.remove(index);
        for task in &mut self.tasks {
            task.move_before(index);
        }
        Reply::Done
    }

    /// What comes from now on is in a new file.
    pub(super) fn reopen_log(&mut self, container: &str) -> Reply {
        let Some(index) = self.index_of(container) else { return unknown(container) };
        let Some(run) = self.runs[index].as_mut().filter(|run| run.started) else {
            return refuse(format!("the container {container:?} does not run"));
        };
        match run.reopen_log() {
            Ok(()) => Reply::Done,
            Err(error) => refuse(format!("cannot reopen the log of {container:?}: {error}")),
        }
    }

    /// The client gets what the container writes from now on; the answer has gone already.
    pub(super) fn attach(&mut self, client: usize, container: &str, stdin: bool) -> Option<Reply> {
        let Some(pipes) = self.clients[client].take_descriptors(2) else {
            return Some(refuse("2 descriptors have to come with the request".to_owned()));
        };
        let Ok(pipes) = <[OwnedFd; 2]>::try_from(pipes) else {
            return Some(refuse("a descriptor is missing".to_owned()));
        };
        let Some(index) = self.index_of(container) else { return Some(unknown(container)) };
        let tty = self.launch(index).has_terminal();
        let once = self.container(index).stdin_once;
        let Some(run) = self.runs[index].as_mut().filter(|run| run.started) else {
            return Some(refuse(format!("the container {container:?} does not run")));
        };
        let input = run.input().filter(|_| stdin || tty).and_then(|input| input.try_clone().ok());
        let client = &mut self.clients[client];
        match &input {
            Some(input) => {
                if !client.send_with(&Reply::Attached { tty, input: true }, input) {
                    return Some(refuse("the container's input could not be handed over".to_owned()));
                }
                if stdin && once {
                    run.close_input();
                }
            }
            None => client.send(&Reply::Attached { tty, input: false }),
        }
        run.attachments.push(Attachment::new(client.id, pipes));
        None
    }

    /// Everybody who is attached, also to containers that have ended meanwhile.
    pub(super) fn attachments(&self) -> impl Iterator<Item = &Attachment> {
        let of_runs = self.runs.iter().flatten().flat_map(|run| &run.attachments);
        of_runs.chain(self.farewells.iter().map(|farewell| &farewell.attachment))
    }

    /// What waits for those who are attached is written; those who have left are forgotten,
    /// and those who have everything are told of the end.
    pub(super) fn flush_attachments(&mut self) {
        let now = self.began.elapsed();
        let clients = &mut self.clients;
        let stays = |clients: &[super::clients::Client], id: u64| clients.iter().any(|one| one.id == id);
        for run in self.runs.iter_mut().flatten() {
            run.attachments.retain(|one| stays(clients, one.client));
            run.attachments.iter_mut().for_each(|one| one.flush(now));
        }
        for mut farewell in std::mem::take(&mut self.farewells) {
            let id = farewell.attachment.client;
            farewell.attachment.flush(now);
            if !stays(clients, id) {
                continue;
            }
            if farewell.attachment.is_stuck() {
                self.farewells.push(farewell);
                continue;
            }
            let exit_code = farewell.exit_code;
            // Its pipes are at their end before the word comes.
            drop(farewell);
            if let Some(client) = clients.iter_mut().find(|client| client.id == id) {
                client.send(&Reply::Exited { exit_code, message: String::new() });
            }
        }
    }
}

impl super::task::Task {
    /// The container at `index` is gone, and with it its place.
    fn move_before(&mut self, index: usize) {
        let earlier = |place: &mut usize| *place -= usize::from(*place > index);
        earlier(&mut self.index);
        match &mut self.purpose {
            Purpose::Probe { index, .. } | Purpose::Hook { index, .. } => earlier(index),
            Purpose::Client { .. } => {}
        }
    }
}
