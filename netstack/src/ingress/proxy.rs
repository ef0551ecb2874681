//! One request: to whom it goes, on what terms it is sent anew, and what the client is told.

use super::body::{Answer, AnyBody, BodyError, Lent, Loan, with, words};
use super::headers::{self, Client};
use super::host::asked_for;
use super::observer::{Observer, Record, Seen};
use super::table::{Route, Table};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::header::{CONTENT_LENGTH, HOST, HeaderValue, LOCATION};
use hyper::upgrade::OnUpgrade;
use hyper::{HeaderMap, Method, Request, Response, StatusCode, Uri, Version};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Endpoints that are tried for one request.
const ATTEMPTS: usize = 3;
/// For an endpoint to take a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// A connection to an endpoint is kept for so long without a request: less than servers keep theirs.
const IDLE: Duration = Duration::from_secs(4);
/// Between two looks at whether the other end of a quiet connection is still there.
pub(super) const KEEPALIVE: Duration = Duration::from_secs(60);

/// A client that left. Source: nginx, `NGX_HTTP_CLIENT_CLOSED_REQUEST`.
const LEFT: u16 = 499;

/// What all requests are answered from.
#[derive(Debug)]
pub(super) struct Proxy {
    pub(super) table: RwLock<Arc<Table>>,
    pub(super) observer: Arc<dyn Observer>,
    /// Where clients without TLS are sent to.
    pub(super) https_port: u16,
    http1: legacy::Client<HttpConnector, Loan>,
    http2: legacy::Client<HttpConnector, Loan>,
    /// Connections that speak another protocol by now.
    pub(super) tunnels: TaskTracker,
    pub(super) tunnels_end: CancellationToken,
}

/// Why no endpoint answered.
#[derive(Debug)]
enum Failure {
    /// None is there.
    Nobody,
    /// It took no connection.
    Unreachable,
    /// It ended the connection.
    Broken,
    /// It said nothing for too long.
    Silent,
    /// The client did not send what it should.
    Body(BodyError),
}

impl Failure {
    /// Whether the request may go to another endpoint: nothing came to the first, or it does no harm to
    /// do it twice.
    fn may_repeat(&self, method: &Method, is_whole: bool) -> bool {
        match self {
            Self::Unreachable => is_whole,
            Self::Broken => is_whole && method.is_idempotent(),
            Self::Nobody | Self::Silent | Self::Body(_) => false,
        }
    }

    fn answer(&self) -> Response<AnyBody> {
        match self {
            Self::Nobody => plain(StatusCode::SERVICE_UNAVAILABLE, "no endpoint of the service is ready"),
            Self::Unreachable | Self::Broken => plain(StatusCode::BAD_GATEWAY, "the backend did not answer"),
            Self::Silent => plain(StatusCode::GATEWAY_TIMEOUT, "the backend did not answer in time"),
            Self::Body(BodyError::TooLong(_)) => too_long(),
            Self::Body(BodyError::Silent(_) | BodyError::TakenBack) => {
                plain(StatusCode::REQUEST_TIMEOUT, "the request did not come in time")
            }
        }
    }
}

/// An answer of our own.
fn plain(status: StatusCode, text: &str) -> Response<AnyBody> {
    let mut response = Response::new(words(&format!("{text}\n")));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(hyper::header::CONTENT_TYPE, kind);
    response
}

fn too_long() -> Response<AnyBody> {
    plain(StatusCode::PAYLOAD_TOO_LARGE, "the request is longer than it may be")
}

fn client(http2: bool) -> legacy::Client<HttpConnector, Loan> {
    let mut connector = HttpConnector::new();
    connector.set_connect_timeout(Some(CONNECT));
    connector.set_keepalive(Some(KEEPALIVE));
    connector.set_nodelay(true);
    let mut builder = legacy::Client::builder(TokioExecutor::new());
    builder.timer(TokioTimer::new()).pool_timer(TokioTimer::new());
    builder.pool_idle_timeout(IDLE).http2_only(http2).set_host(false);
    // Old programs take names of headers as they are usually written.
    builder.http1_title_case_headers(true);
    builder.build(connector)
}

/// The names of methods, of which there are so many.
fn name_of(method: &Method) -> &'static str {
    const NAMES: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];
    NAMES.into_iter().find(|name| *name == method.as_str()).unwrap_or("OTHER")
}

/// What is sent to each endpoint that is tried.
struct Parcel {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Lent,
}

