//! What a supervisor decides: which container runs, when it runs again, when the pod is over.
//!
//! Pure: no clock, file, process or log. Inputs and the time go in, effects come out, and
//! [`PodState`] is always what there is to report.

mod habits;
mod notices;
mod order;
mod probes;
mod report;
mod requests;
mod resized;
mod restart;
mod words;

pub(crate) use probes::ProbeKind;
pub(crate) use words::{Answer, Effect, HookKind, Input, Now, Outcome};

use super::backoff::Backoff;
use crate::plan::{PodPlan, ProbePlans, RestartPolicy};
use crate::state::{ContainerState, ContainerStatus, PodState, Stage, Termination};
use habits::HabitState;
use jiff::Timestamp;
use order::Ending;
use probes::{Probes, Verdict};
use report::{BACKOFF, ended, fresh, reason, resume, succeeded, waiting, waiting_for, waits_for_retry};
use restart::RestartRules;
use std::time::Duration;

/// What the machine knows of a container beside what it reports.
#[derive(Debug, Clone, Default)]
struct Slot {
    /// A run was asked for and has not ended.
    busy: bool,
    began_at: Option<Timestamp>,
    backoff: Backoff,
    /// When to run again.
    retry_at: Option<Duration>,
    rules: RestartRules,
    habits: HabitState,
    /// An init container that goes on running beside the others.
    sidecar: bool,
    has_post_start: bool,
    has_pre_stop: bool,
    plans: ProbePlans,
    probes: Probes,
    /// It was added by request, and is started by one.
    waits: bool,
    /// It was added by request: the pod's end does not wait for it.
    added: bool,
    /// It was asked to end, or is about to be.
    ending: Option<Ending>,
    /// It has been started, its startup probe included: those after it need not wait.
    was_started: bool,
}

impl Slot {
    fn new(plan: &crate::plan::ContainerPlan, pod: RestartPolicy) -> Self {
        Self {
            rules: RestartRules::of(plan, pod),
            habits: HabitState::new(&plan.habits.wanted),
            backoff: Backoff::new(plan.habits.wanted.delays),
            sidecar: plan.sidecar,
            has_post_start: plan.hooks.post_start.is_some(),
            has_pre_stop: plan.hooks.pre_stop.is_some(),
            plans: plan.probes.clone(),
            ..Self::default()
        }
    }
}

/// One pod's decisions.
#[derive(Debug)]
pub(crate) struct PodMachine {
    grace: Duration,
    deadline: Option<Duration>,
    deadline_at: Option<Duration>,
    deadline_passed: bool,
    kill_at: Option<Duration>,
    /// A hook that took the whole grace has got two seconds more.
    extended: bool,
    killed: bool,
    by_request: bool,
    /// Of init containers, then of containers.
    slots: Vec<Slot>,
    state: PodState,
}

impl PodMachine {
    /// A pod that waits for its start. `before` is what a supervisor of the same pod reported
    /// before the machine was started anew: counts and final results go on.
    pub(crate) fn new(plan: &PodPlan, before: Option<&PodState>, pid: i32, now: Now) -> Self {
        let fresh = |plan: &crate::plan::ContainerPlan, first: bool| {
            fresh(plan, if first { "ContainerCreating" } else { "PodInitializing" })
        };
        let has_init = !plan.init_containers.is_empty();
        let mut state = PodState {
            uid: plan.uid.clone(),
            namespace: plan.namespace.clone(),
            name: plan.name.clone(),
            supervisor_pid: pid,
            cgroup: plan.cgroup.clone(),
            stage: Stage::Created,
            created_at: before.map_or(now.wall, |before| before.created_at),
            addresses: Vec::new(),
            init_containers: plan.init_containers.iter().map(|p| fresh(p, false)).collect(),
            containers: plan.containers.iter().map(|p| fresh(p, !has_init)).collect(),
            limits: plan.init_containers.iter().chain(&plan.containers).map(resized::limits).collect(),
            notices: before.map(|before| before.notices.clone()).unwrap_or_default(),
            by_request: plan.by_request,
        };
        if let Some(before) = before {
            for container in &mut state.init_containers {
                resume(container, &before.init_containers, false, now.wall);
            }
            for (container, plan_of) in state.containers.iter_mut().zip(&plan.containers) {
                let rules = RestartRules::of(plan_of, plan.restart_policy);
                resume(container, &before.containers, true, now.wall);
                if ended(&container.state).is_some_and(|end| rules.run_again(end.exit_code)) {
                    container.last = ended(&container.state).cloned().or(container.last.take());
                    container.state = waiting("ContainerCreating");
                }
            }
        }
        let plans = plan.init_containers.iter().chain(&plan.containers);
        Self {
            grace: Duration::from_secs(u64::from(plan.grace_seconds)),
            deadline: plan.active_deadline_seconds.map(|seconds| Duration::from_secs(u64::from(seconds))),
            deadline_at: None,
            deadline_passed: false,
            kill_at: None,
            extended: false,
            killed: false,
            by_request: plan.by_request,
            slots: plans.map(|one| Slot::new(one, plan.restart_policy)).collect(),
            state,
        }
    }

