//! Which controllers there are, and what each wants to look at.

use crate::controllers::{Context, Outcome, garbage, revision};
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
    pub reconcile: fn(&State, &ObjectKey, &mut Context<'_>) -> Outcome,
}

/// Every controller of a node.
#[must_use]
pub fn controllers() -> Vec<Controller> {
    vec![
        Controller { name: "revision", keys: revision::keys, reconcile: revision::reconcile },
        Controller { name: "scheduler", keys: scheduler::keys, reconcile: scheduler::reconcile },
        Controller { name: "garbage", keys: garbage::keys, reconcile: garbage::reconcile },
    ]
}

/// The changed object itself if it is of `kind`, and the one of `kind` that controls it.
#[allow(dead_code, reason = "the workload controllers use it")]
fn own_and_owner(kind: Kind, event: &Event) -> Vec<ObjectKey> {
    let object = &event.object;
    let own = (object.kind() == kind).then(|| object.key());
    let owner = object.controller().filter(|owner| owner.kind == kind.as_str());
    let owner = owner.map(|owner| ObjectKey::new(kind, object.namespace(), owner.name.as_str()));
    own.into_iter().chain(owner).collect()
}
