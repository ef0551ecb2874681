//! The network as the agent's node has it.

use super::{Client, ClientError, Query};
use crate::net::{Overview, Trace};
use hyper::Method;

impl Client {
    /// Who has which address, and where packets go.
    ///
    /// # Errors
    /// The connection's errors, and the kernel's.
    pub(crate) async fn net(&self) -> Result<Overview, ClientError> {
        self.json(Method::GET, "/evenkeel/v1alpha1/net", None).await
    }

    /// What packets of a pod to somebody go through. `to` is as for `keel net trace`.
    ///
    /// # Errors
    /// [`ClientError::Status`] if one of them is not there, or the pod is on another node; the connection's errors.
    pub(crate) async fn trace(
        &self,
        (namespace, pod): (&str, &str),
        to: &str,
        protocol: &str,
    ) -> Result<Trace, ClientError> {
        let mut query = Query::default();
        query.push("to", to).push("protocol", protocol);
        let target = format!("/evenkeel/v1alpha1/pods/{namespace}/{pod}/trace");
        self.json(Method::GET, &query.on(&target), None).await
    }
}
