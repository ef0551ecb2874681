//! The whole server on loopback, between clients and backends of this process.

mod tls;

use super::*;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Only a broken build meets it.
const PATIENCE: Duration = Duration::from_secs(60);

/// Remembers all that it is told.
#[derive(Debug, Default)]
struct Notebook(Mutex<Vec<Seen>>);

impl Observer for Notebook {
    fn request(&self, seen: &Seen) {
        self.0.lock().unwrap().push(seen.clone());
    }
    fn connections(&self, _: i8) {}
    fn accept_failed(&self, error: &io::Error) {
        panic!("{error}");
    }
}

/// A server with one Ingress, `n/i`, and what its test changes of it.
struct Site {
    ingress: Arc<Ingress>,
    notebook: Arc<Notebook>,
    http: SocketAddr,
    https: SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

fn options() -> RouteOptions {
    RouteOptions { redirect: false, http2: false, read_timeout: PATIENCE, body_limit: None }
}

fn route(endpoints: &[SocketAddr], options: RouteOptions) -> Route {
    let backend = Backend::new("web".into());
    backend.set(endpoints.to_vec());
    let ingress = IngressName { namespace: "n".into(), name: "i".into() };
    Route { ingress: Arc::new(ingress), backend: Arc::new(backend), options: Arc::new(options) }
}

impl Site {
    async fn open(routes: Vec<(&str, Route)>) -> Self {
        let notebook = Arc::new(Notebook::default());
        let options = IngressOptions {
            address: Some([127, 0, 0, 1].into()),
            http: Some(0),
            https: Some(0),
            trusted: Vec::new(),
            grace: PATIENCE,
            held_at: None,
        };
        let ingress = Arc::new(Ingress::open(&options, Arc::clone(&notebook) as _).await.unwrap());
        let [Some(http), Some(https)] = ingress.addresses() else { panic!("two ports") };
        let mut table = Table::default();
        for (path, route) in routes {
            assert_eq!(table.add(&HostRule::Any, &PathRule::Prefix(path.into()), route), None);
        }
        ingress.set_table(table);
        let stop = CancellationToken::new();
        let (server, end) = (Arc::clone(&ingress), stop.clone());
        let task = tokio::spawn(async move { server.run(end).await });
        Self { ingress, notebook, http, https, stop, task }
    }

    async fn end(self) {
        self.stop.cancel();
        tokio::time::timeout(PATIENCE, self.task).await.expect("an end").unwrap();
    }

    /// Sends `request` over a connection of its own.
    async fn ask<B>(&self, request: Request<B>) -> Response<Incoming>
    where
        B: Body<Data = Bytes, Error = Infallible> + Send + 'static,
    {
        let stream = TcpStream::connect(self.http).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection.with_upgrades());
        sender.send_request(request).await.unwrap()
    }
}

/// A backend that answers with `answer`; where it is.
async fn backend<F, R, B>(answer: F) -> SocketAddr
where
    F: Fn(Request<Incoming>) -> R + Clone + Send + 'static,
    R: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data = Bytes, Error = Infallible> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let answer = answer.clone();
            let service = service_fn(move |request| {
                let answer = answer(request);
                async move { Ok::<_, Infallible>(answer.await) }
            });
            tokio::spawn(async move {
                let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                let _gone = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).await;
            });
        }
    });
    address
}

/// An address that refuses connections.
async fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

/// Says what it was asked, and how.
async fn echo(request: Request<Incoming>) -> Response<Full<Bytes>> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map(|all| all.to_bytes()).unwrap_or_default();
    let said = |name: &str| {
        let all = parts.headers.get_all(name).iter();
        all.map(|value| value.to_str().unwrap()).collect::<Vec<_>>().join("|")
    };
    let text = format!(
        "{} {} {:?} host={} for={} proto={} port={} cookie={} te={} body={}",
        parts.method,
        parts.uri,
        parts.version,
        said("host"),
        said("x-forwarded-for"),
        said("x-forwarded-proto"),
        said("x-forwarded-port"),
        said("cookie"),
        said("te"),
        String::from_utf8_lossy(&body)
    );
    Response::new(Full::new(text.into()))
}

fn get(path: &str) -> Request<Full<Bytes>> {
    Request::get(path).header("host", "site.example:1234").body(Full::default()).unwrap()
}

async fn text(response: Response<Incoming>) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

