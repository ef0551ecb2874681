//! What a DaemonSet's status says: on how many nodes its pod is, and how it is there.

use super::{Place, Round};
use crate::controllers::amount::count;
use crate::controllers::pod;
use k8s_openapi::api::apps::v1::{DaemonSet, DaemonSetStatus};
use k8s_openapi::api::core::v1::Pod;

impl Round<'_> {
    /// Writes the status, as it is after this decision, if it is news, and with
    /// every other write: the check of the `resourceVersion` that comes
    /// with it refuses a decision which was taken on an old view.
    pub(super) fn report(&mut self) {
        self.wake_for_availability();
        let status = self.status();
        if !self.outcome.writes.is_empty() || self.set.status.as_ref() != Some(&status) {
            self.outcome.update_status(DaemonSet { status: Some(status), ..self.set.clone() }.into());
        }
    }

    fn wake_for_availability(&mut self) {
        let min_ready = self.set.spec.min_ready_seconds.unwrap_or(0);
        let waiting = self.places.values().flat_map(|place| &place.pods).filter(|pod| pod::is_active(pod));
        for at in waiting.filter_map(|pod| pod::available_at(pod, min_ready)).filter(|at| *at > self.now) {
            self.outcome.wake_by(at);
        }
    }

    fn status(&self) -> DaemonSetStatus {
        let wanted: Vec<_> = self.places.iter().filter(|(_, place)| place.wanted).collect();
        let desired = count(&wanted);
        let serves = |pod: &&Pod| self.stays(pod) && self.is_available(pod);
        let available = count(wanted.iter().filter(|(_, place)| place.pods.iter().any(serves)));
        let scheduled = |node: &str, place: &Place<'_>| !place.pods.is_empty() || self.created.contains(node);
        let updated = |node: &str, place: &Place<'_>| {
            let staying = place.pods.iter().find(|pod| self.stays(pod));
            staying.map_or_else(|| self.created.contains(node), |pod| self.is_updated(pod))
        };
        let ready = |pod: &&Pod| self.stays(pod) && pod::is_ready(pod);
        let misplaced = |node: &str, place: &Place<'_>| {
            !place.wanted && !node.is_empty() && place.pods.iter().any(|pod| self.stays(pod))
        };
        DaemonSetStatus {
            desired_number_scheduled: desired,
            current_number_scheduled: count(wanted.iter().filter(|(node, place)| scheduled(node, place))),
            number_misscheduled: count(self.places.iter().filter(|(node, place)| misplaced(node, place))),
            number_ready: count(wanted.iter().filter(|(_, place)| place.pods.iter().any(ready))),
            number_available: Some(available),
            number_unavailable: Some(desired - available),
            updated_number_scheduled: Some(count(wanted.iter().filter(|(node, place)| updated(node, place)))),
            observed_generation: self.set.metadata.generation,
            collision_count: None,
            conditions: None,
        }
    }
}
