//! Pods that the node itself ends: why, and how that is told.
//!
//! The record is a condition of the pod, so that an agent that is killed halfway goes on.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodCondition, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use runtime::status::Problem;
use std::collections::BTreeMap;
use tokio::sync::watch;

/// The condition of a pod that is being ended, and its reason.
const CONDITION: &str = "DisruptionTarget";
const BY_NODE: &str = "TerminationByKubelet";
/// Seconds that a pod has whose end cannot wait, as the kubelet has it.
pub(super) const AT_ONCE: u32 = 1;
/// What is said of pods that go down with the machine.
pub(super) const SHUTDOWN: &str = "Pod was terminated in response to imminent node shutdown.";

/// Why and how a pod is ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ending {
    /// `Evicted`, `Terminated`.
    pub(crate) reason: &'static str,
    /// For a person.
    pub(crate) message: String,
    /// Seconds between the stop signal and SIGKILL.
    pub(crate) grace_seconds: u32,
    /// When that was decided.
    pub(crate) at: Timestamp,
}

impl Ending {
    pub(super) fn evicted(message: String, grace_seconds: u32) -> Self {
        Self { reason: "Evicted", message, grace_seconds, at: Timestamp::now() }
    }

    pub(super) fn shut_down(grace_seconds: u32) -> Self {
        Self { reason: "Terminated", message: SHUTDOWN.to_owned(), grace_seconds, at: Timestamp::now() }
    }

    /// What the pod's status says once it is over.
    pub(super) fn problem(&self) -> Problem {
        Problem::Failed { reason: self.reason.to_owned(), message: self.message.clone() }
    }

    /// The status tells that the pod is being ended.
    pub(super) fn mark(&self, status: &mut PodStatus, now: Timestamp) {
        let conditions = status.conditions.get_or_insert_default();
        let old = conditions.iter().find(|one| one.type_ == CONDITION && one.status == "True");
        let since = old.and_then(|old| old.last_transition_time.clone()).unwrap_or(Time(now));
        conditions.retain(|one| one.type_ != CONDITION);
        conditions.push(PodCondition {
            type_: CONDITION.into(),
            status: "True".into(),
            reason: Some(BY_NODE.into()),
            message: Some(self.message.clone()),
            last_transition_time: Some(since),
            ..PodCondition::default()
        });
    }

    /// What an agent before this one decided.
    pub(super) fn read(pod: &Pod) -> Option<Self> {
        let mut conditions = pod.status.as_ref()?.conditions.iter().flatten();
        let found = conditions.find(|one| {
            one.type_ == CONDITION && one.status == "True" && one.reason.as_deref() == Some(BY_NODE)
        })?;
        let message = found.message.clone().unwrap_or_default();
        Some(if message == SHUTDOWN {
            Self::shut_down(AT_ONCE)
        } else {
            Self { at: Timestamp::UNIX_EPOCH, ..Self::evicted(message, AT_ONCE) }
        })
    }
}

/// The pods that are being ended, by uid. Whoever decides adds to it; the node loop acts on it.
#[derive(Debug, Clone)]
pub(crate) struct Endings(watch::Sender<BTreeMap<String, Ending>>);

impl Default for Endings {
    fn default() -> Self {
        Self(watch::Sender::new(BTreeMap::new()))
    }
}

impl Endings {
    /// The pod will be ended; one that is being ended already keeps its reason. False then.
    pub(super) fn add(&self, uid: &str, ending: Ending) -> bool {
        self.0.send_if_modified(|all| {
            let new = !all.contains_key(uid);
            all.entry(uid.to_owned()).or_insert(ending);
            new
        })
    }

    /// As they are now.
    pub(super) fn all(&self) -> BTreeMap<String, Ending> {
        self.0.borrow().clone()
    }

    /// Changes whenever one is added.
    pub(super) fn changes(&self) -> watch::Receiver<BTreeMap<String, Ending>> {
        self.0.subscribe()
    }

    /// Forgets pods that are gone.
    pub(super) fn keep_only(&self, is_there: impl Fn(&str) -> bool) {
        self.0.send_if_modified(|all| {
            all.retain(|uid, _| is_there(uid));
            false
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_decided_is_read_back() {
        let mut pod = Pod::default();
        assert_eq!(Ending::read(&pod), None);
        let ending = Ending::evicted("The node was low on resource: memory. ".into(), 30);
        ending.mark(pod.status.get_or_insert_default(), Timestamp::UNIX_EPOCH);
        let read = Ending::read(&pod).unwrap();
        assert_eq!((read.reason, &read.message), ("Evicted", &ending.message));
        Ending::shut_down(5).mark(pod.status.get_or_insert_default(), Timestamp::now());
        assert_eq!(Ending::read(&pod).unwrap().reason, "Terminated");
        let conditions = pod.status.unwrap().conditions.unwrap();
        assert_eq!(conditions.len(), 1);
        assert_eq!(conditions[0].last_transition_time, Some(Time(Timestamp::UNIX_EPOCH)));
    }

    #[test]
    fn the_first_reason_stays() {
        let endings = Endings::default();
        assert!(endings.add("u", Ending::evicted("first".into(), 1)));
        assert!(!endings.add("u", Ending::evicted("second".into(), 1)));
        assert_eq!(endings.all()["u"].message, "first");
        endings.keep_only(|uid| uid != "u");
        assert!(endings.all().is_empty());
    }
}
