//! Which pods go first when there are too many: Kubernetes' order.

use super::pod::{self, Phase};
use crate::store::State;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use manifests::{Kind, Object};
use std::cmp::{Ordering, Reverse};
use std::collections::BTreeMap;

/// A smaller number (of `i32`) goes first; 0 without it.
const DELETION_COST_ANNOTATION: &str = "controller.kubernetes.io/pod-deletion-cost";

/// How many active pods each node has of `set` and the other ReplicaSets of its Deployment.
pub(crate) fn crowd(state: &State, set: &Object, own: &[&Pod]) -> BTreeMap<String, usize> {
    let mut crowd = BTreeMap::new();
    let mut add = |pod: &Pod| *crowd.entry(pod::node_name(pod).to_owned()).or_insert(0) += 1;
    own.iter().for_each(|pod| add(pod));
    let Some(deployment) = set.controller() else { return crowd };
    let siblings = state.owned_by(&deployment.uid).filter(|other| other.kind() == Kind::ReplicaSet);
    for sibling in siblings.filter(|other| other.uid() != set.uid()) {
        let pods = state.owned_by(sibling.uid()).filter_map(|object| <&Pod>::try_from(object.as_ref()).ok());
        pods.filter(|pod| pod::is_active(pod)).for_each(&mut add);
    }
    crowd
}

/// Puts the pods that are missed least in front: not bound, not started, not
/// ready, of low deletion cost, on a crowded node, ready for a short time,
/// often restarted, young.
pub(crate) fn sort_for_deletion(pods: &mut [&Pod], crowd: &BTreeMap<String, usize>, now: Timestamp) {
    pods.sort_by(|a, b| {
        let rank = |pod: &Pod| Rank::of(pod, crowd);
        rank(a).cmp(&rank(b)).then_with(|| by_age(a, b, now))
    });
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    bound: bool,
    phase: Phase,
    ready: bool,
    deletion_cost: i32,
    crowd: Reverse<usize>,
}

impl Rank {
    fn of(pod: &Pod, crowd: &BTreeMap<String, usize>) -> Self {
        Self {
            bound: !pod::node_name(pod).is_empty(),
            phase: pod::phase(pod),
            ready: pod::is_ready(pod),
            deletion_cost: pod::annotation(pod, DELETION_COST_ANNOTATION)
                .and_then(|cost| cost.parse().ok())
                .unwrap_or(0),
            crowd: Reverse(crowd.get(pod::node_name(pod)).copied().unwrap_or(0)),
        }
    }
}

fn by_age(a: &Pod, b: &Pod, now: Timestamp) -> Ordering {
    let restarts =
        |pod: &Pod| pod::container_statuses(pod).map(|status| status.restart_count).max().unwrap_or(0);
    youth(pod::ready_since(a), now)
        .cmp(&youth(pod::ready_since(b), now))
        .then_with(|| restarts(b).cmp(&restarts(a)))
        .then_with(|| youth(pod::created_at(a), now).cmp(&youth(pod::created_at(b), now)))
        .then_with(|| pod::uid(a).cmp(pod::uid(b)))
}

/// The age by its order of magnitude: pods made within one rollout count as
/// equally old, so that the choice spreads instead of following the order of making.
fn youth(since: Option<Timestamp>, now: Timestamp) -> u32 {
    let nanoseconds = since.map_or(0, |since| now.duration_since(since).as_nanos());
    u128::try_from(nanoseconds).ok().and_then(u128::checked_ilog2).unwrap_or(0)
}
