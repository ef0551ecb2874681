//! The cluster as this member sees it.

use super::Api;
use super::status::Refusal;
use axum::Json;
use axum::body::Body;
use axum::extract::State as StateExtractor;
use axum::response::{IntoResponse as _, Response};
use reconciler::store::Leadership;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio_util::io::ReaderStream;

/// Answers `GET /evenkeel/v1alpha1/cluster`.
pub(crate) async fn answer(StateExtractor(api): StateExtractor<Api>) -> Json<Value> {
    let cluster = api.store.cluster();
    let leader = match cluster.leadership() {
        Leadership::Leads => Some(cluster.node()),
        Leadership::Follows(id) => Some(id),
        Leadership::Nobody => None,
    };
    let members = cluster.members().into_iter().map(|member| {
        json!({
            "id": member.id,
            "name": member.peer.name,
            "address": member.peer.address,
            "zone": member.peer.zone,
            "voter": member.is_voter,
            "leader": leader == Some(member.id),
            "self": member.id == cluster.node(),
            "silentSeconds": member.heard.map(|ago| ago.as_secs()),
            "diskStuckSeconds": member.stuck.map(|time| time.as_secs()),
        })
    });
    let members: Vec<_> = members.collect();
    Json(json!({
        "cluster": cluster.id(),
        "writable": leader.is_some(),
        "appliedIndex": cluster.applied_index(),
        "stalenessSeconds": cluster.staleness().map(|age| age.as_secs_f64()),
        "members": members,
    }))
}

/// Answers `GET /evenkeel/v1alpha1/cluster/snapshot`: a file with all objects as they are now.
pub(crate) async fn snapshot(StateExtractor(api): StateExtractor<Api>) -> Result<Response, Refusal> {
    let failed = |error: &dyn std::error::Error| Refusal::internal(crate::chain::chain(error));
    let store = Arc::clone(&api.store);
    let folder = api.configuration.state_dir.join("saved");
    let saved = tokio::task::spawn_blocking(move || {
        let path = store.save(&folder).map_err(|error| failed(&error))?;
        let file = std::fs::File::open(&path).map_err(|error| failed(&error))?;
        // Whoever reads it has it open.
        std::fs::remove_file(&path).map_err(|error| failed(&error))?;
        Ok(file)
    });
    let file = saved.await.map_err(|error| failed(&error))??;
    let stream = ReaderStream::new(tokio::fs::File::from_std(file));
    Ok(([("content-type", "application/octet-stream")], Body::from_stream(stream)).into_response())
}
