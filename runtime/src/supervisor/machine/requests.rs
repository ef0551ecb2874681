//! Containers of a pod that is made by request: they come and go one by one.

use super::restart::RestartRules;
use super::{Effect, Now, PodMachine, Slot, fresh};
use crate::plan::{ContainerPlan, RestartPolicy};
use std::time::Duration;

/// What a container waits for that was added and not started.
const ADDED: &str = "Created";

impl PodMachine {
    /// The container is known and waits for its start; returns its index.
    pub(crate) fn add(&mut self, plan: &ContainerPlan) -> usize {
        let policy = RestartPolicy::Never;
        let slot = Slot {
            waits: true,
            added: true,
            rules: RestartRules::of(plan, policy),
            ..Slot::new(plan, policy)
        };
        self.slots.push(slot);
        self.state.containers.push(fresh(plan, ADDED));
        self.slots.len() - 1
    }

    /// True if nothing of the container runs or is about to.
    pub(crate) fn is_idle(&self, index: usize) -> bool {
        !self.slots[index].busy
    }

    /// True if the container was added and never started.
    pub(crate) fn waits(&self, index: usize) -> bool {
        self.slots[index].waits
    }

    /// The container is known no more; those after it have an index that is one less.
    pub(crate) fn remove(&mut self, index: usize) {
        self.slots.remove(index);
        self.state.containers.remove(index - self.state.init_containers.len());
    }

    pub(super) fn stop_one(&mut self, index: usize, grace: Duration, now: Now) -> Vec<Effect> {
        let kill_at = now.mono + grace;
        let mut effects = Vec::new();
        self.end(index, Some(kill_at), &mut effects);
        if let Some(ending) = &mut self.slots[index].ending {
            ending.hurry(kill_at);
        }
        effects.extend(self.advance(now));
        effects
    }
}
