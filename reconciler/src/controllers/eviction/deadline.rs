//! How long a Pod may stay on a node with taints that end Pods. Pure.

use crate::controllers::node::is_ours;
use crate::controllers::pod;
use crate::scheduler::taint::{DEFAULT_SECONDS, daemons_tolerate, tolerates};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, Taint};

/// When a Pod has to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Deadline {
    /// Then, or now if that is over.
    At(Timestamp),
    /// It may stay.
    Never,
}

/// When `pod` has to go because of those of `taints` that end Pods: the earliest of what each of
/// them says. A toleration with seconds begins with the taint, or with the Pod if that is younger.
pub(super) fn deadline<'t>(pod: &Pod, taints: impl Iterator<Item = &'t Taint>, now: Timestamp) -> Deadline {
    let ending = taints.filter(|taint| taint.effect == "NoExecute");
    ending.map(|taint| of_taint(pod, taint, now)).min().unwrap_or(Deadline::Never)
}

fn of_taint(pod: &Pod, taint: &Taint, now: Timestamp) -> Deadline {
    let own = pod.spec.iter().flat_map(|spec| spec.tolerations.iter().flatten());
    let met: Vec<_> = own.filter(|toleration| tolerates(toleration, taint)).collect();
    let is_daemon = || {
        let owners = pod.metadata.owner_references.iter().flatten();
        owners.into_iter().any(|owner| owner.controller == Some(true) && owner.kind == "DaemonSet")
    };
    let seconds = if !met.is_empty() {
        met.iter().filter_map(|toleration| toleration.toleration_seconds).min()
    } else if !is_ours(taint) {
        Some(0)
    } else if is_daemon() && daemons_tolerate(&taint.key) {
        None
    } else {
        // Bound by a version that did not write the defaults into Pods yet.
        Some(DEFAULT_SECONDS)
    };
    let Some(seconds) = seconds else { return Deadline::Never };
    let since = taint.time_added.as_ref().map_or(now, |time| time.0);
    let since = since.max(bound_at(pod).unwrap_or(Timestamp::MIN));
    let due = since.checked_add(SignedDuration::from_secs(seconds.max(0)));
    Deadline::At(if seconds <= 0 { now } else { due.unwrap_or(Timestamp::MAX) })
}

/// Since when it has had its node, or been there at all.
fn bound_at(pod: &Pod) -> Option<Timestamp> {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let scheduled = conditions.into_iter().find(|c| c.type_ == "PodScheduled" && c.status == "True");
    let since = scheduled.and_then(|condition| condition.last_transition_time.as_ref()).map(|time| time.0);
    since.or_else(|| pod::created_at(pod))
}