#[tokio::test]
async fn a_request_reaches_the_backend_and_its_answer_the_client() {
    let site = Site::open(vec![("/a", route(&[backend(echo).await], options()))]).await;
    let request = Request::post("/a/b?c=d")
        .header("host", "site.example:1234")
        .header("connection", "x-own")
        .header("x-forwarded-for", "203.0.113.9")
        .body(Full::new(Bytes::from_static(b"hello")))
        .unwrap();
    let response = site.ask(request).await;
    assert_eq!(response.status(), StatusCode::OK);
    let port = site.http.port();
    assert_eq!(
        text(response).await,
        format!(
            "POST /a/b?c=d HTTP/1.1 host=site.example:1234 for=127.0.0.1 proto=http port={port} cookie= te= body=hello"
        )
    );
    assert_eq!(site.ask(get("/b")).await.status(), StatusCode::NOT_FOUND);
    let notebook = Arc::clone(&site.notebook);
    site.end().await;
    let seen = notebook.0.lock().unwrap();
    let seen: Vec<_> = seen
        .iter()
        .map(|one| (one.ingress.is_some(), one.service.as_str(), one.method, one.status))
        .collect();
    assert_eq!(seen, [(true, "web", "POST", 200), (false, "", "GET", 404)]);
}

#[tokio::test]
async fn another_endpoint_is_asked_if_one_takes_no_connection() {
    let good = backend(echo).await;
    let site = Site::open(vec![
        ("/some", route(&[nobody().await, good, nobody().await], options())),
        ("/none", route(&[nobody().await], options())),
        ("/empty", route(&[], options())),
    ])
    .await;
    for _ in 0..6 {
        let request = Request::post("/some").body(Full::new(Bytes::from_static(b"x"))).unwrap();
        assert!(text(site.ask(request).await).await.ends_with("body=x"));
    }
    assert_eq!(site.ask(get("/none")).await.status(), StatusCode::BAD_GATEWAY);
    assert_eq!(site.ask(get("/empty")).await.status(), StatusCode::SERVICE_UNAVAILABLE);
    site.end().await;
}

/// Takes connections, and ends each when a request has begun to come.
async fn breaker() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _some = stream.read(&mut [0; 1024]).await;
        }
    });
    address
}

#[tokio::test]
async fn what_may_be_done_twice_is_sent_anew_and_nothing_else() {
    let (bad, good) = (breaker().await, backend(echo).await);
    let site = Site::open(vec![("/", route(&[bad, good], options()))]).await;
    for _ in 0..4 {
        assert_eq!(site.ask(get("/")).await.status(), StatusCode::OK);
    }
    let mut found = Vec::new();
    for _ in 0..2 {
        let request = Request::post("/").body(Full::new(Bytes::from_static(b"x"))).unwrap();
        found.push(site.ask(request).await.status().as_u16());
    }
    found.sort_unstable();
    assert_eq!(found, [200, 502], "each of the two in its turn");
    site.end().await;
}

#[tokio::test]
async fn a_silent_backend_is_not_waited_for_for_ever() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let short = RouteOptions { read_timeout: Duration::from_millis(50), ..options() };
    let site = Site::open(vec![("/", route(&[address], short))]).await;
    assert_eq!(site.ask(get("/")).await.status(), StatusCode::GATEWAY_TIMEOUT);
    site.end().await;
}

#[tokio::test]
async fn a_body_that_is_too_long_is_refused_however_it_comes() {
    let limited = RouteOptions { body_limit: Some(4), ..options() };
    let site = Site::open(vec![("/", route(&[backend(echo).await], limited))]).await;
    let request = |body: &'static [u8]| Request::post("/").body(Full::new(Bytes::from_static(body))).unwrap();
    assert_eq!(site.ask(request(b"1234")).await.status(), StatusCode::OK);
    assert_eq!(site.ask(request(b"12345")).await.status(), StatusCode::PAYLOAD_TOO_LARGE);
    // Without a length.
    let mut stream = TcpStream::connect(site.http).await.unwrap();
    let head =
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n3\r\nabc\r\n0\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut said = vec![0; 12];
    stream.read_exact(&mut said).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&said), "HTTP/1.1 413");
    site.end().await;
}

#[tokio::test]
async fn a_head_that_is_too_long_is_refused() {
    let site = Site::open(vec![("/", route(&[backend(echo).await], options()))]).await;
    let mut stream = TcpStream::connect(site.http).await.unwrap();
    let head = format!("GET / HTTP/1.1\r\nHost: a\r\nX-Long: {}\r\n\r\n", "x".repeat(100_000));
    // It may end the connection before it has read all.
    let _early = stream.write_all(head.as_bytes()).await;
    let mut said = vec![0; 12];
    stream.read_exact(&mut said).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&said), "HTTP/1.1 431");
    site.end().await;
}

