//! The client of the agent's local API: HTTP/1.1 over its Unix socket, in the
//! paths and the JSON of Kubernetes.
//!
//! One connection per request: on a Unix socket it costs microseconds, and a
//! watch or a log that is followed keeps nobody else waiting.

mod error;
mod images;
mod metrics;
mod net;
mod path;
mod peers;
mod report;
mod stream;

pub(crate) use error::ClientError;
pub(crate) use images::{ListedImage, PullLine, RemovedImages};
pub(crate) use metrics::{ContainerMetrics, Metrics, Network, Usage};
pub(crate) use path::{ObjectPath, Query, Selectors};
pub(crate) use peers::{ClusterView, ListedToken, MemberView, NodeCertificate};
pub(crate) use report::{
    AgentStatus, ContainerUsage, InspectedProcess, PodInspection, PodPressure, PullStatus, SourceStatus,
    Stall, SyncReport,
};
pub(crate) use stream::{Lines, Watch, WatchKind};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use manifests::{Kind, Object};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::path::{Path, PathBuf};
use tokio::net::UnixStream;

/// Speaks to one agent.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    socket: PathBuf,
}

/// Objects at one moment.
#[derive(Debug)]
pub(crate) struct List {
    /// Where a watch goes on from.
    pub(crate) resource_version: String,
    /// As the server sent them, `kind` and `apiVersion` filled in.
    pub(crate) items: Vec<Value>,
}

