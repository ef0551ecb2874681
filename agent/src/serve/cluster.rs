//! The cluster as this member sees it.

use super::Api;
use axum::Json;
use axum::extract::State as StateExtractor;
use reconciler::store::Leadership;
use serde_json::{Value, json};

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
        })
    });
    let members: Vec<_> = members.collect();
    Json(json!({
        "cluster": cluster.id(),
        "writable": leader.is_some(),
        "appliedIndex": cluster.applied_index(),
        "members": members,
    }))
}