impl Parcel {
    fn addressed(&self, endpoint: SocketAddr, route: &Route) -> Result<Request<Loan>, hyper::http::Error> {
        let path = self.uri.path_and_query().map_or("/", |path| path.as_str());
        let uri =
            Uri::builder().scheme("http").authority(endpoint.to_string()).path_and_query(path).build()?;
        let body = self.body.lend(route.options.read_timeout);
        let mut request = Request::builder().method(self.method.clone()).uri(uri).body(body)?;
        *request.headers_mut() = self.headers.clone();
        if route.options.http2 {
            *request.version_mut() = Version::HTTP_2;
            // It says the same as `:authority`, or nothing.
            request.headers_mut().remove(HOST);
        }
        Ok(request)
    }
}

impl Proxy {
    pub(super) fn new(observer: Arc<dyn Observer>, https_port: u16) -> Self {
        Self {
            table: RwLock::default(),
            observer,
            https_port,
            http1: client(false),
            http2: client(true),
            tunnels: TaskTracker::new(),
            tunnels_end: CancellationToken::new(),
        }
    }

    fn table(&self) -> Arc<Table> {
        Arc::clone(&self.table.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The answer to `request` of `client`.
    pub(super) async fn answer(&self, from: &Client, mut request: Request<Incoming>) -> Response<AnyBody> {
        let began = Instant::now();
        let host = authority(&request);
        let route = self.table().find(&asked_for(&host), request.uri().path()).cloned();
        let seen = Seen {
            ingress: route.as_ref().map(|route| Arc::clone(&route.ingress)),
            service: route.as_ref().map(|route| route.backend.name().to_owned()).unwrap_or_default(),
            method: name_of(request.method()),
            status: LEFT,
            took: Duration::ZERO,
        };
        let mut record = Record { seen, began, observer: Arc::clone(&self.observer) };
        let refused = match &route {
            _ if request.method() == Method::CONNECT => {
                Some(plain(StatusCode::METHOD_NOT_ALLOWED, "no tunnels are made here"))
            }
            None => Some(plain(StatusCode::NOT_FOUND, "no Ingress has a rule for this host and path")),
            Some(route) => self.refused(route, from, &host, &request),
        };
        if let (Some(route), None) = (&route, &refused) {
            let upgrade = upgrade(&mut request);
            return self.pass(route, from, (&host, request, upgrade), record).await;
        }
        let response = refused.unwrap_or_else(|| Failure::Nobody.answer());
        record.seen.status = response.status().as_u16();
        response
    }

    /// What the client is told instead of what the backend would say.
    fn refused(
        &self,
        route: &Route,
        from: &Client,
        host: &str,
        request: &Request<Incoming>,
    ) -> Option<Response<AnyBody>> {
        let said = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
        let tls = from.tls || (from.trusted && said("x-forwarded-proto") == Some("https"));
        if route.options.redirect && !tls {
            let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
            let location = self.secure(host, path).and_then(|to| HeaderValue::from_str(&to).ok());
            let mut response = plain(StatusCode::PERMANENT_REDIRECT, "this site speaks TLS");
            match location {
                Some(location) => response.headers_mut().insert(LOCATION, location),
                None => return Some(plain(StatusCode::BAD_REQUEST, "the request names no host")),
            };
            return Some(response);
        }
        let length = said(CONTENT_LENGTH.as_str()).and_then(|text| text.parse::<u64>().ok());
        (length > route.options.body_limit && route.options.body_limit.is_some()).then(too_long)
    }

    /// The same with TLS.
    fn secure(&self, host: &str, path: &str) -> Option<String> {
        let name = asked_for(host);
        let port = if self.https_port == 443 { String::new() } else { format!(":{}", self.https_port) };
        (!name.is_empty()).then(|| format!("https://{name}{port}{path}"))
    }

    async fn pass(
        &self,
        route: &Route,
        from: &Client,
        (host, request, upgrade): (&str, Request<Incoming>, Option<(HeaderValue, OnUpgrade)>),
        mut record: Record,
    ) -> Response<AnyBody> {
        let (parts, body) = request.into_parts();
        let mut headers = parts.headers;
        headers::strip(&mut headers);
        headers::join_cookies(&mut headers);
        headers::tell_backend(&mut headers, from, host, &new_id());
        if let Some((protocol, _)) = &upgrade {
            headers::set_upgrade(&mut headers, protocol.clone());
        }
        let body = Lent::new(body, route.options.body_limit);
        let parcel = Parcel { method: parts.method, uri: parts.uri, headers, body };
        match self.send(route, &parcel).await {
            Ok(response) => {
                record.seen.status = response.status().as_u16();
                self.given(route, response, upgrade, record)
            }
            Err(failure) => {
                let response = failure.answer();
                record.seen.status = response.status().as_u16();
                response
            }
        }
    }

    /// The answer of the first endpoint that gives one.
    async fn send(&self, route: &Route, parcel: &Parcel) -> Result<Response<Incoming>, Failure> {
        let mut failure = Failure::Nobody;
        for endpoint in route.backend.turn(Instant::now().into_std()).into_iter().take(ATTEMPTS) {
            let Ok(request) = parcel.addressed(endpoint, route) else { return Err(Failure::Broken) };
            let client = if route.options.http2 { &self.http2 } else { &self.http1 };
            match patiently(client.request(request), &parcel.body, route.options.read_timeout).await {
                Ok(response) => return Ok(response),
                Err(why) => failure = why,
            }
            if matches!(failure, Failure::Unreachable) {
                route.backend.shun(endpoint, Instant::now().into_std());
            }
            if !failure.may_repeat(&parcel.method, parcel.body.is_whole()) {
                break;
            }
        }
        Err(failure)
    }

    /// What the client gets of the backend's answer.
    fn given(
        &self,
        route: &Route,
        mut response: Response<Incoming>,
        upgrade: Option<(HeaderValue, OnUpgrade)>,
        record: Record,
    ) -> Response<AnyBody> {
        let changed = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        let protocol = headers::upgrade(response.headers());
        let theirs = changed.then(|| hyper::upgrade::on(&mut response));
        headers::strip(response.headers_mut());
        match (theirs, upgrade, protocol) {
            (Some(theirs), Some((_, ours)), Some(protocol)) => {
                headers::set_upgrade(response.headers_mut(), protocol);
                let end = self.tunnels_end.clone();
                self.tunnels.spawn(tunnel(ours, theirs, end, record));
                response.map(|_| words(""))
            }
            (Some(_), _, _) => Failure::Broken.answer(),
            (None, _, _) => {
                let silence = route.options.read_timeout;
                // What it says of itself is of its connection, and not of the client's.
                *response.version_mut() = Version::HTTP_11;
                response.map(|body| with(Answer::new(body, silence), record).boxed_unsync())
            }
        }
    }
}

/// Whom the client asks for: by `:authority`, or `Host:`.
fn authority(request: &Request<Incoming>) -> String {
    let named = request.uri().authority().map(|authority| authority.as_str());
    let named = named.or_else(|| request.headers().get(HOST)?.to_str().ok());
    // Whoever may see a password in it should not.
    named.map(|name| name.rsplit('@').next().unwrap_or(name)).unwrap_or_default().to_owned()
}

/// The protocol that the client wants to change to, and the connection when it has. HTTP/2 is spoken
/// over TLS only: who could ask a backend for it would have a way around the rules.
fn upgrade(request: &mut Request<Incoming>) -> Option<(HeaderValue, OnUpgrade)> {
    let protocol = headers::upgrade(request.headers()).filter(|_| request.version() == Version::HTTP_11)?;
    let h2c = protocol.to_str().is_ok_and(|text| text.trim().to_ascii_lowercase().starts_with("h2"));
    (!h2c).then(|| (protocol, hyper::upgrade::on(request)))
}

/// 32 hexadecimal digits, by chance.
fn new_id() -> String {
    use std::fmt::Write as _;
    let mut bytes = [0; 16];
    // Without chance they are alike, which does no harm.
    let _zeros = getrandom::fill(&mut bytes);
    bytes.iter().fold(String::with_capacity(32), |mut text, byte| {
        let _infallible = write!(text, "{byte:02x}");
        text
    })
}

/// What `asked` comes to, unless the backend neither takes nor says anything for `silence`.
async fn patiently(
    asked: legacy::ResponseFuture,
    body: &Lent,
    silence: Duration,
) -> Result<Response<Incoming>, Failure> {
    tokio::pin!(asked);
    loop {
        let until = body.moved_at() + silence;
        tokio::select! {
            biased;
            result = &mut asked => return result.map_err(|error| match body.failure() {
                Some(failure) => Failure::Body(failure),
                None if error.is_connect() => Failure::Unreachable,
                None => Failure::Broken,
            }),
            () = sleep_until(until) => {
                if body.moved_at() + silence <= Instant::now() {
                    return Err(Failure::Silent);
                }
            }
        }
    }
}

/// What one end says comes to the other, until both are done or `end`.
async fn tunnel(ours: OnUpgrade, theirs: OnUpgrade, end: CancellationToken, record: Record) {
    let both = async {
        let (ours, theirs) = tokio::try_join!(ours, theirs).ok()?;
        tokio::io::copy_bidirectional(&mut TokioIo::new(ours), &mut TokioIo::new(theirs)).await.ok()
    };
    // How it ends is the business of the two.
    let _ended = end.run_until_cancelled(both).await;
    drop(record);
}