impl Client {
    /// A client of the agent that listens on `socket`.
    pub(crate) fn new(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into() }
    }

    /// The socket it speaks to.
    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// The object at `path`, as JSON.
    ///
    /// # Errors
    /// [`ClientError::Status`] if there is none; the connection's errors.
    pub(crate) async fn get(&self, path: &ObjectPath) -> Result<Value, ClientError> {
        let mut object: Value = self.json(Method::GET, &path.object(), None).await?;
        fill_type(path.kind(), &mut object);
        Ok(object)
    }

    /// The object at `path`.
    ///
    /// # Errors
    /// As [`Client::get`], and if it is not of its kind's shape.
    pub(crate) async fn get_object(&self, path: &ObjectPath) -> Result<Object, ClientError> {
        typed(path.kind(), self.get(path).await?)
    }

    /// The objects under `path` that match.
    ///
    /// # Errors
    /// The connection's errors, and what the server refuses.
    pub(crate) async fn list(&self, path: &ObjectPath, selectors: &Selectors) -> Result<List, ClientError> {
        let mut query = Query::default();
        selectors.add_to(&mut query);
        let mut list: Value = self.json(Method::GET, &query.on(&path.collection()), None).await?;
        let mut items = match list["items"].take() {
            Value::Array(items) => items,
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => {
                Vec::new()
            }
        };
        items.iter_mut().for_each(|item| fill_type(path.kind(), item));
        let resource_version =
            list.pointer("/metadata/resourceVersion").and_then(Value::as_str).unwrap_or("0").to_owned();
        Ok(List { resource_version, items })
    }

    /// The objects under `path` that match, typed.
    ///
    /// # Errors
    /// As [`Client::list`], and if one is not of its kind's shape.
    pub(crate) async fn list_objects(
        &self,
        path: &ObjectPath,
        selectors: &Selectors,
    ) -> Result<Vec<Object>, ClientError> {
        let list = self.list(path, selectors).await?;
        list.items.into_iter().map(|item| typed(path.kind(), item)).collect()
    }

    /// Each change under `path` after `resource_version`, until the server ends it.
    ///
    /// # Errors
    /// The connection's errors, and what the server refuses.
    pub(crate) async fn watch(
        &self,
        path: &ObjectPath,
        selectors: &Selectors,
        resource_version: &str,
    ) -> Result<Watch, ClientError> {
        let mut query = Query::default();
        query.push("watch", "1").push("resourceVersion", resource_version);
        selectors.add_to(&mut query);
        let response = self.send(Method::GET, &query.on(&path.collection()), None).await?;
        Ok(Watch::new(path.kind(), Lines::new(response.into_body())))
    }

    /// Asks for the end of the object at `path`.
    ///
    /// # Errors
    /// [`ClientError::Status`] if there is none; the connection's errors.
    pub(crate) async fn delete(
        &self,
        path: &ObjectPath,
        grace_period_seconds: Option<i64>,
    ) -> Result<(), ClientError> {
        let mut query = Query::default();
        if let Some(seconds) = grace_period_seconds {
            query.push("gracePeriodSeconds", &seconds.to_string());
        }
        self.json::<Value>(Method::DELETE, &query.on(&path.object()), None).await.map(|_| ())
    }

    /// The pod is there, as the agent completed it.
    ///
    /// # Errors
    /// [`ClientError::Status`] if it is there already, or not a pod; the connection's errors.
    pub(crate) async fn create(&self, path: &ObjectPath, object: &Value) -> Result<Object, ClientError> {
        let body = Bytes::from(object.to_string());
        typed(path.kind(), self.json(Method::POST, &path.collection(), Some(body)).await?)
    }

    /// The object at `path` is `object`, but for its status.
    ///
    /// # Errors
    /// [`ClientError::Status`] if somebody changed it since it was read; the connection's errors.
    pub(crate) async fn replace(&self, path: &ObjectPath, object: &Value) -> Result<(), ClientError> {
        let body = Bytes::from(object.to_string());
        self.json::<Value>(Method::PUT, &path.object(), Some(body)).await.map(|_| ())
    }

    /// The pod at `path` has the container more.
    ///
    /// # Errors
    /// [`ClientError::Status`] if it cannot have it; the connection's errors.
    pub(crate) async fn add_ephemeral_container(
        &self,
        path: &ObjectPath,
        container: &Value,
    ) -> Result<(), ClientError> {
        let body = Bytes::from(serde_json::json!({"spec": {"ephemeralContainers": [container]}}).to_string());
        let target = format!("{}/ephemeralcontainers", path.object());
        self.json::<Value>(Method::PATCH, &target, Some(body)).await.map(|_| ())
    }

    /// The log of the pod at `path` as it comes.
    ///
    /// # Errors
    /// [`ClientError::Status`] if there is no such pod, container or run; the connection's errors.
    pub(crate) async fn log(&self, path: &ObjectPath, query: &Query) -> Result<Lines, ClientError> {
        let target = query.on(&format!("{}/log", path.object()));
        Ok(Lines::new(self.send(Method::GET, &target, None).await?.into_body()))
    }

    /// Lets the agent look at its sources now, or at one of them; answers when it has.
    ///
    /// # Errors
    /// [`ClientError::Status`] if there is no such source; the connection's errors.
    pub(crate) async fn sync(&self, source: Option<&str>) -> Result<Vec<SyncReport>, ClientError> {
        let mut query = Query::default();
        if let Some(source) = source {
            query.push("source", source);
        }
        self.json(Method::POST, &query.on("/evenkeel/v1alpha1/sync"), None).await
    }

    /// How the agent and its node are.
    ///
    /// # Errors
    /// The connection's errors.
    pub(crate) async fn status(&self) -> Result<AgentStatus, ClientError> {
        self.json(Method::GET, "/evenkeel/v1alpha1/status", None).await
    }

    /// What a pod is on the machine: processes, cgroups, usage.
    ///
    /// # Errors
    /// [`ClientError::Status`] if it does not run; the connection's errors.
    pub(crate) async fn inspect(&self, namespace: &str, name: &str) -> Result<PodInspection, ClientError> {
        let target = format!("/evenkeel/v1alpha1/pods/{namespace}/{name}/inspect");
        self.json(Method::GET, &target, None).await
    }

    async fn json<T: DeserializeOwned>(
        &self,
        method: Method,
        target: &str,
        body: Option<Bytes>,
    ) -> Result<T, ClientError> {
        let response = self.send(method, target, body).await?;
        let bytes = read_all(response).await?;
        serde_json::from_slice(&bytes)
            .map_err(|source| ClientError::Decode { target: target.to_owned(), source })
    }

    /// Sends a request and returns the answer once its head is there; an error
    /// status becomes an error.
    async fn send(
        &self,
        method: Method,
        target: &str,
        body: Option<Bytes>,
    ) -> Result<Response<Incoming>, ClientError> {
        let stream = UnixStream::connect(&self.socket)
            .await
            .map_err(|source| ClientError::connect(&self.socket, source))?;
        let broken = |source| ClientError::Broken { socket: self.socket.clone(), source };
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        // Ends by itself with the exchange: when the answer's body is read or dropped.
        // What goes wrong in it shows in the exchange.
        let _connection = tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(target).header("host", "keel");
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        let request = request
            .body(Full::new(body.unwrap_or_default()))
            .map_err(|source| ClientError::Target { target: target.to_owned(), source })?;
        let response = sender.send_request(request).await.map_err(broken)?;
        warn(&response);
        if response.status().is_success() {
            return Ok(response);
        }
        let code = response.status();
        Err(ClientError::from_answer(code, &read_all(response).await?))
    }
}

/// What the agent warns of goes to stderr, as kubectl does it.
fn warn(response: &Response<Incoming>) {
    for warning in response.headers().get_all("warning") {
        // CODE AGENT "TEXT"
        let text = warning.to_str().unwrap_or_default();
        let text = text.splitn(3, ' ').nth(2).unwrap_or_default().trim_matches('"');
        eprintln!("Warning: {text}");
    }
}

async fn read_all(response: Response<Incoming>) -> Result<Bytes, ClientError> {
    Ok(response.into_body().collect().await.map_err(ClientError::Interrupted)?.to_bytes())
}

/// Lists of Kubernetes leave `kind` and `apiVersion` of their items out.
fn fill_type(kind: Kind, object: &mut Value) {
    if let Value::Object(fields) = object {
        fields.entry("apiVersion").or_insert_with(|| kind.api_version().into());
        fields.entry("kind").or_insert_with(|| kind.as_str().into());
    }
}

/// Reads an object of `kind`.
///
/// # Errors
/// If it is not of that shape.
pub(crate) fn typed(kind: Kind, object: Value) -> Result<Object, ClientError> {
    Object::from_json(kind, object).map_err(|source| ClientError::Object { kind, source })
}
