//! A container's output, from its log files.

use super::Api;
use super::objects::Query;
use super::path::Target;
use super::status::Refusal;
use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use manifests::{Kind, ObjectKey};
use runtime::logs::{LogOptions, Logs};
use std::str::FromStr;

/// Answers `GET …/pods/{name}/log`, with the query of Kubernetes' API.
pub(crate) async fn answer(api: &Api, target: &Target, query: &Query) -> Result<Response, Refusal> {
    let (namespace, name) =
        (target.namespace.as_deref().unwrap_or_default(), target.name.as_deref().unwrap_or_default());
    let object = api
        .store
        .get(&ObjectKey::new(Kind::Pod, namespace, name))
        .ok_or_else(|| Refusal::not_found(format!("pods \"{name}\" not found")))?;
    let pod: &Pod = (&*object).try_into().map_err(|_| Refusal::internal("not a pod"))?;
    let container = container(pod, name, query)?;
    let folder = format!("{namespace}_{name}_{}", object.uid());
    let path = api.configuration.log_dir.join(folder).join(&container);
    let options = options(query)?;
    let stream = Logs::new(path).read(options).map_err(|error| {
        let which = if query.contains_key("previous") { "previous run" } else { "run yet" };
        if error.kind() == std::io::ErrorKind::NotFound {
            return Refusal::bad_request(format!(
                "container \"{container}\" in pod \"{name}\" has no {which} to show a log of"
            ));
        }
        Refusal::internal(format!("cannot read the log of container \"{container}\": {error}"))
    })?;
    Ok(([("content-type", "text/plain; charset=utf-8")], Body::from_stream(stream)).into_response())
}

/// The container that is meant: the one named, or the only one.
fn container(pod: &Pod, name: &str, query: &Query) -> Result<String, Refusal> {
    let spec = pod.spec.as_ref().ok_or_else(|| Refusal::internal("a pod without spec"))?;
    let all = || {
        let own = spec.init_containers.iter().flatten().chain(&spec.containers).map(|c| c.name.as_str());
        own.chain(spec.ephemeral_containers.iter().flatten().map(|c| c.name.as_str()))
    };
    if let Some(wanted) = query.get("container") {
        return match all().find(|known| known == wanted) {
            Some(known) => Ok(known.to_owned()),
            None => Err(Refusal::bad_request(format!(
                "container {wanted} is not valid for pod {name}; it has: {}",
                all().collect::<Vec<_>>().join(", ")
            ))),
        };
    }
    match spec.containers.as_slice() {
        [only] => Ok(only.name.clone()),
        several => Err(Refusal::bad_request(format!(
            "a container name must be specified for pod {name}, choose one of: [{}]",
            several.iter().map(|c| c.name.as_str()).collect::<Vec<_>>().join(" ")
        ))),
    }
}

fn options(query: &Query) -> Result<LogOptions, Refusal> {
    let flag = |name: &str| query.get(name).is_some_and(|value| value == "true" || value == "1");
    let since = match (number::<i64>(query, "sinceSeconds")?, number::<Timestamp>(query, "sinceTime")?) {
        (Some(seconds), _) => Some(Timestamp::now() - SignedDuration::from_secs(seconds)),
        (None, time) => time,
    };
    Ok(LogOptions {
        follow: flag("follow"),
        previous: flag("previous"),
        timestamps: flag("timestamps"),
        since,
        tail: number(query, "tailLines")?,
        limit_bytes: number(query, "limitBytes")?,
    })
}

fn number<T: FromStr>(query: &Query, name: &str) -> Result<Option<T>, Refusal> {
    let bad = |text: &String| Refusal::bad_request(format!("{name}={text} is not understood"));
    query.get(name).map(|text| text.parse().map_err(|_| bad(text))).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(pairs: &[(&str, &str)]) -> Query {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn the_query_is_kubernetes_own() {
        let options =
            options(&query(&[("follow", "true"), ("tailLines", "5"), ("sinceTime", "2026-01-02T03:04:05Z")]))
                .expect("understood");
        assert!(options.follow && !options.previous);
        assert_eq!(options.tail, Some(5));
        assert_eq!(options.since, "2026-01-02T03:04:05Z".parse().ok());
    }

    #[test]
    fn a_number_that_is_none_is_named() {
        let refused = options(&query(&[("tailLines", "many")])).expect_err("no number");
        assert!(refused.to_json().to_string().contains("tailLines=many"), "{refused:?}");
    }

    #[test]
    fn one_of_several_containers_must_be_named() {
        let pod: Pod = serde_json::from_value(serde_json::json!({"metadata": {}, "spec": {"containers": [
            {"name": "a"}, {"name": "b"}]}}))
        .expect("a pod");
        let refused = container(&pod, "web", &query(&[])).expect_err("which?");
        assert!(
            refused.to_json()["message"].as_str().is_some_and(|text| text.contains("[a b]")),
            "{refused:?}"
        );
        assert_eq!(container(&pod, "web", &query(&[("container", "b")])), Ok("b".into()));
    }
}
