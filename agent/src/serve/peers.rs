//! The node's part in its cluster: tokens, certificates, removals.

use super::Api;
use super::objects::Query;
use super::status::Refusal;
use crate::chain::chain;
use crate::peers::{Denial, JoinToken, Peers, TokenRefusal};
use axum::Json;
use axum::extract::{Path, Query as QueryExtractor, State as StateExtractor};
use jiff::{SignedDuration, Timestamp};
use manifests::{Kind, ObjectKey};
use reconciler::store::{Write, WriteError};
use serde_json::{Value, json};

fn peers(api: &Api) -> Result<&Peers, Refusal> {
    let none = "this node has no peers: there is no `cluster` in its configuration";
    api.peers.as_deref().ok_or_else(|| Refusal::bad_request(none))
}

fn refused(denial: &Denial) -> Refusal {
    let words = chain(denial);
    match denial {
        Denial::Unknown { .. } | Denial::Token(TokenRefusal::Unknown { .. }) => Refusal::not_found(words),
        Denial::Myself { .. } | Denial::NoAuthority | Denial::Taken { .. } => Refusal::conflict(words),
        Denial::Token(_)
        | Denial::TooManyGuesses
        | Denial::BadName { .. }
        | Denial::Removed { .. }
        | Denial::OtherKey => Refusal::bad_request(words),
        Denial::Authority(_) | Denial::Records(_) | Denial::Contended | Denial::Random(_) => {
            Refusal::internal(words)
        }
    }
}

fn token_json(token: &JoinToken) -> Value {
    json!({
        "id": token.id,
        "createdAt": token.created_at,
        "expiresAt": token.expires_at,
        "usesLeft": token.uses_left,
        "deletedAt": token.deleted_at,
    })
}

/// Answers `GET /evenkeel/v1alpha1/tokens`.
pub(crate) async fn tokens(StateExtractor(api): StateExtractor<Api>) -> Result<Json<Value>, Refusal> {
    let tokens = peers(&api)?.office().tokens(Timestamp::now()).await.map_err(|denial| refused(&denial))?;
    Ok(Json(tokens.iter().map(token_json).collect()))
}

/// Answers `POST /evenkeel/v1alpha1/tokens?ttlSeconds=…&uses=…`; without them, a token is good
/// for ever and for any number of nodes.
pub(crate) async fn create_token(
    StateExtractor(api): StateExtractor<Api>,
    QueryExtractor(query): QueryExtractor<Query>,
) -> Result<Json<Value>, Refusal> {
    let peers = peers(&api)?;
    let number = |name: &str| {
        let parsed = query.get(name).map(|text| text.parse::<u32>());
        parsed.transpose().map_err(|_| Refusal::bad_request(format!("{name} is no number")))
    };
    let ttl = number("ttlSeconds")?.map(|seconds| SignedDuration::from_secs(i64::from(seconds)));
    let created = peers.office().create_token(ttl, number("uses")?, Timestamp::now()).await;
    let (token, invitation) = created.map_err(|denial| refused(&denial))?;
    let mut answer = token_json(&token);
    answer["token"] = invitation.to_string().into();
    answer["server"] = peers.me().address.clone().into();
    Ok(Json(answer))
}

/// Answers `DELETE /evenkeel/v1alpha1/tokens/{id}`.
pub(crate) async fn delete_token(
    StateExtractor(api): StateExtractor<Api>,
    Path(id): Path<String>,
) -> Result<Json<Value>, Refusal> {
    let deleted = peers(&api)?.office().delete_token(&id, Timestamp::now()).await;
    deleted.map_err(|denial| refused(&denial))?;
    Ok(Json(json!({"deleted": id})))
}

/// Answers `GET /evenkeel/v1alpha1/certificate`.
pub(crate) async fn certificate(StateExtractor(api): StateExtractor<Api>) -> Result<Json<Value>, Refusal> {
    let peers = peers(&api)?;
    let passport = peers.passport();
    Ok(Json(json!({
        "node": passport.name,
        "address": peers.me().address,
        "cluster": passport.cluster,
        "key": passport.key,
        "authorities": peers.authorities(),
        "signs": peers.office().authority().is_some(),
        "validFrom": passport.from,
        "expiresAt": passport.until,
        "renewedBy": peers.renew_at(),
    })))
}

/// Answers `DELETE /evenkeel/v1alpha1/members/{name}`.
pub(crate) async fn remove(
    StateExtractor(api): StateExtractor<Api>,
    Path(name): Path<String>,
) -> Result<Json<Value>, Refusal> {
    let office = peers(&api)?.office();
    office.may_remove(&name).await.map_err(|denial| refused(&denial))?;
    let cluster = api.store.cluster();
    // While its word still counts: if its vote is needed for a majority, it is needed for this, too.
    if let Some(member) = cluster.members().into_iter().find(|member| member.peer.name == name) {
        cluster.remove(member.id).await.map_err(|error| Refusal::internal(chain(&error)))?;
    }
    office.remove(&name, Timestamp::now()).await.map_err(|denial| refused(&denial))?;
    let key = ObjectKey::new(Kind::Node, "", name.clone());
    match api.store.write(vec![Write::Remove { key, uid: None }]).await {
        Ok(_) | Err(WriteError::NotFound(_)) => {}
        Err(error) => return Err(Refusal::internal(chain(&error))),
    }
    Ok(Json(json!({"removed": name})))
}
