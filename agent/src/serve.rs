//! The local API: Kubernetes' paths over a Unix socket that only root may
//! open, and metrics and health over TCP.

mod cluster;
mod ephemeral;
mod images;
mod inspect;
mod logs;
mod net;
mod objects;
mod openid;
mod overview;
mod path;
mod peers;
mod query;
mod staleness;
mod status;
mod streams;
mod usage;

use crate::cadvisor::Scraper;
use crate::cluster::Sources;
use crate::metrics::Metrics;
use crate::node::Node;
use crate::peers::Peers;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Query as QueryExtractor, State as StateExtractor};
use axum::http::{Method, Uri};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{any, delete, get, post};
use manifests::Kind;
use manifests::config::AgentConfiguration;
use reconciler::store::Store;
use status::Refusal;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::net::{TcpListener, UnixListener};
use tokio_util::sync::CancellationToken;

/// Of metrics.
const TEXT: &str = "text/plain; version=0.0.4";

/// The subresource of a pod to which containers are added.
const EPHEMERAL: &str = "ephemeralcontainers";

/// What requests are answered from.
#[derive(Debug, Clone)]
pub(crate) struct Api {
    pub(crate) store: Arc<Store>,
    pub(crate) node: Arc<Node>,
    pub(crate) sources: Sources,
    pub(crate) metrics: Metrics,
    /// None if the node has none.
    pub(crate) peers: Option<Arc<Peers>>,
    /// Of pods and containers.
    pub(crate) pods: Arc<Scraper>,
    pub(crate) configuration: Arc<AgentConfiguration>,
    pub(crate) started_at: jiff::Timestamp,
    pub(crate) warnings: Arc<Vec<String>>,
}

/// A socket could not be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServeError {
    #[error("cannot listen on the control socket {path}")]
    Socket { path: PathBuf, source: std::io::Error },
    #[error("cannot serve metrics on {address}")]
    Metrics { address: String, source: std::io::Error },
    #[error("another agent answers on {path}; one node has one agent (see `runDir`)")]
    InUse { path: PathBuf },
}

/// Where the control socket of `configuration` is.
pub(crate) fn socket_path(configuration: &AgentConfiguration) -> PathBuf {
    configuration.run_dir.join("keel.sock")
}

