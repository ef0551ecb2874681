//! From an HTTP request to streams.

use super::client::{Connection, over_spdy};
use super::forward;
use super::remote::{self, Target};
use super::spdy::Session;
use super::websocket::{self, V4, V5};
use axum::extract::{FromRequestParts as _, Request, WebSocketUpgrade};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use hyper_util::rt::TokioIo;
use std::path::PathBuf;

/// Named by clients and servers of remote commands and of forwarded ports over SPDY.
const STREAM_PROTOCOL: HeaderName = HeaderName::from_static("x-stream-protocol-version");
/// Named by servers that speak none of what the client offers.
const ACCEPTED: HeaderName = HeaderName::from_static("x-accepted-stream-protocol-versions");
const SPDY: &str = "SPDY/3.1";
const PORT_FORWARD: &str = "portforward.k8s.io";
/// SPDY/3.1 in the messages of a WebSocket.
const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";

/// How a client wants to go on.
enum Upgrade {
    WebSocket,
    Spdy,
}

fn wanted_upgrade(headers: &HeaderMap) -> Option<Upgrade> {
    let mut words = headers.get_all(header::UPGRADE).iter().filter_map(|value| value.to_str().ok());
    words.find_map(|word| match word {
        word if word.eq_ignore_ascii_case("websocket") => Some(Upgrade::WebSocket),
        word if word.eq_ignore_ascii_case(SPDY) => Some(Upgrade::Spdy),
        _ => None,
    })
}

fn refuse(code: StatusCode, message: &str) -> Response {
    (code, message.to_owned()).into_response()
}

fn no_upgrade() -> Response {
    refuse(StatusCode::BAD_REQUEST, "this path wants an upgrade to SPDY/3.1 or WebSocket")
}

/// The values of a header that holds lists.
fn listed<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Vec<&'a str> {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).collect()
}

/// The request goes over to a command in a container, or to the container itself.
pub(crate) async fn remote_command(request: Request, target: Target) -> Response {
    match wanted_upgrade(request.headers()) {
        Some(Upgrade::WebSocket) => {
            let offered = listed(request.headers(), &header::SEC_WEBSOCKET_PROTOCOL);
            if !offered.iter().any(|one| [V5, V4].contains(one)) {
                return refuse(
                    StatusCode::BAD_REQUEST,
                    "the subprotocols here are v5.channel.k8s.io and v4.channel.k8s.io",
                );
            }
            over_websocket(request, &[V5, V4], |socket| async move {
                let (client, channels) = websocket::channels(socket, target.wanted);
                remote::serve(target, client).await;
                Connection::WebSocket(channels).close().await;
            })
            .await
        }
        Some(Upgrade::Spdy) => over_spdy_connection(request, V4, |mut session| async move {
            match over_spdy(&mut session, target.wanted).await {
                Some(client) => remote::serve(target, client).await,
                None => tracing::debug!("a client did not open its streams"),
            }
            Connection::Spdy(session).close().await;
        }),
        None => no_upgrade(),
    }
}

/// The request goes over to connections to the ports of a pod, whose supervisor's socket this is.
pub(crate) async fn port_forward(request: Request, socket: PathBuf) -> Response {
    match wanted_upgrade(request.headers()) {
        Some(Upgrade::WebSocket) => {
            if !listed(request.headers(), &header::SEC_WEBSOCKET_PROTOCOL).contains(&TUNNEL) {
                return refuse(
                    StatusCode::BAD_REQUEST,
                    "the subprotocol here is SPDY/3.1+portforward.k8s.io",
                );
            }
            over_websocket(request, &[TUNNEL], |tunnel| async move {
                forward::serve(Session::start(websocket::tunnel(tunnel)), socket).await;
            })
            .await
        }
        Some(Upgrade::Spdy) => {
            over_spdy_connection(request, PORT_FORWARD, |session| forward::serve(session, socket))
        }
        None => no_upgrade(),
    }
}

async fn over_websocket<F>(
    request: Request,
    protocols: &'static [&'static str],
    serve: impl FnOnce(axum::extract::ws::WebSocket) -> F + Send + 'static,
) -> Response
where
    F: Future<Output = ()> + Send + 'static,
{
    let (mut parts, _) = request.into_parts();
    match WebSocketUpgrade::from_request_parts(&mut parts, &()).await {
        Ok(upgrade) => upgrade.protocols(protocols.iter().copied()).on_upgrade(serve),
        Err(rejection) => rejection.into_response(),
    }
}

fn over_spdy_connection<F>(
    mut request: Request,
    protocol: &'static str,
    serve: impl FnOnce(Session) -> F + Send + 'static,
) -> Response
where
    F: Future<Output = ()> + Send + 'static,
{
    let offered = listed(request.headers(), &STREAM_PROTOCOL);
    // A client that names none is content with any.
    if !offered.is_empty() && !offered.contains(&protocol) {
        let accepted = [(ACCEPTED, HeaderValue::from_static(protocol))];
        let message = format!("the stream protocol here is {protocol}");
        return (StatusCode::FORBIDDEN, accepted, message).into_response();
    }
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        match upgrade.await {
            Ok(upgraded) => serve(Session::start(TokioIo::new(upgraded))).await,
            Err(error) => tracing::debug!(%error, "a client did not go on after its upgrade"),
        }
    });
    let headers = [
        (header::CONNECTION, HeaderValue::from_static("Upgrade")),
        (header::UPGRADE, HeaderValue::from_static(SPDY)),
        (STREAM_PROTOCOL, HeaderValue::from_static(protocol)),
    ];
    (StatusCode::SWITCHING_PROTOCOLS, headers).into_response()
}
