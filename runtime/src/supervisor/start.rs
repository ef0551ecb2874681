//! Starts a pod's containers.

use super::foreign::Foreign;
use super::logs::LogFile;
use super::machine::{Input, Outcome};
use super::runs::Run;
use super::shell::Shell;
use crate::plan::{LogPlace, address};
use crate::sandbox::{Launch, LaunchError, Pause, StartFailure};
use std::fs;
use std::os::unix::fs::PermissionsExt;

impl Shell {
    /// Brings the first containers to their gates, so that the start finds them there.
    pub(super) fn prepare_first(&mut self) {
        for index in self.machine.first() {
            if address::is_open(&self.container(index).spec) {
                continue;
            }
            // If it fails it is tried again, and the error told, when the container is to run.
            if let Ok(run) = self.launch_run(index, self.machine.next_run_number(index)) {
                self.runs[index] = Some(run);
            }
        }
    }

    /// Containers have the pod's addresses, which plugins have given it meanwhile.
    pub(super) fn fill_in(&mut self, addresses: &[String]) {
        for container in self.plan.init_containers.iter_mut().chain(&mut self.plan.containers) {
            if address::is_open(&container.spec) {
                address::fill_in(&mut container.spec, addresses);
            }
        }
    }

    pub(super) fn run_container(&mut self, index: usize) {
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

    pub(super) fn note_start(&mut self, index: usize) {
        let Some(run) = &mut self.runs[index] else { return };
        let waits = run.foreign.is_some_and(|foreign| foreign != Foreign::Started);
        if !waits && run.released && !run.started && run.report_is_clean() {
            run.started = true;
            let pid = run.launched.pid;
            self.step(Input::Started { index, pid });
        }
    }
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
        let _ = fs::set_permissions(&path, fs::Permissions::from_mode(0o666));
    }
}
