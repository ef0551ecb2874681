//! What can be asked of the store. A batch is one entry: all of it or nothing.

use manifests::{Object, ObjectKey};

/// One change to one object.
#[derive(Debug, Clone, PartialEq)]
pub enum Write {
    /// Adds an object that must not be there yet. The store gives it `uid`,
    /// `creationTimestamp`, `generation` 1 and `resourceVersion`.
    Create(Object),
    /// Replaces all but `status` (and what the store itself gives). Refused if
    /// the object carries a `resourceVersion` and it is not the stored one.
    /// `generation` grows if anything but metadata changed.
    Update(Object),
    /// Replaces `status` alone, under the same rule.
    UpdateStatus(Object),
    /// Asks for the end of an object. A Pod that a node may be running
    /// (`spec.nodeName` set, phase neither `Succeeded` nor `Failed`) gets
    /// `deletionTimestamp` and waits for its node to remove it; anything else
    /// is gone at once. Deleting what is being deleted changes nothing, except
    /// that a shorter grace takes force.
    Delete {
        /// What to delete.
        key: ObjectKey,
        /// If set, only the object with this uid.
        uid: Option<String>,
        /// Pods: seconds between SIGTERM and SIGKILL; `terminationGracePeriodSeconds` if `None`.
        grace_seconds: Option<i64>,
    },
    /// Takes an object away at once: the node's last word on a deleted Pod.
    Remove {
        /// What to remove.
        key: ObjectKey,
        /// If set, only the object with this uid.
        uid: Option<String>,
    },
}
