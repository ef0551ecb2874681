//! One ReplicaSet of a Deployment: as it is stored, as its pods are, and as it shall be.

use super::REVISION_ANNOTATION;
use crate::controllers::amount::count;
use crate::controllers::pod;
use crate::store::State;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use manifests::Object;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The hash of its template, on a ReplicaSet, its selector and its pods.
pub(super) const HASH_LABEL: &str = "pod-template-hash";
/// The Deployment's `replicas` when the ReplicaSet was last sized.
const DESIRED_ANNOTATION: &str = "deployment.kubernetes.io/desired-replicas";
/// The same and `maxSurge`.
const MAX_ANNOTATION: &str = "deployment.kubernetes.io/max-replicas";
/// Earlier revisions of a template that came back, with commas between.
const HISTORY_ANNOTATION: &str = "deployment.kubernetes.io/revision-history";
/// Annotations that say something of the Deployment itself; the rest is copied to its ReplicaSets.
const NOT_COPIED: [&str; 5] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION_ANNOTATION,
    HISTORY_ANNOTATION,
    DESIRED_ANNOTATION,
    MAX_ANNOTATION,
];
/// Where an object came from is found through its owners.
const NOT_COPIED_PREFIX: &str = "evenkeel.dev/";

/// A ReplicaSet under decision.
#[derive(Debug)]
pub(super) struct Set {
    /// As the store has it; `None` if it is to be made.
    pub(super) stored: Option<Arc<Object>>,
    /// As it shall be.
    pub(super) replica_set: ReplicaSet,
    /// Its pods that run or may, whatever its own status says yet.
    pub(super) pods: i32,
    /// Those of them that are available now.
    pub(super) available: i32,
    /// Pods that are not at their end, those asked to end included.
    pub(super) unfinished: i32,
    /// True if it is to be deleted.
    pub(super) forgotten: bool,
}

impl Set {
    /// The ReplicaSet in `object`, with what its pods are at `now`.
    pub(super) fn observe(state: &State, object: &Arc<Object>, now: Timestamp) -> Option<Self> {
        let replica_set = <&ReplicaSet>::try_from(object.as_ref()).ok()?.clone();
        let min_ready = replica_set.spec.min_ready_seconds.unwrap_or(0);
        let pods: Vec<&Pod> = state
            .owned_by(object.uid())
            .filter_map(|object| <&Pod>::try_from(object.as_ref()).ok())
            .collect();
        let active: Vec<&Pod> = pods.iter().copied().filter(|pod| pod::is_active(pod)).collect();
        Some(Self {
            stored: Some(Arc::clone(object)),
            replica_set,
            pods: count(&active),
            available: count(active.iter().filter(|pod| pod::is_available(pod, min_ready, now))),
            unfinished: count(pods.iter().filter(|pod| !pod::is_finished(pod))),
            forgotten: false,
        })
    }

    /// A ReplicaSet that is to be made.
    pub(super) const fn to_make(replica_set: ReplicaSet) -> Self {
        Self { stored: None, replica_set, pods: 0, available: 0, unfinished: 0, forgotten: false }
    }

    pub(super) fn name(&self) -> &str {
        self.replica_set.metadata.name.as_deref().unwrap_or_default()
    }

    /// `spec.replicas` as it shall be.
    pub(super) fn size(&self) -> i32 {
        self.replica_set.spec.replicas.unwrap_or(1)
    }

    /// True while it shall have pods.
    pub(super) fn is_wanted(&self) -> bool {
        self.size() > 0
    }

    /// The pods that it has or may make: a set that was made smaller has its
    /// pods until its own controller has seen that.
    pub(super) fn room(&self) -> i32 {
        self.size().max(self.pods)
    }

    /// The pods that are available and stay so at its size: what is not ready is deleted first.
    pub(super) fn serving(&self) -> i32 {
        self.available.min(self.size())
    }

    /// By age, then name.
    pub(super) fn age_order(&self) -> (Option<Timestamp>, String) {
        let made = self.replica_set.metadata.creation_timestamp.as_ref().map(|time| time.0);
        (made, self.name().to_owned())
    }

    /// True if its pods are those of `template`; the label with the hash is its own.
    pub(super) fn has_template(&self, template: &PodTemplateSpec) -> bool {
        let without_hash = |template: &PodTemplateSpec| {
            let mut template = template.clone();
            let labels = template.metadata.get_or_insert_default().labels.get_or_insert_default();
            labels.remove(HASH_LABEL);
            template
        };
        self.replica_set.spec.template.as_ref().is_some_and(|own| without_hash(own) == without_hash(template))
    }

    fn annotations(&mut self) -> &mut BTreeMap<String, String> {
        self.replica_set.metadata.annotations.get_or_insert_default()
    }

    fn annotation(&self, key: &str) -> Option<&str> {
        self.replica_set.metadata.annotations.as_ref()?.get(key).map(String::as_str)
    }

    /// The number of its template among the Deployment's.
    pub(super) fn revision(&self) -> Option<i64> {
        self.annotation(REVISION_ANNOTATION)?.parse().ok()
    }

    /// The Deployment's `replicas` when it was last sized.
    pub(super) fn sized_for(&self) -> Option<i32> {
        self.annotation(DESIRED_ANNOTATION)?.parse().ok()
    }

    /// The Deployment's `replicas` and `maxSurge` when it was last sized.
    pub(super) fn sized_within(&self) -> Option<i32> {
        self.annotation(MAX_ANNOTATION)?.parse().ok()
    }

    /// Sets its size, and for which size of the Deployment that was.
    pub(super) fn resize(&mut self, size: i32, replicas: i32, max_surge: i32) {
        self.replica_set.spec.replicas = Some(size);
        self.annotations().insert(DESIRED_ANNOTATION.into(), replicas.to_string());
        self.annotations().insert(MAX_ANNOTATION.into(), replicas.saturating_add(max_surge).to_string());
    }

    /// Gives it what the Deployment's annotations say, and `revision` if that is newer than its own.
    pub(super) fn annotate(&mut self, of_deployment: Option<&BTreeMap<String, String>>, revision: i64) {
        for (key, value) in of_deployment.into_iter().flatten() {
            if !NOT_COPIED.contains(&key.as_str()) && !key.starts_with(NOT_COPIED_PREFIX) {
                self.annotations().insert(key.clone(), value.clone());
            }
        }
        let own = self.revision();
        if own.is_some_and(|own| own >= revision) {
            return;
        }
        self.annotations().insert(REVISION_ANNOTATION.into(), revision.to_string());
        if let Some(own) = own {
            let before = self.annotation(HISTORY_ANNOTATION).map(|before| format!("{before},"));
            let history = format!("{}{own}", before.unwrap_or_default());
            self.annotations().insert(HISTORY_ANNOTATION.into(), history);
        }
    }
}
