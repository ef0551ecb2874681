//! From pods of an older template to the present one.

use super::{Place, Round};
use crate::controllers::Knowledge;
use crate::controllers::amount::{self, count};
use k8s_openapi::api::apps::v1::{DaemonSet, RollingUpdateDaemonSet};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use std::collections::BTreeMap;

impl Round<'_> {
    /// Replaces as many old pods as the update strategy allows now.
    pub(super) fn update(&mut self, context: &mut Knowledge<'_>) {
        let strategy = self.set.spec.update_strategy.as_ref().and_then(|strategy| strategy.type_.as_deref());
        if strategy == Some("OnDelete") {
            return;
        }
        let places = std::mem::take(&mut self.places);
        let wanted: Vec<_> = places.iter().filter(|(_, place)| place.wanted).collect();
        if self.max_surge > 0 {
            self.surge(&wanted, context);
        } else {
            self.replace(&wanted);
        }
        self.places = places;
    }

    /// Deletes old pods: those that serve nobody, and of the others as many as may be missing.
    fn replace(&mut self, wanted: &[(&String, &Place<'_>)]) {
        let serves = |round: &Self, pod: &Pod| round.stays(pod) && round.is_available(pod);
        let unavailable =
            count(wanted.iter().filter(|(_, place)| !place.pods.iter().any(|pod| serves(self, pod))));
        let mut may_go = self.max_unavailable(wanted) - unavailable;
        for (_, place) in wanted {
            for pod in &place.pods {
                if !self.stays(pod) || self.is_updated(pod) {
                    continue;
                }
                if self.is_available(pod) {
                    if may_go <= 0 {
                        continue;
                    }
                    may_go -= 1;
                }
                self.delete(pod);
            }
        }
    }

    /// Makes new pods beside old ones; the old one goes when the new one is available.
    fn surge(&mut self, wanted: &[(&String, &Place<'_>)], context: &mut Knowledge<'_>) {
        let has = |round: &Self, place: &Place<'_>, updated: bool| {
            place.pods.iter().any(|pod| round.stays(pod) && round.is_updated(pod) == updated)
        };
        let surging =
            count(wanted.iter().filter(|(_, place)| has(self, place, true) && has(self, place, false)));
        let mut may_come = self.max_surge - surging;
        for (node, place) in wanted {
            if has(self, place, true) || !has(self, place, false) {
                continue;
            }
            // A new pod that failed is waiting for its back-off, or going.
            if place.pods.iter().any(|pod| self.is_updated(pod)) {
                continue;
            }
            let serving = place.pods.iter().any(|pod| self.stays(pod) && self.is_available(pod));
            if serving {
                if may_come <= 0 {
                    continue;
                }
                may_come -= 1;
            }
            self.create(node, None, context);
        }
    }

    fn max_unavailable(&self, wanted: &[(&String, &Place<'_>)]) -> i32 {
        let one = IntOrString::Int(1);
        let amount = rolling(self.set).and_then(|rolling| rolling.max_unavailable.as_ref()).unwrap_or(&one);
        amount::share(amount, count(wanted), amount::Round::Up)
    }
}

/// `maxSurge` in pods; 0 without rolling updates.
pub(super) fn max_surge(set: &DaemonSet, places: &BTreeMap<String, Place<'_>>) -> i32 {
    let wanted = count(places.values().filter(|place| place.wanted));
    let surge = rolling(set).and_then(|rolling| rolling.max_surge.as_ref());
    surge.map_or(0, |surge| amount::share(surge, wanted, amount::Round::Up))
}

fn rolling(set: &DaemonSet) -> Option<&RollingUpdateDaemonSet> {
    set.spec.update_strategy.as_ref()?.rolling_update.as_ref()
}
