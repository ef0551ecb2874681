//! The way into a pod of this machine.

use super::CommandError;
use crate::client::Client;
use k8s_openapi::api::core::v1::Pod;
use std::path::PathBuf;

/// A container, and whom to ask to be let in.
#[derive(Debug, Clone)]
pub(super) struct Inside {
    /// Where the pod's supervisor answers.
    pub(super) socket: PathBuf,
    pub(super) container: String,
    /// The container's first process, if it runs.
    pub(super) pid: Option<i32>,
    /// The container's group below each hierarchy's root.
    pub(super) cgroup: String,
}

impl Inside {
    /// The way into `container` of `pod`.
    ///
    /// # Errors
    /// If the pod has no process on this machine.
    pub(super) async fn of(client: &Client, pod: &Pod, container: String) -> Result<Self, CommandError> {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        let found = client.inspect(namespace, name).await?;
        let usage = found.containers.into_iter().find(|one| one.name == container);
        let (pid, cgroup) = usage.map(|one| (one.pid, one.cgroup)).unwrap_or_default();
        Ok(Self { socket: found.socket, container, pid, cgroup })
    }
}
