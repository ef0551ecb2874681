//! The node at a glance: what `keel status` without an argument shows.

use super::Api;
use crate::stall;
use axum::Json;
use axum::extract::State as StateExtractor;
use manifests::config::GitSource;
use manifests::revision::Revision;
use manifests::{Kind, Object, ObjectKey};
use runtime::state::{ContainerState, Stage};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Answers `GET /evenkeel/v1alpha1/status`.
pub(crate) async fn answer(StateExtractor(api): StateExtractor<Api>) -> Json<Value> {
    let observed = api.node.runtime.observe();
    let alive = |stage: Stage| matches!(stage, Stage::Created | Stage::Started | Stage::Stopping);
    let containers = observed.values().flat_map(|pod| &pod.containers);
    let running = containers.filter(|c| matches!(c.state, ContainerState::Running { .. })).count();
    let usage = crate::usage::of_self();
    let mut warnings = api.warnings.to_vec();
    let pressures = api.node.pressures();
    warnings.extend(
        pressures.into_iter().map(|kind| format!("the node is under {kind}; see `keel get nodes -o yaml`")),
    );
    let stalls: BTreeMap<&str, stall::MachineStall> =
        stall::RESOURCES.into_iter().filter_map(|name| Some((name, stall::of_machine(name)?))).collect();
    let sources: Vec<Value> =
        api.configuration.sources.iter().map(|source| source_status(&api, source)).collect();
    Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "nodeName": api.configuration.node_name,
        "pid": std::process::id(),
        "startedAt": api.started_at.to_string(),
        "stateDir": api.configuration.state_dir,
        "socket": super::socket_path(&api.configuration),
        "pods": {
            "running": observed.values().filter(|pod| alive(pod.stage)).count(),
            "total": api.store.list(Kind::Pod, None).0.len(),
        },
        "containers": {"running": running},
        "memoryBytes": usage.map(|u| whole(u.resident_bytes)),
        "cpuNanos": usage.map(|u| whole(u.cpu_seconds * 1e9)),
        "sources": sources,
        "stalls": stalls,
        "warnings": warnings,
        "pulls": api.node.images.pulls().iter().map(|(reference, progress)| {
            json!({"reference": reference, "done": progress.done(), "total": progress.total()})
        }).collect::<Vec<_>>(),
    }))
}

/// JSON's readers want whole numbers where bytes and nanoseconds are told.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "never negative, and far below 2^53"
)]
fn whole(number: f64) -> u64 {
    number as u64
}

fn source_status(api: &Api, source: &GitSource) -> Value {
    let object = api.store.get(&ObjectKey::new(Kind::Revision, "", source.name.clone()));
    let stored: Option<&Revision> = object.as_deref().and_then(|object: &Object| object.try_into().ok());
    let spec = stored.map(|revision| revision.spec.clone()).unwrap_or_default();
    let status = stored.map(|revision| revision.status.clone()).unwrap_or_default();
    json!({
        "name": source.name,
        "url": spec.url,
        "reference": spec.reference,
        "commit": spec.commit,
        "author": spec.author,
        "committedAt": spec.committed_at,
        "subject": spec.subject,
        "objects": spec.objects.len(),
        "result": status.result,
        "since": status.since,
        "attemptedCommit": status.attempted_commit,
        "message": status.message,
        "lastAttemptAt": api.sources.sync.last_attempt(&source.name).map(|at| at.to_string()),
    })
}