/// False if whoever listens at the other end is dead: a child that it was about to start
/// when it was killed holds its sockets open until it runs its own program.
fn is_answered(stream: &std::os::unix::net::UnixStream) -> bool {
    let Ok(listener) = rustix::net::sockopt::socket_peercred(stream) else { return true };
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", listener.pid)).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// The control socket, open, mode 0600. One that a dead agent left is replaced.
///
/// # Errors
/// If a living agent answers on it, or it cannot be made.
pub(crate) fn listen(path: &Path) -> Result<UnixListener, ServeError> {
    if std::os::unix::net::UnixStream::connect(path).is_ok_and(|stream| is_answered(&stream)) {
        return Err(ServeError::InUse { path: path.into() });
    }
    let failed = |source| ServeError::Socket { path: path.into(), source };
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
    Ok(listener)
}

/// Answers on `listener` until `stop`.
///
/// # Errors
/// If accepting fails for good.
pub(crate) async fn control(
    listener: UnixListener,
    api: Api,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/metrics/cadvisor", get(|api: StateExtractor<Api>| pods_text(Arc::clone(&api.pods))))
        .route("/healthz", get(|| async { "ok" }))
        .route("/openid/v1/jwks", get(openid::keys))
        .route("/.well-known/openid-configuration", get(openid::configuration))
        .route("/evenkeel/v1alpha1/status", get(overview::answer))
        .route("/evenkeel/v1alpha1/sync", post(sync))
        .route("/evenkeel/v1alpha1/tokens", get(peers::tokens).post(peers::create_token))
        .route("/evenkeel/v1alpha1/tokens/{id}", delete(peers::delete_token))
        .route("/evenkeel/v1alpha1/certificate", get(peers::certificate))
        .route("/evenkeel/v1alpha1/cluster", get(cluster::answer))
        .route("/evenkeel/v1alpha1/members/{name}", delete(peers::remove))
        .route("/evenkeel/v1alpha1/images", get(images::list).delete(images::remove))
        .route("/evenkeel/v1alpha1/images/pull", post(images::pull))
        .route("/evenkeel/v1alpha1/images/import", post(images::import))
        .route("/evenkeel/v1alpha1/images/prune", post(images::prune))
        .route("/evenkeel/v1alpha1/pods/{namespace}/{name}/inspect", get(inspect::answer))
        .route("/evenkeel/v1alpha1/pods/{namespace}/{name}/trace", get(net::trace))
        .route("/evenkeel/v1alpha1/net", get(net::overview))
        .route("/api/v1/namespaces/{namespace}/pods/{name}/exec", any(streams::exec))
        .route("/api/v1/namespaces/{namespace}/pods/{name}/attach", any(streams::attach))
        .route("/api/v1/namespaces/{namespace}/pods/{name}/portforward", any(streams::port_forward))
        .route("/apis/metrics.k8s.io/v1beta1/nodes", get(usage::nodes))
        .route("/apis/metrics.k8s.io/v1beta1/nodes/{name}", get(usage::node))
        .route("/apis/metrics.k8s.io/v1beta1/pods", get(usage::pods))
        .route("/apis/metrics.k8s.io/v1beta1/namespaces/{namespace}/pods", get(usage::pods))
        .route("/apis/metrics.k8s.io/v1beta1/namespaces/{namespace}/pods/{name}", get(usage::pod))
        .route("/evenkeel/v1alpha1/cluster/snapshot", get(cluster::snapshot))
        .fallback(any(resource))
        .layer(axum::middleware::from_fn_with_state(api.clone(), staleness::tell))
        .with_state(api);
    // Watches never end by themselves: the end of the agent ends them.
    tokio::select! {
        biased;
        () = stop.cancelled() => Ok(()),
        result = axum::serve(listener, router).into_future() => result,
    }
}

/// Serves `/metrics`, `/metrics/cadvisor` and `/healthz` on `address` until `stop`.
///
/// # Errors
/// If `address` cannot be listened on.
pub(crate) async fn scrape(
    address: String,
    (metrics, pods): (Metrics, Arc<Scraper>),
    stop: CancellationToken,
) -> Result<(), ServeError> {
    let failed = |source| ServeError::Metrics { address: address.clone(), source };
    let listener = TcpListener::bind(&address).await.map_err(failed)?;
    let router = Router::new()
        .route("/metrics", get(move || async move { metrics_text(&metrics) }))
        .route("/metrics/cadvisor", get(move || pods_text(pods)))
        .route("/healthz", get(|| async { "ok" }));
    tokio::select! {
        biased;
        () = stop.cancelled() => Ok(()),
        result = axum::serve(listener, router).into_future() => result.map_err(failed),
    }
}

fn metrics_text(metrics: &Metrics) -> Response {
    ([("content-type", TEXT)], metrics.render()).into_response()
}

async fn pods_text(pods: Arc<Scraper>) -> Result<Response, Refusal> {
    let text = tokio::task::spawn_blocking(move || pods.scrape()).await;
    let text = text.map_err(|error| Refusal::internal(error.to_string()))?;
    Ok(([("content-type", TEXT)], text).into_response())
}

async fn metrics(StateExtractor(api): StateExtractor<Api>) -> Response {
    metrics_text(&api.metrics)
}

async fn sync(
    StateExtractor(api): StateExtractor<Api>,
    QueryExtractor(query): QueryExtractor<objects::Query>,
) -> Result<Response, Refusal> {
    let source = query.get("source").map(String::as_str);
    let names = api.sources.names();
    if let Some(name) = source.filter(|name| !names.contains(*name)) {
        let names: Vec<_> = names.into_iter().collect();
        return Err(Refusal::not_found(format!("no source `{name}`; the sources are: {}", names.join(", "))));
    }
    let reports = api.sources.sync(source).await;
    Ok(axum::Json(reports).into_response())
}

async fn resource(
    StateExtractor(api): StateExtractor<Api>,
    method: Method,
    uri: Uri,
    QueryExtractor(query): QueryExtractor<objects::Query>,
    body: Bytes,
) -> Result<Response, Refusal> {
    let target = path::parse(uri.path())
        .ok_or_else(|| Refusal::not_found(format!("nothing is served at {}", uri.path())))?;
    match (&method, target.subresource.as_deref()) {
        (&Method::GET, None) => objects::read(&api, &target, &query),
        (&Method::GET, Some("log")) if target.kind == Kind::Pod => logs::answer(&api, &target, &query).await,
        (&Method::GET, Some(EPHEMERAL)) if target.kind == Kind::Pod => objects::read(&api, &target, &query),
        (&Method::PUT | &Method::PATCH, Some(EPHEMERAL)) if target.kind == Kind::Pod => {
            ephemeral::add(&api, &target, &body).await
        }
        (&Method::POST, None) if target.kind == Kind::Pod => objects::create(&api, &target, &body).await,
        (&Method::PUT, None) => objects::replace(&api, &target, &body).await,
        (&Method::DELETE, None) => objects::delete(&api, &target, &query).await,
        _ => Err(Refusal::method_not_allowed(format!("{method} is not served at {}", uri.path()))),
    }
}
