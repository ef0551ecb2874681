//! How long to wait before a pod that failed is made again in its place.
//!
//! A decision has no memory, so the pod carries it: how many before it, one
//! after the other, failed. The failed pod keeps its place, with its logs,
//! until the wait is over.

use super::pod;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;

/// How many predecessors of a pod failed, each made to replace the one before.
pub(crate) const FAILURES_ANNOTATION: &str = "evenkeel.dev/failed-predecessors";

const FIRST_SECONDS: i64 = 10;
const LAST_SECONDS: i64 = 300;
/// A pod that ran for so long before it failed starts a new count.
const STABLE: SignedDuration = SignedDuration::from_mins(10);

/// How many failures in a row a pod's place has seen, `pod`'s own included.
fn failures(pod: &Pod) -> u32 {
    let before = pod::annotation(pod, FAILURES_ANNOTATION).and_then(|text| text.parse().ok()).unwrap_or(0);
    let life = match (pod::created_at(pod), pod::finished_at(pod)) {
        (Some(made), Some(ended)) => ended.duration_since(made),
        (None, _) | (_, None) => SignedDuration::ZERO,
    };
    if life >= STABLE { 1 } else { 1_u32.saturating_add(before) }
}

/// When `failed` may be replaced: at once the first time, then after 10 s, 20 s, … 5 min.
pub(crate) fn retry_at(failed: &Pod, now: Timestamp) -> Timestamp {
    let repeats = failures(failed) - 1;
    let ended = pod::finished_at(failed).unwrap_or(now).min(now);
    if repeats == 0 {
        return ended;
    }
    let seconds = FIRST_SECONDS.saturating_mul(1 << (repeats - 1).min(16)).min(LAST_SECONDS);
    ended.saturating_add(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MAX)
}

/// Makes `successor` remember that `failed` was before it.
pub(crate) fn succeed(failed: &Pod, successor: &mut Pod) {
    let annotations = successor.metadata.annotations.get_or_insert_default();
    annotations.insert(FAILURES_ANNOTATION.into(), failures(failed).to_string());
}

#[cfg(test)]
mod tests {
    use super::{retry_at, succeed};
    use jiff::{SignedDuration, Timestamp};
    use k8s_openapi::api::core::v1::Pod;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    #[test]
    fn each_failure_in_a_row_waits_longer_up_to_five_minutes() {
        let now = Timestamp::UNIX_EPOCH;
        let mut pod = Pod::default();
        pod.metadata.creation_timestamp = Some(Time(now));
        let mut waits = Vec::new();
        for _ in 0..8 {
            waits.push(retry_at(&pod, now).duration_since(now).as_secs());
            let mut next = pod.clone();
            succeed(&pod, &mut next);
            pod = next;
        }
        assert_eq!(waits, [0, 10, 20, 40, 80, 160, 300, 300]);
    }

    #[test]
    fn a_pod_without_any_time_is_retried_from_now() {
        let now = Timestamp::UNIX_EPOCH + SignedDuration::from_hours(1);
        assert_eq!(retry_at(&Pod::default(), now), now);
    }
}
