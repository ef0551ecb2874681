//! The ports: connections are accepted, TLS is spoken on some, and each request is answered by [`Proxy`].

use super::certificates::{Certificates, Shown, configuration};
use super::headers::Client;
use super::observer::Observer;
use super::ports::{HeldAt, Ports};
use super::proxy::{KEEPALIVE, Proxy};
use super::table::Table;
use crate::holder::{Holder, HolderError};
use hyper::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_rustls::{TlsAcceptor, rustls};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Connections of clients at a time; more wait in the kernel. Source: ingress-nginx,
/// `max-worker-connections`.
const CONNECTIONS: usize = 16_384;
/// The head of a request, in bytes.
const HEAD: u32 = 64 << 10;
/// For the whole head of a request to come, also of the next one on a connection that is kept.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);
/// For a handshake of TLS.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Requests at a time on a connection of HTTP/2. Source: nginx, `http2_max_concurrent_streams`.
const STREAMS: u32 = 128;
/// For a client that has connected to send a request, when the end has come.
const LAST_REQUEST: Duration = Duration::from_secs(1);
/// After which it is tried again to accept connections.
const RETRY: Duration = Duration::from_millis(100);

/// A network of proxies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trusted {
    /// Its address.
    pub address: IpAddr,
    /// The bits that its addresses have in common.
    pub prefix: u8,
}

impl Trusted {
    fn has(self, address: IpAddr) -> bool {
        let (own, other, bits) = match (self.address, address) {
            (IpAddr::V4(own), IpAddr::V4(other)) => (own.to_bits().into(), other.to_bits().into(), 32_u32),
            (IpAddr::V6(own), IpAddr::V6(other)) => (own.to_bits(), other.to_bits(), 128),
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return false,
        };
        let shift = bits.saturating_sub(self.prefix.into());
        u128::checked_shr(own ^ other, shift).unwrap_or(0) == 0
    }
}

/// Where requests are served, and how.
#[derive(Debug, Clone)]
pub struct IngressOptions {
    /// The address to listen on; all addresses if there is none.
    pub address: Option<IpAddr>,
    /// The port of HTTP; none if there is none.
    pub http: Option<u16>,
    /// The port of HTTPS; none if there is none.
    pub https: Option<u16>,
    /// Proxies whose `X-Forwarded-…` are true.
    pub trusted: Vec<Trusted>,
    /// For how long requests under way may go on when the end has come.
    pub grace: Duration,
    /// Who has the ports while no agent runs; nobody if there is none.
    pub held_at: Option<HeldAt>,
}

