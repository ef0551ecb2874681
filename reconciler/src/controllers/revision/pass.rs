//! One look at a Revision, or at one object of it.

use super::{immutable, merge, revisions, wants};
use crate::controllers::garbage::DEFAULT_NAMESPACE;
use crate::controllers::{Note, Outcome};
use crate::store::{State, Write};
use manifests::k8s_openapi::api::batch::v1::Job;
use manifests::revision::{COMMIT_ANNOTATION, Revision, RevisionSpec, SOURCE_ANNOTATION};
use manifests::{Kind, Object, ObjectKey};
use serde_json::Value;
use std::collections::{BTreeMap, HashSet};

/// Annotations that keep an object whose manifest left, with the value `disabled`.
const KEEP_ANNOTATIONS: [&str; 2] = ["evenkeel.dev/prune", "kustomize.toolkit.fluxcd.io/prune"];

/// What is decided so far.
pub(super) struct Pass<'a> {
    state: &'a State,
    revision: &'a Revision,
    source: &'a str,
    /// Namespaces that this pass makes.
    namespaces: HashSet<String>,
    finished_jobs: BTreeMap<String, String>,
    outcome: Outcome,
}

impl<'a> Pass<'a> {
    pub(super) fn new(state: &'a State, revision: &'a Revision) -> Self {
        Self {
            state,
            revision,
            source: revision.metadata.name.as_deref().unwrap_or_default(),
            namespaces: HashSet::new(),
            finished_jobs: revision.status.finished_jobs.clone(),
            outcome: Outcome::default(),
        }
    }

    pub(super) fn finish(mut self) -> Outcome {
        if self.finished_jobs != self.revision.status.finished_jobs {
            let Revision { metadata, status, .. } = self.revision;
            let mut status = status.clone();
            status.finished_jobs = self.finished_jobs;
            // Only the status is written.
            let revision = Revision { metadata: metadata.clone(), spec: RevisionSpec::default(), status };
            self.outcome.writes.push(Write::UpdateStatus(revision.into()));
        }
        self.outcome
    }

    /// `key` is as `manifest` says.
    pub(super) fn ensure(&mut self, key: &ObjectKey, manifest: &Value) {
        let wanted = match Object::from_json(key.kind, manifest.clone()) {
            Ok(wanted) => wanted,
            Err(error) => return self.warn("InvalidObject", format!("{key}: {error}")),
        };
        match self.state.get(key) {
            None => self.create(key, wanted),
            // It goes first; its end brings us back here.
            Some(have) if have.metadata().deletion_timestamp.is_some() => {}
            Some(have) => self.put_back(key, wanted, have),
        }
    }

    /// What was this source's and is in it no more goes away.
    pub(super) fn prune(&mut self, wanted: &HashSet<ObjectKey>) {
        let state = self.state;
        // What is still wanted, or has no annotations, need not be looked at.
        let gone = state.annotated(|key| !wanted.contains(key)).filter(|(key, object)| {
            object.annotation(SOURCE_ANNOTATION) == Some(self.source)
                // Copied from its owner together with the other annotations.
                && object.controller().is_none()
                && object.metadata().deletion_timestamp.is_none()
                && !KEEP_ANNOTATIONS.iter().any(|keep| object.annotation(keep) == Some("disabled"))
                && !is_default_namespace(key)
                // Another source takes it over as it is.
                && !revisions(state).any(|r| wants(r, key))
        });
        let mut deletions: Vec<_> = gone.map(|(key, object)| delete(key, &object)).collect();
        // Users before what they use.
        deletions.reverse();
        self.outcome.writes.extend(deletions);
    }

    /// Jobs that left need no memory.
    pub(super) fn forget_jobs(&mut self, wanted: &HashSet<ObjectKey>) {
        let names: HashSet<_> = wanted.iter().filter(|key| key.kind == Kind::Job).map(job_name).collect();
        self.finished_jobs.retain(|name, _| names.contains(name));
    }

