//! get, list, watch, replace and delete of stored objects.

use super::Api;
use super::path::Target;
use super::query::Filter;
use super::status::Refusal;
use axum::Json;
use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use manifests::parse::{SourceFile, parse};
use manifests::{Kind, Object, ObjectKey};
use reconciler::store::{Change, Event, Store, Watch, Write, WriteError};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A path's query, decoded.
pub(crate) type Query = BTreeMap<String, String>;

fn key(target: &Target, name: &str) -> ObjectKey {
    ObjectKey::new(target.kind, target.namespace.clone().unwrap_or_default(), name)
}

fn not_found(target: &Target, name: &str) -> Refusal {
    Refusal::not_found(format!("{} \"{name}\" not found", target.kind.plural()))
}

fn json_of(object: &Object) -> Result<Value, Refusal> {
    object.to_json().map_err(|error| Refusal::internal(format!("{}: {error}", object.key())))
}

/// The object as an answer.
fn text_of(object: &Object) -> Result<Response, Refusal> {
    let text = object.to_json_bytes();
    let text = text.map_err(|error| Refusal::internal(format!("{}: {error}", object.key())))?;
    Ok(([("content-type", "application/json")], text).into_response())
}

/// Answers GET.
pub(crate) fn read(api: &Api, target: &Target, query: &Query) -> Result<Response, Refusal> {
    if let Some(name) = &target.name {
        let object = api.store.get(&key(target, name)).ok_or_else(|| not_found(target, name))?;
        return text_of(&object);
    }
    let filter = Filter::new(query).map_err(|error| Refusal::bad_request(error.to_string()))?;
    if query.get("watch").is_some_and(|value| value == "1" || value == "true") {
        return watch(&api.store, target, filter, query);
    }
    let (objects, revision) = api.store.list(target.kind, target.namespace.as_deref());
    let items = objects
        .iter()
        .filter(|object| filter.matches(object))
        .map(|o| json_of(o))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(Json(json!({
        "apiVersion": target.kind.api_version(),
        "kind": format!("{}List", target.kind.as_str()),
        "metadata": {"resourceVersion": revision.to_string()},
        "items": items,
    }))
    .into_response())
}

fn watch(store: &Arc<Store>, target: &Target, filter: Filter, query: &Query) -> Result<Response, Refusal> {
    let asked = query.get("resourceVersion").map(String::as_str).unwrap_or_default();
    let from = match asked {
        "" | "0" => store.list(target.kind, target.namespace.as_deref()).1,
        text => text
            .parse()
            .map_err(|_| Refusal::bad_request(format!("resourceVersion `{text}` is no number")))?,
    };
    // Without a version, what is there comes first, as additions.
    let first: Vec<Arc<Object>> = if matches!(asked, "" | "0") {
        store.list(target.kind, target.namespace.as_deref()).0
    } else {
        Vec::new()
    };
    let watch = store
        .watch(Some(target.kind), from)
        .map_err(|_| Refusal::gone(format!("resourceVersion {from} is too old; list again")))?;
    let namespace = target.namespace.clone();
    let wanted = move |object: &Object| {
        namespace.as_deref().is_none_or(|ns| object.namespace() == ns) && filter.matches(object)
    };
    let seen: Vec<String> = first.iter().filter(|o| wanted(o)).filter_map(|o| line("ADDED", o)).collect();
    let stream = futures::stream::unfold((seen.into_iter(), Some(watch), wanted), next_line);
    Ok(([("content-type", "application/json")], Body::from_stream(stream)).into_response())
}

/// Without a watch, all was said.
type WatchState<F> = (std::vec::IntoIter<String>, Option<Watch>, F);

async fn next_line<F: Fn(&Object) -> bool>(
    (mut seen, watch, wanted): WatchState<F>,
) -> Option<(Result<String, std::convert::Infallible>, WatchState<F>)> {
    if let Some(line) = seen.next() {
        return Some((Ok(line), (seen, watch, wanted)));
    }
    let mut watch = watch?;
    loop {
        let Event { change, object, .. } = match watch.next().await {
            Ok(event) => event,
            // The agent ends.
            Err(expired) if expired.oldest == u64::MAX => return None,
            // The client was too slow, or this node took over a whole state from its peers: it lists again.
            Err(expired) => {
                let status = Refusal::gone(format!("{expired}; list again")).to_json();
                let line = format!("{}\n", json!({"type": "ERROR", "object": status}));
                return Some((Ok(line), (seen, None, wanted)));
            }
        };
        if !wanted(&object) {
            continue;
        }
        let word = match change {
            Change::Added => "ADDED",
            Change::Modified => "MODIFIED",
            Change::Deleted => "DELETED",
        };
        return Some((Ok(line(word, &object)?), (seen, Some(watch), wanted)));
    }
}