/// The ports are not served.
#[derive(Debug, thiserror::Error)]
pub enum IngressError {
    /// Most often another program has it.
    #[error("cannot listen on port {port}")]
    Listen {
        /// Which one.
        port: u16,
        /// Why.
        source: io::Error,
    },
    /// The kernel's.
    #[error("the ports cannot be used")]
    Ports(#[source] io::Error),
    /// Of the library.
    #[error("cannot speak TLS")]
    Tls(#[from] rustls::Error),
}

/// Open ports, with the rules and certificates of their requests.
#[derive(Debug)]
pub struct Ingress {
    proxy: Arc<Proxy>,
    shown: Arc<Shown>,
    http: Option<TcpListener>,
    https: Option<(TcpListener, TlsConfiguration)>,
    trusted: Vec<Trusted>,
    grace: Duration,
    observer: Arc<dyn Observer>,
    holder: Option<Holder>,
    unheld: Option<HolderError>,
}

type TlsConfiguration = Arc<rustls::ServerConfig>;

/// What every connection needs.
struct Connections {
    proxy: Arc<Proxy>,
    observer: Arc<dyn Observer>,
    trusted: Vec<Trusted>,
    tasks: TaskTracker,
    room: Arc<Semaphore>,
    /// The end has come.
    closing: CancellationToken,
    /// Ends those that are not done when the time is up.
    cut: CancellationToken,
    builder: Builder<TokioExecutor>,
}

impl Ingress {
    /// The ports are open; nothing is answered before [`Self::run`].
    ///
    /// # Errors
    /// If a port cannot be listened on. Ports below 1024 need `CAP_NET_BIND_SERVICE`.
    pub async fn open(options: &IngressOptions, observer: Arc<dyn Observer>) -> Result<Self, IngressError> {
        let shown = Arc::new(Shown::default());
        let tls = Arc::new(configuration(Arc::clone(&shown))?);
        let asked = options.clone();
        let ports = tokio::task::spawn_blocking(move || Ports::open(&asked)).await;
        let ports = ports.unwrap_or_else(|error| Err(IngressError::Ports(error.into())))?;
        let open = |listener: Option<std::net::TcpListener>| listener.map(TcpListener::from_std).transpose();
        let http = open(ports.http).map_err(IngressError::Ports)?;
        let https = open(ports.https).map_err(IngressError::Ports)?;
        let bound = https.as_ref().and_then(|listener| listener.local_addr().ok());
        let https_port = bound.map_or(443, |address| address.port());
        Ok(Self {
            proxy: Arc::new(Proxy::new(Arc::clone(&observer), https_port)),
            shown,
            http,
            https: https.map(|listener| (listener, tls)),
            trusted: options.trusted.clone(),
            grace: options.grace,
            observer,
            holder: ports.holder,
            unheld: ports.unheld,
        })
    }

    /// Why connections are refused between this agent and the next.
    #[must_use]
    pub const fn unheld(&self) -> Option<&HolderError> {
        self.unheld.as_ref()
    }

    /// The ports are closed: nobody holds them for the next agent. Blocks for a moment.
    pub fn close(self) {
        drop((self.http, self.https));
        if let Some(holder) = self.holder {
            holder.end();
        }
    }

    /// Where HTTP and HTTPS are served.
    #[must_use]
    pub fn addresses(&self) -> [Option<SocketAddr>; 2] {
        let of = |listener: Option<&TcpListener>| listener.and_then(|listener| listener.local_addr().ok());
        [of(self.http.as_ref()), of(self.https.as_ref().map(|(listener, _)| listener))]
    }

    /// From the next request on these are the rules.
    pub fn set_table(&self, table: Table) {
        *self.proxy.table.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(table);
    }

    /// From the next handshake on these are the certificates.
    pub fn set_certificates(&self, certificates: Certificates) {
        self.shown.set(certificates);
    }

    /// Serves until `stop`; then no connection is taken any more, requests under way are finished for as
    /// long as the options allow, and connections that changed their protocol end.
    pub async fn run(&self, stop: CancellationToken) {
        let mut builder = Builder::new(TokioExecutor::new());
        let head = usize::try_from(HEAD).unwrap_or(usize::MAX);
        builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(head);
        builder.http1().title_case_headers(true);
        builder.http2().timer(TokioTimer::new()).max_header_list_size(HEAD).max_concurrent_streams(STREAMS);
        builder.http2().keep_alive_interval(KEEPALIVE);
        let connections = Connections {
            proxy: Arc::clone(&self.proxy),
            observer: Arc::clone(&self.observer),
            trusted: self.trusted.clone(),
            tasks: TaskTracker::new(),
            room: Arc::new(Semaphore::new(CONNECTIONS)),
            closing: CancellationToken::new(),
            cut: CancellationToken::new(),
            builder,
        };
        let http = async {
            if let Some(listener) = &self.http {
                connections.accept(listener, None, &stop).await;
            }
        };
        let https = async {
            if let Some((listener, tls)) = &self.https {
                connections.accept(listener, Some(tls), &stop).await;
            }
        };
        tokio::join!(http, https);
        stop.cancelled().await;
        self.proxy.tunnels_end.cancel();
        connections.end(self.grace).await;
        self.proxy.tunnels.close();
        self.proxy.tunnels.wait().await;
    }
}

impl Connections {
    async fn accept(&self, listener: &TcpListener, tls: Option<&TlsConfiguration>, stop: &CancellationToken) {
        let port = listener.local_addr().map_or(0, |address| address.port());
        loop {
            let next = async {
                // It is never closed.
                let permit = Arc::clone(&self.room).acquire_owned().await.ok();
                (permit, listener.accept().await)
            };
            match stop.run_until_cancelled(next).await {
                None => return,
                Some((Some(permit), Ok((stream, peer)))) => {
                    let tls_spoken = tls.is_some();
                    let trusted = self.trusted.iter().any(|network| network.has(peer.ip().to_canonical()));
                    let client = Client { peer, port, tls: tls_spoken, trusted };
                    self.take(stream, client, tls.map(Arc::clone), permit);
                }
                Some((_, Err(error))) => {
                    self.observer.accept_failed(&error);
                    sleep(RETRY).await;
                }
                Some((None, Ok(_))) => return,
            }
        }
    }

    fn take(
        &self,
        stream: TcpStream,
        client: Client,
        tls: Option<TlsConfiguration>,
        room: OwnedSemaphorePermit,
    ) {
        let _small_answers_wait = stream.set_nodelay(true);
        // Who is gone without a word is found in time, also where nothing is said for long.
        let _untold = rustix::net::sockopt::set_socket_keepalive(&stream, true)
            .and_then(|()| rustix::net::sockopt::set_tcp_keepidle(&stream, KEEPALIVE));
        let (closing, cut) = (self.closing.clone(), self.cut.clone());
        let connection = Connection {
            proxy: Arc::clone(&self.proxy),
            client,
            closing,
            builder: self.builder.clone(),
            _counted: Counted::new(Arc::clone(&self.observer)),
            _room: room,
        };
        self.tasks.spawn(async move {
            let _done = cut.run_until_cancelled(connection.serve(stream, tls)).await;
        });
    }

    /// All are done, or the time is up.
    async fn end(self, grace: Duration) {
        self.closing.cancel();
        self.tasks.close();
        let _all = timeout(grace, self.tasks.wait()).await;
        self.cut.cancel();
        self.tasks.wait().await;
    }
}

/// One connection among those that are open.
struct Counted(Arc<dyn Observer>);

impl Counted {
    fn new(observer: Arc<dyn Observer>) -> Self {
        observer.connections(1);
        Self(observer)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.connections(-1);
    }
}

struct Connection {
    proxy: Arc<Proxy>,
    client: Client,
    closing: CancellationToken,
    builder: Builder<TokioExecutor>,
    _counted: Counted,
    _room: OwnedSemaphorePermit,
}

/// Returns some time after `closing`: whoever has just connected is about to ask for something.
async fn too_late(closing: &CancellationToken) {
    closing.cancelled().await;
    sleep(LAST_REQUEST).await;
}

impl Connection {
    async fn serve(self, stream: TcpStream, tls: Option<TlsConfiguration>) {
        let Some(tls) = tls else { return self.speak(stream, false).await };
        let accepted = timeout(HANDSHAKE, TlsAcceptor::from(tls).accept(stream));
        let accepted = tokio::select! {
            accepted = accepted => accepted,
            () = too_late(&self.closing) => return,
        };
        // Whoever has no certificate to be shown, or speaks no TLS, is told so by the library.
        if let Ok(Ok(stream)) = accepted {
            let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            self.speak(stream, http2).await;
        }
    }

    async fn speak<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(self, stream: S, http2: bool) {
        let Self { proxy, client, closing, builder, .. } = self;
        let asked = CancellationToken::new();
        let first = asked.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            first.cancel();
            let (proxy, client) = (Arc::clone(&proxy), client.clone());
            async move { Ok::<_, Infallible>(proxy.answer(&client, request).await) }
        });
        // What was agreed on is spoken: nothing has to be guessed from what comes first.
        let builder = if http2 { builder.http2_only() } else { builder.http1_only() };
        let mut connection =
            std::pin::pin!(builder.serve_connection_with_upgrades(TokioIo::new(stream), service));
        let end = async {
            closing.cancelled().await;
            // Told of the end before it has read anything, the library would not read it.
            tokio::select! {
                () = asked.cancelled() => {}
                () = too_late(&closing) => {}
            }
        };
        // That a client left is no news.
        tokio::select! {
            _left = connection.as_mut() => return,
            () = end => {}
        }
        connection.as_mut().graceful_shutdown();
        let _left = connection.await;
    }
}