    /// What there is to report.
    pub(crate) fn state(&self) -> &PodState {
        &self.state
    }

    /// The containers that will run first, for a shell that prepares ahead.
    pub(crate) fn first(&self) -> Vec<usize> {
        let inits = self.state.init_containers.len();
        if inits > 0 {
            return vec![0];
        }
        (0..self.slots.len())
            .filter(|index| !matches!(self.container(*index).state, ContainerState::Terminated(_)))
            .collect()
    }

    /// How often the container has been run before its present or next run.
    pub(crate) fn run_number(&self, index: usize) -> u32 {
        self.container(index).restarts
    }

    /// The number that the container's next run will have.
    pub(crate) fn next_run_number(&self, index: usize) -> u32 {
        let container = self.container(index);
        container.restarts + u32::from(!container.container_id.is_empty())
    }

    /// When [`Input::Tick`] is due, on the clock of [`Now::mono`].
    pub(crate) fn wake_at(&self) -> Option<Duration> {
        let retries = self.slots.iter().filter(|slot| !slot.busy).filter_map(|slot| slot.retry_at);
        let kill = if self.killed { None } else { self.kill_at };
        let probes = self.slots.iter().filter_map(|slot| slot.probes.wake_at());
        let endings = self.slots.iter().filter_map(|slot| slot.ending.as_ref()?.wake_at());
        let retries = retries.chain(probes).chain(endings).chain(self.habits_wake_at());
        let deadline = if self.state.stage == Stage::Started { self.deadline_at } else { None };
        match self.state.stage {
            Stage::Started => retries.chain(deadline).min(),
            Stage::Stopping => kill,
            Stage::Created | Stage::Finished | Stage::Lost => None,
        }
    }

    /// Takes what happened into account, and returns what is to be done about it.
    pub(crate) fn step(&mut self, input: Input, now: Now) -> Vec<Effect> {
        match input {
            Input::Start { addresses } => self.start(addresses, now),
            Input::Started { index, pid } => {
                self.slots[index].began_at = Some(now.wall);
                self.container_mut(index).state = ContainerState::Running { pid, started_at: now.wall };
                if let Some(hook) = self.after_start(index, now) {
                    let mut effects = vec![hook];
                    effects.extend(self.advance(now));
                    return effects;
                }
            }
            Input::Hooked { index, hook, result } => return self.hooked(index, hook, result, now),
            Input::Probed { index, kind, result } => return self.probed(index, kind, result, now),
            Input::Notified { index, news } => return self.notified(index, &news, now),
            Input::Ended { index, outcome } => self.ended(index, outcome, now),
            Input::Stop { grace } => return self.stop(grace, now),
            Input::Resized { index, limits, restart } => {
                return self.resized(index, limits, restart, now);
            }
            Input::StartOne { index } => self.slots[index].waits = false,
            Input::StopOne { index, grace } => return self.stop_one(index, grace, now),
            Input::Tick => {}
        }
        self.advance(now)
    }