    fn note(&mut self, about: ObjectKey, warning: bool, reason: &'static str, message: String) {
        self.outcome.notes.push(Note { about, warning, reason, message });
    }

    fn warn(&mut self, reason: &'static str, message: String) {
        self.note(ObjectKey::new(Kind::Revision, "", self.source), true, reason, message);
    }

    fn create(&mut self, key: &ObjectKey, wanted: Object) {
        let ran_at = self.finished_jobs.get(&job_name(key)).map(String::as_str);
        if key.kind == Kind::Job && ran_at.is_some() && ran_at == wanted.annotation(COMMIT_ANNOTATION) {
            return;
        }
        if !self.has_namespace(&key.namespace) {
            return self
                .warn("NamespaceMissing", format!("{key}: there is no namespace {:?}", key.namespace));
        }
        if key.kind == Kind::Namespace {
            self.namespaces.insert(key.name.clone());
        }
        self.outcome.writes.push(Write::Create(merge::fresh(wanted, self.source)));
    }

    /// Without it the object would be garbage as soon as it is there.
    fn has_namespace(&self, name: &str) -> bool {
        name.is_empty()
            || name == DEFAULT_NAMESPACE
            || self.namespaces.contains(name)
            || self.state.get(&ObjectKey::new(Kind::Namespace, "", name)).is_some()
    }

    fn put_back(&mut self, key: &ObjectKey, wanted: Object, have: &Object) {
        if let Some(owner) = self.other_owner(key, have) {
            return self.warn("OwnedByOther", format!("{key} belongs to {owner}: left as it is"));
        }
        if let Object::Job(job) = have
            && may_delete_itself(job)
            && let Some(commit) = have.annotation(COMMIT_ANNOTATION)
        {
            self.finished_jobs.insert(job_name(key), commit.to_owned());
        }
        let next = merge::onto(wanted.clone(), have, self.source);
        if next == *have {
            return;
        }
        let Some(what) = immutable::differing(have, &next) else {
            return self.outcome.writes.push(Write::Update(next));
        };
        let message = format!("{what} cannot change: deleted, to be created anew");
        self.note(key.clone(), false, "Replaced", message);
        self.outcome.writes.push(delete(key, have));
        // A Pod may have to be stopped first; then its end brings us back.
        if key.kind != Kind::Pod {
            self.finished_jobs.remove(&job_name(key));
            self.outcome.writes.push(Write::Create(merge::fresh(wanted, self.source)));
        }
    }

    /// Who else has a right to `have`: another source, or the controller that made it.
    fn other_owner(&self, key: &ObjectKey, have: &Object) -> Option<String> {
        if let Some(owner) = have.controller() {
            return Some(format!("{} {}", owner.kind, owner.name));
        }
        let source = have.annotation(SOURCE_ANNOTATION)?;
        let claims = |r: &Revision| r.metadata.name.as_deref() == Some(source) && wants(r, key);
        let held = source != self.source && revisions(self.state).any(claims);
        held.then(|| format!("source {source}"))
    }
}

fn delete(key: &ObjectKey, object: &Object) -> Write {
    Write::Delete { key: key.clone(), uid: Some(object.uid().to_owned()), grace_seconds: None }
}

fn is_default_namespace(key: &ObjectKey) -> bool {
    key.kind == Kind::Namespace && key.name == DEFAULT_NAMESPACE
}

fn job_name(key: &ObjectKey) -> String {
    format!("{}/{}", key.namespace, key.name)
}

/// True for a Job that has ended and goes away by itself some time after.
fn may_delete_itself(job: &Job) -> bool {
    let ended = |kind: &str, status: &str| matches!(kind, "Complete" | "Failed") && status == "True";
    let conditions = job.status.iter().flat_map(|status| status.conditions.iter().flatten());
    job.spec.as_ref().is_some_and(|spec| spec.ttl_seconds_after_finished.is_some())
        && conditions.into_iter().any(|c| ended(&c.type_, &c.status))
}
