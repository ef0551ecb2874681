//! In which order containers start and end: hooks, probes, sidecars.

use super::{Answer, Effect, HookKind, Now, PodMachine, ProbeKind, Probes, Verdict, succeeded};
use crate::state::{ContainerState, Stage};
use std::time::Duration;

/// What a container gets after a hook that took all of the grace.
const AFTER_HOOK: Duration = Duration::from_secs(2);

/// How far the end of a container is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ending {
    /// When patience ends; `None` if the whole pod is being stopped, which has its own time.
    kill_at: Option<Duration>,
    step: Step,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Its preStop hook runs.
    Hook,
    /// It was asked.
    Asked,
    /// It was killed.
    Killed,
}

impl Ending {
    pub(super) fn wake_at(&self) -> Option<Duration> {
        self.kill_at.filter(|_| self.step != Step::Killed)
    }

    /// A later word can only shorten the time.
    pub(super) fn hurry(&mut self, kill_at: Duration) {
        self.kill_at = Some(self.kill_at.map_or(kill_at, |at| at.min(kill_at)));
    }
}

impl PodMachine {
    /// What follows a container's start: its hook, or at once its probes.
    pub(super) fn after_start(&mut self, index: usize, now: Now) -> Option<Effect> {
        if self.slots[index].has_post_start && self.slots[index].ending.is_none() {
            return Some(Effect::Hook { index, hook: HookKind::PostStart });
        }
        self.begin_probes(index, now);
        None
    }

    pub(super) fn begin_probes(&mut self, index: usize, now: Now) {
        if self.state.stage != Stage::Started || self.slots[index].ending.is_some() {
            return;
        }
        if !self.slots[index].habits.is_let_on(now.mono) {
            return;
        }
        let slot = &mut self.slots[index];
        slot.probes = Probes::begin(&slot.plans, now.mono);
        let (started, ready) = (slot.probes.is_started(), slot.probes.is_ready());
        slot.was_started |= started;
        let container = self.container_mut(index);
        container.started = started;
        container.ready = started && ready;
    }

    pub(super) fn hooked(&mut self, index: usize, hook: HookKind, result: Answer, now: Now) -> Vec<Effect> {
        let mut effects = Vec::new();
        let name = self.container(index).name.clone();
        match (hook, result) {
            (HookKind::PostStart, Ok(())) => self.begin_probes(index, now),
            (HookKind::PostStart, Err(why)) => {
                self.notice(true, "FailedPostStartHook", format!("PostStartHook failed: {why}"), now);
                let message = format!("FailedPostStartHook: container {name} will be killed");
                self.notice(false, "Killing", message, now);
                self.end(index, Some(now.mono + self.grace), &mut effects);
            }
            (HookKind::PreStop, result) => {
                if let Err(why) = result {
                    self.notice(true, "FailedPreStopHook", format!("PreStopHook failed: {why}"), now);
                }
                if let Some(ending) = &mut self.slots[index].ending
                    && ending.step == Step::Hook
                {
                    ending.step = Step::Asked;
                    // However long the hook took, the program gets a moment.
                    ending.kill_at = ending.kill_at.map(|at| at.max(now.mono + AFTER_HOOK));
                    effects.push(Effect::Terminate { index });
                }
            }
        }
        effects.extend(self.advance(now));
        effects
    }

    pub(super) fn probe_due(&mut self, now: Now, effects: &mut Vec<Effect>) {
        for index in 0..self.slots.len() {
            for kind in self.slots[index].probes.due(now.mono) {
                effects.push(Effect::Probe { index, kind });
            }
        }
    }

    pub(super) fn probed(&mut self, index: usize, kind: ProbeKind, result: Answer, now: Now) -> Vec<Effect> {
        let mut effects = Vec::new();
        if !matches!(self.container(index).state, ContainerState::Running { .. }) {
            return self.advance(now);
        }
        if let Err(why) = &result {
            self.notice(true, "Unhealthy", format!("{} probe failed: {why}", kind.word()), now);
        }
        match self.slots[index].probes.answered(kind, result.is_ok(), now.mono) {
            Verdict::Same => {}
            Verdict::Started => {
                let ready = self.slots[index].probes.is_ready();
                self.slots[index].was_started = true;
                let container = self.container_mut(index);
                (container.started, container.ready) = (true, ready);
            }
            Verdict::Ready(ready) => self.container_mut(index).ready = ready,
            Verdict::Kill(grace) => {
                let name = self.container(index).name.clone();
                let word = kind.word().to_lowercase();
                let message = format!("Container {name} failed {word} probe, will be restarted");
                self.notice(false, "Killing", message, now);
                self.container_mut(index).ready = false;
                let grace = grace.map_or(self.grace, |seconds| Duration::from_secs(u64::from(seconds)));
                self.end(index, Some(now.mono + grace), &mut effects);
            }
        }
        effects.extend(self.advance(now));
        effects
    }

