//! The pods of a Job: which index they have, and how they are made.

use super::tally::TRACKING_FINALIZER;
use super::{Round, failure};
use crate::controllers::{Knowledge, pod, template};
use crate::store::Write;
use k8s_openapi::api::core::v1::{Container, EnvVar, Pod};

/// The completion index, as annotation and as label.
const INDEX_KEY: &str = "batch.kubernetes.io/job-completion-index";
const INDEX_VARIABLE: &str = "JOB_COMPLETION_INDEX";

/// The completion index of an Indexed Job's pod.
pub(super) fn index_of(pod: &Pod) -> Option<i32> {
    pod::annotation(pod, INDEX_KEY)?.parse().ok().filter(|index| *index >= 0)
}

/// One pod's place among an Indexed Job's.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) index: i32,
    /// How often this index failed before; kept only with `backoffLimitPerIndex`.
    pub(super) failures: Option<u32>,
}

impl Round<'_> {
    /// Makes up to `missing` pods for the lowest indexes that need one; returns how many.
    pub(super) fn create_indexed(&mut self, missing: i32, pods: &[&Pod], context: &mut Knowledge<'_>) -> i32 {
        let mut taken = self.closed_indexes();
        for index in self.active.iter().filter_map(index_of) {
            taken.insert(index);
        }
        if self.replaces_only_failed() {
            for index in pods.iter().filter(|pod| pod::is_terminating(pod)).filter_map(|pod| index_of(pod)) {
                taken.insert(index);
            }
        }
        let mut created = 0;
        for index in (0..self.spec.completions.unwrap_or(0)).filter(|index| !taken.contains(*index)) {
            if created == missing {
                break;
            }
            let Some(place) = self.place(index, pods) else { continue };
            self.create(Some(place), context);
            created += 1;
        }
        created
    }

    /// The place of a new pod of `index`; `None` while its own back-off lasts.
    fn place(&mut self, index: i32, pods: &[&Pod]) -> Option<Place> {
        if self.spec.backoff_limit_per_index.is_none() {
            return Some(Place { index, failures: None });
        }
        let of_index =
            pods.iter().copied().filter(|pod| index_of(pod) == Some(index) && !pod::is_active(pod));
        let Some(last) = of_index.max_by_key(|pod| failure::failures_of_index(self.spec, pod)) else {
            return Some(Place { index, failures: Some(0) });
        };
        let failures = failure::failures_of_index(self.spec, last);
        let retry_at = failure::retry_at(pod::finished_at(last).unwrap_or(self.now), failures);
        if retry_at > self.now {
            self.outcome.wake_by(retry_at);
            return None;
        }
        Some(Place { index, failures: Some(failures) })
    }

    /// Makes a pod, for an index of an Indexed Job if `place` is given.
    pub(super) fn create(&mut self, place: Option<Place>, context: &mut Knowledge<'_>) {
        let mut base = self.owner.name().to_owned();
        if let Some(place) = place {
            base = format!("{base}-{}", place.index);
        }
        let base = template::base_of(&base);
        let namespace = self.owner.namespace();
        let name = template::fresh_pod_name(self.state, &self.outcome, context, namespace, &base);
        let mut pod = template::pod(self.owner, &self.spec.template, name);
        pod.metadata.generate_name = Some(base);
        pod.metadata.finalizers.get_or_insert_default().push(TRACKING_FINALIZER.into());
        if let Some(place) = place {
            self.give_index(&mut pod, place);
        }
        let message = format!("Created pod: {}", pod::name(&pod));
        self.outcome.note(&self.owner.key(), "SuccessfulCreate", message);
        self.outcome.writes.push(Write::Create(pod.into()));
    }

    fn give_index(&self, pod: &mut Pod, place: Place) {
        let index = place.index.to_string();
        let annotations = pod.metadata.annotations.get_or_insert_default();
        annotations.insert(INDEX_KEY.into(), index.clone());
        if let Some(failures) = place.failures {
            annotations.insert(failure::INDEX_FAILURES_ANNOTATION.into(), failures.to_string());
        }
        pod.metadata.labels.get_or_insert_default().insert(INDEX_KEY.into(), index.clone());
        let Some(spec) = &mut pod.spec else { return };
        let hostname = format!("{}-{index}", self.owner.name());
        spec.hostname.get_or_insert(hostname);
        for container in spec.init_containers.iter_mut().flatten().chain(&mut spec.containers) {
            give_variable(container, &index);
        }
    }
}

/// A value of the user's own stays.
fn give_variable(container: &mut Container, index: &str) {
    let env = container.env.get_or_insert_default();
    if env.iter().all(|variable| variable.name != INDEX_VARIABLE) {
        let value = Some(index.to_owned());
        env.push(EnvVar { name: INDEX_VARIABLE.into(), value, value_from: None });
    }
}
