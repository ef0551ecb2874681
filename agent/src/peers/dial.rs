//! Opens one connection to a peer.

use super::papers::Papers;
use super::tls::{self, Expected};
use super::trust::Stranger;
use super::wire::{CONNECTION_WINDOW_BYTES, FRAME_BYTES, STREAM_WINDOW_BYTES};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::pki_types::ServerName;
use rustls::{CertificateError, OtherError};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::body::Body;
use tonic::codegen::{Service, http};

/// A peer that does not answer the connection itself in this time is not there.
const PATIENCE: Duration = Duration::from_secs(3);
/// While an answer is waited for, a silent peer is asked whether it lives, and believed dead
/// without a sign of life after that.
const SILENCE: Duration = Duration::from_secs(2);
const LAST_WAIT: Duration = Duration::from_secs(2);
/// The same for connections that nobody uses, by the kernel.
const IDLE: libc::c_int = 30;

/// No connection came to be: nothing was sent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    /// Nobody listens there, or nothing leads there.
    #[error("cannot connect to {address}")]
    Connect {
        /// Where.
        address: String,
        /// What the kernel says.
        #[source]
        source: io::Error,
    },
    /// It is not whom we look for.
    #[error("{address} is not trusted")]
    Stranger {
        /// Where.
        address: String,
        /// Why not.
        #[source]
        source: Stranger,
    },
    /// It is no peer at all, or does not want to be ours.
    #[error("no handshake with {address}")]
    Handshake {
        /// Where.
        address: String,
        /// What TLS says.
        #[source]
        source: io::Error,
    },
    /// It speaks another protocol.
    #[error("{address} does not speak HTTP/2")]
    Protocol {
        /// Where.
        address: String,
        /// What went wrong.
        #[source]
        source: hyper::Error,
    },
    /// Nothing came of it in time.
    #[error("{address} did not answer in {} s", PATIENCE.as_secs())]
    Silent {
        /// Where.
        address: String,
    },
    /// TLS cannot be set up.
    #[error("TLS cannot be set up")]
    Tls(#[source] rustls::Error),
    /// A peer was tried lately, without success; it is left alone for a moment.
    #[error("{address} could not be reached {failures} times in a row")]
    Resting {
        /// Where.
        address: String,
        /// How often.
        failures: u32,
        /// Why it could not be the last time.
        #[source]
        source: std::sync::Arc<DialError>,
    },
}

/// An open connection. Its clones share it; it closes when the last is dropped and the last
/// answer came.
#[derive(Debug, Clone)]
pub(super) struct Line(http2::SendRequest<Body>);

impl Line {
    /// Whether nothing can be sent any more.
    pub(super) fn is_closed(&self) -> bool {
        self.0.is_closed()
    }
}

impl Service<http::Request<Body>> for Line {
    type Response = http::Response<hyper::body::Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, hyper::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}

/// Connects to `address`, where `expected` has to be.
///
/// # Errors
/// Why not; nothing was sent.
///
/// # Cancel safety
/// Dropping it drops the connection.
pub(super) async fn dial(
    address: &str,
    expected: Expected,
    papers: Option<Papers>,
) -> Result<Line, DialError> {
    let opened = tokio::time::timeout(PATIENCE, open(address, expected, papers)).await;
    opened.unwrap_or_else(|_| Err(DialError::Silent { address: address.to_owned() }))
}

async fn open(address: &str, expected: Expected, papers: Option<Papers>) -> Result<Line, DialError> {
    let to = || address.to_owned();
    let connector = TlsConnector::from(tls::client(expected, papers).map_err(DialError::Tls)?);
    let stream = TcpStream::connect(address)
        .await
        .and_then(prepared)
        .map_err(|source| DialError::Connect { address: to(), source })?;
    let name = ServerName::try_from("peer.keel").map_err(|_| DialError::Silent { address: to() })?;
    let stream = connector.connect(name, stream).await.map_err(|source| match stranger(&source) {
        Some(source) => DialError::Stranger { address: to(), source },
        None => DialError::Handshake { address: to(), source },
    })?;
    let (line, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES)
        .keep_alive_interval(SILENCE)
        .keep_alive_timeout(LAST_WAIT)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|source| DialError::Protocol { address: to(), source })?;
    // It ends with the last user of the line, or with the peer; who uses it is told then.
    let _connection = tokio::spawn(connection);
    Ok(Line(line))
}

/// Our own verdict, out of what TLS made of it.
fn stranger(error: &io::Error) -> Option<Stranger> {
    let error = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    let rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(verdict))) = error else {
        return None;
    };
    verdict.downcast_ref::<Stranger>().cloned()
}

/// `stream`, for small messages that cannot wait.
pub(super) fn prepared(stream: TcpStream) -> io::Result<TcpStream> {
    stream.set_nodelay(true)?;
    nix::sys::socket::setsockopt(&stream, nix::sys::socket::sockopt::KeepAlive, &true)?;
    let idle = IDLE.unsigned_abs();
    nix::sys::socket::setsockopt(&stream, nix::sys::socket::sockopt::TcpKeepIdle, &idle)?;
    nix::sys::socket::setsockopt(&stream, nix::sys::socket::sockopt::TcpKeepInterval, &5)?;
    nix::sys::socket::setsockopt(&stream, nix::sys::socket::sockopt::TcpKeepCount, &3)?;
    Ok(stream)
}
