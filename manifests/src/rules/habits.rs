//! Annotations by which pods take over systemd's habits.

use crate::habits::{Habits, Mistake, OF_CONTAINERS, OF_PODS, Order, split};
use crate::path::Path;
use crate::report::Report;
use crate::suggest::did_you_mean;
use k8s_openapi::api::core::v1::PodSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::collections::{BTreeMap, BTreeSet};

/// What controllers and sources write themselves.
const OTHERS: [&str; 6] = ["source", "commit", "author", "origin", "prune", "failed-predecessors"];

/// Checks what `meta`, of a pod or of a template, at `at`, says about the containers of `spec`.
pub(super) fn check(meta: Option<&ObjectMeta>, spec: &PodSpec, at: &Path<'_>, report: &mut Report<'_>) {
    let Some(annotations) = meta.and_then(|meta| meta.annotations.as_ref()) else { return };
    let at = at.field("annotations");
    names(annotations, spec, &at, report);
    let mut mistakes: BTreeSet<(String, String, Option<String>)> = BTreeSet::new();
    let mut note = |found: Vec<Mistake>| {
        mistakes.extend(found.into_iter().map(|one| (one.key, one.message, one.help)));
    };
    for (container, is_init) in containers(spec) {
        note(Habits::of(annotations, container, is_init).err().unwrap_or_default());
    }
    note(Order::of(annotations).err().unwrap_or_default());
    for (key, message, help) in mistakes {
        report.error_with(&at.key(&key), "bad-value", message, help);
    }
}

/// With whether it is an init container that ends.
fn containers(spec: &PodSpec) -> impl Iterator<Item = (&str, bool)> {
    let init = spec.init_containers.iter().flatten();
    let init = init.map(|one| (one.name.as_str(), one.restart_policy.as_deref() != Some("Always")));
    init.chain(spec.containers.iter().map(|one| (one.name.as_str(), false)))
}

/// A word that nobody knows would have no effect, and nobody would notice.
fn names(annotations: &BTreeMap<String, String>, spec: &PodSpec, at: &Path<'_>, report: &mut Report<'_>) {
    for key in annotations.keys() {
        let Some((container, name)) = split(key) else { continue };
        let at = at.key(key);
        if let Some(container) = container
            && !containers(spec).any(|(known, _)| known == container)
        {
            let help = did_you_mean(container, containers(spec).map(|(known, _)| known));
            let message = format!("the pod has no container `{container}`");
            report.error_with(&at, "unknown-annotation", message, help);
        } else if !OF_CONTAINERS.contains(&name)
            && !(container.is_none() && (OF_PODS.contains(&name) || OTHERS.contains(&name)))
        {
            let help = did_you_mean(name, OF_CONTAINERS.into_iter().chain(OF_PODS));
            let help = help.or_else(|| Some("docs/usage/supervision.md lists them".to_owned()));
            let message = format!("Evenkeel knows no annotation `{key}` of a pod");
            report.error_with(&at, "unknown-annotation", message, help);
        }
    }
}
