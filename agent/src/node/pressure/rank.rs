//! Which pod goes first. Pure.

use std::cmp::Reverse;

/// Pods of this priority and above are never ended for want of something, as the kubelet has it.
pub(crate) const CRITICAL: i32 = 2_000_000_000;

/// A pod that may be ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) uid: String,
    pub(super) priority: i32,
    /// Of what is scarce.
    pub(super) used: u64,
    /// Of the same.
    pub(super) requested: u64,
}

/// The order in which pods go: those that use more than they asked for, of these the least
/// important, of these the one that is furthest above what it asked for.
pub(super) fn rank(mut candidates: Vec<Candidate>) -> Vec<Candidate> {
    candidates.retain(|one| one.priority < CRITICAL);
    candidates.sort_by_key(|one| {
        let over = i128::from(one.used) - i128::from(one.requested);
        (Reverse(over > 0), one.priority, Reverse(over))
    });
    candidates
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(uid: &str, priority: i32, used: u64, requested: u64) -> Candidate {
        Candidate { uid: uid.to_owned(), priority, used, requested }
    }

    #[test]
    fn requests_then_priority_then_usage_decide() {
        let ranked = rank(vec![
            pod("modest", 0, 90, 100),
            pod("guaranteed-important", 1000, 100, 100),
            pod("greedy-important", 1000, 500, 100),
            pod("best-effort-small", 0, 10, 0),
            pod("best-effort-big", 0, 80, 0),
            pod("idle-low", -5, 0, 0),
            pod("system", CRITICAL, 900, 0),
        ]);
        let order: Vec<_> = ranked.iter().map(|one| one.uid.as_str()).collect();
        let wanted = [
            "best-effort-big",
            "best-effort-small",
            "greedy-important",
            "idle-low",
            "modest",
            "guaranteed-important",
        ];
        assert_eq!(order, wanted);
    }
}
