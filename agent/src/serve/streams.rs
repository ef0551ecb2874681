//! `exec`, `attach` and `portforward` of a pod, with the queries of Kubernetes' API.

use super::Api;
use super::status::Refusal;
use crate::streaming::{self, Target, Wanted, What};
use axum::extract::{Path, Query, Request, State};
use axum::response::Response;
use k8s_openapi::api::core::v1::Pod;
use manifests::{Kind, ObjectKey};
use runtime::pods::ExecSpec;
use std::path::PathBuf;

/// Names may come more than once.
type Words = Vec<(String, String)>;

fn first<'a>(query: &'a Words, name: &str) -> Option<&'a str> {
    query.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

fn is_set(query: &Words, name: &str) -> bool {
    matches!(first(query, name), Some("true" | "1"))
}

fn wanted(query: &Words) -> Result<Wanted, Refusal> {
    let [stdin, stdout, stderr, tty] = ["stdin", "stdout", "stderr", "tty"].map(|name| is_set(query, name));
    if !stdin && !stdout && !stderr {
        return Err(Refusal::bad_request("you must specify at least one of stdin, stdout, stderr"));
    }
    Ok(Wanted { stdin, stdout, stderr: stderr && !tty, tty })
}

/// The supervisor's socket of the pod, and the container that is meant.
fn find(
    api: &Api,
    namespace: &str,
    name: &str,
    container: Option<&str>,
) -> Result<(PathBuf, String), Refusal> {
    let object = api.store.get(&ObjectKey::new(Kind::Pod, namespace, name));
    let object = object.ok_or_else(|| Refusal::not_found(format!("pods \"{name}\" not found")))?;
    let pod: &Pod = (&*object).try_into().map_err(|_| Refusal::internal("not a pod"))?;
    let containers = pod.spec.iter().flat_map(|spec| {
        let added = spec.ephemeral_containers.iter().flatten().map(|one| one.name.as_str());
        let own = spec.containers.iter().chain(spec.init_containers.iter().flatten());
        own.map(|one| one.name.as_str()).chain(added)
    });
    let mut containers = containers.peekable();
    let chosen = match container.filter(|name| !name.is_empty()) {
        Some(wanted) => containers
            .find(|known| *known == wanted)
            .ok_or_else(|| Refusal::bad_request(format!("container {wanted} is not valid for pod {name}")))?,
        // As the kubelet does: the first one.
        None => containers.next().ok_or_else(|| Refusal::internal("a pod without containers"))?,
    };
    Ok((api.node.runtime.socket(object.uid()), chosen.to_owned()))
}

/// Answers `…/pods/{name}/exec`.
pub(super) async fn exec(
    State(api): State<Api>,
    Path((namespace, name)): Path<(String, String)>,
    Query(query): Query<Words>,
    request: Request,
) -> Result<Response, Refusal> {
    let wanted = wanted(&query)?;
    let (socket, container) = find(&api, &namespace, &name, first(&query, "container"))?;
    let args: Vec<String> =
        query.iter().filter(|(name, _)| name == "command").map(|(_, word)| word.clone()).collect();
    if args.is_empty() {
        return Err(Refusal::bad_request("you must specify a command"));
    }
    let what = What::Exec(ExecSpec { container, args, ..ExecSpec::default() });
    Ok(streaming::remote_command(request, Target { socket, what, wanted }).await)
}

/// Answers `…/pods/{name}/attach`.
pub(super) async fn attach(
    State(api): State<Api>,
    Path((namespace, name)): Path<(String, String)>,
    Query(query): Query<Words>,
    request: Request,
) -> Result<Response, Refusal> {
    let wanted = wanted(&query)?;
    let (socket, container) = find(&api, &namespace, &name, first(&query, "container"))?;
    let what = What::Attach(container);
    Ok(streaming::remote_command(request, Target { socket, what, wanted }).await)
}

/// Answers `…/pods/{name}/portforward`.
pub(super) async fn port_forward(
    State(api): State<Api>,
    Path((namespace, name)): Path<(String, String)>,
    request: Request,
) -> Result<Response, Refusal> {
    let (socket, _) = find(&api, &namespace, &name, None)?;
    Ok(streaming::port_forward(request, socket).await)
}
