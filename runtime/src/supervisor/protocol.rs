//! What is said on a supervisor's socket: one JSON object per line, each way.
//!
//! The supervisor speaks first, with [`Reply::Hello`]. Every request gets one reply, in
//! order; after [`Request::Subscribe`] a [`Reply::State`] also comes at each change.

use crate::state::PodState;
use serde::{Deserialize, Serialize};

/// Raised when an old side would misunderstand a new one.
pub const VERSION: u32 = 1;

/// The longest line that a supervisor reads.
pub const MAX_REQUEST_BYTES: usize = 64 * 1024;

/// What a supervisor can be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Request {
    /// Report the state once.
    Status,
    /// Report the state now and at each change.
    Subscribe,
    /// The network is there: run the containers. Repeating it is harmless.
    Start {
        /// The pod's addresses.
        addresses: Vec<String>,
    },
    /// End the pod. Repeating it can only shorten the grace.
    Stop {
        /// Seconds between the stop signal and SIGKILL.
        grace_seconds: u32,
    },
    /// Send a signal to a container's first process.
    Signal {
        /// Its name.
        container: String,
        /// The signal's number.
        signal: i32,
    },
}

/// What a supervisor says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Reply {
    /// First on every connection.
    Hello {
        /// [`VERSION`] of the supervisor.
        version: u32,
    },
    /// Done, or begun.
    Done,
    /// The pod as it is.
    State(Box<PodState>),
    /// The request was not understood or could not be done.
    Error {
        /// For a person.
        message: String,
    },
}
