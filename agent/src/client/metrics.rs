//! The metrics API: what pods and the node use.

use super::path::encode;
use super::{Client, ClientError, Query};
use hyper::Method;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use manifests::quantity::Quantity;
use serde::Deserialize;

const BASE: &str = "/apis/metrics.k8s.io/v1beta1";

/// Of a pod its containers' usage, of a node its own.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Metrics {
    /// Whose.
    pub(crate) metadata: ObjectMeta,
    /// Of a pod: those that run.
    pub(crate) containers: Vec<ContainerMetrics>,
    /// Of a node.
    pub(crate) usage: Usage,
    /// Of a pod with a network of its own.
    pub(crate) network: Option<Network>,
}

/// Quantities of bytes per second.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Network {
    pub(crate) received: String,
    pub(crate) sent: String,
}

/// What a container uses.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct ContainerMetrics {
    /// Its name in the pod.
    pub(crate) name: String,
    pub(crate) usage: Usage,
}

/// Quantities, as Kubernetes writes them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Usage {
    /// In cores.
    pub(crate) cpu: String,
    /// In bytes.
    pub(crate) memory: String,
}

#[derive(Debug, Deserialize)]
struct MetricsList {
    items: Vec<Metrics>,
}

impl Usage {
    /// The usage of so many thousandths of a core, and bytes.
    pub(crate) fn new(millicores: u64, memory_bytes: u64) -> Self {
        Self { cpu: format!("{millicores}m"), memory: memory_bytes.to_string() }
    }

    /// CPU in thousandths of a core, rounded up; 0 if it is no quantity.
    pub(crate) fn millicores(&self) -> u64 {
        Quantity::parse(&self.cpu).map_or(0, |cpu| cpu.millis_ceil().unsigned_abs())
    }

    /// Memory in bytes; 0 if it is no quantity.
    pub(crate) fn memory_bytes(&self) -> u64 {
        Quantity::parse(&self.memory).map_or(0, |memory| memory.bytes_ceil().unsigned_abs())
    }
}

impl Client {
    /// What the pod uses now; takes a second.
    ///
    /// # Errors
    /// [`ClientError::Status`] if it does not run here; the connection's errors.
    pub(crate) async fn pod_metrics(&self, namespace: &str, name: &str) -> Result<Metrics, ClientError> {
        let target = format!("{BASE}/namespaces/{}/pods/{}", encode(namespace), encode(name));
        self.json(Method::GET, &target, None).await
    }

    /// What the pods of a namespace, or all, use now; takes a second.
    ///
    /// # Errors
    /// The connection's errors.
    pub(crate) async fn pods_metrics(
        &self,
        namespace: Option<&str>,
        query: &Query,
    ) -> Result<Vec<Metrics>, ClientError> {
        let within = namespace.map(|name| format!("/namespaces/{}", encode(name))).unwrap_or_default();
        let list: MetricsList =
            self.json(Method::GET, &query.on(&format!("{BASE}{within}/pods")), None).await?;
        Ok(list.items)
    }

    /// What the nodes use now; takes a second.
    ///
    /// # Errors
    /// The connection's errors.
    pub(crate) async fn node_metrics(&self) -> Result<Vec<Metrics>, ClientError> {
        let list: MetricsList = self.json(Method::GET, &format!("{BASE}/nodes"), None).await?;
        Ok(list.items)
    }
}