    /// The container is asked to end, by its hook first; by `kill_at` it will have been killed.
    pub(super) fn end(&mut self, index: usize, kill_at: Option<Duration>, effects: &mut Vec<Effect>) {
        let running = matches!(self.container(index).state, ContainerState::Running { .. });
        let slot = &mut self.slots[index];
        if !slot.busy || slot.ending.is_some() {
            return;
        }
        let step = if running && slot.has_pre_stop { Step::Hook } else { Step::Asked };
        slot.ending = Some(Ending { kill_at, step });
        slot.probes.leave_readiness();
        slot.habits.leave();
        effects.push(match step {
            Step::Hook => Effect::Hook { index, hook: HookKind::PreStop },
            Step::Asked | Step::Killed => Effect::Terminate { index },
        });
    }

    /// The container is stuck: no hook of it is asked, and what does not end by `kill_at` is
    /// killed.
    pub(super) fn abort(&mut self, index: usize, kill_at: Duration, effects: &mut Vec<Effect>) {
        let slot = &mut self.slots[index];
        if slot.busy && slot.ending.is_none() {
            slot.ending = Some(Ending { kill_at: Some(kill_at), step: Step::Asked });
            slot.probes = Probes::default();
            effects.push(Effect::Abort { index });
        }
    }

    /// Containers whose patience has ended while their pod goes on.
    pub(super) fn end_due(&mut self, now: Now, effects: &mut Vec<Effect>) {
        for index in 0..self.slots.len() {
            let Some(ending) = &mut self.slots[index].ending else { continue };
            if ending.kill_at.is_none_or(|at| at > now.mono) {
                continue;
            }
            match ending.step {
                Step::Hook => {
                    (ending.step, ending.kill_at) = (Step::Asked, Some(now.mono + AFTER_HOOK));
                    effects.extend([Effect::CancelHooks { index }, Effect::Terminate { index }]);
                }
                Step::Asked => {
                    ending.step = Step::Killed;
                    effects.push(Effect::KillContainer { index });
                }
                Step::Killed => {}
            }
        }
    }

    /// The pod is being stopped: those that sidecars serve go first.
    pub(super) fn end_all_but_sidecars(&mut self, effects: &mut Vec<Effect>) {
        for index in 0..self.slots.len() {
            if !self.slots[index].sidecar {
                self.end(index, None, effects);
            }
        }
    }

    /// Sidecars end in the reverse of the order in which they began, each when nobody needs
    /// it any more.
    pub(super) fn end_sidecars(&mut self, effects: &mut Vec<Effect>) {
        let needed = self.slots.iter().any(|slot| slot.busy && !slot.sidecar);
        if needed {
            return;
        }
        if let Some(last) = self.slots.iter().rposition(|slot| slot.busy) {
            self.end(last, None, effects);
        }
    }

    /// The pod's containers are done: so are its sidecars.
    pub(super) fn stop_sidecars(&mut self, now: Now, effects: &mut Vec<Effect>) {
        self.state.stage = Stage::Stopping;
        self.kill_at = Some(now.mono + self.grace);
        for slot in &mut self.slots {
            (slot.probes, slot.retry_at) = (Probes::default(), None);
        }
        self.settle_waiting();
        self.end_sidecars(effects);
    }

    /// Hooks that took the whole grace are left, and their containers asked; true if there
    /// were some, so that the kill has to wait once more.
    pub(super) fn extend_for_hooks(&mut self, now: Now, effects: &mut Vec<Effect>) -> bool {
        if self.extended {
            return false;
        }
        self.extended = true;
        for index in 0..self.slots.len() {
            if let Some(ending) = self.slots[index].ending.as_mut().filter(|one| one.step == Step::Hook) {
                ending.step = Step::Asked;
                effects.extend([Effect::CancelHooks { index }, Effect::Terminate { index }]);
                self.kill_at = Some(now.mono + AFTER_HOOK);
            }
        }
        self.kill_at.is_some_and(|at| at > now.mono)
    }

    /// True if the init container has done what those after it wait for.
    pub(super) fn lets_on(&self, index: usize) -> bool {
        if self.slots[index].sidecar {
            return self.slots[index].was_started;
        }
        succeeded(&self.container(index).state)
    }
}
