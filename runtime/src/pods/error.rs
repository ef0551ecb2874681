//! What can go wrong between an agent and its pods.

use crate::apparmor::AppArmorError;
use crate::cgroup::CgroupError;
use crate::seccomp::SeccompError;
use std::io;
use std::path::PathBuf;

/// Why the node's pods could not be looked at.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum OpenError {
    #[error("cannot use the folder {path}")]
    Folder { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
}

/// Why a pod got no supervisor.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum CreateError {
    #[error("cannot write {path}")]
    WritePlan { path: PathBuf, source: io::Error },
    #[error("cannot confine the container {container}")]
    Seccomp { container: String, source: SeccompError },
    #[error("cannot confine the container {container}")]
    AppArmor { container: String, source: AppArmorError },
    #[error("cannot find users for the pod")]
    Users(#[source] io::Error),
    #[error("no program is configured as supervisor")]
    NoSupervisor,
    #[error("cannot start the supervisor {program}")]
    Spawn { program: PathBuf, source: io::Error },
    #[error("cannot talk to the supervisor")]
    Talk(#[source] io::Error),
    #[error("the supervisor was not ready in time")]
    Timeout,
    #[error("the supervisor failed: {message}")]
    Supervisor { message: String },
    #[error("the pod {uid} has run to its end")]
    Finished { uid: String },
    #[error(transparent)]
    Scope(#[from] crate::systemd::ScopeError),
}

/// Why a pod did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum PodError {
    #[error("the pod {uid} has no supervisor")]
    NotRunning { uid: String },
    #[error("the supervisor ended")]
    Ended,
    #[error("the supervisor refused: {message}")]
    Refused { message: String },
}

/// Why a pod got no further container.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum AddError {
    #[error("cannot write {path}")]
    WritePlan { path: PathBuf, source: io::Error },
    #[error("the seccomp profile cannot be used")]
    Seccomp(#[from] SeccompError),
    #[error("the AppArmor profile cannot be used")]
    AppArmor(#[from] AppArmorError),
    #[error(transparent)]
    Pod(#[from] PodError),
}

/// What of a pod could not be removed.
#[derive(Debug, thiserror::Error)]
#[error("cannot remove all of the pod {uid}: {}", errors.join("; "))]
pub struct RemoveError {
    /// The pod.
    pub uid: String,
    /// One text per thing that is left.
    pub errors: Vec<String>,
}

/// Why nobody came into a pod.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum InsideError {
    #[error("the pod does not run (nobody answers on {socket})")]
    NotRunning { socket: PathBuf, source: io::Error },
    #[error("the pod was started by a version of keel that cannot do this; it can after the pod's restart")]
    TooOld,
    #[error("cannot talk to the pod's supervisor")]
    Talk(#[source] io::Error),
    #[error("{message}")]
    Refused { message: String },
    #[error("{message}")]
    NotStarted { exit_code: i32, message: String },
    #[error("the pod or its container ended")]
    Ended,
    #[error("cannot reach the container's files")]
    Files(#[source] io::Error),
    #[error("no terminal came back")]
    NoTerminal,
    #[error("no connection came back")]
    NoConnection,
    #[error("the supervisor answered with {reply}")]
    Unexpected { reply: String },
}

impl InsideError {
    /// A supervisor that ends leaves who has just connected without a word.
    pub(super) fn lost(error: io::Error) -> Self {
        let left = matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe);
        if left { Self::Ended } else { Self::Talk(error) }
    }

    pub(super) fn unexpected(reply: &crate::supervisor::protocol::Reply) -> Self {
        Self::Unexpected { reply: format!("{reply:?}") }
    }
}
