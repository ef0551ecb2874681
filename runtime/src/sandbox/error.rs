//! Why a container's program could not be started, from the child to its supervisor.

use std::io;

/// A step of the setup that failed.
#[derive(Debug, thiserror::Error)]
#[error("{step}")]
pub(crate) struct Failure {
    /// The operation and its subject.
    step: String,
    kind: FailureKind,
    source: io::Error,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FailureKind {
    Setup,
    Exec,
}

/// What a supervisor learns of a [`Failure`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StartFailure {
    /// 127 if the program does not exist, 126 if it cannot be run, 128 if the setup failed.
    pub(crate) exit_code: i32,
    /// Kubernetes' word.
    pub(crate) reason: &'static str,
    /// For a person.
    pub(crate) message: String,
}

const CANNOT_RUN: &str = "ContainerCannotRun";
const START_ERROR: &str = "StartError";

impl Failure {
    pub(crate) fn exec(program: &str, source: io::Error) -> Self {
        Self { step: format!("exec {program:?}"), kind: FailureKind::Exec, source }
    }

    pub(crate) fn exit_code(&self) -> i32 {
        match (self.kind, self.source.raw_os_error()) {
            (FailureKind::Exec, Some(libc::ENOENT)) => 127,
            (FailureKind::Exec, _) => 126,
            (FailureKind::Setup, _) => 128,
        }
    }

    /// The form that goes through the report pipe.
    pub(crate) fn encode(&self) -> String {
        let text = std::io::Error::to_string(&self.source);
        // Runtimes write the kernel's words small; ours may have names in them.
        let text = if self.source.raw_os_error().is_some() { text.to_lowercase() } else { text };
        format!("{} {}: {text}", self.exit_code(), self.step)
    }
}

impl StartFailure {
    /// Reads what [`Failure::encode`] wrote; `None` if nothing was.
    pub(crate) fn decode(report: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(report);
        let (code, message) = text.split_once(' ')?;
        let exit_code = code.parse().ok()?;
        let reason = if exit_code == 128 { START_ERROR } else { CANNOT_RUN };
        Some(Self { exit_code, reason, message: format!("failed to start container: {message}") })
    }

    /// A failure of the supervisor itself.
    pub(crate) fn of_setup(error: &dyn std::error::Error) -> Self {
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            message = format!("{message}: {cause}");
            source = cause.source();
        }
        Self { exit_code: 128, reason: START_ERROR, message }
    }
}

/// Names the step that failed.
pub(crate) trait Step<T> {
    /// `step` is the operation and its subject.
    fn step(self, step: impl FnOnce() -> String) -> Result<T, Failure>;
}

impl<T, E: Into<io::Error>> Step<T> for Result<T, E> {
    fn step(self, step: impl FnOnce() -> String) -> Result<T, Failure> {
        self.map_err(|error| Failure { step: step(), kind: FailureKind::Setup, source: error.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_is_127_and_a_failed_mount_128() {
        let missing = Failure::exec("nope", io::Error::from_raw_os_error(libc::ENOENT));
        let read = StartFailure::decode(missing.encode().as_bytes()).expect("decodes");
        assert_eq!((read.exit_code, read.reason), (127, "ContainerCannotRun"));
        assert!(read.message.contains("exec \"nope\": no such file"), "{}", read.message);

        let mount: Result<(), io::Error> = Err(io::Error::from_raw_os_error(libc::EPERM));
        let mount = mount.step(|| "mount /proc".to_owned()).expect_err("fails");
        let read = StartFailure::decode(mount.encode().as_bytes()).expect("decodes");
        assert_eq!((read.exit_code, read.reason), (128, "StartError"));
    }

    #[test]
    fn no_report_is_no_failure() {
        assert_eq!(StartFailure::decode(b""), None);
        assert_eq!(StartFailure::decode(b"garbage"), None);
    }
}
