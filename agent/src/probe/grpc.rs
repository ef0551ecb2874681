//! The health check of gRPC: <https://grpc.io/docs/guides/health-checking/>.

use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Endpoint;
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;

const CHECK: &str = "/grpc.health.v1.Health/Check";

#[derive(Clone, PartialEq, prost::Message)]
struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    service: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct HealthCheckResponse {
    #[prost(enumeration = "ServingStatus", tag = "1")]
    status: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
enum ServingStatus {
    Unknown = 0,
    Serving = 1,
    NotServing = 2,
    ServiceUnknown = 3,
}

/// Asks the server at `authority` whether `service` serves.
///
/// # Errors
/// The kubelet's words, if it does not or cannot be asked.
pub(super) async fn check(authority: &str, service: &str) -> Result<(), String> {
    let unreachable =
        |error: &dyn std::error::Error| format!("dial tcp {authority}: {}", crate::chain::chain(error));
    let endpoint =
        Endpoint::from_shared(format!("http://{authority}")).map_err(|error| unreachable(&error))?;
    let endpoint = endpoint.user_agent(super::USER_AGENT).map_err(|error| unreachable(&error))?;
    let channel = endpoint.connect().await.map_err(|error| unreachable(&error))?;
    let mut client = Grpc::new(channel);
    client.ready().await.map_err(|error| unreachable(&error))?;
    let request = Request::new(HealthCheckRequest { service: service.to_owned() });
    let codec = ProstCodec::<HealthCheckRequest, HealthCheckResponse>::default();
    match client.unary(request, PathAndQuery::from_static(CHECK), codec).await {
        Ok(response) => verdict(response.into_inner().status()),
        Err(status) => Err(refusal(&status)),
    }
}

fn verdict(status: ServingStatus) -> Result<(), String> {
    let word = match status {
        ServingStatus::Serving => return Ok(()),
        ServingStatus::Unknown => "UNKNOWN",
        ServingStatus::NotServing => "NOT_SERVING",
        ServingStatus::ServiceUnknown => "SERVICE_UNKNOWN",
    };
    Err(format!("service unhealthy (responded with {word:?})"))
}

fn refusal(status: &Status) -> String {
    if status.code() == Code::Unimplemented {
        return format!(
            "this server does not implement the grpc health protocol (grpc.health.v1.Health): {}",
            status.message()
        );
    }
    format!("health rpc probe failed: {}: {}", status.code(), status.message())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use http_body_util::{BodyExt as _, Full};
    use hyper::header::{HeaderMap, HeaderValue};
    use hyper::{Response, body::Incoming};
    use hyper_util::rt::{TokioExecutor, TokioIo};
    use prost::Message as _;
    use std::convert::Infallible;

    /// A server that answers as its service is called.
    async fn serve() -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let _server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                let connection =
                    server.serve_connection(TokioIo::new(stream), hyper::service::service_fn(answer));
                let _connection = tokio::spawn(connection);
            }
        });
        address
    }

    async fn answer(
        request: hyper::Request<Incoming>,
    ) -> Result<Response<http_body_util::combinators::BoxBody<Bytes, Infallible>>, Infallible> {
        assert_eq!(request.uri().path(), CHECK);
        assert!(request.headers()["user-agent"].to_str().unwrap().starts_with("kube-probe/"));
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let service = HealthCheckRequest::decode(&body[5..]).unwrap().service;
        let (code, status) = match service.as_str() {
            "" => ("0", ServingStatus::Serving),
            "sick" => ("0", ServingStatus::NotServing),
            _ => ("12", ServingStatus::Unknown),
        };
        let message = HealthCheckResponse { status: status as i32 }.encode_to_vec();
        let mut frame = vec![0, 0, 0, 0, u8::try_from(message.len()).unwrap()];
        frame.extend(message);
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static(code));
        let frame = if code == "0" { Bytes::from(frame) } else { Bytes::new() };
        let body = Full::new(frame).with_trailers(async move { Some(Ok(trailers)) }).boxed();
        Ok(Response::builder().header("content-type", "application/grpc").body(body).unwrap())
    }

    #[tokio::test]
    async fn a_server_says_how_its_services_are() {
        let address = serve().await;
        assert_eq!(check(&address, "").await, Ok(()));
        assert_eq!(
            check(&address, "sick").await,
            Err("service unhealthy (responded with \"NOT_SERVING\")".to_owned())
        );
        let unknown = check(&address, "other").await.unwrap_err();
        assert!(unknown.starts_with("this server does not implement the grpc health protocol"), "{unknown}");
    }

    #[tokio::test]
    async fn nobody_there_is_told() {
        let address = {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            listener.local_addr().unwrap().to_string()
        };
        let error = check(&address, "").await.unwrap_err();
        assert!(error.starts_with(&format!("dial tcp {address}: ")), "{error}");
    }
}