    fn start(&mut self, addresses: Vec<String>, now: Now) {
        if self.state.stage == Stage::Created {
            self.state.stage = Stage::Started;
            self.state.addresses = addresses;
            self.deadline_at = self.deadline.map(|deadline| now.mono + deadline);
        }
    }

    fn stop(&mut self, grace: Duration, now: Now) -> Vec<Effect> {
        let kill_at = now.mono + grace;
        let mut effects = Vec::new();
        match self.state.stage {
            Stage::Finished | Stage::Lost => return effects,
            Stage::Created | Stage::Started => {
                self.state.stage = Stage::Stopping;
                self.kill_at = Some(kill_at);
                for index in 0..self.slots.len() {
                    self.slots[index].probes = Probes::default();
                }
                self.end_all_but_sidecars(&mut effects);
                self.settle_waiting();
            }
            // A later word can only shorten the time.
            Stage::Stopping => self.kill_at = self.kill_at.map_or(Some(kill_at), |at| Some(at.min(kill_at))),
        }
        effects.extend(self.advance(now));
        effects
    }

    /// Containers between two runs stay as their last run left them.
    fn settle_waiting(&mut self) {
        for index in 0..self.slots.len() {
            let container = self.container_mut(index);
            if let Some(last) = container.last.clone().filter(|_| waits_for_retry(&container.state)) {
                container.state = ContainerState::Terminated(last);
            }
        }
    }

    fn ended(&mut self, index: usize, outcome: Outcome, now: Now) {
        let id = self.container(index).container_id.clone();
        let was_running = matches!(self.container(index).state, ContainerState::Running { .. });
        let cause = self.slots[index].habits.take_cause();
        let reason = match cause {
            _ if self.deadline_passed && was_running => "DeadlineExceeded",
            Some(cause) => cause,
            None => reason(&outcome),
        };
        let termination = Termination {
            exit_code: outcome.exit_code,
            signal: outcome.signal,
            reason: reason.to_owned(),
            message: outcome.message,
            started_at: self.slots[index].began_at.unwrap_or(now.wall),
            finished_at: now.wall,
            container_id: id,
        };
        let again = self.state.stage == Stage::Started && self.runs_again(index, termination.exit_code);
        let slot = &mut self.slots[index];
        (slot.busy, slot.ending, slot.probes) = (false, None, Probes::default());
        let container = self.container_mut(index);
        (container.started, container.ready) = (false, false);
        container.status_text.clear();
        if !again {
            self.container_mut(index).state = ContainerState::Terminated(termination);
            return;
        }
        let delay = self.slots[index].backoff.after_exit(now.mono);
        if let Some(over) = self.over_limit(index, now.mono + delay, now) {
            let container = self.container_mut(index);
            (container.last, container.state) = (Some(termination), over);
            return;
        }
        self.slots[index].retry_at = Some(now.mono + delay);
        let state = if delay.is_zero() {
            ContainerState::Terminated(termination.clone())
        } else {
            self.backing_off(index, delay, now)
        };
        let container = self.container_mut(index);
        container.last = Some(termination);
        container.state = state;
    }

    fn backing_off(&self, index: usize, delay: Duration, now: Now) -> ContainerState {
        let PodState { namespace, name, uid, .. } = &self.state;
        let container = &self.container(index).name;
        let seconds = delay.as_secs();
        ContainerState::Waiting {
            reason: BACKOFF.to_owned(),
            message: format!(
                "back-off {seconds}s restarting failed container={container} pod={name}_{namespace}({uid})"
            ),
            retry_at: now.wall.checked_add(delay).ok(),
        }
    }

    fn runs_again(&self, index: usize, exit_code: i32) -> bool {
        let init = index < self.state.init_containers.len();
        let slot = &self.slots[index];
        // An init container has to succeed once.
        slot.sidecar || (slot.rules.run_again(exit_code) && !(init && exit_code == 0))
    }

