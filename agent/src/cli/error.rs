//! Why a command could not do what it was told.

use crate::client::ClientError;
use std::io;
use std::path::PathBuf;

/// The end of a command that failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommandError {
    /// The agent could not be asked, or said no.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Nobody came into the pod.
    #[error(transparent)]
    Inside(#[from] runtime::pods::InsideError),
    /// The node did not become a member.
    #[error(transparent)]
    Join(#[from] crate::peers::MembershipError),
    /// Files were not all copied.
    #[error(transparent)]
    Copy(#[from] super::cp::CopyError),
    /// A container has no process now.
    #[error("container {container} does not run")]
    NotRunning {
        /// Its name.
        container: String,
    },
    /// A container does not come to run.
    #[error("container {container} cannot begin: {reason}: {message}")]
    NotBegun {
        /// Its name.
        container: String,
        /// One word.
        reason: String,
        /// For a person.
        message: String,
    },
    /// A pod or service has no such port.
    #[error("there is no port {port}; there are: {known}")]
    NoPort {
        /// Asked for.
        port: String,
        /// Those that there are, for a person.
        known: String,
    },
    /// A local port cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// Where.
        address: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Standard output cannot be written.
    #[error("cannot write the output")]
    Output(#[source] io::Error),
    /// No thread or descriptor was left.
    #[error("cannot start")]
    Runtime(#[source] io::Error),
    /// A file or folder cannot be read.
    #[error("cannot read {}", .path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {}", .path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The node's store cannot be begun anew.
    #[error("the store is as it was")]
    Store(#[source] reconciler::store::OpenError),
    /// That the node is to rejoin cannot be kept.
    #[error("the store is as it was")]
    Keep(#[source] crate::peers::FolderError),
    /// The agent's configuration is none.
    #[error("the agent's configuration has mistakes:\n{reason}")]
    Configuration {
        /// What is wrong, for a person.
        reason: String,
    },
    /// No kind is called so.
    #[error("there is no kind {word:?}; there are: {known}")]
    UnknownKind {
        /// What was asked for.
        word: String,
        /// Every kind, for a person.
        known: String,
    },
    /// The arguments name no object, or contradict one another.
    #[error("{0}")]
    Usage(&'static str),
    /// A word of the arguments cannot be understood.
    #[error("{word:?}: {wanted}")]
    Word {
        /// The word.
        word: String,
        /// What could stand there.
        wanted: &'static str,
    },
    /// Something is there, and of another value.
    #[error("{object} has {what} already; --overwrite replaces it")]
    IsSet {
        /// The object.
        object: String,
        /// The label or taint.
        what: String,
    },
    /// A taint that is to go is not there.
    #[error("node/{node} has no taint {taint}")]
    NoTaint {
        /// The node.
        node: String,
        /// The taint.
        taint: String,
    },
    /// A node still has pods; it is cordoned.
    #[error("unable to drain node {node:?} (it is cordoned): {reason}")]
    NotDrained {
        /// The node.
        node: String,
        /// Why.
        reason: String,
    },
    /// A workload has no pod.
    #[error("{object} has no pod{}", if .namespace.is_empty() { String::new() } else { format!(" in {} namespace", .namespace) })]
    NoPods {
        /// The workload, or the selector.
        object: String,
        /// Where.
        namespace: String,
    },
    /// A pod has no such container.
    #[error("container {container} is not in pod {pod}; it has: {known}")]
    NoContainer {
        /// Asked for.
        container: String,
        /// The pod.
        pod: String,
        /// Its containers.
        known: String,
    },
    /// An image was not pulled.
    #[error("cannot pull {reference}: {reason}")]
    Pull {
        /// Asked for.
        reference: String,
        /// Why not.
        reason: String,
    },
    /// An object cannot be written as YAML.
    #[error("cannot write the object as YAML: {reason}")]
    Yaml {
        /// Why.
        reason: String,
    },
    /// An object cannot be written as JSON.
    #[error("cannot write the object as JSON")]
    Json(#[source] serde_json::Error),
}
