//! Other limits for a container.

use super::{Effect, Now, PodMachine};
use crate::plan::{ContainerPlan, Resources};

/// What a container may use at its beginning.
pub(super) fn limits(plan: &ContainerPlan) -> (String, Resources) {
    (plan.name.clone(), plan.resources.clone())
}

impl PodMachine {
    pub(super) fn resized(
        &mut self,
        index: usize,
        limits: Resources,
        restart: bool,
        now: Now,
    ) -> Vec<Effect> {
        let name = self.container(index).name.clone();
        let mut effects = Vec::new();
        if restart {
            let message = format!("Container {name} resize requires restart");
            self.notice(false, "Killing", message, now);
            self.end(index, Some(now.mono + self.grace), &mut effects);
        }
        self.state.limits.insert(name, limits);
        effects.extend(self.advance(now));
        effects
    }
}