#[tokio::test]
async fn bodies_flow_both_ways_while_they_are_made() {
    let (sent, mut came) = tokio::sync::mpsc::unbounded_channel();
    let raw = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = raw.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = raw.accept().await.unwrap();
        let mut bytes = [0; 4096];
        stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n").await.unwrap();
        while let Ok(length) = stream.read(&mut bytes).await
            && length > 0
        {
            sent.send(String::from_utf8_lossy(&bytes[..length]).into_owned()).unwrap();
        }
    });
    let site = Site::open(vec![("/", route(&[address], options()))]).await;
    let mut client = TcpStream::connect(site.http).await.unwrap();
    client
        .write_all(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")
        .await
        .unwrap();
    let mut heard = String::new();
    while !heard.contains("first") {
        heard += &came.recv().await.unwrap();
    }
    // The answer has begun before the request is over.
    let mut said = String::new();
    while !said.contains("one") {
        let mut bytes = [0; 1024];
        let length = client.read(&mut bytes).await.unwrap();
        said += &String::from_utf8_lossy(&bytes[..length]);
    }
    client.write_all(b"6\r\nsecond\r\n").await.unwrap();
    while !heard.contains("second") {
        heard += &came.recv().await.unwrap();
    }
    drop(client);
    site.end().await;
}

#[tokio::test]
async fn an_upgraded_connection_is_a_tunnel_and_ends_with_the_server() {
    let upgrading = |mut request: Request<Incoming>| async move {
        let protocol = request.headers().get("upgrade").cloned();
        let Some(protocol) = protocol else { return echo(request).await };
        let theirs = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let mut stream = TokioIo::new(theirs.await.unwrap());
            let mut bytes = [0; 64];
            while let Ok(length) = stream.read(&mut bytes).await
                && length > 0
            {
                stream.write_all(bytes[..length].to_ascii_uppercase().as_slice()).await.unwrap();
            }
        });
        let response = Response::builder().status(101).header("connection", "upgrade");
        response.header("upgrade", protocol).body(Full::default()).unwrap()
    };
    let site = Site::open(vec![("/", route(&[backend(upgrading).await], options()))]).await;
    let ask = |protocol: &str| {
        Request::get("/")
            .header("host", "a")
            .header("connection", "keep-alive, Upgrade")
            .header("upgrade", protocol)
            .body(Full::default())
            .unwrap()
    };
    let mut response = site.ask(ask("websocket")).await;
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    assert_eq!(response.headers()["upgrade"], "websocket");
    let mut stream = TokioIo::new(hyper::upgrade::on(&mut response).await.unwrap());
    stream.write_all(b"hello").await.unwrap();
    let mut bytes = [0; 5];
    stream.read_exact(&mut bytes).await.unwrap();
    assert_eq!(&bytes, b"HELLO");
    // Nobody gets past the rules by another version of the protocol.
    assert!(text(site.ask(ask("h2c")).await).await.starts_with("GET / HTTP/1.1"));
    site.end().await;
    assert_eq!(stream.read(&mut bytes).await.unwrap_or(0), 0, "it is over");
}

#[tokio::test]
async fn a_request_under_way_is_finished_when_the_end_has_come() {
    let (began, mut has_begun) = tokio::sync::mpsc::unbounded_channel();
    let go_on = Arc::new(tokio::sync::Semaphore::new(0));
    let gate = Arc::clone(&go_on);
    let slow = move |request| {
        let (began, gate) = (began.clone(), Arc::clone(&gate));
        async move {
            began.send(()).unwrap();
            let _open = gate.acquire().await.unwrap();
            echo(request).await
        }
    };
    let site = Site::open(vec![("/", route(&[backend(slow).await], options()))]).await;
    let http = site.http;
    let mut client = TcpStream::connect(http).await.unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    has_begun.recv().await.unwrap();
    site.stop.cancel();
    go_on.add_permits(1);
    let mut said = String::new();
    client.read_to_string(&mut said).await.unwrap();
    assert!(said.starts_with("HTTP/1.1 200") && said.contains("GET / HTTP/1.1"), "{said}");
    site.end().await;
}

#[tokio::test]
async fn a_connection_without_a_request_does_not_keep_the_end_waiting() {
    let site = Site::open(vec![("/", route(&[backend(echo).await], options()))]).await;
    let mut silent = TcpStream::connect(site.http).await.unwrap();
    // It is accepted before what comes after it is answered.
    assert_eq!(site.ask(get("/")).await.status(), StatusCode::OK);
    tokio::time::timeout(PATIENCE / 2, site.end()).await.expect("an end before the grace's");
    assert_eq!(silent.read(&mut [0]).await.unwrap_or(0), 0);
}
