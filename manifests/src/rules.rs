//! What the Kubernetes API server demands of an object beyond its structure.
//!
//! Rules see typed, defaulted objects and say each finding at its field path.

mod access;
mod container;
mod data;
mod environment;
mod habits;
mod ingress;
mod job;
mod metadata;
mod network;
mod pod;
mod policy;
mod probe;
mod security;
mod selector;
mod service;
mod stateful;
mod storage;
mod volume;
mod workload;

use crate::bandwidth::Bandwidth;
use crate::kind::Kind;
use crate::object::Object;
use crate::path::Path;
use crate::report::Report;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// Reports every rule that `object` breaks.
pub(crate) fn check(object: &Object, report: &mut Report<'_>) {
    warn_of_inert(object.kind(), report);
    metadata::check(object, report);
    let spec = Path::ROOT.field("spec");
    match object {
        Object::Pod(pod) => with_spec(pod.spec.as_ref(), report, |of_pod, r| {
            pod::check(of_pod, &spec, r);
            habits::check(Some(&pod.metadata), of_pod, &Path::ROOT.field("metadata"), r);
            security::annotations(Some(&pod.metadata), of_pod, &Path::ROOT.field("metadata"), r);
            bandwidth(Some(&pod.metadata), &Path::ROOT.field("metadata"), r);
        }),
        Object::Deployment(deployment) => workload::deployment(&deployment.spec, &spec, report),
        Object::ReplicaSet(set) => workload::replica_set(&set.spec, &spec, report),
        Object::DaemonSet(set) => workload::daemon_set(&set.spec, &spec, report),
        Object::Job(job) => with_spec(job.spec.as_ref(), report, |job, r| job::job(job, &spec, r)),
        Object::CronJob(cron) => job::cron_job(&cron.spec, &spec, report),
        Object::ConfigMap(map) => data::config_map(map, report),
        Object::Secret(secret) => data::secret(secret, report),
        Object::Service(o) => with_spec(o.spec.as_ref(), report, |o, r| service::check(o, &spec, r)),
        Object::Namespace(_) | Object::Node(_) | Object::Revision(_) | Object::Event(_) => {}
        Object::StatefulSet(set) => stateful::stateful_set(&set.spec, &spec, report),
        Object::ReplicationController(o) => {
            with_spec(o.spec.as_ref(), report, |o, r| stateful::replication_controller(o, &spec, r));
        }
        Object::PersistentVolume(o) => {
            with_spec(o.spec.as_ref(), report, |o, r| storage::volume(o, &spec, r));
        }
        Object::PersistentVolumeClaim(o) => {
            with_spec(o.spec.as_ref(), report, |o, r| storage::claim(o, &spec, r));
        }
        Object::StorageClass(class) => storage::class(class, report),
        Object::Ingress(o) => ingress::check(o, report),
        Object::IngressClass(class) => ingress::class(class, report),
        Object::NetworkPolicy(o) => with_spec(o.spec.as_ref(), report, |o, r| network::policy(o, &spec, r)),
        Object::EndpointSlice(slice) => network::endpoint_slice(slice, report),
        Object::Role(role) => access::rules(role.rules.as_deref(), false, report),
        Object::ClusterRole(role) => access::rules(role.rules.as_deref(), true, report),
        Object::RoleBinding(o) => {
            access::binding(&o.role_ref, o.subjects.as_deref(), &["Role", "ClusterRole"], report);
        }
        Object::ClusterRoleBinding(o) => {
            access::binding(&o.role_ref, o.subjects.as_deref(), &["ClusterRole"], report);
        }
        Object::HorizontalPodAutoscaler(o) => policy::autoscaler(&o.spec, &spec, report),
        Object::PodDisruptionBudget(o) => {
            with_spec(o.spec.as_ref(), report, |o, r| policy::disruption_budget(o, &spec, r));
        }
        Object::PriorityClass(class) => policy::priority_class(class, report),
        Object::RuntimeClass(class) => policy::runtime_class(class, report),
        Object::LimitRange(o) => with_spec(o.spec.as_ref(), report, |o, r| policy::limit_range(o, &spec, r)),
        Object::ResourceQuota(o) => with_spec(o.spec.as_ref(), report, |o, r| policy::quota(o, &spec, r)),
        // Nothing but their structure can be wrong.
        Object::ServiceAccount(_) | Object::Endpoints(_) | Object::APIService(_) => {}
    }
}

/// A warning if nothing acts on objects of this kind yet.
fn warn_of_inert(kind: Kind, report: &mut Report<'_>) {
    if let Some(why) = crate::support::inert(kind) {
        let message = format!("{kind} has no effect: {why}");
        report.warn(&Path::ROOT.field("kind"), "no-effect-yet", message);
    }
}

/// Checks `spec`, which an object without one lacks.
fn with_spec<S>(spec: Option<&S>, report: &mut Report<'_>, check: impl FnOnce(&S, &mut Report<'_>)) {
    match spec {
        Some(spec) => check(spec, report),
        None => report.error(&Path::ROOT, "missing-field", "field `spec` is missing"),
    }
}

/// Small checks that many rules need.
impl Report<'_> {
    /// An error if the word is none of `allowed`; an absent word is right.
    pub(crate) fn one_of(&mut self, path: &Path<'_>, word: Option<&str>, allowed: &[&str]) {
        let Some(word) = word.filter(|w| !allowed.contains(w)) else { return };
        let listed: Vec<String> = allowed.iter().map(|a| format!("`{a}`")).collect();
        let help = crate::suggest::did_you_mean(word, allowed.iter().copied());
        let message = format!("`{word}` is none of {}", listed.join(", "));
        self.error_with(path, "bad-value", message, help);
    }

    /// An error if the number is out of bounds; an absent number is right.
    pub(crate) fn between(&mut self, path: &Path<'_>, number: Option<impl Into<i64>>, low: i64, high: i64) {
        let Some(number) = number.map(Into::into).filter(|n| !(low..=high).contains(n)) else { return };
        let message = match (low, high) {
            (0, i64::MAX) => format!("{number} must not be negative"),
            (low, i64::MAX) => format!("{number} must be at least {low}"),
            (low, high) => format!("{number} is not between {low} and {high}"),
        };
        self.error(path, "out-of-range", message);
    }

    /// An error if the number is below zero.
    pub(crate) fn not_negative(&mut self, path: &Path<'_>, number: Option<impl Into<i64>>) {
        self.between(path, number, 0, i64::MAX);
    }

    /// An error if a field that may not be empty is.
    pub(crate) fn not_empty(&mut self, path: &Path<'_>, word: &str) {
        if word.is_empty() {
            self.error(path, "missing-field", "must not be empty");
        }
    }

    /// An error at each name that was there before.
    pub(crate) fn duplicate(&mut self, path: &Path<'_>, what: &str, name: &str, first: &Path<'_>) {
        let at = self.locate(first);
        let help = Some(format!("it is first at line {}, column {} ({first})", at.line, at.column));
        self.error_with(path, "duplicate-name", format!("{what} `{name}` is here a second time"), help);
    }
}

/// How fast a pod may be.
fn bandwidth(meta: Option<&ObjectMeta>, at: &Path<'_>, report: &mut Report<'_>) {
    let Some(annotations) = meta.and_then(|meta| meta.annotations.as_ref()) else { return };
    for error in Bandwidth::of(annotations).err().unwrap_or_default() {
        report.error_with(&at.field("annotations").key(error.key), "bad-value", error.message, error.help);
    }
}
