//! What a Deployment's status says: the sums over its ReplicaSets, and how the rollout goes.

use super::Round;
use super::conditions::{self, AVAILABLE, PROGRESSING};
use super::sets::Set;
use jiff::SignedDuration;
use k8s_openapi::api::apps::v1::{DeploymentCondition, DeploymentStatus, ReplicaSetStatus};

const COMPLETE: &str = "NewReplicaSetAvailable";
const TIMED_OUT: &str = "ProgressDeadlineExceeded";
const PAUSED: &str = "DeploymentPaused";

impl Round<'_> {
    /// Brings the status' numbers and its `Available` condition to what the ReplicaSets report.
    pub(super) fn count(&mut self) {
        let sum = |field: fn(&ReplicaSetStatus) -> i32| -> i32 {
            self.sets().map(|set| reported(set, field)).sum()
        };
        let replicas = sum(|status| status.replicas);
        let available = sum(|status| status.available_replicas.unwrap_or(0));
        self.status = DeploymentStatus {
            observed_generation: self.deployment.metadata.generation,
            replicas: Some(replicas),
            updated_replicas: Some(
                self.new.as_ref().map_or(0, |new| reported(new, |status| status.replicas)),
            ),
            ready_replicas: Some(sum(|status| status.ready_replicas.unwrap_or(0))),
            available_replicas: Some(available),
            unavailable_replicas: Some((self.sets().map(Set::size).sum::<i32>() - available).max(0)),
            terminating_replicas: Some(sum(|status| status.terminating_replicas.unwrap_or(0))),
            collision_count: self.status.collision_count,
            conditions: self.status.conditions.take(),
        };
        let enough = available >= self.replicas() - self.max_unavailable();
        let (status, reason, message) = if enough {
            ("True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
        } else {
            ("False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
        };
        let condition = conditions::make(AVAILABLE, status, (reason, message.into()), self.now);
        conditions::set(&mut self.status, condition);
    }

    /// True if every pod is of the new template and available.
    pub(super) fn is_complete(&self) -> bool {
        let all = Some(self.replicas());
        let status = &self.status;
        status.updated_replicas == all && status.replicas == all && status.available_replicas == all
    }

    /// Brings the `Progressing` condition to how the rollout goes, and looks
    /// again when its deadline is over.
    pub(super) fn tell_of_progress(&mut self) {
        let Some(deadline) = self.deadline() else {
            return conditions::remove(&mut self.status, PROGRESSING);
        };
        let current = conditions::get(&self.status, PROGRESSING).cloned();
        let reason = current.as_ref().and_then(|condition| condition.reason.as_deref());
        let was_complete = self.status.replicas == self.status.updated_replicas && reason == Some(COMPLETE);
        if was_complete {
            return;
        }
        let due = current
            .as_ref()
            .and_then(|condition| condition.last_update_time.as_ref())
            .map(|from| from.0.saturating_add(deadline).unwrap_or(jiff::Timestamp::MAX));
        if self.is_complete() {
            self.set_progressing("True", COMPLETE, "has successfully progressed.");
        } else if self.moved() {
            self.set_moved(current);
        } else if due.is_some_and(|due| due < self.now) && !matches!(reason, Some(COMPLETE | TIMED_OUT)) {
            self.set_progressing("False", TIMED_OUT, "has timed out progressing.");
        }
        self.wake_for_deadline(deadline);
    }

    /// A move is news even where neither status nor reason change: the deadline counts from it.
    fn set_moved(&mut self, current: Option<DeploymentCondition>) {
        conditions::remove(&mut self.status, PROGRESSING);
        self.set_progressing("True", "ReplicaSetUpdated", "is progressing.");
        let since = current.filter(|condition| condition.status.as_deref() == Some("True"));
        if let Some(since) = since.and_then(|condition| condition.last_transition_time) {
            let made = self
                .status
                .conditions
                .iter_mut()
                .flatten()
                .find(|made| made.type_.as_deref() == Some(PROGRESSING));
            if let Some(made) = made {
                made.last_transition_time = Some(since);
            }
        }
    }

    fn wake_for_deadline(&mut self, deadline: SignedDuration) {
        let Some(condition) = conditions::get(&self.status, PROGRESSING) else { return };
        if self.is_complete() || matches!(condition.reason.as_deref(), Some(COMPLETE | TIMED_OUT)) {
            return;
        }
        let Some(from) = &condition.last_update_time else { return };
        // A second later: the times of conditions are cut to seconds.
        let due = deadline.saturating_add(SignedDuration::from_secs(1));
        self.outcome.wake_by(from.0.saturating_add(due).unwrap_or(jiff::Timestamp::MAX));
    }

    /// True if there is more of the new, or less of the old, than the stored status says.
    fn moved(&self) -> bool {
        let empty = DeploymentStatus::default();
        let (before, after) = (self.deployment.status.as_ref().unwrap_or(&empty), &self.status);
        let old_pods =
            |status: &DeploymentStatus| status.replicas.unwrap_or(0) - status.updated_replicas.unwrap_or(0);
        after.updated_replicas.unwrap_or(0) > before.updated_replicas.unwrap_or(0)
            || old_pods(after) < old_pods(before)
            || after.ready_replicas.unwrap_or(0) > before.ready_replicas.unwrap_or(0)
            || after.available_replicas.unwrap_or(0) > before.available_replicas.unwrap_or(0)
    }

    fn deadline(&self) -> Option<SignedDuration> {
        let seconds =
            self.deployment.spec.progress_deadline_seconds.filter(|seconds| *seconds != i32::MAX)?;
        Some(SignedDuration::from_secs(i64::from(seconds)))
    }

    fn set_progressing(&mut self, status: &str, reason: &str, what: &str) {
        let message = match &self.new {
            Some(new) => format!("ReplicaSet \"{}\" {what}", new.name()),
            None => format!("Deployment \"{}\" {what}", self.owner.name()),
        };
        let condition = conditions::make(PROGRESSING, status, (reason, message), self.now);
        conditions::set(&mut self.status, condition);
    }

    /// Says that there is a set for the present template; unless `always`, only where nothing was said yet.
    pub(super) fn tell_of_new_set(&mut self, reason: &str, message: String, always: bool) {
        let said = conditions::get(&self.status, PROGRESSING).is_some();
        if self.deadline().is_some() && (always || !said) {
            let condition = conditions::make(PROGRESSING, "True", (reason, message), self.now);
            conditions::set(&mut self.status, condition);
        }
    }

    /// Says that the rollout stands still by wish, or goes on, so that no deadline counts meanwhile.
    pub(super) fn tell_of_pause(&mut self) {
        if self.deadline().is_none() {
            return;
        }
        let current =
            conditions::get(&self.status, PROGRESSING).and_then(|condition| condition.reason.as_deref());
        let said = match (self.is_paused(), current) {
            (_, Some(TIMED_OUT)) | (true, Some(PAUSED)) => return,
            (true, _) => (PAUSED, "Deployment is paused"),
            (false, Some(PAUSED)) => ("DeploymentResumed", "Deployment is resumed"),
            (false, _) => return,
        };
        let condition = conditions::make(PROGRESSING, "Unknown", (said.0, said.1.into()), self.now);
        conditions::set(&mut self.status, condition);
    }
}

fn reported(set: &Set, field: fn(&ReplicaSetStatus) -> i32) -> i32 {
    set.replica_set.status.as_ref().map_or(0, field)
}
