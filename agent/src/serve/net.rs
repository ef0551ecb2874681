//! The network as this node has it: `keel net`.

use super::Api;
use super::objects::Query;
use super::status::Refusal;
use crate::chain::chain;
use crate::net::{self, Asked, Failure, Overview, Question, Trace};
use axum::Json;
use axum::extract::{Path, Query as QueryExtractor, State as StateExtractor};
use netstack::Transport;

fn refused(failure: &Failure) -> Refusal {
    let words = chain(failure);
    match failure {
        Failure::NotFound { .. } => Refusal::not_found(words),
        Failure::Elsewhere { .. } | Failure::NoAddress { .. } | Failure::Port(_) => {
            Refusal::bad_request(words)
        }
        Failure::Kernel(_) => Refusal::internal(words),
    }
}

/// Answers `GET /evenkeel/v1alpha1/net`.
pub(crate) async fn overview(StateExtractor(api): StateExtractor<Api>) -> Result<Json<Overview>, Refusal> {
    let seen = net::overview(&api.node, &api.configuration).await;
    Ok(Json(seen.map_err(|failure| refused(&failure))?))
}

/// Answers `GET /evenkeel/v1alpha1/pods/{namespace}/{name}/trace?to=…&protocol=…`.
pub(crate) async fn trace(
    StateExtractor(api): StateExtractor<Api>,
    Path((namespace, pod)): Path<(String, String)>,
    QueryExtractor(query): QueryExtractor<Query>,
) -> Result<Json<Trace>, Refusal> {
    let to = query.get("to").ok_or_else(|| Refusal::bad_request("to whom? say `to`"))?;
    let asked = Asked::parse(to, &namespace).map_err(Refusal::bad_request)?;
    let transport = match query.get("protocol").map(String::as_str) {
        None | Some("tcp" | "TCP") => Transport::Tcp,
        Some("udp" | "UDP") => Transport::Udp,
        Some(other) => {
            return Err(Refusal::bad_request(format!(
                "protocol `{other}` cannot be followed; tcp and udp can"
            )));
        }
    };
    let question = Question { namespace, pod, asked, transport };
    let traced = net::trace(&api.node, &api.configuration, &question).await;
    Ok(Json(traced.map_err(|failure| refused(&failure))?))
}
