//! Objects as a person reads them: kubectl's columns, in kubectl's words.
//!
//! Pure: objects and the time in, text out. No clock, no terminal, no agent.

mod age;
mod cluster;
mod config;
mod event;
mod job;
pub(crate) mod net;
mod network;
mod paint;
mod pod;
mod revision;
pub(crate) mod status;
mod table;
mod units;
mod workload;

pub(crate) use age::{ago, human_duration, seconds_between, since};
pub(crate) use event::{about as event_about, last_seen, seen_columns, seen_row};
pub(crate) use paint::{Colour, Paint};
pub(crate) use pod::summary as pod_summary;
pub(crate) use revision::{author_name, short_commit};
pub(crate) use table::{Table, Widths};
pub(crate) use units::{bytes, cpu_time};

use jiff::Timestamp;
use manifests::{Kind, Object};
use std::collections::BTreeMap;

/// What a table shows beside the usual columns.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Columns {
    /// Kubectl's `-o wide`.
    pub(crate) wide: bool,
    /// A first column NAMESPACE.
    pub(crate) namespace: bool,
    /// A last column LABELS.
    pub(crate) labels: bool,
    /// `pod/web` for `web`.
    pub(crate) prefix: bool,
}

/// The heads of the table of `kind`.
pub(crate) fn heads(kind: Kind, columns: Columns) -> Vec<&'static str> {
    #[allow(clippy::wildcard_enum_match_arm, reason = "the kinds that nothing acts on are printed alike")]
    let (usual, wide): (&[&str], &[&str]) = match kind {
        Kind::Namespace => cluster::NAMESPACE_HEADS,
        Kind::Node => cluster::NODE_HEADS,
        Kind::Revision => revision::HEADS,
        Kind::ConfigMap => config::CONFIG_MAP_HEADS,
        Kind::Secret => config::SECRET_HEADS,
        Kind::Service => network::SERVICE_HEADS,
        Kind::Ingress => network::INGRESS_HEADS,
        Kind::IngressClass => network::INGRESS_CLASS_HEADS,
        Kind::NetworkPolicy => network::POLICY_HEADS,
        Kind::DaemonSet => workload::DAEMON_SET_HEADS,
        Kind::Deployment => workload::DEPLOYMENT_HEADS,
        Kind::ReplicaSet => workload::REPLICA_SET_HEADS,
        Kind::CronJob => job::CRON_JOB_HEADS,
        Kind::Job => job::JOB_HEADS,
        Kind::Pod => pod::HEADS,
        Kind::Event if columns.wide => (event::WIDE_HEADS, &[]),
        Kind::Event => (event::HEADS, &[]),
        _ => (&["NAME", "AGE"], &[]),
    };
    let mut heads = Vec::new();
    if columns.namespace && kind.is_namespaced() {
        heads.push("NAMESPACE");
    }
    heads.extend(usual);
    if columns.wide {
        heads.extend(wide);
    }
    if columns.labels {
        heads.push("LABELS");
    }
    heads
}

/// The row of `object` under [`heads`] of its kind.
pub(crate) fn row(object: &Object, columns: Columns, now: Timestamp) -> Vec<String> {
    #[allow(clippy::wildcard_enum_match_arm, reason = "the kinds that nothing acts on are printed alike")]
    let mut cells = match object {
        Object::Namespace(o) => cluster::namespace_row(o, now),
        Object::Node(o) => cluster::node_row(o, columns.wide, now),
        Object::Revision(o) => revision::row(o, columns.wide, now),
        Object::ConfigMap(o) => config::config_map_row(o, now),
        Object::Secret(o) => config::secret_row(o, now),
        Object::Service(o) => network::service_row(o, columns.wide, now),
        Object::Ingress(o) => network::ingress_row(o, columns.wide, now),
        Object::IngressClass(o) => network::ingress_class_row(o, now),
        Object::NetworkPolicy(o) => network::policy_row(o, now),
        Object::DaemonSet(o) => workload::daemon_set_row(o, columns.wide, now),
        Object::Deployment(o) => workload::deployment_row(o, columns.wide, now),
        Object::ReplicaSet(o) => workload::replica_set_row(o, columns.wide, now),
        Object::CronJob(o) => job::cron_job_row(o, columns.wide, now),
        Object::Job(o) => job::job_row(o, columns.wide, now),
        Object::Pod(o) => pod::row(o, columns.wide, now),
        Object::Event(o) if columns.wide => event::wide_row(o, now),
        Object::Event(o) => event::row(o, now),
        _ => vec![object.name().to_owned(), since(object.metadata().creation_timestamp.as_ref(), now)],
    };
    if columns.prefix
        && object.kind() != Kind::Event
        && let Some(name) = cells.first_mut()
    {
        *name = qualified_name(object.kind(), name);
    }
    if columns.namespace && object.kind().is_namespaced() {
        cells.insert(0, object.namespace().to_owned());
    }
    if columns.labels {
        cells.push(labels(object.metadata().labels.as_ref()));
    }
    cells
}

/// `pod/web`, `deployment.apps/web`: the name that every command takes.
pub(crate) fn qualified_name(kind: Kind, name: &str) -> String {
    let singular = kind.as_str().to_ascii_lowercase();
    match kind.api_version().split_once('/') {
        Some((group, _)) => format!("{singular}.{group}/{name}"),
        None => format!("{singular}/{name}"),
    }
}

/// `a=b,c=d`, or `<none>`.
pub(crate) fn labels(labels: Option<&BTreeMap<String, String>>) -> String {
    let pairs: Vec<_> = labels.into_iter().flatten().map(|(key, value)| format!("{key}={value}")).collect();
    or_none(pairs.join(","))
}

fn or_none(text: String) -> String {
    if text.is_empty() { "<none>".into() } else { text }
}

#[cfg(test)]
mod tests;
