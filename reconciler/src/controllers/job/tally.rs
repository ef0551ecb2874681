//! Counting pods into the status, each exactly once, and asking for their end.

use super::indexes::Indexes;
use super::{Counts, Round, failure, pods};
use crate::controllers::amount::count;
use crate::controllers::pod::{self, Phase};
use k8s_openapi::api::core::v1::Pod;

/// On a pod until it is counted.
pub(super) const TRACKING_FINALIZER: &str = "batch.kubernetes.io/job-tracking";

/// True while the pod is still to be counted.
pub(super) fn is_tracked(pod: &Pod) -> bool {
    pod.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == TRACKING_FINALIZER)
}

fn untracked(pod: &Pod) -> Pod {
    let mut pod = pod.clone();
    if let Some(finalizers) = &mut pod.metadata.finalizers {
        finalizers.retain(|finalizer| finalizer != TRACKING_FINALIZER);
    }
    pod.metadata.finalizers = pod.metadata.finalizers.take().filter(|finalizers| !finalizers.is_empty());
    pod
}

impl Round<'_> {
    /// Adopted pods get to be counted like those made here.
    pub(super) fn track_active(&mut self) {
        for pod in &mut self.active {
            if !is_tracked(pod) {
                let finalizers = pod.metadata.finalizers.get_or_insert_default();
                finalizers.push(TRACKING_FINALIZER.into());
                self.outcome.update(pod.clone().into());
                // The rest of the batch has been checked with this write.
                pod.metadata.resource_version = None;
            }
        }
    }

    /// Adds what came to its end since the last time to the status.
    pub(super) fn tally(&mut self, pods: &[&Pod]) {
        let ended: Vec<&Pod> =
            pods.iter().copied().filter(|pod| is_tracked(pod) && !pod::is_active(pod)).collect();
        let (succeeded, failed): (Vec<&Pod>, Vec<&Pod>) =
            ended.iter().partition(|pod| pod::phase(pod) == Phase::Succeeded);
        let counted = failed.iter().filter(|pod| !failure::is_ignored(self.spec, pod));
        *self.status.failed.get_or_insert(0) += count(counted);
        if self.is_indexed() {
            self.tally_indexes(&succeeded, &failed);
        } else {
            *self.status.succeeded.get_or_insert(0) += count(&succeeded);
        }
        for pod in ended {
            self.outcome.update(untracked(pod).into());
        }
    }

    fn tally_indexes(&mut self, succeeded: &[&Pod], failed: &[&Pod]) {
        let completions = self.spec.completions.unwrap_or(0);
        let mut completed = Indexes::parse(self.status.completed_indexes.as_deref());
        for index in succeeded.iter().filter_map(|pod| pods::index_of(pod)) {
            if index < completions {
                completed.insert(index);
            }
        }
        self.status.succeeded = Some(completed.len());
        let mut given_up = Indexes::parse(self.status.failed_indexes.as_deref());
        for pod in failed.iter().filter(|pod| failure::ends_index(self.spec, pod)) {
            if let Some(index) = pods::index_of(pod).filter(|index| !completed.contains(*index)) {
                given_up.insert(index);
            }
        }
        self.status.completed_indexes = completed.to_text();
        self.status.failed_indexes = given_up.to_text();
    }

    /// Asks for the end of the active pods that `chosen` picks. They are
    /// counted now, or never: they are not looked for afterwards.
    pub(super) fn delete_active(&mut self, chosen: impl Fn(&Pod) -> bool, counts: Counts) {
        for pod in std::mem::take(&mut self.active) {
            if !chosen(&pod) {
                self.active.push(pod);
                continue;
            }
            if counts == Counts::AsFailed {
                *self.status.failed.get_or_insert(0) += 1;
            }
            let message = format!("Deleted pod: {}", pod::name(&pod));
            self.outcome.note(&self.owner.key(), "SuccessfulDelete", message);
            self.terminating += i32::from(!pod::node_name(&pod).is_empty());
            let object = untracked(&pod).into();
            self.outcome.update(object);
            self.outcome.delete(&pod.into());
        }
    }
}