    /// Does whatever the state now calls for.
    fn advance(&mut self, now: Now) -> Vec<Effect> {
        let mut effects = Vec::new();
        if self.state.stage == Stage::Started {
            if self.deadline_at.is_some_and(|at| at <= now.mono) {
                self.deadline_passed = true;
                return self.stop(self.grace, now);
            }
            self.habits_due(now, &mut effects);
            self.probe_due(now, &mut effects);
            self.end_due(now, &mut effects);
            self.run_due(now, &mut effects);
        }
        if self.state.stage == Stage::Stopping {
            self.end_sidecars(&mut effects);
            let idle = self.slots.iter().all(|slot| !slot.busy);
            let mut due = self.kill_at.is_some_and(|at| at <= now.mono);
            if due && self.extend_for_hooks(now, &mut effects) {
                due = false;
            }
            if (idle || due) && !self.killed {
                self.killed = true;
                effects.push(Effect::Kill);
            }
            if idle {
                self.state.stage = Stage::Finished;
                effects.push(Effect::Finish);
            }
        }
        effects
    }

    fn run_due(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let inits = self.state.init_containers.len();
        let next_init = (0..inits).find(|index| !self.lets_on(*index));
        let candidates = match next_init {
            Some(index) => index..index + 1,
            None => inits..self.slots.len(),
        };
        let sidecars = (0..candidates.start).filter(|index| self.slots[*index].sidecar);
        // Whoever looks into the pod may want to see why it does not come to its containers.
        let added = (candidates.end..self.slots.len()).filter(|index| self.slots[*index].added);
        for index in sidecars.chain(candidates.clone()).chain(added).collect::<Vec<_>>() {
            if self.is_due(index, now) {
                self.begin(index);
                self.slots[index].habits.begin(now.mono);
                effects.push(Effect::Run { index });
            }
        }
        if self.by_request {
            return;
        }
        let over = |index: usize| {
            let slot = &self.slots[index];
            !slot.busy && slot.retry_at.is_none() && ended(&self.container(index).state).is_some()
        };
        if !candidates.filter(|index| !self.slots[*index].added).all(over) {
            return;
        }
        // What was added to look into the pod goes first; its end brings us back.
        let added: Vec<usize> = (0..self.slots.len())
            .filter(|index| self.slots[*index].added && self.slots[*index].busy)
            .collect();
        if !added.is_empty() {
            effects.extend(added.into_iter().map(|index| Effect::KillContainer { index }));
        } else if self.slots.iter().any(|slot| slot.sidecar && (slot.busy || slot.retry_at.is_some())) {
            // What the containers came to stands; what served them goes.
            self.stop_sidecars(now, effects);
        } else {
            self.state.stage = Stage::Finished;
            effects.push(Effect::Kill);
            effects.push(Effect::Finish);
        }
    }

    fn is_due(&self, index: usize, now: Now) -> bool {
        let slot = &self.slots[index];
        if slot.busy || slot.waits || slot.habits.is_over() {
            return false;
        }
        match slot.retry_at {
            Some(at) => at <= now.mono,
            None => ended(&self.container(index).state).is_none(),
        }
    }

    fn begin(&mut self, index: usize) {
        let slot = &mut self.slots[index];
        slot.busy = true;
        slot.began_at = None;
        slot.retry_at = None;
        let uid = self.state.uid.clone();
        let container = self.container_mut(index);
        if !container.container_id.is_empty() {
            container.restarts += 1;
        }
        container.container_id = format!("{uid}.{}.{}", container.name, container.restarts);
        container.state = waiting("ContainerCreating");
    }

    /// Init containers come first.
    pub(crate) fn container(&self, index: usize) -> &ContainerStatus {
        let inits = self.state.init_containers.len();
        if index < inits { &self.state.init_containers[index] } else { &self.state.containers[index - inits] }
    }

    fn container_mut(&mut self, index: usize) -> &mut ContainerStatus {
        let inits = self.state.init_containers.len();
        if index < inits {
            &mut self.state.init_containers[index]
        } else {
            &mut self.state.containers[index - inits]
        }
    }
}

#[cfg(test)]
mod tests;
