//! Ports of the node that tell load balancers of others whether it has endpoints of a service:
//! `healthCheckNodePort`. What they say, and how, is kube-proxy's.

use axum::Router;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use netstack::ServiceName;
use serde_json::json;
use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

/// After how long a port that somebody else has is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// What a service wants to be told of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Health {
    /// The port of the node.
    pub(super) port: u16,
    /// Endpoints on this node that are ready.
    pub(super) local: usize,
}

/// The ports that are answered. Nobody answers after it is dropped.
#[derive(Debug, Default)]
pub(super) struct HealthPorts {
    servers: BTreeMap<ServiceName, Server>,
    tasks: JoinSet<()>,
}

#[derive(Debug)]
struct Server {
    port: u16,
    local: watch::Sender<usize>,
    task: AbortHandle,
}

impl HealthPorts {
    /// The service wants to be told of like that, or not at all.
    pub(super) fn set(&mut self, name: &ServiceName, health: Option<Health>) {
        let known = self.servers.get(name);
        if let (Some(server), Some(health)) = (known, health)
            && server.port == health.port
        {
            server.local.send_if_modified(|local| std::mem::replace(local, health.local) != health.local);
            return;
        }
        if let Some(server) = self.servers.remove(name) {
            server.task.abort();
        }
        // Those that were aborted.
        while self.tasks.try_join_next().is_some() {}
        if let Some(Health { port, local }) = health {
            let (local, told) = watch::channel(local);
            let task = self.tasks.spawn(serve(name.clone(), port, told));
            self.servers.insert(name.clone(), Server { port, local, task });
        }
    }

    /// Exactly these services are told of.
    pub(super) fn replace(&mut self, all: &BTreeMap<ServiceName, Health>) {
        let gone: Vec<_> = self.servers.keys().filter(|name| !all.contains_key(name)).cloned().collect();
        gone.iter().for_each(|name| self.set(name, None));
        all.iter().for_each(|(name, health)| self.set(name, Some(*health)));
    }
}

async fn serve(name: ServiceName, port: u16, local: watch::Receiver<usize>) {
    let mut said = false;
    loop {
        let router = {
            let (name, local) = (name.clone(), local.clone());
            Router::new().fallback(move || std::future::ready(answer(&name, *local.borrow())))
        };
        let ended = match listen(port).await {
            Ok(listener) => axum::serve(listener, router).await,
            Err(error) => Err(error),
        };
        if let Err(error) = ended
            && !std::mem::replace(&mut said, true)
        {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(service = %name, port, error, "cannot tell of the service's health; it is tried again");
        }
        tokio::time::sleep(RETRY).await;
    }
}

async fn listen(port: u16) -> io::Result<TcpListener> {
    match TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).await {
        // Where there is no IPv6.
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error()) => {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await
        }
        other => other,
    }
}

/// Source: `kube-proxy`, `pkg/proxy/healthcheck/service_health.go`.
fn answer(name: &ServiceName, local: usize) -> Response {
    let body = json!({
        "service": {"namespace": name.namespace, "name": name.name},
        "localEndpoints": local,
        "serviceProxyHealthy": true,
    });
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(HeaderName::from_static("x-load-balancing-endpoint-weight"), HeaderValue::from(local));
    let status = if local > 0 { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, headers, body.to_string()).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    fn name() -> ServiceName {
        ServiceName { namespace: "shop".into(), name: "web".into() }
    }

    async fn ask(port: u16) -> String {
        let mut stream = loop {
            match tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await {
                Ok(stream) => break stream,
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        };
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text.to_ascii_lowercase()
    }

    #[tokio::test]
    async fn a_port_tells_how_many_endpoints_are_here_and_503_if_none_is() {
        let free = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let mut ports = HealthPorts::default();
        ports.set(&name(), Some(Health { port, local: 2 }));
        let told = ask(port).await;
        assert!(told.starts_with("http/1.1 200 ") && told.contains("application/json"), "{told}");
        assert!(told.contains("x-load-balancing-endpoint-weight: 2"), "{told}");
        let body: serde_json::Value = serde_json::from_str(told.lines().last().unwrap()).unwrap();
        let service = json!({"namespace": "shop", "name": "web"});
        assert_eq!(body, json!({"service": service, "localendpoints": 2, "serviceproxyhealthy": true}));
        ports.replace(&BTreeMap::from([(name(), Health { port, local: 0 })]));
        let told = ask(port).await;
        assert!(told.starts_with("http/1.1 503 ") && told.contains("\"localendpoints\":0"), "{told}");
        ports.replace(&BTreeMap::new());
        while tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_ok() {
            tokio::task::yield_now().await;
        }
    }
}
