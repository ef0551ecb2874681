//! Which controllers there are, and what each wants to look at.

use crate::controllers::{
    Knowledge, Outcome, cronjob, daemonset, deployment, endpoints, eviction, garbage, ingress, job, node,
    nodeipam, outage, replicaset, revision, service,
};
use crate::scheduler;
use crate::store::{Event, State};
use manifests::{Kind, ObjectKey};

/// One controller.
#[derive(Debug, Clone, Copy)]
pub struct Controller {
    /// Names it in logs and metrics.
    pub name: &'static str,
    /// The keys to look at after a change.
    pub keys: fn(&State, &Event) -> Vec<ObjectKey>,
    /// The decision about one key.
    pub reconcile: fn(&State, &ObjectKey, &mut Knowledge<'_>) -> Outcome,
}

/// Every controller of a node.
#[must_use]
pub fn controllers() -> Vec<Controller> {
    vec![
        Controller { name: "revision", keys: revision::keys, reconcile: revision::reconcile },
        Controller {
            name: "deployment",
            keys: |_, event| own_and_owner(Kind::Deployment, event),
            reconcile: deployment::reconcile,
        },
        Controller { name: "replicaset", keys: replicaset_keys, reconcile: replicaset::reconcile },
        Controller { name: "daemonset", keys: daemonset_keys, reconcile: daemonset::reconcile },
        Controller {
            name: "cronjob",
            keys: |_, event| own_and_owner(Kind::CronJob, event),
            reconcile: cronjob::reconcile,
        },
        Controller {
            name: "job",
            keys: |_, event| own_and_owner(Kind::Job, event),
            reconcile: job::reconcile,
        },
        Controller { name: "scheduler", keys: scheduler::keys, reconcile: scheduler::reconcile },
        Controller { name: "node", keys: node::keys, reconcile: node::reconcile },
        Controller { name: "nodeipam", keys: nodeipam::keys, reconcile: nodeipam::reconcile },
        Controller { name: "outage", keys: outage::keys, reconcile: outage::reconcile },
        Controller { name: "eviction", keys: eviction::keys, reconcile: eviction::reconcile },
        Controller { name: "service", keys: service::keys, reconcile: service::reconcile },
        Controller { name: "endpoints", keys: endpoints::keys, reconcile: endpoints::reconcile },
        Controller { name: "ingress", keys: ingress::keys, reconcile: ingress::reconcile },
        Controller { name: "garbage", keys: garbage::keys, reconcile: garbage::reconcile },
    ]
}

/// A Pod that nobody controls may be one that a ReplicaSet selects.
fn replicaset_keys(state: &State, event: &Event) -> Vec<ObjectKey> {
    let object = &event.object;
    if object.kind() == Kind::Pod && object.controller().is_none() {
        return state.list(Kind::ReplicaSet, Some(object.namespace())).map(|set| set.key()).collect();
    }
    own_and_owner(Kind::ReplicaSet, event)
}

/// A changed Node may get, or lose, a pod of every DaemonSet.
fn daemonset_keys(state: &State, event: &Event) -> Vec<ObjectKey> {
    if event.object.kind() == Kind::Node {
        return state.list(Kind::DaemonSet, None).map(|set| set.key()).collect();
    }
    own_and_owner(Kind::DaemonSet, event)
}

/// The changed object itself if it is of `kind`, and the one of `kind` that controls it.
fn own_and_owner(kind: Kind, event: &Event) -> Vec<ObjectKey> {
    let object = &event.object;
    let own = (object.kind() == kind).then(|| object.key());
    let owner = object.controller().filter(|owner| owner.kind == kind.as_str());
    let owner = owner.map(|owner| ObjectKey::new(kind, object.namespace(), owner.name.as_str()));
    own.into_iter().chain(owner).collect()
}
