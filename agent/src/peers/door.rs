//! The port where peers are answered: accepts, shakes hands, and leads each call to who answers it.
//!
//! Whatever comes in on a connection, at worst that connection ends.

use super::desk::Desk;
use super::ears::Ears;
use super::papers::Papers;
use super::passport::Passport;
use super::trust::Stranger;
use super::wire::v1::enrolment_server::EnrolmentServer;
use super::wire::v1::peers_server::PeersServer;
use super::wire::{
    CONNECTION_WINDOW_BYTES, ENROLMENT_PATH, FRAME_BYTES, MAX_MESSAGE_BYTES, MAX_REQUEST_BYTES, PEERS_PATH,
    STREAM_WINDOW_BYTES,
};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use jiff::Timestamp;
use reconciler::peer::Answerer;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{Service as _, http};

/// Who has not shaken hands by then will not.
const PATIENCE: Duration = Duration::from_secs(5);
/// A stranger has that long to say what it wants.
const STRANGERS_TIME: Duration = Duration::from_secs(30);
/// So many shake hands at once.
const HANDSHAKES: usize = 256;
/// So many who are no members speak at once.
const STRANGERS: usize = 64;
/// How long answers that were begun may take when the agent ends.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// A client that says nothing is asked whether it lives, and dropped without an answer.
const SILENCE: Duration = Duration::from_secs(30);
const LAST_WAIT: Duration = Duration::from_secs(10);
/// When the process has no descriptor left, others have to end first.
const FULL: Duration = Duration::from_millis(100);
const MAX_STREAMS: u32 = 1024;

/// Who is at the other end of a connection.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    /// What it showed, or why that is not accepted.
    pub(super) shown: Result<Passport, Stranger>,
    /// Where it calls from.
    pub(super) from: SocketAddr,
}

/// What connections are answered by.
#[derive(Clone)]
pub(super) struct Door {
    papers: Papers,
    peers: PeersServer<Ears>,
    enrolment: Option<EnrolmentServer<Desk>>,
    handshakes: Arc<Semaphore>,
    strangers: Arc<Semaphore>,
}

impl Door {
    pub(super) fn new(papers: Papers, answerer: Arc<dyn Answerer>, desk: Option<Desk>) -> Self {
        let peers = PeersServer::new(Ears(answerer))
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        let enrolment =
            desk.map(|desk| EnrolmentServer::new(desk).max_decoding_message_size(MAX_REQUEST_BYTES));
        let (handshakes, strangers) = (Semaphore::new(HANDSHAKES), Semaphore::new(STRANGERS));
        Self { papers, peers, enrolment, handshakes: Arc::new(handshakes), strangers: Arc::new(strangers) }
    }

    /// Answers on `listener` until `stop`.
    ///
    /// # Errors
    /// If TLS cannot be set up.
    pub(super) async fn serve(
        self,
        listener: TcpListener,
        stop: CancellationToken,
    ) -> Result<(), rustls::Error> {
        let acceptor = TlsAcceptor::from(super::tls::server(self.papers.clone())?);
        let connections = TaskTracker::new();
        loop {
            let accepted = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, from)) => {
                    let connection = self.clone().connection(stream, from, acceptor.clone(), stop.clone());
                    connections.spawn(connection);
                }
                Err(error) => {
                    tracing::warn!(%error, "a peer's connection cannot be accepted");
                    tokio::time::sleep(FULL).await;
                }
            }
        }
        connections.close();
        connections.wait().await;
        Ok(())
    }

    /// One connection, from its handshake to its end.
    async fn connection(
        self,
        stream: TcpStream,
        from: SocketAddr,
        acceptor: TlsAcceptor,
        stop: CancellationToken,
    ) {
        let Ok(handshake) = Arc::clone(&self.handshakes).try_acquire_owned() else {
            tracing::debug!(%from, "too many are at the door");
            return;
        };
        let Ok(stream) = super::dial::prepared(stream) else { return };
        let stream = match tokio::time::timeout(PATIENCE, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                tracing::debug!(%from, %error, "no handshake with a peer");
                return;
            }
            Err(_) => return,
        };
        drop(handshake);
        let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let caller = Caller { shown: self.papers.examine(chain, Timestamp::now()), from };
        let Err(stranger) = &caller.shown else { return self.converse(stream, caller, stop).await };
        tracing::debug!(%from, %stranger, "a stranger is at the door");
        // Its place is free again when it goes, or has to.
        if let Ok(_place) = Arc::clone(&self.strangers).try_acquire_owned() {
            let _gone = tokio::time::timeout(STRANGERS_TIME, self.converse(stream, caller, stop)).await;
        }
    }

    async fn converse(
        self,
        stream: tokio_rustls::server::TlsStream<TcpStream>,
        caller: Caller,
        stop: CancellationToken,
    ) {
        let service = hyper::service::service_fn(move |request| {
            let (door, caller) = (self.clone(), caller.clone());
            async move { Ok::<_, Infallible>(door.answer(request, caller).await) }
        });
        let connection = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_frame_size(FRAME_BYTES)
            .max_concurrent_streams(MAX_STREAMS)
            .keep_alive_interval(SILENCE)
            .keep_alive_timeout(LAST_WAIT)
            .auto_date_header(false)
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = std::pin::pin!(connection);
        // How it ends is the peer's affair: it sees its calls unanswered.
        tokio::select! {
            _ended = &mut connection => {}
            () = stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                let _ended = tokio::time::timeout(LAST_WORDS, connection).await;
            }
        }
    }

    /// The answer to one call. Whether the caller may call is decided before the call is read.
    async fn answer(mut self, mut request: http::Request<Incoming>, caller: Caller) -> http::Response<Body> {
        let path = request.uri().path();
        if path.starts_with(PEERS_PATH) {
            let member = caller.shown.and_then(|passport| {
                self.papers.still(&passport, Timestamp::now())?;
                Ok(passport)
            });
            match member {
                Ok(passport) => request.extensions_mut().insert(passport),
                Err(stranger) => return Status::permission_denied(stranger.to_string()).into_http(),
            };
            return settled(self.peers.call(request).await);
        }
        if path.starts_with(ENROLMENT_PATH)
            && let Some(mut enrolment) = self.enrolment
        {
            request.extensions_mut().insert(caller);
            return settled(enrolment.call(request).await);
        }
        Status::unimplemented(format!("this version of keel does not know {path}")).into_http()
    }
}

fn settled(answer: Result<http::Response<Body>, Infallible>) -> http::Response<Body> {
    match answer {
        Ok(response) => response,
        Err(never) => match never {},
    }
}
