//! Which of the nodes that a Pod fits is the best: Kubernetes' scores and their weights.

use super::fit::Wanted;
use super::ledger::{Crowd, Room, scatter};
use super::selection::preference;
use manifests::k8s_openapi::api::core::v1::Node;

/// The most of each score.
const FULL: i64 = 100;
/// Of the spread over nodes and zones, the zones' part.
const ZONES_OF_THREE: i64 = 2;
/// How much preferences and the spread count against how full nodes are.
const AFFINITY_WEIGHT: i64 = 2;
const TAINT_WEIGHT: i64 = 3;
const SPREAD_WEIGHT: i64 = 2;

/// One node that the Pod fits.
#[derive(Debug)]
pub(super) struct Candidate<'l> {
    pub(super) name: &'l str,
    /// How much stays free, and how evenly.
    free: i64,
    /// Met preferences of the Pod.
    preferred: i64,
    /// Soft taints that it does not tolerate.
    repelling: i64,
    /// Pods of the same owner on the node, and in its zone if it has one.
    near: i64,
    in_zone: Option<i64>,
}

impl<'l> Candidate<'l> {
    /// What `node` offers to a Pod that wants `wanted`, whose owner's other Pods are `crowd`.
    pub(super) fn of(
        wanted: &Wanted<'_>,
        (name, room): (&'l str, &Room),
        node: &Node,
        crowd: Option<&Crowd>,
    ) -> Self {
        let taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
        let soft = taints.filter(|taint| taint.effect == "PreferNoSchedule" && !wanted.tolerates(taint));
        let in_zone = (!room.zone.is_empty())
            .then(|| crowd.and_then(|crowd| crowd.by_zone.get(&room.zone)).copied().unwrap_or(0));
        Self {
            name,
            free: freedom(wanted, room),
            preferred: preference(wanted.spec, node),
            repelling: i64::try_from(soft.count()).unwrap_or(i64::MAX),
            near: crowd.and_then(|crowd| crowd.by_node.get(name)).copied().unwrap_or(0),
            in_zone,
        }
    }
}

/// How much is free with the Pod there (least allocated), and how alike that is for CPU and memory.
fn freedom(wanted: &Wanted<'_>, room: &Room) -> i64 {
    let share = |used: i64, wanted: i64, all: i64| {
        if all <= 0 {
            return FULL;
        }
        let taken =
            i128::from(used.saturating_add(wanted).clamp(0, all)) * i128::from(FULL) / i128::from(all);
        i64::try_from(taken).unwrap_or(FULL)
    };
    let (used, amounts, all) = (&room.used, &wanted.amounts, &room.allocatable);
    let weighed = [
        share(used.weighed_cpu_millis, amounts.weighed_cpu_millis, all.cpu_millis),
        share(used.weighed_memory_bytes, amounts.weighed_memory_bytes, all.memory_bytes),
    ];
    let exact = [
        share(used.cpu_millis, amounts.cpu_millis, all.cpu_millis),
        share(used.memory_bytes, amounts.memory_bytes, all.memory_bytes),
    ];
    let least = FULL - weighed.iter().sum::<i64>() / 2;
    let balanced = FULL - (exact[0] - exact[1]).abs() / 2;
    least + balanced
}

/// The name of the best of `candidates` for the Pod with `uid`; among equals, chance that
/// repeats itself decides.
pub(super) fn best<'l>(candidates: &[Candidate<'l>], uid: &str) -> Option<&'l str> {
    let most = |of: fn(&Candidate<'_>) -> i64| candidates.iter().map(of).max().unwrap_or(0);
    let preferred = most(|one| one.preferred);
    let repelling = most(|one| one.repelling);
    let near = most(|one| one.near);
    let in_zone = most(|one| one.in_zone.unwrap_or(0));
    let has_zones = candidates.iter().any(|one| one.in_zone.is_some());
    // Few are many where others have none.
    let rarity = |count: i64, most: i64| if most == 0 { FULL } else { FULL * (most - count) / most };
    let score = |one: &Candidate<'_>| {
        let liked = if preferred == 0 { 0 } else { FULL * one.preferred / preferred };
        let alone = rarity(one.near, near);
        let spread = match one.in_zone {
            Some(count) if has_zones => {
                ((3 - ZONES_OF_THREE) * alone + ZONES_OF_THREE * rarity(count, in_zone)) / 3
            }
            Some(_) | None => alone,
        };
        one.free
            + AFFINITY_WEIGHT * liked
            + TAINT_WEIGHT * rarity(one.repelling, repelling)
            + SPREAD_WEIGHT * spread
    };
    candidates.iter().max_by_key(|one| (score(one), scatter(&[uid, one.name]))).map(|one| one.name)
}
