//! The Kubernetes API at an agent's socket.

use crate::object::Sample;
use crate::work::{Client, Target};
use anyhow::{Result, bail};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use std::path::PathBuf;
use tokio::net::UnixStream;

const PATH: &str = "/api/v1/namespaces/default/configmaps";

pub(crate) struct Api {
    pub(crate) socket: PathBuf,
}

impl Target for Api {
    type Client = Connection;

    async fn client(&self, _: usize) -> Result<Connection> {
        let stream = UnixStream::connect(&self.socket).await?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        // Ends with the connection; whoever asks hears of its errors.
        tokio::spawn(async { drop(connection.await) });
        Ok(Connection(sender))
    }
}

/// One connection, kept from one request to the next.
pub(crate) struct Connection(SendRequest<Full<Bytes>>);

impl Connection {
    async fn call(&mut self, method: Method, path: String, body: String) -> Result<(StatusCode, Bytes)> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "localhost")
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body)))?;
        self.0.ready().await?;
        let response = self.0.send_request(request).await?;
        let status = response.status();
        Ok((status, response.into_body().collect().await?.to_bytes()))
    }
}

impl Client for Connection {
    async fn put(&mut self, name: String, sample: &Sample) -> Result<()> {
        let (status, body) = self.call(Method::PUT, format!("{PATH}/{name}"), sample.text(&name)).await?;
        if !status.is_success() {
            bail!("{status}: {}", String::from_utf8_lossy(&body));
        }
        Ok(())
    }

    async fn has(&mut self, name: String) -> Result<bool> {
        let (status, _) = self.call(Method::GET, format!("{PATH}/{name}"), String::new()).await?;
        Ok(status.is_success())
    }
}
