//! How a decision is put together: the verbs that every controller uses on its [`Outcome`].

use super::{Note, Outcome};
use crate::store::Write;
use jiff::Timestamp;
use manifests::{Object, ObjectKey};

impl Outcome {
    /// Looks again at `at`, or earlier if something already asked for that.
    pub(crate) fn wake_by(&mut self, at: Timestamp) {
        self.wake_at = Some(self.wake_at.map_or(at, |earlier| earlier.min(at)));
    }

    /// Tells the user what was done to `about`.
    pub(crate) fn note(&mut self, about: &ObjectKey, reason: &'static str, message: String) {
        self.notes.push(Note { about: about.clone(), warning: false, reason, message });
    }

    /// Tells the user what is wrong with `about`.
    pub(crate) fn warn(&mut self, about: &ObjectKey, reason: &'static str, message: String) {
        self.notes.push(Note { about: about.clone(), warning: true, reason, message });
    }

    /// Asks for the end of exactly this object: one of the same name that came after it stays.
    pub(crate) fn delete(&mut self, object: &Object) {
        let uid = object.metadata().uid.clone();
        self.writes.push(Write::Delete { key: object.key(), uid, grace_seconds: None });
    }

    /// Replaces all but the status of `object`, if nobody changed it since it was read.
    pub(crate) fn update(&mut self, mut object: Object) {
        self.pass_own_check(&mut object);
        self.writes.push(Write::Update(object));
    }

    /// Replaces the status of `object`, if nobody changed it since it was read.
    pub(crate) fn update_status(&mut self, mut object: Object) {
        self.pass_own_check(&mut object);
        self.writes.push(Write::UpdateStatus(object));
    }

    /// A batch is all or nothing, so its first write to an object checks the
    /// `resourceVersion` for all of them; a later one would meet the first's.
    fn pass_own_check(&self, object: &mut Object) {
        let is_same = |other: &Object| {
            (other.kind(), other.namespace(), other.name())
                == (object.kind(), object.namespace(), object.name())
        };
        let written = |write: &Write| match write {
            Write::Update(other) | Write::UpdateStatus(other) => is_same(other),
            Write::Create(_) | Write::Delete { .. } | Write::Remove { .. } => false,
        };
        if self.writes.iter().any(written) {
            object.metadata_mut().resource_version = None;
        }
    }
}
