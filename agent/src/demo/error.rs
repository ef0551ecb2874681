//! Why the story did not come true.

use super::repository::RepositoryError;
use crate::client::ClientError;
use std::io;
use std::path::PathBuf;

/// The end of a demo that failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum DemoError {
    /// A file or folder of the demo.
    #[error("{}", .path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Every name that would do is taken.
    #[error("no {0} is free on this machine")]
    NothingFree(&'static str),
    /// The repository.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    /// The agent's API.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The agent cannot be started.
    #[error("the agent cannot be started")]
    Start(#[source] io::Error),
    /// The agent cannot be stopped.
    #[error("the agent cannot be stopped")]
    Stop(#[source] io::Error),
    /// The agent ended by itself, or badly.
    #[error("the agent ended where it should not, or with an error")]
    AgentEnded,
    /// A promise did not come true in time.
    #[error("waited in vain for {what}")]
    Late {
        /// For what.
        what: String,
    },
    /// A promise was broken.
    #[error("{0}")]
    Broken(String),
    /// The kernel refused to send a signal.
    #[error("cannot kill process {pid}")]
    Kill {
        /// Which.
        pid: i32,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The pods' network is none.
    #[error("the demo's network")]
    Cidr(#[source] netstack::CidrError),
    /// The bridge cannot be removed.
    #[error("the demo's bridge cannot be removed")]
    Network(#[source] netstack::NetworkError),
    /// The user had enough.
    #[error("interrupted; clearing up")]
    Interrupted,
}
