//! What a DaemonSet's status says: on how many nodes its pod is, and how it is there.

use super::Round;
use super::update::main_pod;
use crate::controllers::amount::count;
use crate::controllers::pod;
use k8s_openapi::api::apps::v1::{DaemonSet, DaemonSetStatus};
use k8s_openapi::api::core::v1::Pod;

impl Round<'_> {
    /// Writes the status, counted before this decision's own writes, if it is news.
    pub(super) fn report(&mut self) {
        let min_ready = self.set.spec.min_ready_seconds.unwrap_or(0);
        let wanted: Vec<_> = self.places.values().filter(|place| place.wanted).collect();
        let pods: Vec<&Pod> = wanted.iter().filter_map(|place| main_pod(place)).collect();
        let waiting = self.places.values().flat_map(|place| &place.pods).filter(|pod| pod::is_active(pod));
        for at in waiting.filter_map(|pod| pod::available_at(pod, min_ready)).filter(|at| *at > self.now) {
            self.outcome.wake_by(at);
        }
        let active = |pod: &&&Pod| pod::is_active(pod);
        let available = count(
            wanted
                .iter()
                .filter(|place| place.pods.iter().any(|pod| pod::is_active(pod) && self.is_available(pod))),
        );
        let misplaced = self.places.iter().filter(|(node, place)| {
            !place.wanted && !node.is_empty() && place.pods.iter().any(|pod| pod::is_active(pod))
        });
        let status = DaemonSetStatus {
            desired_number_scheduled: count(&wanted),
            current_number_scheduled: count(&pods),
            number_misscheduled: count(misplaced),
            number_ready: count(pods.iter().filter(active).filter(|pod| pod::is_ready(pod))),
            number_available: Some(available),
            number_unavailable: Some(count(&wanted) - available),
            updated_number_scheduled: Some(count(pods.iter().filter(|pod| self.is_updated(pod)))),
            observed_generation: self.set.metadata.generation,
            collision_count: None,
            conditions: None,
        };
        if self.set.status.as_ref() != Some(&status) {
            self.outcome.update_status(DaemonSet { status: Some(status), ..self.set.clone() }.into());
        }
    }
}
