//! When a Job fails, what of its pods' failures counts, and how long it waits after one.

use super::Round;
use super::indexes::Indexes;
use crate::controllers::pod::{self, Phase};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::{JobSpec, PodFailurePolicyRule};
use k8s_openapi::api::core::v1::Pod;

/// How often the index of a pod failed before it; only with `backoffLimitPerIndex`.
pub(super) const INDEX_FAILURES_ANNOTATION: &str = "batch.kubernetes.io/job-index-failure-count";

const FIRST_SECONDS: i64 = 10;
const LAST_SECONDS: i64 = 360;

/// When a pod may follow the `failures`-th failure in a row, which was at `last`.
pub(super) fn retry_at(last: Timestamp, failures: u32) -> Timestamp {
    let Some(doublings) = failures.checked_sub(1) else { return last };
    let seconds = (FIRST_SECONDS << doublings.min(16)).min(LAST_SECONDS);
    last.saturating_add(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MAX)
}

/// How often the index of the ended `pod` has failed, itself included.
pub(super) fn failures_of_index(spec: &JobSpec, pod: &Pod) -> u32 {
    let before =
        pod::annotation(pod, INDEX_FAILURES_ANNOTATION).and_then(|text| text.parse().ok()).unwrap_or(0);
    let own = pod::phase(pod) != Phase::Succeeded && !is_ignored(spec, pod);
    u32::from(own).saturating_add(before)
}

/// True if the failed `pod` counts nowhere, by `podFailurePolicy`.
pub(super) fn is_ignored(spec: &JobSpec, pod: &Pod) -> bool {
    rule_for(spec, pod).is_some_and(|rule| rule.action == "Ignore")
}

/// True if no pod shall follow the failed `pod` in its index.
pub(super) fn ends_index(spec: &JobSpec, pod: &Pod) -> bool {
    let Some(limit) = spec.backoff_limit_per_index else { return false };
    let by_rule = rule_for(spec, pod).is_some_and(|rule| rule.action == "FailIndex");
    by_rule || i64::from(failures_of_index(spec, pod)) > i64::from(limit)
}

/// The first rule of `podFailurePolicy` that speaks of the failed `pod`.
fn rule_for<'a>(spec: &'a JobSpec, pod: &Pod) -> Option<&'a PodFailurePolicyRule> {
    let rules = spec.pod_failure_policy.iter().flat_map(|policy| &policy.rules);
    rules.into_iter().find(|rule| pod::phase(pod) == Phase::Failed && speaks_of(rule, pod))
}

fn speaks_of(rule: &PodFailurePolicyRule, pod: &Pod) -> bool {
    if let Some(wanted) = &rule.on_exit_codes {
        return pod::container_statuses(pod)
            .filter(|status| wanted.container_name.as_ref().is_none_or(|name| *name == status.name))
            .filter_map(|status| status.state.as_ref()?.terminated.as_ref())
            .filter(|ended| ended.exit_code != 0)
            .any(|ended| wanted.values.contains(&ended.exit_code) == (wanted.operator == "In"));
    }
    let conditions = || pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    rule.on_pod_conditions.iter().flatten().any(|wanted| {
        let status = wanted.status.as_deref().unwrap_or("True");
        conditions().any(|condition| condition.type_ == wanted.type_ && condition.status == status)
    })
}

impl Round<'_> {
    /// Why the Job has to fail now, if it has: reason and message. Looks again when its deadline is over.
    pub(super) fn failure(&mut self, pods: &[&Pod]) -> Option<(&'static str, String)> {
        if let Some(message) = self.failed_by_rule(pods) {
            return Some(("PodFailurePolicy", message));
        }
        let limit = self.spec.backoff_limit.unwrap_or(6);
        if self.status.failed.unwrap_or(0) > limit || self.restarted_too_often(limit) {
            return Some(("BackoffLimitExceeded", "Job has reached the specified backoff limit".into()));
        }
        let given_up = Indexes::parse(self.status.failed_indexes.as_deref()).len();
        if self.spec.max_failed_indexes.is_some_and(|max| given_up > max) {
            let message = "Job has exceeded the specified maximal number of failed indexes".into();
            return Some(("MaxFailedIndexesExceeded", message));
        }
        self.passed_deadline()
            .then(|| ("DeadlineExceeded", "Job was active longer than specified deadline".into()))
    }

    fn failed_by_rule(&self, pods: &[&Pod]) -> Option<String> {
        let rules = &self.spec.pod_failure_policy.as_ref()?.rules;
        let fails = |pod: &&Pod| rule_for(self.spec, pod).filter(|rule| rule.action == "FailJob");
        let (pod, rule) = pods.iter().find_map(|pod| Some((pod, fails(pod)?)))?;
        let at = rules.iter().position(|other| other == rule).unwrap_or(0);
        Some(format!("Pod {}/{} matching FailJob rule at index {at}", self.owner.namespace(), pod::name(pod)))
    }

    /// With `restartPolicy: OnFailure` a pod fails inside: the restarts of its containers count.
    fn restarted_too_often(&self, limit: i32) -> bool {
        let policy = self.spec.template.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref());
        if policy != Some("OnFailure") {
            return false;
        }
        let restarts: i32 =
            self.active.iter().flat_map(pod::container_statuses).map(|status| status.restart_count).sum();
        restarts > 0 && restarts >= limit
    }

    fn passed_deadline(&mut self) -> bool {
        let Some(seconds) = self.spec.active_deadline_seconds else { return false };
        let Some(start) = &self.status.start_time else { return false };
        if self.spec.suspend.unwrap_or(false) {
            return false;
        }
        let due = start.0.saturating_add(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MAX);
        if due > self.now {
            self.outcome.wake_by(due);
        }
        due <= self.now
    }

    /// True while the back-off after the last failures lasts. Its memory are the
    /// ended pods, which stay until the Job goes.
    pub(super) fn must_wait(&mut self, pods: &[&Pod]) -> bool {
        if self.spec.backoff_limit_per_index.is_some() {
            return false; // Each index waits for itself.
        }
        let ends = |phase: Phase| {
            let ended = pods.iter().filter(move |pod| pod::phase(pod) == phase && !pod::is_deleted(pod));
            ended.filter_map(|pod| pod::finished_at(pod))
        };
        let last_success = ends(Phase::Succeeded).max();
        let failures: Vec<Timestamp> =
            ends(Phase::Failed).filter(|at| last_success.is_none_or(|success| *at > success)).collect();
        let Some(last) = failures.iter().max() else { return false };
        let retry_at = retry_at((*last).min(self.now), u32::try_from(failures.len()).unwrap_or(u32::MAX));
        if retry_at > self.now {
            self.outcome.wake_by(retry_at);
        }
        retry_at > self.now
    }
}
