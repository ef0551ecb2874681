//! Whether a container that ended runs again. Pure.
//!
//! Source: Kubernetes API reference, `restartPolicy` and `restartPolicyRules` of a container.

use crate::plan::{ContainerPlan, ExitRule, RestartPolicy};

/// What a container's own words, or else its pod's, say.
#[derive(Debug, Clone)]
pub(super) struct RestartRules {
    policy: RestartPolicy,
    rules: Vec<ExitRule>,
}

impl Default for RestartRules {
    fn default() -> Self {
        Self { policy: RestartPolicy::Always, rules: Vec::new() }
    }
}

impl RestartRules {
    pub(super) fn of(plan: &ContainerPlan, pod: RestartPolicy) -> Self {
        Self { policy: plan.restart.unwrap_or(pod), rules: plan.restart_rules.clone() }
    }

    /// The first rule that fits decides, then the policy.
    pub(super) fn run_again(&self, exit_code: i32) -> bool {
        if exit_code != 0 && self.rules.iter().any(|rule| rule.fits(exit_code)) {
            return true;
        }
        match self.policy {
            RestartPolicy::Never => false,
            RestartPolicy::OnFailure => exit_code != 0,
            RestartPolicy::Always => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_come_before_the_policy() {
        let rule = |listed: bool, codes: &[i32]| ExitRule { listed, codes: codes.to_vec() };
        let rules = |policy, rules: &[ExitRule]| RestartRules { policy, rules: rules.to_vec() };
        let never = rules(RestartPolicy::Never, &[rule(true, &[42, 43])]);
        assert_eq!([0, 1, 42, 43].map(|code| never.run_again(code)), [false, false, true, true]);
        let other = rules(RestartPolicy::Never, &[rule(false, &[1])]);
        assert_eq!([0, 1, 2].map(|code| other.run_again(code)), [false, false, true]);
        let failure = rules(RestartPolicy::OnFailure, &[]);
        assert_eq!([0, 1].map(|code| failure.run_again(code)), [false, true]);
    }
}
