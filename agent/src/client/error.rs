//! What can go wrong between the client and the agent.

use hyper::StatusCode;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use manifests::Kind;
use std::io;
use std::path::{Path, PathBuf};

/// A request that had no good end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// No agent has made the socket.
    #[error(
        "no agent listens on {}: is it running? Start it with `keel agent --config FILE`, or name its socket \
         with --socket, --config or KEEL_SOCKET", .socket.display()
    )]
    NoAgent {
        /// Where it was looked for.
        socket: PathBuf,
    },
    /// The socket is there, but nobody answers.
    #[error(
        "nobody answers on {}: is the agent running? It may have been stopped; start it with `keel agent \
         --config FILE`", .socket.display()
    )]
    Refused {
        /// The socket.
        socket: PathBuf,
    },
    /// The socket is its owner's only.
    #[error("{} is not yours to use: the agent's socket is its owner's only; try as root", .socket.display())]
    Denied {
        /// The socket.
        socket: PathBuf,
    },
    /// The socket cannot be connected to for another reason.
    #[error("cannot connect to {}", .socket.display())]
    Connect {
        /// The socket.
        socket: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The connection broke before the answer.
    #[error("the agent on {} closed the connection", .socket.display())]
    Broken {
        /// The socket.
        socket: PathBuf,
        /// Why.
        #[source]
        source: hyper::Error,
    },
    /// The connection broke within the answer.
    #[error("the agent's answer was cut off")]
    Interrupted(#[source] hyper::Error),
    /// A name makes no address.
    #[error("{target:?} cannot be asked for")]
    Target {
        /// What was to be asked for.
        target: String,
        /// Why.
        #[source]
        source: hyper::http::Error,
    },
    /// The agent said no.
    #[error("{message}")]
    Status {
        /// HTTP status.
        code: u16,
        /// Kubernetes' word: `NotFound`, `Conflict`…
        reason: String,
        /// For a person.
        message: String,
    },
    /// The answer is not what was asked for.
    #[error("the agent's answer to {target} is not understood; are keel and the agent of the same version?")]
    Decode {
        /// What was asked for.
        target: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// An object is not of its kind's shape.
    #[error("the agent sent a {kind} that is not understood; are keel and the agent of the same version?")]
    Object {
        /// What it should have been.
        kind: Kind,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}

impl ClientError {
    pub(super) fn connect(socket: &Path, source: io::Error) -> Self {
        let socket = socket.to_owned();
        let kind = source.kind();
        if kind == io::ErrorKind::NotFound {
            Self::NoAgent { socket }
        } else if kind == io::ErrorKind::ConnectionRefused {
            Self::Refused { socket }
        } else if kind == io::ErrorKind::PermissionDenied {
            Self::Denied { socket }
        } else {
            Self::Connect { socket, source }
        }
    }

    /// The error in an answer: a Kubernetes Status if it is one, else its text.
    pub(super) fn from_answer(code: StatusCode, body: &[u8]) -> Self {
        match serde_json::from_slice::<Status>(body) {
            Ok(Status { message: Some(message), reason, .. }) => {
                Self::Status { code: code.as_u16(), reason: reason.unwrap_or_default(), message }
            }
            Ok(_) | Err(_) => Self::Status {
                code: code.as_u16(),
                reason: String::new(),
                message: format!("the agent answered {code}: {}", String::from_utf8_lossy(body).trim()),
            },
        }
    }

    /// True if what was asked for does not exist.
    pub(crate) const fn is_not_found(&self) -> bool {
        matches!(self, Self::Status { code: 404, .. })
    }

    /// True if somebody else changed the object first.
    pub(crate) const fn is_conflict(&self) -> bool {
        matches!(self, Self::Status { code: 409, .. })
    }
}
