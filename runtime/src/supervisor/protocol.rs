//! What is said on a supervisor's socket: one JSON object per line, each way.
//!
//! The supervisor speaks first, with [`Reply::Hello`]. Every request gets one reply, in
//! order; after [`Request::Subscribe`] a [`Reply::State`] also comes at each change.

use crate::plan::Resources;
use crate::state::PodState;
use serde::{Deserialize, Serialize};

/// Raised when an old side would misunderstand a new one.
pub const VERSION: u32 = 3;

/// The oldest supervisor that runs processes for others, and connects them.
pub const OLDEST_INSIDE: u32 = 2;

/// The oldest supervisor that lets others look at its containers' streams.
pub const OLDEST_ATTACH: u32 = 3;

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
    /// Run one more process in a container. Descriptors come with the line: standard input,
    /// output and error, or with `tty` the one end of a socket through which the terminal
    /// comes back. [`Reply::Exited`] follows when it has ended.
    Exec {
        /// Its name.
        container: String,
        /// The program and its arguments.
        args: Vec<String>,
        /// `NAME=value`, beside the container's own.
        env: Vec<String>,
        /// Else the container's own.
        cwd: Option<String>,
        /// `user[:group]`, else the container's own.
        user: Option<String>,
        /// With a terminal of its own.
        tty: bool,
    },
    /// SIGKILL to the processes that this connection has asked for; each is answered as ever.
    KillExec,
    /// Connect to a port of the pod's loopback: the socket comes with the answer, perhaps
    /// still connecting.
    Dial {
        /// TCP port.
        port: u16,
    },
    /// Give a container other limits.
    Resize {
        /// Its name.
        container: String,
        /// Its own.
        limits: Resources,
        /// The whole pod's.
        pod: Resources,
        /// It is started again to learn of them.
        restart: bool,
    },
    /// Hand over a socket that is held for a container: it comes with the answer, and stays.
    Socket {
        /// Of datagrams.
        udp: bool,
        /// Where it listens.
        port: u16,
    },
    /// Copy a container's output from now on into the two descriptors that come with the line,
    /// standard output and error. [`Reply::Attached`] follows, and [`Reply::Exited`] when the
    /// container has ended.
    Attach {
        /// Its name.
        container: String,
        /// Its standard input is wanted too.
        stdin: bool,
    },
    /// A container more, from its plan in the pod's folder; it waits for its start.
    AddContainer {
        /// Its name.
        container: String,
    },
    /// Run a container that was added.
    StartContainer {
        /// Its name.
        container: String,
    },
    /// End one container. Repeating it can only shorten the grace.
    StopContainer {
        /// Its name.
        container: String,
        /// Seconds between the stop signal and SIGKILL.
        grace_seconds: u32,
    },
    /// Forget a container that was added, and does not run.
    RemoveContainer {
        /// Its name.
        container: String,
    },
    /// Write a container's log to a new file: the old one was moved away.
    ReopenLog {
        /// Its name.
        container: String,
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
    /// The container's output comes from now on. With a terminal, or if its standard input was
    /// asked for and is open, a descriptor to write to comes along.
    Attached {
        /// It has a terminal, whose size is set by that descriptor.
        tty: bool,
        /// A descriptor comes along.
        input: bool,
    },
    /// The process of [`Request::Exec`] has ended, or never came to be.
    Exited {
        /// 128 + signal if a signal ended it.
        exit_code: i32,
        /// Why it could not be started; empty if it was.
        message: String,
    },
    /// The pod as it is.
    State(Box<PodState>),
    /// The request was not understood or could not be done.
    Error {
        /// For a person.
        message: String,
    },
}