fn line(word: &str, object: &Object) -> Option<String> {
    let json = json!({"type": word, "object": object.to_json().ok()?});
    Some(format!("{json}\n"))
}

/// Answers PUT of one object: replaces all but its status.
pub(crate) async fn replace(api: &Api, target: &Target, body: &[u8]) -> Result<Response, Refusal> {
    let name =
        target.name.as_deref().ok_or_else(|| Refusal::method_not_allowed("PUT needs one object's path"))?;
    let object = Object::from_json_bytes(target.kind, body).map_err(|error| {
        if error.is_data() {
            return Refusal::invalid(error.to_string());
        }
        Refusal::bad_request(format!("body: {error}"))
    })?;
    if object.key() != key(target, name) {
        return Err(Refusal::bad_request(format!(
            "the body is {}, the path {}",
            object.key(),
            key(target, name)
        )));
    }
    written(&api.store, Write::Update(object)).await
}

/// Answers POST of a collection: the object is there, with every default. What is made so is
/// nobody's but its maker's.
pub(crate) async fn create(api: &Api, target: &Target, body: &[u8]) -> Result<Response, Refusal> {
    if target.name.is_some() {
        return Err(Refusal::method_not_allowed("POST needs the path of a collection"));
    }
    let mut value: Value =
        serde_json::from_slice(body).map_err(|e| Refusal::bad_request(format!("body: {e}")))?;
    value["apiVersion"] = target.kind.api_version().into();
    value["kind"] = target.kind.as_str().into();
    if let Some(namespace) = &target.namespace {
        value["metadata"]["namespace"] = namespace.as_str().into();
    }
    let object = check(&value)?;
    written(&api.store, Write::Create(object)).await
}

/// The object, with every default, if it is by the rules of manifests.
pub(crate) fn check(value: &Value) -> Result<Object, Refusal> {
    let file = SourceFile { path: "body".to_owned(), content: value.to_string().into_bytes() };
    let mut parsed = parse(vec![file]);
    let errors = parsed.diagnostics.iter().filter(|diagnostic| diagnostic.is_error());
    let errors: Vec<_> = errors.map(|error| format!("{}: {}", error.field, error.message)).collect();
    match parsed.objects.pop() {
        Some(parsed) if errors.is_empty() => Ok(parsed.object),
        Some(_) | None => Err(Refusal::invalid(errors.join("; "))),
    }
}

/// Answers DELETE of one object.
pub(crate) async fn delete(api: &Api, target: &Target, query: &Query) -> Result<Response, Refusal> {
    let name = target
        .name
        .as_deref()
        .ok_or_else(|| Refusal::method_not_allowed("DELETE needs one object's path"))?;
    let grace_seconds = match query.get("gracePeriodSeconds") {
        None => None,
        Some(text) => Some(text.parse::<i64>().ok().filter(|seconds| *seconds >= 0).ok_or_else(|| {
            Refusal::bad_request(format!("gracePeriodSeconds `{text}`: want seconds, 0 or more"))
        })?),
    };
    let key = key(target, name);
    let object = api.store.get(&key).ok_or_else(|| not_found(target, name))?;
    if key.kind == Kind::Revision || key.kind == Kind::Node {
        return Err(Refusal::method_not_allowed(format!(
            "{key} belongs to the agent; change its configuration instead"
        )));
    }
    written(&api.store, Write::Delete { key, uid: None, grace_seconds }).await?;
    text_of(&object)
}

pub(crate) async fn written(store: &Store, write: Write) -> Result<Response, Refusal> {
    match store.write(vec![write]).await {
        Ok(objects) => match objects.first() {
            Some(object) => text_of(object),
            None => {
                Ok(Json(json!({"kind": "Status", "apiVersion": "v1", "status": "Success"})).into_response())
            }
        },
        Err(error @ (WriteError::Conflict { .. } | WriteError::AlreadyExists(_))) => {
            Err(Refusal::conflict(error.to_string()))
        }
        Err(error @ WriteError::NotFound(_)) => Err(Refusal::not_found(error.to_string())),
        Err(error) => Err(Refusal::internal(error.to_string())),
    }
}
