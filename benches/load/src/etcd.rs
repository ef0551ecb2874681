//! etcd's key-value service, as much of it as is needed: <https://etcd.io/docs/v3.4/learning/api/>.

use crate::object::Sample;
use crate::work::{Client, Target};
use anyhow::{Result, anyhow};
use tonic::Request;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic_prost::ProstCodec;

const PUT: &str = "/etcdserverpb.KV/Put";
const RANGE: &str = "/etcdserverpb.KV/Range";

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct PutRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct PutResponse {}

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct RangeRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct RangeResponse {
    #[prost(int64, tag = "4")]
    count: i64,
}

pub(crate) struct Etcd {
    channels: Vec<Channel>,
}

impl Etcd {
    pub(crate) fn new(endpoint: &str, connections: usize) -> Result<Self> {
        let endpoint = Endpoint::from_shared(endpoint.to_owned())?.tcp_nodelay(true);
        Ok(Self { channels: (0..connections.max(1)).map(|_| endpoint.connect_lazy()).collect() })
    }
}

impl Target for Etcd {
    type Client = Connection;

    async fn client(&self, number: usize) -> Result<Connection> {
        Ok(Connection(Grpc::new(self.channels[number % self.channels.len()].clone())))
    }
}

pub(crate) struct Connection(Grpc<Channel>);

impl Connection {
    async fn call<Q, A>(&mut self, path: &'static str, question: Q) -> Result<A>
    where
        Q: prost::Message + Send + Sync + 'static,
        A: prost::Message + Default + Send + Sync + 'static,
    {
        self.0.ready().await?;
        let codec = ProstCodec::<Q, A>::default();
        let answer = self.0.unary(Request::new(question), PathAndQuery::from_static(path), codec).await;
        answer.map(tonic::Response::into_inner).map_err(|status| anyhow!("{status}"))
    }
}

/// Where Kubernetes keeps it.
fn key(name: &str) -> Vec<u8> {
    format!("/registry/configmaps/default/{name}").into_bytes()
}

impl Client for Connection {
    async fn put(&mut self, name: String, sample: &Sample) -> Result<()> {
        let put = PutRequest { key: key(&name), value: sample.text(&name).into_bytes() };
        self.call::<_, PutResponse>(PUT, put).await.map(drop)
    }

    async fn has(&mut self, name: String) -> Result<bool> {
        let answer: RangeResponse = self.call(RANGE, RangeRequest { key: key(&name) }).await?;
        Ok(answer.count > 0)
    }
}
