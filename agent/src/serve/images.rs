//! The image store: what it has, pulls, removals.

use super::Api;
use super::objects::Query;
use super::status::Refusal;
use crate::chain::chain;
use crate::node::image_gc::in_use;
use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Query as QueryExtractor, State as StateExtractor};
use axum::response::{IntoResponse as _, Response};
use futures::StreamExt as _;
use runtime::image::registry::{Credentials, Provenance};
use runtime::image::{Image, ImageError, PullPolicy, Removed};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How often a pull tells how far it is.
const TELL: Duration = Duration::from_millis(100);

/// Answers `GET /evenkeel/v1alpha1/images`.
pub(crate) async fn list(StateExtractor(api): StateExtractor<Api>) -> Result<Json<Value>, Refusal> {
    let used = in_use(&api.node);
    let store = Arc::clone(api.node.images.store());
    let images = blocking(move || store.list()).await?;
    let images = images.into_iter().map(|image| {
        json!({
            "id": image.id,
            "references": image.references,
            "digests": image.digests,
            "sizeBytes": image.size_bytes,
            "usedAt": image.used_at.to_string(),
            "inUse": used.contains(&image.id),
        })
    });
    Ok(Json(images.collect()))
}

/// Answers `POST /evenkeel/v1alpha1/images/pull?reference=…` with lines of JSON: `done` and
/// `total` in bytes while it goes on, then `id`, `digest` and `from`, or `error`.
pub(crate) async fn pull(
    StateExtractor(api): StateExtractor<Api>,
    QueryExtractor(query): QueryExtractor<Query>,
) -> Result<Response, Refusal> {
    let reference = needed(&query, "reference")?;
    let node = Arc::clone(&api.node);
    let asked = reference.clone();
    // A task: whoever asked may go away, the pull goes on.
    let pulling =
        tokio::spawn(
            async move { node.images.pull(&asked, PullPolicy::Always, &Credentials::default()).await },
        );
    let lines = futures::stream::unfold(Some(pulling), move |pulling| {
        let (api, reference) = (api.clone(), reference.clone());
        async move {
            let mut pulling = pulling?;
            let ended = tokio::time::timeout(TELL, &mut pulling).await;
            let (line, next) = match ended {
                Ok(result) => (last_line(result.map_err(|error| error.to_string())), None),
                Err(_) => {
                    let progress = api.node.images.progress(&reference);
                    let (done, total) = progress.map_or((0, 0), |it| (it.done(), it.total()));
                    (json!({"done": done, "total": total}), Some(pulling))
                }
            };
            Some((Ok::<_, std::convert::Infallible>(Bytes::from(format!("{line}\n"))), next))
        }
    });
    Ok(Body::from_stream(lines.boxed()).into_response())
}

fn last_line(result: Result<Result<(Image, Option<Provenance>), ImageError>, String>) -> Value {
    match result {
        Ok(Ok((image, provenance))) => {
            let from = provenance.unwrap_or_default().to_string();
            json!({"id": image.id, "digest": image.digest, "from": from})
        }
        Ok(Err(error)) => json!({"error": chain(&error)}),
        Err(error) => json!({"error": error}),
    }
}

/// Answers `POST /evenkeel/v1alpha1/images/import?path=…&name=…[&tag=…]`.
pub(crate) async fn import(
    StateExtractor(api): StateExtractor<Api>,
    QueryExtractor(query): QueryExtractor<Query>,
) -> Result<Json<Value>, Refusal> {
    let (path, name) = (PathBuf::from(needed(&query, "path")?), needed(&query, "name")?);
    let tag = query.get("tag").cloned();
    let store = Arc::clone(api.node.images.store());
    let image = blocking(move || store.load(&path, tag.as_deref(), &name)).await?;
    Ok(Json(json!({"id": image.id, "digest": image.digest})))
}

/// Answers `DELETE /evenkeel/v1alpha1/images?reference=…`.
pub(crate) async fn remove(
    StateExtractor(api): StateExtractor<Api>,
    QueryExtractor(query): QueryExtractor<Query>,
) -> Result<Json<Value>, Refusal> {
    let reference = needed(&query, "reference")?;
    let used = in_use(&api.node);
    let store = Arc::clone(api.node.images.store());
    blocking(move || store.remove(&reference, &used)).await.map(removed)
}

/// Answers `POST /evenkeel/v1alpha1/images/prune`.
pub(crate) async fn prune(StateExtractor(api): StateExtractor<Api>) -> Result<Json<Value>, Refusal> {
    let used = in_use(&api.node);
    let age = api.configuration.images.minimum_age();
    let store = Arc::clone(api.node.images.store());
    blocking(move || store.prune(&used, age, || false)).await.map(removed)
}

fn removed(removed: Removed) -> Json<Value> {
    Json(json!({"references": removed.references, "layers": removed.layers}))
}

fn needed(query: &Query, name: &str) -> Result<String, Refusal> {
    let given = query.get(name).filter(|value| !value.is_empty());
    given.cloned().ok_or_else(|| Refusal::bad_request(format!("the parameter `{name}` is missing")))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ImageError> + Send + 'static,
) -> Result<T, Refusal> {
    let result = tokio::task::spawn_blocking(work).await;
    let result = result.map_err(|error| Refusal::internal(error.to_string()))?;
    #[allow(clippy::wildcard_enum_match_arm, reason = "the others are about what was asked for")]
    result.map_err(|error| match &error {
        ImageError::Unknown { .. } => Refusal::not_found(chain(&error)),
        ImageError::InUse { .. } => Refusal::conflict(chain(&error)),
        _ => Refusal::bad_request(chain(&error)),
    })
}
