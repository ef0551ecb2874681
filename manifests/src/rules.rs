//! What the Kubernetes API server demands of an object beyond its structure.
//!
//! Rules see typed, defaulted objects and say each finding at its field path.

mod container;
mod data;
mod environment;
mod job;
mod metadata;
mod pod;
mod probe;
mod security;
mod selector;
mod service;
mod volume;
mod workload;

use crate::object::Object;
use crate::path::Path;
use crate::report::Report;

/// Reports every rule that `object` breaks.
pub(crate) fn check(object: &Object, report: &mut Report<'_>) {
    metadata::check(object, report);
    let spec = Path::ROOT.field("spec");
    match object {
        Object::Pod(pod) => match &pod.spec {
            Some(spec_value) => pod::check(spec_value, &spec, report),
            None => report.error(&Path::ROOT, "missing-field", "field `spec` is missing"),
        },
        Object::Deployment(deployment) => workload::deployment(&deployment.spec, &spec, report),
        Object::ReplicaSet(set) => workload::replica_set(&set.spec, &spec, report),
        Object::DaemonSet(set) => workload::daemon_set(&set.spec, &spec, report),
        Object::Job(job) => match &job.spec {
            Some(job) => job::job(job, &spec, report),
            None => report.error(&Path::ROOT, "missing-field", "field `spec` is missing"),
        },
        Object::CronJob(cron) => job::cron_job(&cron.spec, &spec, report),
        Object::ConfigMap(map) => data::config_map(map, report),
        Object::Secret(secret) => data::secret(secret, report),
        Object::Service(service) => match &service.spec {
            Some(service) => service::check(service, &spec, report),
            None => report.error(&Path::ROOT, "missing-field", "field `spec` is missing"),
        },
        Object::Namespace(_) | Object::Node(_) | Object::Revision(_) | Object::Event(_) => {}
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
