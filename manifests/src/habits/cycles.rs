//! Workloads that wait for one another, across all files of a revision.

use super::{Order, Workload};
use crate::diagnostic::{Diagnostic, Severity};
use crate::kind::Kind;
use crate::object::{Object, ObjectKey};
use crate::path::Path;
use crate::report::{MAX_DIAGNOSTICS, Report};
use crate::suggest::did_you_mean;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::collections::{BTreeMap, BTreeSet};

/// One workload waits for another.
#[derive(Debug)]
struct Edge {
    to: ObjectKey,
    /// At the annotation that says so; without message.
    place: Diagnostic,
}

/// Who waits for whom.
#[derive(Debug, Default)]
pub(crate) struct Orders {
    edges: BTreeMap<ObjectKey, Vec<Edge>>,
}

impl Orders {
    /// Takes `object` into account, which `report` was about.
    pub(crate) fn add(&mut self, object: &Object, report: &Report<'_>) {
        let Some((at, meta)) = pods_metadata(object) else { return };
        let Some(order) = meta.annotations.as_ref().and_then(|all| Order::of(all).ok()) else { return };
        let at = Path::ROOT.field(at);
        let at = at.field("annotations");
        for (annotation, Workload { kind, name }) in order.all() {
            let place = report.diagnostic(&at.key(annotation));
            let to = ObjectKey::new(*kind, object.namespace(), name.clone());
            self.edges.entry(object.key()).or_default().push(Edge { to, place });
        }
    }

    /// An error for each circle, and a warning for each workload that `exists` does not know.
    pub(crate) fn diagnostics(&self, exists: &BTreeSet<ObjectKey>) -> Vec<Diagnostic> {
        let edges = self.edges.values().flatten();
        let unknowns = edges.filter(|edge| !exists.contains(&edge.to));
        let mut found: Vec<Diagnostic> =
            unknowns.take(MAX_DIAGNOSTICS).map(|edge| unknown(edge, exists)).collect();
        let mut open: BTreeSet<&ObjectKey> = self.edges.keys().collect();
        while found.len() < MAX_DIAGNOSTICS {
            self.leave_only_stuck(&mut open);
            let Some(circle) = self.circle(&open) else { break };
            found.push(in_circle(&circle));
            for (from, _) in circle {
                open.remove(from);
            }
        }
        found
    }

    /// Takes those out that can start, if only one after the other.
    fn leave_only_stuck<'a>(&'a self, open: &mut BTreeSet<&'a ObjectKey>) {
        let mut waiting: BTreeMap<&ObjectKey, usize> = BTreeMap::new();
        let mut waiters: BTreeMap<&ObjectKey, Vec<&ObjectKey>> = BTreeMap::new();
        for from in open.iter().copied() {
            let stuck = self.edges.get(from).into_iter().flatten().filter(|edge| open.contains(&edge.to));
            for edge in stuck {
                *waiting.entry(from).or_default() += 1;
                waiters.entry(&edge.to).or_default().push(from);
            }
        }
        let mut free: Vec<&ObjectKey> =
            open.iter().copied().filter(|key| !waiting.contains_key(key)).collect();
        while let Some(key) = free.pop() {
            open.remove(key);
            for waiter in waiters.get(key).into_iter().flatten().copied() {
                let left = waiting.entry(waiter).or_default();
                *left = left.saturating_sub(1);
                if *left == 0 {
                    free.push(waiter);
                }
            }
        }
    }

    /// A circle among `stuck`, each of which waits for another one of them.
    fn circle<'a>(&'a self, stuck: &BTreeSet<&'a ObjectKey>) -> Option<Vec<(&'a ObjectKey, &'a Edge)>> {
        let mut way: Vec<(&ObjectKey, &Edge)> = Vec::new();
        let mut place: BTreeMap<&ObjectKey, usize> = BTreeMap::new();
        let mut at = *stuck.first()?;
        loop {
            if let Some(begin) = place.insert(at, way.len()) {
                return Some(way.split_off(begin));
            }
            let edge = self.edges.get(at)?.iter().find(|edge| stuck.contains(&edge.to))?;
            way.push((at, edge));
            at = &edge.to;
        }
    }
}

fn in_circle(circle: &[(&ObjectKey, &Edge)]) -> Diagnostic {
    let word = |key: &ObjectKey| format!("{}/{}", key.kind, key.name);
    // Told where it can be found again: of all ways to begin, the least.
    let begin = (0..circle.len()).min_by_key(|place| circle[*place].0).unwrap_or(0);
    let way: Vec<String> =
        (0..circle.len()).map(|step| word(&circle[(begin + step) % circle.len()].1.to)).collect();
    let (start, first) = circle[begin];
    let message = match way.as_slice() {
        [_] => format!("{} waits for itself: it would never start", word(start)),
        way => {
            let way = way.join(", which waits for ");
            format!("{} waits for {way}: none of them would ever start", word(start))
        }
    };
    let help = Some("leave one of these annotations out".to_owned());
    Diagnostic { message, help, code: "circular-order", ..first.place.clone() }
}

fn unknown(edge: &Edge, exists: &BTreeSet<ObjectKey>) -> Diagnostic {
    let ObjectKey { kind, name, namespace, .. } = &edge.to;
    let like = |key: &&ObjectKey| key.kind == *kind && key.namespace == *namespace;
    let help = did_you_mean(name, exists.iter().filter(like).map(|key| key.name.as_str()));
    let message = format!("these files have no {kind}/{name} in the namespace {namespace}");
    let severity = Severity::Warning;
    Diagnostic { severity, message, help, code: "unknown-workload", ..edge.place.clone() }
}

/// The metadata of the pods that the object is, or makes, and where it stands.
fn pods_metadata(object: &Object) -> Option<(&'static str, &ObjectMeta)> {
    const TEMPLATE: &str = "spec.template.metadata";
    #[allow(clippy::wildcard_enum_match_arm, reason = "no other kind makes pods")]
    match object {
        Object::Pod(pod) => Some(("metadata", &pod.metadata)),
        Object::Deployment(o) => Some((TEMPLATE, o.spec.template.metadata.as_ref()?)),
        Object::StatefulSet(o) => Some((TEMPLATE, o.spec.template.metadata.as_ref()?)),
        Object::DaemonSet(o) => Some((TEMPLATE, o.spec.template.metadata.as_ref()?)),
        Object::ReplicaSet(o) => Some((TEMPLATE, o.spec.template.as_ref()?.metadata.as_ref()?)),
        Object::Job(o) => Some((TEMPLATE, o.spec.as_ref()?.template.metadata.as_ref()?)),
        Object::CronJob(o) => {
            let job = o.spec.job_template.spec.as_ref()?;
            Some(("spec.jobTemplate.spec.template.metadata", job.template.metadata.as_ref()?))
        }
        _ => None,
    }
}

/// Kinds that a pod can wait for; their order of start is that of their pods.
pub(super) const AWAITABLE: [Kind; 6] =
    [Kind::Deployment, Kind::StatefulSet, Kind::DaemonSet, Kind::ReplicaSet, Kind::Job, Kind::Pod];
